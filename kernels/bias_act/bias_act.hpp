// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Keras's activations of a dense layer, with Keras's constants. gelu is the exact form (erf),
/// gelu_tanh its approximation  z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2.
enum class Activation { linear, relu, gelu, tanh, sigmoid, elu, selu, softplus, swish, gelu_tanh };

namespace cpu {
void bias_act(const Context& ctx, Matrix<float> z, Vector<const float> bias, Activation activation,
              Matrix<float> y);
void bias_act_grad(const Context& ctx, Matrix<const float> z, Matrix<const float> y,
                   Matrix<const float> d_y, Activation activation, Matrix<float> d_z,
                   Vector<float> d_bias);
}  // namespace cpu
namespace cuda {
void bias_act(const Context& ctx, Matrix<float> z, Vector<const float> bias, Activation activation,
              Matrix<float> y);
void bias_act_grad(const Context& ctx, Matrix<const float> z, Matrix<const float> y,
                   Matrix<const float> d_y, Activation activation, Matrix<float> d_z,
                   Vector<float> d_bias);
}  // namespace cuda

/// Second half of a dense layer:  z += bias;  y = act(z)
/// Shapes       z [B,N] f32 (in: product, out: pre-activation), bias [N] f32 or empty, y [B,N] f32
/// Empty        B = 0: no-op
/// Aliasing     y may be z itself (same data and pitch) for linear; otherwise no overlap
/// Cost         reads and writes B N floats each: memory-bound
/// Scratch      none
/// Numerics     f32 in and out; within 4 ulp of the float64 value, gelu (the exact erf form) within
///              8 even in its lower tail, gelu_tanh within 4 + 4 |z + 0.044715 z^3|; NaN stays NaN
/// Determinism  bitwise for any thread count; each element stands alone; the backends differ within
///              the ulp above, z is the same on both
inline void bias_act(const Context& ctx, Matrix<float> z, Vector<const float> bias,
                     Activation activation, Matrix<float> y) {
  require(z.rows == y.rows && z.cols == y.cols, "bias_act: y must have the shape of z");
  require(bias.empty() || bias.size == z.cols, "bias_act: bias must have one value a column");
  require(z.empty() || z.data != y.data || (activation == Activation::linear && z.pitch == y.pitch),
          "bias_act: y may be z only for the linear activation");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::bias_act(ctx, z, bias, activation, y);
    case Backend::cuda:
      if constexpr (kHasCuda::bias_act) return cuda::bias_act(ctx, z, bias, activation, y);
  }
  throw_no_backend("bias_act");
}

/// Its gradient:  d_z = d_y * act'(z);  d_bias_j = sum_i d_z_ij
/// Shapes       z, y, d_y, d_z [B,N] f32; d_bias [N] f32 or empty (no bias)
/// Empty        B = 0: d_bias = 0
/// Aliasing     d_z may be d_y; z and y are only read
/// Cost         reads 3 B N, writes B N floats: memory-bound
/// Scratch      row tiles x N floats for the partial sums of d_bias (cuda: at most 512 N)
/// Numerics     f32; d_bias is summed inside fixed row tiles, then over tiles: on the CPU in row
///              order, on the device every few rows by one thread, whose sums meet in a tree
/// Determinism  bitwise for any thread count; on the device by shape alone. The backends differ:
///              d_z by 8 ulp of the terms of the formula, d_bias by the order of its sum
inline void bias_act_grad(const Context& ctx, Matrix<const float> z, Matrix<const float> y,
                          Matrix<const float> d_y, Activation activation, Matrix<float> d_z,
                          Vector<float> d_bias) {
  require(z.rows == y.rows && z.cols == y.cols && z.rows == d_y.rows && z.cols == d_y.cols &&
              z.rows == d_z.rows && z.cols == d_z.cols,
          "bias_act_grad: z, y, d_y and d_z must have one shape");
  require(d_bias.empty() || d_bias.size == z.cols,
          "bias_act_grad: d_bias must have one value a column");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::bias_act_grad(ctx, z, y, d_y, activation, d_z, d_bias);
    case Backend::cuda:
      if constexpr (kHasCuda::bias_act) {
        return cuda::bias_act_grad(ctx, z, y, d_y, activation, d_z, d_bias);
      }
  }
  throw_no_backend("bias_act_grad");
}

}  // namespace belfry
