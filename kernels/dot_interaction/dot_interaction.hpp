// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Bound of the features, so that the number of a pair, times 8, is exact in float32.
inline constexpr std::int64_t kMostInteractingFeatures = 2048;

/// Which products of F features are wanted, and how they lie in a row of the result.
struct DotInteraction {
  std::int64_t features = 1;
  bool self_interaction = false;  ///< products of features with themselves, too
  bool skip_gather = false;       ///< the whole F x F matrix, zeros above the wanted triangle

  /// Length of a row of the result.
  constexpr std::int64_t width() const {
    if (skip_gather) return features * features;
    return features * (self_interaction ? features + 1 : features - 1) / 2;
  }
  /// Where the product of features i and j <= i stands (i = j: with self_interaction).
  constexpr std::int64_t place(std::int64_t i, std::int64_t j) const {
    if (skip_gather) return i * features + j;
    return i * (self_interaction ? i + 1 : i - 1) / 2 + j;
  }
};

namespace cpu {
void dot_interaction(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                     Matrix<float> y);
void dot_interaction_grad(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                          Matrix<const float> d_y, Matrix<float> d_x);
}  // namespace cpu
namespace cuda {
void dot_interaction(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                     Matrix<float> y);
void dot_interaction_grad(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                          Matrix<const float> d_y, Matrix<float> d_x);
}  // namespace cuda

/// Products of all pairs of a row's features, row-major over the lower triangle:
///   y[place(i, j)] = x_i . x_j   for j < i (self_interaction: j <= i)
/// Shapes       x [B, F D] f32 (F features of D columns, one after the other), y [B, width()] f32
/// Empty        B = 0: no-op; D = 0: zeros
/// Aliasing     y must not overlap x
/// Cost         B F (F + 1) D flops; reads B F D, writes B width() floats. cuda: rows in shared
///              memory up to 12288 floats, wider ones from the cache
/// Scratch      none
/// Numerics     f32; cuda: fused, over the columns in order; cpu: lanes of columns, then their sum
/// Determinism  bitwise for any thread count; rows stand alone. The backends differ by the order of
///              the sum over D
/// See          tfrs.layers.feature_interaction.DotInteraction
inline void dot_interaction(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                            Matrix<float> y) {
  require(shape.features > 0 && shape.features <= kMostInteractingFeatures &&
              x.cols % shape.features == 0,
          "dot_interaction: x must hold features of one width");
  require(y.rows == x.rows && y.cols == shape.width(),
          "dot_interaction: y must have one row a row of x and the width of the layout");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::dot_interaction(ctx, x, shape, y);
    case Backend::cuda:
      if constexpr (kHasCuda::dot_interaction) return cuda::dot_interaction(ctx, x, shape, y);
  }
  throw_no_backend("dot_interaction");
}

/// Its gradient:  d_x_i = sum_j g_ij x_j  over j = 0 .. F-1 in order, with
/// g_ij = d_y[place(max(i, j), min(i, j))], twice that for i = j (0 without self_interaction)
/// Shapes       x, d_x [B, F D] f32, d_y [B, width()] f32; of d_y what lies above the wanted triangle
///              is not used
/// Empty        B = 0 or D = 0: no-op
/// Aliasing     d_x must not overlap x or d_y
/// Cost         2 B F^2 D flops; reads B (F D + width()), writes B F D floats
/// Scratch      cpu: F floats a thread; cuda: none
/// Numerics     f32, fused where the processor can
/// Determinism  bitwise for any thread count; the backends differ where one of them fuses
inline void dot_interaction_grad(const Context& ctx, Matrix<const float> x,
                                 const DotInteraction& shape, Matrix<const float> d_y,
                                 Matrix<float> d_x) {
  require(shape.features > 0 && shape.features <= kMostInteractingFeatures &&
              x.cols % shape.features == 0,
          "dot_interaction_grad: x must hold features of one width");
  require(d_y.rows == x.rows && d_y.cols == shape.width(),
          "dot_interaction_grad: d_y must have one row a row of x and the width of the layout");
  require(d_x.rows == x.rows && d_x.cols == x.cols,
          "dot_interaction_grad: d_x must have the shape of x");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::dot_interaction_grad(ctx, x, shape, d_y, d_x);
    case Backend::cuda:
      if constexpr (kHasCuda::dot_interaction) {
        return cuda::dot_interaction_grad(ctx, x, shape, d_y, d_x);
      }
  }
  throw_no_backend("dot_interaction_grad");
}

}  // namespace belfry
