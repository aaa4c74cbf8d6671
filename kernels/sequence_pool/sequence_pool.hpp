// SPDX-License-Identifier: Apache-2.0
// Padded lists of steps (kernels/core/steps.hpp) to one row each.
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/steps.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Over the steps that the mask covers: their mean, or the last of them.
enum class SequencePooling { mean, last };

struct SequencePoolOptions {
  std::int64_t steps = 1;  ///< T
  StepMask mask;
  SequencePooling pooling = SequencePooling::mean;
};

namespace cpu {
void sequence_pool(const Context& ctx, Matrix<const float> x, const SequencePoolOptions& options,
                   Matrix<float> y);
void sequence_pool_grad(const Context& ctx, Matrix<const float> d_y,
                        const SequencePoolOptions& options, Matrix<float> d_x);
}  // namespace cpu
namespace cuda {
void sequence_pool(const Context& ctx, Matrix<const float> x, const SequencePoolOptions& options,
                   Matrix<float> y);
void sequence_pool_grad(const Context& ctx, Matrix<const float> d_y,
                        const SequencePoolOptions& options, Matrix<float> d_x);
}  // namespace cuda

/// y_b = (sum_t x_bt) / (number of t), or x_bt of the last t, over the steps t that the mask covers
/// Shapes       x [B T, D] f32, row b T + t is step t of list b; y [B,D]
/// Empty        B = 0: no-op; a list without steps gives 0
/// Aliasing     no overlap; x at steps left out is not read
/// Cost         reads B T D floats at most, writes B D: memory-bound
/// Scratch      none
/// Numerics     f32; the sum runs over t in order, then one division
/// Determinism  bitwise_cpu_cuda
/// See          tf.keras.layers.GlobalAveragePooling1D (NaN for a list without steps)
inline void sequence_pool(const Context& ctx, Matrix<const float> x,
                          const SequencePoolOptions& options, Matrix<float> y) {
  require(options.steps >= 1 && x.rows % options.steps == 0,
          "sequence_pool: rows of x must be whole lists of steps");
  require(y.rows == x.rows / options.steps && y.cols == x.cols,
          "sequence_pool: y must be lists by columns of x");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::sequence_pool(ctx, x, options, y);
    case Backend::cuda:
      if constexpr (kHasCuda::sequence_pool) return cuda::sequence_pool(ctx, x, options, y);
  }
  throw_no_backend("sequence_pool");
}

/// Its gradient:  d_x_bt = d_y_b / (number of t), or d_y_b at the last t; 0 at all other steps
/// Shapes       d_y [B,D], d_x [B T, D] f32
/// Empty        B = 0: no-op
/// Aliasing     no overlap
/// Cost         writes B T D floats: memory-bound
/// Scratch      none
/// Numerics     one f32 division an element
/// Determinism  bitwise_cpu_cuda
inline void sequence_pool_grad(const Context& ctx, Matrix<const float> d_y,
                               const SequencePoolOptions& options, Matrix<float> d_x) {
  require(options.steps >= 1 && d_x.rows % options.steps == 0,
          "sequence_pool_grad: rows of d_x must be whole lists of steps");
  require(d_y.rows == d_x.rows / options.steps && d_y.cols == d_x.cols,
          "sequence_pool_grad: d_y must be lists by columns of d_x");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::sequence_pool_grad(ctx, d_y, options, d_x);
    case Backend::cuda:
      if constexpr (kHasCuda::sequence_pool) {
        return cuda::sequence_pool_grad(ctx, d_y, options, d_x);
      }
  }
  throw_no_backend("sequence_pool_grad");
}

/// The steps of a list that count. Usable in device code.
struct CoveredSteps {
  std::int64_t count = 0, last = -1;
  constexpr CoveredSteps(const StepMask& mask, std::int64_t list, std::int64_t steps) {
    for (std::int64_t t = 0; t < steps; ++t) {
      if (!mask.covers(list, t, steps)) continue;
      ++count;
      last = t;
    }
  }
};

}  // namespace belfry
