// SPDX-License-Identifier: Apache-2.0
// bias_act on host memory, for the backend under test.
#pragma once

#include "kernels/bias_act/bias_act.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void bias_act(const Context& ctx, Matrix<float> z, Vector<const float> bias,
                     Activation activation, Matrix<float> y) {
  if (ctx.backend() == Backend::cpu) return belfry::bias_act(ctx, z, bias, activation, y);
  const bool in_place = z.data == y.data;
  test::Twin zs(ctx, z), ys(ctx, y, test::Use::out);
  test::Twin bs(ctx, bias);
  belfry::bias_act(ctx, zs.matrix(), bs.vector(), activation, in_place ? zs.matrix() : ys.matrix());
  zs.fetch(ctx);
  if (!in_place) ys.fetch(ctx);
}

inline void bias_act_grad(const Context& ctx, Matrix<const float> z, Matrix<const float> y,
                          Matrix<const float> d_y, Activation activation, Matrix<float> d_z,
                          Vector<float> d_bias) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::bias_act_grad(ctx, z, y, d_y, activation, d_z, d_bias);
  }
  const bool in_place = d_z.data == d_y.data;
  test::Twin zs(ctx, z), ys(ctx, y), d_ys(ctx, d_y);
  test::Twin d_zs(ctx, d_z, in_place ? test::Use::in_out : test::Use::out);
  test::Twin d_biases(ctx, d_bias, test::Use::out);
  belfry::bias_act_grad(ctx, zs.matrix(), ys.matrix(), in_place ? d_zs.matrix() : d_ys.matrix(),
                        activation, d_zs.matrix(), d_biases.vector());
  d_zs.fetch(ctx);
  d_biases.fetch(ctx);
}

}  // namespace belfry::tested
