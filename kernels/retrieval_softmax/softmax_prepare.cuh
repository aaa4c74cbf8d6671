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
  simt::launch({.grid = grid_for(threads, kLoopThreads),
                .block = kLoopThreads,
                .stream = &ctx.stream()},
               kernel, std::forward<A>(arguments)...);
}

/// to[slot] = from's row of the slot's query and head, divided, zeros up to `depth` columns and in slots that
/// have no query. Any alignment and pitch is read.
template <class Element>
__global__ void copy_slots(Matrix<const float> from, SlotMap slots, std::int64_t count, float divisor,
                           Element* to, int depth) {
  const int pieces = depth / 4;
  for (std::int64_t k = grid_thread(); k < count * pieces; k += grid_threads()) {
    const std::int64_t slot = k / pieces;
    const int column = static_cast<int>(k % pieces) * 4, in_unit = static_cast<int>(slot % kUnit);
    const std::int64_t query = slots.query(slot / kUnit, in_unit);
    const int head = slots.head(in_unit);
    const bool exists = query < slots.batch && head < slots.heads;
    float x[4] = {};
    for (int e = 0; e < 4; ++e) {
      if (exists && column + e < from.cols) {
        x[e] = from.row(query * slots.heads + head)[column + e] / divisor;
      }
    }
    if constexpr (sizeof(Element) == sizeof(float)) {
      *reinterpret_cast<float4*>(to + k * 4) = make_float4(x[0], x[1], x[2], x[3]);
    } else {
      for (int e = 0; e < 4; e += 2) {
        *reinterpret_cast<__nv_bfloat162*>(to + k * 4 + e) = __floats2bfloat162_rn(x[e], x[e + 1]);
      }
    }
  }
}

/// `from`, then zeros up to `count`; scratch of the context's arena.
const float* copy_bias(const Context& ctx, Vector<const float> from, std::int64_t count);

/// What ids and masks make leave; scratch of the context's arena.
Leaving mark_leaving(const Context& ctx, const RetrievalSoftmaxOptions& options,
                     const SlotMap& slots, std::int64_t query_units, std::int64_t candidate_units);

}  // namespace belfry::cuda::retrieval_softmax_kernels
