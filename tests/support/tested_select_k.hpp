// SPDX-License-Identifier: Apache-2.0
// select_k on host memory, for the backend under test.
#pragma once

#include "kernels/select_k/select_k.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::tested {

inline void select_k(const Context& ctx, Matrix<const float> scores, TopK out) {
  if (ctx.backend() == Backend::cpu) return belfry::select_k(ctx, scores, out);
  test::Twin s(ctx, scores);
  test::Twin best(ctx, out.scores, test::Use::out);
  test::Twin rows(ctx, out.rows, test::Use::out);
  belfry::select_k(ctx, s.matrix(), {best.matrix(), rows.matrix()});
  best.fetch(ctx);
  rows.fetch(ctx);
  test::record_outputs(ctx, "select_k", out.scores, out.rows);
}

}  // namespace belfry::tested
