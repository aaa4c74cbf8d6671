// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

namespace cpu {
void find_non_finite(const Context& ctx, Matrix<const float> x, std::int64_t* first);
}
namespace cuda {
void find_non_finite(const Context& ctx, Matrix<const float> x, std::int64_t* first);
}

/// *first = the smallest i D + j at which x_ij is NaN or infinite; -1 where there is none.
/// Shapes       x [R,D] f32; first: one i64 in the backend's memory
/// Empty        R = 0 or D = 0: -1
/// Cost         one read: memory-bound
/// Scratch      none
/// Numerics     exact
/// Determinism  bitwise_cpu_cuda
inline void find_non_finite(const Context& ctx, Matrix<const float> x, std::int64_t* first) {
  require(first != nullptr, "find_non_finite: a place for the result is needed");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::find_non_finite(ctx, x, first);
    case Backend::cuda:
      if constexpr (kHasCuda::non_finite) return cuda::find_non_finite(ctx, x, first);
  }
  throw_no_backend("find_non_finite");
}

}  // namespace belfry
