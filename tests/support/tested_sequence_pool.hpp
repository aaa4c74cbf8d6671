// SPDX-License-Identifier: Apache-2.0
// sequence_pool and sequence_pool_grad on host memory, for the backend under test.
#pragma once

#include "kernels/sequence_pool/sequence_pool.hpp"
#include "tests/support/step_mask_twin.hpp"

namespace belfry::tested {

inline void sequence_pool(const Context& ctx, Matrix<const float> x, SequencePoolOptions options,
                          Matrix<float> y) {
  if (ctx.backend() == Backend::cpu) return belfry::sequence_pool(ctx, x, options, y);
  test::Twin xs(ctx, x);
  test::Twin ys(ctx, y, test::Use::out);
  const std::int64_t steps = options.steps < 1 ? 1 : options.steps;
  const test::StepMaskTwin mask(ctx, options.mask, x.rows / steps, steps);
  options.mask = mask.view();
  belfry::sequence_pool(ctx, xs.matrix(), options, ys.matrix());
  ys.fetch(ctx);
}

inline void sequence_pool_grad(const Context& ctx, Matrix<const float> d_y,
                               SequencePoolOptions options, Matrix<float> d_x) {
  if (ctx.backend() == Backend::cpu) return belfry::sequence_pool_grad(ctx, d_y, options, d_x);
  test::Twin d_ys(ctx, d_y);
  test::Twin d_xs(ctx, d_x, test::Use::out);
  const std::int64_t steps = options.steps < 1 ? 1 : options.steps;
  const test::StepMaskTwin mask(ctx, options.mask, d_x.rows / steps, steps);
  options.mask = mask.view();
  belfry::sequence_pool_grad(ctx, d_ys.matrix(), options, d_xs.matrix());
  d_xs.fetch(ctx);
}

}  // namespace belfry::tested
