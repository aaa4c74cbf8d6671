// SPDX-License-Identifier: Apache-2.0
// The executor's face towards kernels, part 6: the subset of cooperative groups that we use, built on
// the intrinsics. Under nvcc simt::cg is cooperative_groups itself.
#pragma once

#include "host/warp.hpp"

namespace belfry::simt::cg {

class thread_block {
 public:
  static void sync(SIMT_WHERE) { host::block_barrier(host::Vote::none, 0, where); }
  static unsigned thread_rank() {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  }
  static unsigned size() { return blockDim.x * blockDim.y * blockDim.z; }
  static unsigned num_threads() { return size(); }
  static dim3 group_index() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
  static dim3 thread_index() { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
};
inline thread_block this_thread_block() {
  return {};
}

class grid_group {
 public:
  static void sync(SIMT_WHERE) { host::grid_barrier(where); }
  static unsigned long long thread_rank() {
    const unsigned long long block = blockIdx.x + static_cast<unsigned long long>(gridDim.x) *
                                                      (blockIdx.y + gridDim.y * blockIdx.z);
    return block * thread_block::size() + thread_block::thread_rank();
  }
  static unsigned long long size() {
    return static_cast<unsigned long long>(gridDim.x) * gridDim.y * gridDim.z *
           thread_block::size();
  }
};
inline grid_group this_grid() {
  return {};
}

/// N consecutive lanes of a warp.
template <unsigned N>
class thread_block_tile {
  static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0);

 public:
  static unsigned thread_rank() { return thread_block::thread_rank() % N; }
  static constexpr unsigned size() { return N; }
  static constexpr unsigned num_threads() { return N; }
  static unsigned meta_group_rank() { return thread_block::thread_rank() / N; }
  static unsigned meta_group_size() { return (thread_block::size() + N - 1) / N; }
  static void sync(SIMT_WHERE) { __syncwarp(mask(), where); }
  template <class T>
  static T shfl(T value, int lane, SIMT_WHERE) {
    return __shfl_sync(mask(), value, lane, N, where);
  }
  template <class T>
  static T shfl_xor(T value, int lane_mask, SIMT_WHERE) {
    return __shfl_xor_sync(mask(), value, lane_mask, N, where);
  }
  template <class T>
  static T shfl_down(T value, unsigned delta, SIMT_WHERE) {
    return __shfl_down_sync(mask(), value, delta, N, where);
  }
  template <class T>
  static T shfl_up(T value, unsigned delta, SIMT_WHERE) {
    return __shfl_up_sync(mask(), value, delta, N, where);
  }
  static unsigned ballot(int predicate, SIMT_WHERE) {
    return __ballot_sync(mask(), predicate, where) >> first();
  }
  static int any(int predicate, SIMT_WHERE) { return __any_sync(mask(), predicate, where); }
  static int all(int predicate, SIMT_WHERE) { return __all_sync(mask(), predicate, where); }

 private:
  static unsigned first() { return thread_block::thread_rank() % 32 / N * N; }
  static unsigned mask() { return (N == 32 ? 0xffffffffu : (1u << (N % 32)) - 1) << first(); }
};
template <unsigned N>
thread_block_tile<N> tiled_partition(const thread_block&) {
  return {};
}

template <class T>
struct plus {
  T operator()(T a, T b) const { return a + b; }
};
template <class T>
struct less {
  T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T>
struct greater {
  T operator()(T a, T b) const { return a < b ? b : a; }
};

/// op over the tile's values, in every lane. The order of a float sum is the device library's own.
template <unsigned N, class T, class Op>
T reduce(const thread_block_tile<N>& tile, T value, const Op& op, SIMT_WHERE) {
  for (int step = static_cast<int>(N) / 2; step > 0; step /= 2) {
    value = op(value, tile.shfl_xor(value, step, where));
  }
  return value;
}

}  // namespace belfry::simt::cg
