// SPDX-License-Identifier: Apache-2.0
// The k greatest of any number of keys, by one block: keys that beat the k-th best so far go into a buffer in
// shared memory, which is sorted and cut back to k when full.
#pragma once

#include <cstdint>

#include "kernels/core/block.cuh"
#include "kernels/select_k/topk_key.cuh"

namespace belfry::cuda::topk {

/// Largest k of the buffer; above it lists are selected by radix in global memory.
inline constexpr int kBlockK = 1024;

/// Sorts `size` keys, a power of two, downwards. Ends with a barrier.
__device__ __forceinline__ void sort_keys_down(Key* keys, int size) {
  const int threads = static_cast<int>(blockDim.x);
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < size / 2; i += threads) {
        const int low = 2 * i - (i & (step - 1)), high = low + step;
        const Key a = keys[low], b = keys[high];
        if ((a < b) == ((low & run) == 0)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
    }
  }
  __syncthreads();
}

__host__ __device__ constexpr int power_of_two_from(int n) {
  int size = 1;
  while (size < n) size *= 2;
  return size;
}

/// Room for k keys and as many, at least 256, that may replace them.
__host__ __device__ constexpr int block_capacity(int k) {
  return power_of_two_from(k + (k > 256 ? k : 256));
}

struct BlockState {
  Key worst;  ///< a key must be greater to enter
  int count;
};

class BlockTopK {
 public:
  /// `keys` and `state` are shared memory: block_capacity(k) keys, and one state. All threads call all of
  /// the members together.
  __device__ BlockTopK(Key* keys, BlockState* state, int k)
      : keys_(keys), state_(state), k_(k), capacity_(block_capacity(k)) {
    if (threadIdx.x == 0) *state = {kNoKey, 0};
    __syncthreads();
  }

  __device__ Key worst() const { return state_->worst; }

  /// Offers the keys key(i) for the set bits i of `offers`, of every thread its own.
  template <class F>
  __device__ void offer(unsigned offers, F&& key) {
    do {
      const Key worst = state_->worst;
      unsigned left = 0;
      for (; offers != 0; offers &= offers - 1) {
        const int i = __ffs(static_cast<int>(offers)) - 1;
        const Key candidate = key(i);
        if (candidate <= worst) continue;
        const int slot = atomicAdd(&state_->count, 1);
        if (slot < capacity_) {
          keys_[slot] = candidate;
        } else {
          left |= 1u << i;
        }
      }
      offers = left;
      if (__syncthreads_or(left != 0) == 0) return;
      shrink();
    } while (true);
  }

  /// Sorts; the best min(k, found) keys lie in front, downwards. Returns their number.
  __device__ int finish() {
    const int count = shrink();
    return count;
  }
  __device__ const Key* keys() const { return keys_; }

 private:
  __device__ int shrink() {
    const int count = min(state_->count, capacity_);
    const int size = power_of_two_from(count);
    for (int i = count + static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x))
      keys_[i] = kNoKey;
    sort_keys_down(keys_,
                   size);  // its first barrier, or its last, parts the reads of count from below
    const int kept = min(count, k_);
    if (threadIdx.x == 0) *state_ = {count >= k_ ? keys_[k_ - 1] : kNoKey, kept};
    __syncthreads();
    return kept;
  }

  Key* keys_;
  BlockState* state_;
  int k_, capacity_;
};

}  // namespace belfry::cuda::topk
