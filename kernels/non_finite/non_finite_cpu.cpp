// SPDX-License-Identifier: Apache-2.0
#include "kernels/non_finite/non_finite.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kernels/core/parallel.hpp"

namespace belfry::cpu {

void find_non_finite(const Context& ctx, Matrix<const float> x, std::int64_t* first) {
  *first = -1;
  if (x.empty()) return;
  const std::int64_t rows = std::max<std::int64_t>(1, 16384 / x.cols), none = x.rows * x.cols;
  std::atomic<std::int64_t> smallest{none};
  parallel_for(ctx, (x.rows + rows - 1) / rows, [&](std::int64_t tile, int) {
    const std::int64_t end = std::min(x.rows, (tile + 1) * rows);
    for (std::int64_t i = tile * rows; i < end; ++i) {
      const float* row = x.row(i);
      const float* bad = std::find_if(row, row + x.cols, [](float v) { return !std::isfinite(v); });
      if (bad == row + x.cols) continue;
      const std::int64_t at = i * x.cols + (bad - row);
      std::int64_t seen = smallest.load();
      while (at < seen && !smallest.compare_exchange_weak(seen, at)) {
      }
      return;
    }
  });
  if (smallest.load() < none) *first = smallest.load();
}

}  // namespace belfry::cpu
