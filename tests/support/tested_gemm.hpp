// SPDX-License-Identifier: Apache-2.0
// gemm on host memory, for the backend under test.
#pragma once

#include "kernels/gemm/gemm.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void gemm(const Context& ctx, Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
                 const GemmOptions& options = {}) {
  if (ctx.backend() == Backend::cpu) return belfry::gemm(ctx, a, b, c, options);
  test::Twin x(ctx, a), y(ctx, b);
  test::Twin z(ctx, c, options.beta == 0 ? test::Use::out : test::Use::in_out);
  belfry::gemm(ctx, x.matrix(), y.matrix(), z.matrix(), options);
  z.fetch(ctx);
}

}  // namespace belfry::tested
