// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Keras's default.
inline constexpr float kLayerNormEpsilon = 1e-3f;

struct LayerNormCall {
  Matrix<const float> x;      ///< [B,D]
  Vector<const float> gamma;  ///< [D], or empty: 1
  Vector<const float> beta;   ///< [D], or empty: 0
  float epsilon = kLayerNormEpsilon;
  Matrix<float> y;                  ///< [B,D]
  Vector<float> mean;               ///< [B] for the gradient
  Vector<float> inverse_deviation;  ///< [B] for the gradient
};

struct LayerNormGradCall {
  Matrix<const float> x;
  Vector<const float> gamma;
  Vector<const float> mean, inverse_deviation;  ///< as forward left them
  Matrix<const float> d_y;                      ///< [B,D]
  Matrix<float> d_x;                            ///< [B,D]
  Vector<float> d_gamma, d_beta;                ///< [D] each, or empty: not wanted
};

namespace cpu {
void layer_norm(const Context& ctx, const LayerNormCall& call);
void layer_norm_grad(const Context& ctx, const LayerNormGradCall& call);
}  // namespace cpu
namespace cuda {
void layer_norm(const Context& ctx, const LayerNormCall& call);
void layer_norm_grad(const Context& ctx, const LayerNormGradCall& call);
}  // namespace cuda

void check_layer_norm(const LayerNormCall& call);
void check_layer_norm_grad(const LayerNormGradCall& call);

/// Rows to mean 0 and variance 1, then scaled and shifted by column:
///   y = gamma * n + beta,  n = (x - m) r,  r = 1 / sqrt(v + epsilon)
/// with a row's mean m and variance v (over D, not D - 1).
/// Shapes       see LayerNormCall, f32, any pitch
/// Empty        B = 0: no-op; D = 0: m = 0, r = 1 / sqrt(epsilon)
/// Aliasing     y may be x (same data and pitch), where no gradient is wanted
/// Cost         reads and writes B D floats: memory-bound
/// Scratch      none
/// Numerics     f32; the variance is that of the deviations, in a second pass over the row
/// Determinism  bitwise for any thread count; rows stand alone. The device's lanes are other ones:
///              m differs by ulps of the mean |x|, r and n accordingly
/// See          tf.keras.layers.LayerNormalization
inline void layer_norm(const Context& ctx, const LayerNormCall& call) {
  check_layer_norm(call);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::layer_norm(ctx, call);
    case Backend::cuda:
      if constexpr (kHasCuda::layer_norm) return cuda::layer_norm(ctx, call);
  }
  throw_no_backend("layer_norm");
}

/// Its gradient:  d_x = r (g - mean(g) - n mean(g n)),  g = d_y * gamma, means over a row;
/// d_gamma_j = sum_i d_y_ij n_ij;  d_beta_j = sum_i d_y_ij
/// Shapes       see LayerNormGradCall, f32, any pitch
/// Empty        B = 0: d_gamma and d_beta become 0
/// Aliasing     d_x may be d_y (same data and pitch)
/// Cost         reads 2 B D (cuda: 4 B D with d_gamma or d_beta), writes B D floats: memory-bound
/// Scratch      row tiles x 2 D floats for the partial sums of d_gamma and d_beta (cuda: at most
///              512 tiles)
/// Numerics     f32; d_gamma and d_beta are summed inside fixed row tiles, then over tiles, as
///              bias_act_grad does
/// Determinism  bitwise for any thread count; on the device by shape alone. The backends differ by
///              the order of their sums
inline void layer_norm_grad(const Context& ctx, const LayerNormGradCall& call) {
  check_layer_norm_grad(call);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::layer_norm_grad(ctx, call);
    case Backend::cuda:
      if constexpr (kHasCuda::layer_norm) return cuda::layer_norm_grad(ctx, call);
  }
  throw_no_backend("layer_norm_grad");
}

}  // namespace belfry
