// SPDX-License-Identifier: Apache-2.0
#include "kernels/matrix_ops/matrix_ops.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"

namespace belfry::cpu {

namespace {

/// Runs f(first, n) for runs of rows with about 64 KiB each.
template <class F>
void for_row_tiles(const Context& ctx, std::int64_t rows, std::int64_t cols, F&& f) {
  if (rows == 0 || cols == 0) return;
  const std::int64_t tile = std::max<std::int64_t>(1, 16384 / cols);
  parallel_for(ctx, (rows + tile - 1) / tile,
               [&](std::int64_t t, int) { f(t * tile, std::min(tile, rows - t * tile)); });
}

}  // namespace

void set_zero(const Context& ctx, std::span<const Matrix<float>> parts) {
  for (const Matrix<float>& part : parts) {
    for_row_tiles(ctx, part.rows, part.cols, [&](std::int64_t first, std::int64_t n) {
      for (std::int64_t i = first; i < first + n; ++i) std::fill_n(part.row(i), part.cols, 0.0f);
    });
  }
}

void copy_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to) {
  for_row_tiles(ctx, from.rows, from.cols, [&](std::int64_t first, std::int64_t n) {
    for (std::int64_t i = first; i < first + n; ++i) {
      std::copy_n(from.row(i), from.cols, to.row(i));
    }
  });
}

void add_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to) {
  for_row_tiles(ctx, from.rows, from.cols, [&](std::int64_t first, std::int64_t n) {
    for (std::int64_t i = first; i < first + n; ++i) {
      const float* in = from.row(i);
      float* out = to.row(i);
      for (std::int64_t j = 0; j < from.cols; ++j) out[j] += in[j];
    }
  });
}

void fill(const Context&, Vector<float> out, float value) {
  std::fill_n(out.data, out.size, value);
}

}  // namespace belfry::cpu
