// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Below this squared norm a row is divided by sqrt of it instead (Keras, tf.math.l2_normalize).
inline constexpr float kL2NormalizeFloor = 1e-12f;

namespace cpu {
void l2_normalize(const Context& ctx, Matrix<const float> x, Matrix<float> y,
                  Vector<float> inverse_norm);
void l2_normalize_grad(const Context& ctx, Matrix<const float> y, Vector<const float> inverse_norm,
                       Matrix<const float> d_y, Matrix<float> d_x);
}  // namespace cpu
namespace cuda {
void l2_normalize(const Context& ctx, Matrix<const float> x, Matrix<float> y,
                  Vector<float> inverse_norm);
void l2_normalize_grad(const Context& ctx, Matrix<const float> y, Vector<const float> inverse_norm,
                       Matrix<const float> d_y, Matrix<float> d_x);
}  // namespace cuda

/// Rows to unit length:  y_i = x_i r_i,  r_i = 1 / sqrt(max(|x_i|^2, 1e-12))
/// Shapes       x, y [B,D] f32, inverse_norm [B] f32 (r, kept for the gradient)
/// Empty        B = 0: no-op; D = 0: r = 1e6
/// Aliasing     y may be x (same data and pitch)
/// Cost         reads and writes B D floats: memory-bound
/// Scratch      none
/// Numerics     f32; |x|^2 in a fixed order of lanes
/// Determinism  bitwise for any thread count; rows stand alone. The device's lanes are other ones:
///              y and r differ by a few ulp
/// See          tf.math.l2_normalize, tf.keras.layers.UnitNormalization (the same function)
inline void l2_normalize(const Context& ctx, Matrix<const float> x, Matrix<float> y,
                         Vector<float> inverse_norm) {
  require(x.rows == y.rows && x.cols == y.cols, "l2_normalize: y must have the shape of x");
  require(inverse_norm.size == x.rows, "l2_normalize: inverse_norm must have one value a row");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::l2_normalize(ctx, x, y, inverse_norm);
    case Backend::cuda:
      if constexpr (kHasCuda::l2_normalize) return cuda::l2_normalize(ctx, x, y, inverse_norm);
  }
  throw_no_backend("l2_normalize");
}

/// Its gradient:  d_x_i = r_i (d_y_i - (d_y_i . y_i) y_i) above the floor, r_i d_y_i below it
/// (below the floor r is exactly 1/sqrt(1e-12) and no longer depends on x).
/// Shapes       y, d_y, d_x [B,D] f32, inverse_norm [B] f32 as l2_normalize left it
/// Empty        B = 0: no-op
/// Aliasing     d_x may be d_y
/// Cost         reads 2 B D, writes B D floats: memory-bound
/// Scratch      none
/// Numerics     f32
/// Determinism  bitwise for any thread count; the backends differ by the order of the sum d_y . y
inline void l2_normalize_grad(const Context& ctx, Matrix<const float> y,
                              Vector<const float> inverse_norm, Matrix<const float> d_y,
                              Matrix<float> d_x) {
  require(y.rows == d_y.rows && y.cols == d_y.cols && y.rows == d_x.rows && y.cols == d_x.cols,
          "l2_normalize_grad: y, d_y and d_x must have one shape");
  require(inverse_norm.size == y.rows, "l2_normalize_grad: inverse_norm must have one value a row");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::l2_normalize_grad(ctx, y, inverse_norm, d_y, d_x);
    case Backend::cuda:
      if constexpr (kHasCuda::l2_normalize) {
        return cuda::l2_normalize_grad(ctx, y, inverse_norm, d_y, d_x);
      }
  }
  throw_no_backend("l2_normalize_grad");
}

}  // namespace belfry
