// SPDX-License-Identifier: Apache-2.0
// Before the passes: copies of both sides in the form that tiles want, and marks of the pairs of units in
// which columns leave.
#pragma once

#include "kernels/retrieval_softmax/retrieval_softmax.hpp"
#include "kernels/retrieval_softmax/softmax_steps.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

/// Launches a kernel over `threads` threads, or a bounded number that loops.
inline constexpr int kLoopThreads = 256;
template <class... P, class... A>
void launch_loop(const Context& ctx, std::int64_t threads, void (*kernel)(P...), A&&... arguments) {
  simt::launch(
      {.grid = grid_for(threads, kLoopThreads), .block = kLoopThreads, .stream = &ctx.stream()},
      kernel, std::forward<A>(arguments)...);
}

/// Calls f(row) in a whole warp for each of `rows`; f goes over columns by lanes.
template <class F>
__device__ __forceinline__ void for_rows(std::int64_t rows, F&& f) {
  for (std::int64_t row = grid_thread() / kWarp; row < rows; row += grid_threads() / kWarp) f(row);
}

/// to[slot] = from's row of the slot's query and head, divided, zeros up to `depth` columns and in slots that
/// have no query. Any alignment and pitch is read.
template <class Element>
__global__ void copy_slots(Matrix<const float> from, SlotMap slots, std::int64_t count,
                           float divisor, Element* to, int depth) {
  for_rows(count, [&](std::int64_t slot) {
    const int in_unit = static_cast<int>(slot % kUnit), head = slots.head(in_unit);
    const std::int64_t query = slots.query(slot / kUnit, in_unit);
    const std::int64_t columns = query < slots.batch && head < slots.heads ? from.cols : 0;
    const float* row = columns > 0 ? from.row(query * slots.heads + head) : nullptr;
    for (int d = 2 * lane_of_warp(); d < depth; d += 2 * kWarp) {
      const float x = d < columns ? row[d] / divisor : 0.0f;
      const float y = d + 1 < columns ? row[d + 1] / divisor : 0.0f;
      if constexpr (sizeof(Element) == sizeof(float)) {
        *reinterpret_cast<float2*>(to + slot * depth + d) = make_float2(x, y);
      } else {
        *reinterpret_cast<__nv_bfloat162*>(to + slot * depth + d) = __floats2bfloat162_rn(x, y);
      }
    }
  });
}

/// `from`, then zeros up to `count`; scratch of the context's arena.
const float* copy_bias(const Context& ctx, Vector<const float> from, std::int64_t count);

/// What ids and masks make leave; scratch of the context's arena.
Leaving mark_leaving(const Context& ctx, const RetrievalSoftmaxOptions& options,
                     const SlotMap& slots, std::int64_t query_units, std::int64_t candidate_units);

}  // namespace belfry::cuda::retrieval_softmax_kernels
