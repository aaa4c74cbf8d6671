// SPDX-License-Identifier: Apache-2.0
// sequence_pool on the device: one thread a column of a list, neighbouring threads in neighbouring
// columns.
#include "kernels/core/block.cuh"
#include "kernels/sequence_pool/sequence_pool.hpp"

namespace belfry::cuda {
namespace sequence_pool_kernels {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads)
    pool(Matrix<const float> x, SequencePoolOptions o, Matrix<float> y) {
  const std::int64_t n = grid_thread(), b = n / y.cols, j = n - b * y.cols;
  if (b >= y.rows) return;
  float sum = 0.0f;
  std::int64_t count = 0;
  const bool last = o.pooling == SequencePooling::last;
  for (std::int64_t t = 0; t < o.steps; ++t) {
    if (!o.mask.covers(b, t, o.steps)) continue;
    const float value = x(b * o.steps + t, j);
    sum = last ? value : sum + value;
    ++count;
  }
  y(b, j) = last || count == 0 ? sum : sum / static_cast<float>(count);
}

__global__ void __launch_bounds__(kThreads)
    pool_grad(Matrix<const float> d_y, SequencePoolOptions o, Matrix<float> d_x) {
  const std::int64_t n = grid_thread(), b = n / d_y.cols, j = n - b * d_y.cols;
  if (b >= d_y.rows) return;
  const CoveredSteps covered(o.mask, b, o.steps);
  const bool last = o.pooling == SequencePooling::last;
  const float count = last ? 1.0f : static_cast<float>(covered.count), d = d_y(b, j);
  for (std::int64_t t = 0; t < o.steps; ++t) {
    const bool takes = last ? t == covered.last : o.mask.covers(b, t, o.steps);
    d_x(b * o.steps + t, j) = takes ? d / count : 0.0f;
  }
}

inline simt::Dims dims(const Context& ctx, std::int64_t elements) {
  return {.grid = static_cast<unsigned>(ceil_div(elements, kThreads)),
          .block = kThreads,
          .stream = &ctx.stream()};
}

}  // namespace sequence_pool_kernels

namespace k = sequence_pool_kernels;

void sequence_pool(const Context& ctx, Matrix<const float> x, const SequencePoolOptions& o,
                   Matrix<float> y) {
  if (y.empty()) return;
  simt::launch(k::dims(ctx, y.rows * y.cols), k::pool, x, o, y);
}

void sequence_pool_grad(const Context& ctx, Matrix<const float> d_y, const SequencePoolOptions& o,
                        Matrix<float> d_x) {
  if (d_y.empty()) return;
  simt::launch(k::dims(ctx, d_y.rows * d_y.cols), k::pool_grad, d_y, o, d_x);
}

}  // namespace belfry::cuda
