// SPDX-License-Identifier: Apache-2.0
// shuffle on host memory, for the backend under test.
#pragma once

#include "kernels/shuffle/shuffle.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::tested {

inline void shuffle(const Context& ctx, const Permutation& p, std::int64_t first,
                    Vector<std::int64_t> out) {
  if (ctx.backend() == Backend::cpu) return belfry::shuffle(ctx, p, first, out);
  test::Twin rows(ctx, out, test::Use::out);
  belfry::shuffle(ctx, p, first, rows.vector());
  rows.fetch(ctx);
  test::record_outputs(ctx, "shuffle", out);
}

}  // namespace belfry::tested
