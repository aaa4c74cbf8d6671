// SPDX-License-Identifier: Apache-2.0
// The element-wise half of a feature cross of DCN-v2. The other half, the projection p of x, is dense's:
// one dense layer (full rank), or one without bias and one with it (low rank).
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

struct CrossCall {
  Matrix<const float> x0;  ///< [B,D] the input of the whole stack
  Matrix<const float> x;   ///< [B,D] the input of this layer; x0 itself in the first one
  Matrix<const float> p;   ///< [B,D] projection of x, after its activation
  float diag_scale = 0.0f;
  Matrix<float> y;  ///< [B,D]
};

struct CrossGradCall {
  Matrix<const float> x0, x, p;  ///< as forward had them
  float diag_scale = 0.0f;
  Matrix<const float> d_y;  ///< [B,D]
  Matrix<float> d_p;        ///< [B,D] for dense_grad, which gives the rest of d_x: through p
  Matrix<float> d_x0;       ///< [B,D]
  Matrix<float> d_x;        ///< [B,D] without what goes through p; data == nullptr: x is x0, d_x0
                            ///< gets both
  bool add_x0 = false;      ///< adds to d_x0 instead of overwriting it: further layers have used x0
  bool add_x = false;       ///< the same for d_x
};

namespace cpu {
void cross(const Context& ctx, const CrossCall& call);
void cross_grad(const Context& ctx, const CrossGradCall& call);
}  // namespace cpu
namespace cuda {
void cross(const Context& ctx, const CrossCall& call);
void cross_grad(const Context& ctx, const CrossGradCall& call);
}  // namespace cuda

void check_cross(const CrossCall& call);
void check_cross_grad(const CrossGradCall& call);

/// A feature cross:  y = x0 * (p + diag_scale x) + x
/// Shapes       see CrossCall, f32, any pitch
/// Empty        B = 0 or D = 0: no-op
/// Aliasing     x may be x0; y may be any of the inputs itself (same data and pitch), otherwise no
///              overlap. The gradient needs x0, x and p
/// Cost         reads 3 B D (2 where x is x0), writes B D floats: memory-bound
/// Scratch      none
/// Numerics     f32, in the order written, nothing fused; without the term of diag_scale = 0
/// Determinism  bitwise_cpu_cuda
/// See          tfrs.layers.feature_interaction.Cross, MultiLayerDCN
inline void cross(const Context& ctx, const CrossCall& call) {
  check_cross(call);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::cross(ctx, call);
    case Backend::cuda:
      if constexpr (kHasCuda::cross) return cuda::cross(ctx, call);
  }
  throw_no_backend("cross");
}

/// Its gradient:  d_p = d_y * x0;  d_x0 = d_y * (p + diag_scale x);  d_x = d_y + diag_scale d_p
/// Shapes       see CrossGradCall, f32, any pitch
/// Empty        B = 0 or D = 0: no-op
/// Aliasing     d_p or d_x may be d_y itself (same data and pitch); the outputs do not overlap each
///              other nor the other inputs
/// Cost         reads 4 B D, writes 3 B D floats, reads what it adds to: memory-bound
/// Scratch      none
/// Numerics     f32, in the order written, nothing fused; old value + new one; d_x0 of both: the term
///              of x0, then that of x
/// Determinism  bitwise_cpu_cuda
inline void cross_grad(const Context& ctx, const CrossGradCall& call) {
  check_cross_grad(call);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::cross_grad(ctx, call);
    case Backend::cuda:
      if constexpr (kHasCuda::cross) return cuda::cross_grad(ctx, call);
  }
  throw_no_backend("cross_grad");
}

}  // namespace belfry
