// SPDX-License-Identifier: Apache-2.0
#include "kernels/select_k/select_k.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/core/parallel.hpp"
#include "kernels/select_k/score_key.hpp"

namespace belfry::cpu {

namespace {

using topk::Key;

/// Brings the k best columns of a row to the front of `keys` (room for `capacity` > k, or for all columns),
/// sorted; their number. Keys that beat the k-th best so far are kept until the room is full.
std::int64_t select_row(const float* row, std::int64_t n, std::int64_t k, Key* keys,
                        std::int64_t capacity) {
  const auto shrink = [&](std::int64_t count) {
    if (count > k) std::nth_element(keys, keys + (k - 1), keys + count, std::greater<Key>());
    return std::min(count, k);
  };
  std::int64_t count = 0;
  Key worst = topk::kNoKey;
  float threshold = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = 0; i < n; ++i) {
    if (!(row[i] >= threshold)) continue;
    const Key key = topk::make_key(row[i], static_cast<std::int32_t>(i));
    if (key <= worst) continue;
    if (count == capacity) {
      count = shrink(count);
      worst = keys[k - 1];
      threshold = topk::score_of(worst);
      if (key <= worst) continue;
    }
    keys[count++] = key;
  }
  count = shrink(count);
  std::sort(keys, keys + count, std::greater<Key>());
  return count;
}

}  // namespace

void select_k(const Context& ctx, Matrix<const float> scores, TopK out) {
  const std::int64_t k = std::min(out.scores.cols, scores.cols);
  const std::int64_t capacity = std::min(2 * k, scores.cols);
  ArenaScope scope(ctx);
  Key* keys = ctx.arena().take<Key>(checked_product(capacity, ctx.threads(), "select_k"));
  parallel_for(ctx, scores.rows, [&](std::int64_t r, int worker) {
    Key* mine = keys + worker * capacity;
    const std::int64_t found =
        k == 0 ? 0 : select_row(scores.row(r), scores.cols, k, mine, capacity);
    float* out_scores = out.scores.row(r);
    std::int32_t* out_rows = out.rows.row(r);
    for (std::int64_t i = 0; i < found; ++i) {
      out_scores[i] = topk::score_of(mine[i]);
      out_rows[i] = topk::row_of(mine[i]);
    }
    std::fill(out_scores + found, out_scores + out.scores.cols,
              std::numeric_limits<float>::quiet_NaN());
    std::fill(out_rows + found, out_rows + out.rows.cols, -1);
  });
}

}  // namespace belfry::cpu
