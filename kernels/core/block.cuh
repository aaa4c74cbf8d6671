// SPDX-License-Identifier: Apache-2.0
// Warp and block primitives of kernel files. CUB's do not run in the executor, so these are our own. All
// combine in an order that depends on lane numbers alone. Blocks are one-dimensional, whole warps.
#pragma once

#include <cstdint>

#include "kernels/core/simt.hpp"
#include "kernels/core/step_state.hpp"

namespace belfry::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Min {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

/// All lanes take part and all get the result: a butterfly, the same tree for every lane.
template <class T, class Op>
__device__ __forceinline__ T warp_reduce(T value, Op op) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = op(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

/// Inclusive prefix over the lanes.
template <class T, class Op>
__device__ __forceinline__ T warp_inclusive_scan(T value, Op op) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const T before = __shfl_up_sync(kAllLanes, value, offset);
    if (lane >= offset) value = op(before, value);
  }
  return value;
}

/// The block's result in every thread: warps by warp_reduce, then their results in order of warps. `scratch`
/// is shared memory of kThreads / 32 elements, free again on return.
template <int kThreads, class T, class Op>
__device__ T block_reduce(T value, Op op, T* scratch) {
  constexpr int kWarps = kThreads / kWarp;
  value = warp_reduce(value, op);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  T total = scratch[0];
  for (int w = 1; w < kWarps; ++w) total = op(total, scratch[w]);
  __syncthreads();
  return total;
}

/// Sum of the values of lower-numbered threads; *total gets the block's sum. Scratch as above.
template <int kThreads, class T>
__device__ T block_exclusive_sum(T value, T* total, T* scratch) {
  constexpr int kWarps = kThreads / kWarp;
  const T inclusive = warp_inclusive_scan(value, Sum{});
  if (threadIdx.x % kWarp == kWarp - 1) scratch[threadIdx.x / kWarp] = inclusive;
  __syncthreads();
  T before = inclusive - value, all = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < static_cast<int>(threadIdx.x) / kWarp) before += scratch[w];
    all += scratch[w];
  }
  __syncthreads();
  *total = all;
  return before;
}

/// Ors `bits` into the status word. Any thread may.
__device__ inline void raise_status(StepState* state, std::uint32_t bits) {
  atomicOr(&state->status, bits);
}

/// First index of a grid-stride loop, and its step.
__device__ __forceinline__ std::int64_t grid_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ std::int64_t grid_threads() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Blocks of `per_block` items each for n > 0 items, at most `most`: kernels loop over the rest. The bound
/// is a constant, so that no result depends on the device's size.
inline unsigned grid_for(std::int64_t n, std::int64_t per_block, std::int64_t most = 1 << 16) {
  const std::int64_t blocks = ceil_div(n, per_block);
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

}  // namespace belfry::cuda
