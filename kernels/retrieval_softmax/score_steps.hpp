// SPDX-License-Identifier: Apache-2.0
// Steps 3 to 6 of retrieval_softmax on a tile of scores: the functions that the op itself runs, here so
// that each can be tested alone. A tile is transposed, scores[column * width + row]: a vector register
// then holds one column's scores of many rows, and every reduction over columns is vertical.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/core/view.hpp"

namespace belfry::cpu {

/// Score of a column that left its row: its probability is 0 exactly.
inline constexpr float kLeftRow = -std::numeric_limits<float>::infinity();

/// log q of a candidate that was sampled with probability p, as TFRS clips it. NaN stays NaN.
inline float log_sampling_probability(float p) {
  return std::log(std::clamp(p, 1e-6f, 1.0f));
}

/// Step 3: scores[c][r] -= log_probability[c] for columns [0, columns) of a tile of `width` rows
/// (a multiple of 16).
void subtract_log_probability(float* scores, std::int64_t columns, std::int64_t width,
                              const float* log_probability);

/// For each column the ascending list of the columns with its id (itself among them):
/// order[first[j]] .. order[last[j] - 1].
struct EqualIds {
  const std::int32_t* order = nullptr;
  const std::int32_t* first = nullptr;
  const std::int32_t* last = nullptr;
};

/// Fills the three arrays, ids.size elements each.
inline EqualIds group_equal_ids(Vector<const std::int64_t> ids, std::int32_t* order,
                                std::int32_t* first, std::int32_t* last) {
  const auto n = static_cast<std::int32_t>(ids.size);
  for (std::int32_t j = 0; j < n; ++j) order[j] = j;
  std::sort(order, order + n, [&](std::int32_t a, std::int32_t b) {
    return ids[a] != ids[b] ? ids[a] < ids[b] : a < b;
  });
  for (std::int32_t begin = 0; begin < n;) {
    std::int32_t end = begin + 1;
    while (end < n && ids[order[end]] == ids[order[begin]]) ++end;
    for (std::int32_t k = begin; k < end; ++k) {
      first[order[k]] = begin;
      last[order[k]] = end;
    }
    begin = end;
  }
  return {order, first, last};
}

/// What is left of a row's ascending list of columns to drop.
struct ColumnList {
  const std::int32_t* next = nullptr;
  const std::int32_t* end = nullptr;
};

/// Steps 4 and 5: the list's columns below first_column + columns leave the row, except `positive`.
/// `row` points at the row's score of first_column; the list moves on past what was visited.
inline void drop_listed(float* row, std::int64_t width, std::int64_t first_column,
                        std::int64_t columns, std::int64_t positive, ColumnList& list) {
  for (; list.next != list.end && *list.next < first_column + columns; ++list.next) {
    if (*list.next != positive) row[(*list.next - first_column) * width] = kLeftRow;
  }
}

/// Step 6: of each row only the n best columns stay (n <= 0: all), of equal ones the smaller column;
/// NaN stays, so that it is noticed. Positives have been set to kLeftRow before: they do not count and are not lost.
/// `width` is a multiple of 16, at most 64.
void keep_hard_negatives(float* scores, std::int64_t columns, std::int64_t width, std::int64_t n);

}  // namespace belfry::cpu
