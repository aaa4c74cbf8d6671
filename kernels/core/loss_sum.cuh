// SPDX-License-Identifier: Apache-2.0
// The end of a loss: partial sums, added in an order that depends on their number alone, times a factor.
#pragma once

#include <cmath>

#include "kernels/core/block.cuh"
#include "kernels/core/context.hpp"

namespace belfry::cuda::loss_sum_kernels {

/// One block. *loss becomes factor sum_i partial_i, or grows by it; a sum that is not finite raises its bit.
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    sum_partials(const double* partial, std::int64_t n, double factor, bool add, double* loss,
                 StepState* state) {
  SIMT_SHARED_ARRAY(double, scratch, [kThreads / kWarp]);
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < n; i += kThreads) sum += partial[i];
  sum = block_reduce<kThreads>(sum, Sum{}, scratch) * factor;
  if (threadIdx.x != 0) return;
  *loss = add ? *loss + sum : sum;
  if (!std::isfinite(sum)) raise_status(state, kStatusNonFinite);
}

inline void sum_to_loss(const Context& ctx, const double* partial, std::int64_t n, double factor,
                        bool add, double* loss) {
  constexpr int kThreads = 256;
  simt::launch({.grid = 1, .block = kThreads, .stream = &ctx.stream()}, sum_partials<kThreads>,
               partial, n, factor, add, loss, ctx.state());
}

}  // namespace belfry::cuda::loss_sum_kernels
