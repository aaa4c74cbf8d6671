// SPDX-License-Identifier: Apache-2.0
// layer_norm on host memory, for the backend under test.
#pragma once

#include "kernels/layer_norm/layer_norm.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void layer_norm(const Context& ctx, const LayerNormCall& host) {
  if (ctx.backend() == Backend::cpu) return belfry::layer_norm(ctx, host);
  const bool in_place = host.y.data == host.x.data;
  test::Twin x(ctx, host.x);
  test::Twin gamma(ctx, host.gamma), beta(ctx, host.beta);
  test::Twin y(ctx, host.y, in_place ? test::Use::in_out : test::Use::out);
  test::Twin mean(ctx, host.mean, test::Use::out),
      inverse(ctx, host.inverse_deviation, test::Use::out);
  LayerNormCall call = host;
  call.y = y.matrix();
  call.x = in_place ? Matrix<const float>(call.y) : x.matrix();
  call.gamma = gamma.vector();
  call.beta = beta.vector();
  call.mean = mean.vector();
  call.inverse_deviation = inverse.vector();
  belfry::layer_norm(ctx, call);
  y.fetch(ctx);
  mean.fetch(ctx);
  inverse.fetch(ctx);
}

inline void layer_norm_grad(const Context& ctx, const LayerNormGradCall& host) {
  if (ctx.backend() == Backend::cpu) return belfry::layer_norm_grad(ctx, host);
  const bool in_place = host.d_x.data == host.d_y.data;
  test::Twin x(ctx, host.x), d_y(ctx, host.d_y);
  test::Twin gamma(ctx, host.gamma), mean(ctx, host.mean), inverse(ctx, host.inverse_deviation);
  test::Twin d_x(ctx, host.d_x, in_place ? test::Use::in_out : test::Use::out);
  test::Twin d_gamma(ctx, host.d_gamma, test::Use::out), d_beta(ctx, host.d_beta, test::Use::out);
  LayerNormGradCall call = host;
  call.x = x.matrix();
  call.gamma = gamma.vector();
  call.mean = mean.vector();
  call.inverse_deviation = inverse.vector();
  call.d_x = d_x.matrix();
  call.d_y = in_place ? Matrix<const float>(call.d_x) : d_y.matrix();
  call.d_gamma = d_gamma.vector();
  call.d_beta = d_beta.vector();
  belfry::layer_norm_grad(ctx, call);
  d_x.fetch(ctx);
  d_gamma.fetch(ctx);
  d_beta.fetch(ctx);
}

}  // namespace belfry::tested
