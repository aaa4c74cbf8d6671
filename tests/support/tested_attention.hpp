// SPDX-License-Identifier: Apache-2.0
// attention and attention_grad on host memory, for the backend under test.
#pragma once

#include "kernels/attention/attention.hpp"
#include "tests/support/step_mask_twin.hpp"

namespace belfry::tested {

inline test::StepMaskTwin mask_twin(const Context& ctx, const AttentionOptions& o,
                                    std::int64_t rows) {
  const std::int64_t steps = o.steps < 1 ? 1 : o.steps;
  return {ctx, o.mask, rows / steps, steps};
}

inline void attention(const Context& ctx, AttentionCall c) {
  if (ctx.backend() == Backend::cpu) return belfry::attention(ctx, c);
  test::Twin<const float> q(ctx, c.q), k(ctx, c.k), v(ctx, c.v);
  const test::StepMaskTwin mask = mask_twin(ctx, c.options, c.q.rows);
  test::Twin<float> out(ctx, c.out, test::Use::out), log_sum(ctx, c.log_sum, test::Use::out);
  c.q = q.matrix();
  c.k = k.matrix();
  c.v = v.matrix();
  c.options.mask = mask.view();
  c.out = out.matrix();
  c.log_sum = log_sum.matrix();
  const bool written = c.q.cols > 0;
  belfry::attention(ctx, c);
  out.fetch(ctx);
  if (written) log_sum.fetch(ctx);
}

inline void attention_grad(const Context& ctx, AttentionGradCall c) {
  if (ctx.backend() == Backend::cpu) return belfry::attention_grad(ctx, c);
  test::Twin<const float> q(ctx, c.q), k(ctx, c.k), v(ctx, c.v), out(ctx, c.out),
      log_sum(ctx, c.log_sum), d_out(ctx, c.d_out);
  const test::StepMaskTwin mask = mask_twin(ctx, c.options, c.q.rows);
  using test::Use;
  test::Twin<float> d_q(ctx, c.d_q, Use::out), d_k(ctx, c.d_k, Use::out), d_v(ctx, c.d_v, Use::out);
  c.q = q.matrix();
  c.k = k.matrix();
  c.v = v.matrix();
  c.options.mask = mask.view();
  c.out = out.matrix();
  c.log_sum = log_sum.matrix();
  c.d_out = d_out.matrix();
  c.d_q = d_q.matrix();
  c.d_k = d_k.matrix();
  c.d_v = d_v.matrix();
  belfry::attention_grad(ctx, c);
  for (auto* twin : {&d_q, &d_k, &d_v}) twin->fetch(ctx);
}

}  // namespace belfry::tested
