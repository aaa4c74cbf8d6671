// SPDX-License-Identifier: Apache-2.0
// l2_normalize on host memory, for the backend under test.
#pragma once

#include "kernels/l2_normalize/l2_normalize.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void l2_normalize(const Context& ctx, Matrix<const float> x, Matrix<float> y,
                         Vector<float> inverse_norm) {
  if (ctx.backend() == Backend::cpu) return belfry::l2_normalize(ctx, x, y, inverse_norm);
  const bool in_place = x.data == y.data;
  test::Twin xs(ctx, x);
  test::Twin ys(ctx, y, in_place ? test::Use::in_out : test::Use::out);
  test::Twin rs(ctx, inverse_norm, test::Use::out);
  belfry::l2_normalize(ctx, in_place ? Matrix<const float>(ys.matrix()) : xs.matrix(), ys.matrix(),
                       rs.vector());
  ys.fetch(ctx);
  rs.fetch(ctx);
}

inline void l2_normalize_grad(const Context& ctx, Matrix<const float> y,
                              Vector<const float> inverse_norm, Matrix<const float> d_y,
                              Matrix<float> d_x) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::l2_normalize_grad(ctx, y, inverse_norm, d_y, d_x);
  }
  const bool in_place = d_x.data == d_y.data;
  test::Twin ys(ctx, y), d_ys(ctx, d_y);
  test::Twin rs(ctx, inverse_norm);
  test::Twin d_xs(ctx, d_x, in_place ? test::Use::in_out : test::Use::out);
  belfry::l2_normalize_grad(ctx, ys.matrix(), rs.vector(),
                            in_place ? Matrix<const float>(d_xs.matrix()) : d_ys.matrix(),
                            d_xs.matrix());
  d_xs.fetch(ctx);
}

}  // namespace belfry::tested
