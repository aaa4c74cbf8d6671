// SPDX-License-Identifier: Apache-2.0
// dot_interaction on host memory, for the backend under test.
#pragma once

#include "kernels/dot_interaction/dot_interaction.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void dot_interaction(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                            Matrix<float> y) {
  if (ctx.backend() == Backend::cpu) return belfry::dot_interaction(ctx, x, shape, y);
  test::Twin xs(ctx, x);
  test::Twin ys(ctx, y, test::Use::out);
  belfry::dot_interaction(ctx, xs.matrix(), shape, ys.matrix());
  ys.fetch(ctx);
}

inline void dot_interaction_grad(const Context& ctx, Matrix<const float> x,
                                 const DotInteraction& shape, Matrix<const float> d_y,
                                 Matrix<float> d_x) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::dot_interaction_grad(ctx, x, shape, d_y, d_x);
  }
  test::Twin xs(ctx, x), d_ys(ctx, d_y);
  test::Twin d_xs(ctx, d_x, test::Use::out);
  belfry::dot_interaction_grad(ctx, xs.matrix(), shape, d_ys.matrix(), d_xs.matrix());
  d_xs.fetch(ctx);
}

}  // namespace belfry::tested
