// SPDX-License-Identifier: Apache-2.0
// cross on host memory, for the backend under test.
#pragma once

#include "kernels/cross/cross.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void cross(const Context& ctx, const CrossCall& host) {
  if (ctx.backend() == Backend::cpu) return belfry::cross(ctx, host);
  const bool on_x0 = host.y.data == host.x0.data, on_x = host.y.data == host.x.data;
  const bool on_p = host.y.data == host.p.data;
  test::Twin x0(ctx, host.x0), x(ctx, host.x), p(ctx, host.p);
  test::Twin y(ctx, host.y, on_x0 || on_x || on_p ? test::Use::in_out : test::Use::out);
  // What is one matrix on the host is one on the device.
  CrossCall call = host;
  call.y = y.matrix();
  call.x0 = on_x0 ? Matrix<const float>(call.y) : x0.matrix();
  call.x = on_x ? Matrix<const float>(call.y) : host.x.data == host.x0.data ? call.x0 : x.matrix();
  call.p = on_p ? Matrix<const float>(call.y) : p.matrix();
  belfry::cross(ctx, call);
  y.fetch(ctx);
}

inline void cross_grad(const Context& ctx, const CrossGradCall& host) {
  if (ctx.backend() == Backend::cpu) return belfry::cross_grad(ctx, host);
  const bool on_p = host.d_p.data == host.d_y.data, on_x = host.d_x.data == host.d_y.data;
  const auto use = [](bool reads) { return reads ? test::Use::in_out : test::Use::out; };
  test::Twin x0(ctx, host.x0), x(ctx, host.x), p(ctx, host.p), d_y(ctx, host.d_y);
  test::Twin d_p(ctx, host.d_p, use(on_p)), d_x0(ctx, host.d_x0, use(host.add_x0));
  test::Twin d_x(ctx, host.d_x, use(host.add_x || on_x));
  CrossGradCall call = host;
  call.x0 = x0.matrix();
  call.x = host.x.data == host.x0.data ? call.x0 : x.matrix();
  call.p = p.matrix();
  call.d_p = d_p.matrix();
  call.d_x0 = d_x0.matrix();
  call.d_x = host.d_x.data == nullptr ? Matrix<float>() : d_x.matrix();
  call.d_y = d_y.matrix();
  if (on_p) call.d_y = call.d_p;
  if (on_x) call.d_y = call.d_x;
  belfry::cross_grad(ctx, call);
  d_p.fetch(ctx);
  d_x0.fetch(ctx);
  d_x.fetch(ctx);
}

}  // namespace belfry::tested
