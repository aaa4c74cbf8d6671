// SPDX-License-Identifier: Apache-2.0
#include "kernels/draw_negatives/draw_negatives.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/core/parallel.hpp"

namespace belfry {

namespace {
void check_weights(Vector<const double> weights, double* total, std::int64_t* heaviest) {
  *total = 0;
  *heaviest = 0;
  for (std::int64_t i = 0; i < weights.size; ++i) {
    require(weights[i] >= 0 && std::isfinite(weights[i]),
            "build_alias_table: weights must be finite and not negative");
    *total += weights[i];
    if (weights[i] > weights[*heaviest]) *heaviest = i;
  }
  require(*total > 0 && std::isfinite(*total),
          "build_alias_table: the sum of weights must be positive and finite");
}
}  // namespace

void build_alias_table(Vector<const double> weights, Vector<float> keep,
                       Vector<std::int32_t> alias) {
  const std::int64_t n = weights.size;
  require(keep.size == n && alias.size == n,
          "build_alias_table: keep and alias must have one entry a weight");
  require(n <= INT32_MAX, "build_alias_table: row numbers are int32");
  double total = 0;
  std::int64_t heaviest = 0;
  check_weights(weights, &total, &heaviest);

  // Slots with less than their share take the rest from a row with more. The last ones left over are
  // full but for rounding; a weight of 0 among them must still never be drawn.
  std::vector<double> share(static_cast<std::size_t>(n));
  std::vector<std::int32_t> small, large;
  for (std::int64_t i = 0; i < n; ++i) {
    share[i] = weights[i] / total * static_cast<double>(n);
    (share[i] < 1 ? small : large).push_back(static_cast<std::int32_t>(i));
  }
  while (!small.empty() && !large.empty()) {
    const std::int32_t poor = small.back(), rich = large.back();
    small.pop_back();
    keep[poor] = static_cast<float>(share[poor]);
    alias[poor] = rich;
    share[rich] -= 1 - share[poor];
    if (share[rich] < 1) {
      large.pop_back();
      small.push_back(rich);
    }
  }
  for (const std::vector<std::int32_t>* rest : {&small, &large}) {
    for (const std::int32_t i : *rest) {
      keep[i] = weights[i] > 0 ? 1.0f : 0.0f;
      alias[i] = static_cast<std::int32_t>(heaviest);
    }
  }
}

namespace cpu {

void draw_negatives(const Context& ctx, std::int64_t rows, const AliasTable& popularity,
                    Vector<std::int32_t> out) {
  constexpr std::int64_t kTile = 2048;
  const StepState state = *ctx.state();
  parallel_for(ctx, (out.size + kTile - 1) / kTile, [&](std::int64_t tile, int) {
    const std::int64_t end = std::min(out.size, (tile + 1) * kTile);
    for (std::int64_t i = tile * kTile; i < end; ++i) {
      out[i] = draw_row(state.seed, state.step, i, rows, popularity);
    }
  });
}

}  // namespace cpu
}  // namespace belfry
