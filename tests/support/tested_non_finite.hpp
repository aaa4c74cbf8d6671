// SPDX-License-Identifier: Apache-2.0
// find_non_finite on host memory, for the backend under test.
#pragma once

#include "kernels/non_finite/non_finite.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::tested {

inline void find_non_finite(const Context& ctx, Matrix<const float> x, std::int64_t* first) {
  if (ctx.backend() == Backend::cpu || first == nullptr) {
    return belfry::find_non_finite(ctx, x, first);
  }
  test::Twin xs(ctx, x);
  test::Twin result(ctx, Vector<std::int64_t>(first, 1), test::Use::out);
  belfry::find_non_finite(ctx, xs.matrix(), result.data());
  result.fetch(ctx);
  test::record_outputs(ctx, "find_non_finite", Vector<const std::int64_t>(first, 1));
}

}  // namespace belfry::tested
