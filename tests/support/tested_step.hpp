// SPDX-License-Identifier: Apache-2.0
// The step state's ops on host memory, for the backend under test.
#pragma once

#include "kernels/step/step.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::tested {

inline void begin_step(const Context& ctx, const StepState* next) {
  if (ctx.backend() == Backend::cpu || next == nullptr) return belfry::begin_step(ctx, next);
  test::Twin state(ctx, Vector<const StepState>(next, 1));
  belfry::begin_step(ctx, state.data());
  ctx.synchronise();
}

inline void shuffle_batch(const Context& ctx, std::int64_t n, ShuffleOrder order,
                          Vector<std::int64_t> rows) {
  if (ctx.backend() == Backend::cpu) return belfry::shuffle_batch(ctx, n, order, rows);
  test::Twin out(ctx, rows, test::Use::out);
  belfry::shuffle_batch(ctx, n, order, out.vector());
  out.fetch(ctx);
  test::record_outputs(ctx, "shuffle_batch", rows);
}

}  // namespace belfry::tested
