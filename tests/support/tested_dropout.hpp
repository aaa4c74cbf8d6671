// SPDX-License-Identifier: Apache-2.0
// dropout on host memory, for the backend under test.
#pragma once

#include "kernels/dropout/dropout.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void dropout(const Context& ctx, Matrix<const float> x, const Dropout& options,
                    Matrix<float> y) {
  if (ctx.backend() == Backend::cpu) return belfry::dropout(ctx, x, options, y);
  const bool in_place = x.data == y.data;
  test::Twin xs(ctx, x);
  test::Twin ys(ctx, y, in_place ? test::Use::in_out : test::Use::out);
  belfry::dropout(ctx, in_place ? Matrix<const float>(ys.matrix()) : xs.matrix(), options,
                  ys.matrix());
  ys.fetch(ctx);
}

inline void dropout_grad(const Context& ctx, Matrix<const float> d_y, const Dropout& options,
                         Matrix<float> d_x) {
  if (ctx.backend() == Backend::cpu) return belfry::dropout_grad(ctx, d_y, options, d_x);
  test::Twin d_ys(ctx, d_y);
  test::Twin d_xs(ctx, d_x, test::Use::out);
  belfry::dropout_grad(ctx, d_ys.matrix(), options, d_xs.matrix());
  d_xs.fetch(ctx);
}

}  // namespace belfry::tested
