// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

enum class ClipKind { value, norm };

namespace cpu {
void clip_gradient(const Context& ctx, ClipKind kind, float limit,
                   std::span<const Matrix<float>> parts);
}
namespace cuda {
void clip_gradient(const Context& ctx, ClipKind kind, float limit,
                   std::span<const Matrix<float>> parts);
}

/// Limits gradients in place, before the optimizer and before duplicates are summed:
///   value  g = min(max(g, -limit), limit)
///   norm   g = g limit / max(|g|, limit), |g| the 2-norm over all elements of all parts
/// The parts are dense gradients or gradient rows as they were given (d_y of a lookup with one id a
/// bag: a row that occurs twice counts twice, as in Keras). Keras's clipvalue and clipnorm: one
/// call a parameter, with the parts that belong to it; global_clipnorm: one call with the parts of
/// all.
/// Shapes       parts: any number of [R_p, D_p] f32
/// Empty        no parts or no elements: no-op; a norm of 0 leaves all as it is
/// Aliasing     parts must not overlap
/// Cost         value: one pass; norm: one pass to read, one more only if the norm exceeds the
///              limit; on the device one launch a pass for every 16 parts
/// Scratch      one double a tile of 16384 elements (cuda: 4096)
/// Numerics     the norm in float64 (in f32 squares would overflow at 2e19), the factor rounded to
///              f32
/// Determinism  bitwise for any thread count: tiles by shape, added in a fixed order. `value` is
///              bitwise_cpu_cuda; `norm` sums in another order on the device: results differ by 1
///              ulp at most
/// Faults       a norm that is not finite raises kStatusNonFinite and leaves the parts as they are;
///              value passes NaN on
/// See          Keras 2 (tf-keras 2.19): clip_by_value, clip_by_norm, clip_by_global_norm
inline void clip_gradient(const Context& ctx, ClipKind kind, float limit,
                          std::span<const Matrix<float>> parts) {
  require(limit > 0.0f, "clip_gradient: the limit must be positive");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::clip_gradient(ctx, kind, limit, parts);
    case Backend::cuda:
      if constexpr (kHasCuda::clip_gradient) return cuda::clip_gradient(ctx, kind, limit, parts);
  }
  throw_no_backend("clip_gradient");
}

}  // namespace belfry
