// SPDX-License-Identifier: Apache-2.0
// gru and gru_grad on host memory, for the backend under test.
#pragma once

#include "kernels/gru/gru.hpp"
#include "tests/support/step_mask_twin.hpp"

namespace belfry::tested {

/// Device copies of the parameters; no bias stays none.
class GruParametersTwin {
 public:
  GruParametersTwin(const Context& ctx, const GruParameters& p)
      : kernel_(ctx, p.kernel), recurrent_(ctx, p.recurrent), bias_(ctx, p.bias) {}
  GruParameters view() { return {kernel_.matrix(), recurrent_.matrix(), bias_.matrix()}; }

 private:
  test::Twin<const float> kernel_, recurrent_, bias_;
};

inline void gru(const Context& ctx, GruCall c) {
  if (ctx.backend() == Backend::cpu) return belfry::gru(ctx, c);
  const std::int64_t steps = c.steps < 1 ? 1 : c.steps;
  test::Twin<const float> x(ctx, c.x);
  test::StepMaskTwin mask(ctx, c.mask, c.x.rows / steps, steps);
  GruParametersTwin parameters(ctx, c.parameters);
  // Backward does not read the gates of steps left out, so forward leaves a part of them unwritten.
  test::Twin<float> gates(ctx, c.gates), states(ctx, c.states, test::Use::out);
  c.x = x.matrix();
  c.mask = mask.view();
  c.parameters = parameters.view();
  c.gates = gates.matrix();
  c.states = states.matrix();
  belfry::gru(ctx, c);
  gates.fetch(ctx);
  states.fetch(ctx);
}

inline void gru_grad(const Context& ctx, GruGradCall c) {
  if (ctx.backend() == Backend::cpu) return belfry::gru_grad(ctx, c);
  const std::int64_t steps = c.steps < 1 ? 1 : c.steps;
  test::Twin<const float> x(ctx, c.x), states(ctx, c.states), d_states(ctx, c.d_states),
      d_last(ctx, c.d_last);
  test::StepMaskTwin mask(ctx, c.mask, c.x.rows / steps, steps);
  GruParametersTwin parameters(ctx, c.parameters);
  test::Twin<float> gates(ctx, c.gates);
  using test::Use;
  test::Twin<float> d_kernel(ctx, c.d_kernel, Use::out), d_recurrent(ctx, c.d_recurrent, Use::out),
      d_bias(ctx, c.d_bias, Use::out), d_x(ctx, c.d_x, Use::out);
  c.x = x.matrix();
  c.mask = mask.view();
  c.parameters = parameters.view();
  c.states = states.matrix();
  c.gates = gates.matrix();
  c.d_states = d_states.matrix();
  c.d_last = d_last.matrix();
  c.d_kernel = d_kernel.matrix();
  c.d_recurrent = d_recurrent.matrix();
  c.d_bias = d_bias.matrix();
  c.d_x = d_x.matrix();
  belfry::gru_grad(ctx, c);
  for (auto* twin : {&gates, &d_kernel, &d_recurrent, &d_bias, &d_x}) twin->fetch(ctx);
}

}  // namespace belfry::tested
