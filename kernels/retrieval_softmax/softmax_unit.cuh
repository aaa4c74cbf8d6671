// SPDX-License-Identifier: Apache-2.0
// The pieces that both precisions and all passes share: how a warp holds 32 x 32 scores, and how query rows
// lie in units of 32.
#pragma once

#include <cstdint>

#include "kernels/core/block.cuh"
#include "kernels/core/view.hpp"

namespace belfry::cuda::retrieval_softmax_kernels {

inline constexpr int kUnit =
    32;  // query slots, or candidates, of a unit: a warp scores one pair of units
inline constexpr float kLeft = -__builtin_huge_valf();  // score of a column that left its row

/// A warp's 32 x 32 scores as mma.m16n8k16 leaves them, in both precisions: lane l holds rows l / 4 + 8 s
/// (s < 4) and columns 8 n + 2 (l % 4) + e (n < 4, e < 2). So four lanes have a row, eight have a column.
struct Unit {
  float v[2][4][4] = {};
  __device__ __forceinline__ float& at(int s, int n, int e) { return v[s / 2][n][(s % 2) * 2 + e]; }
  __device__ __forceinline__ float at(int s, int n, int e) const {
    return v[s / 2][n][(s % 2) * 2 + e];
  }
};

/// Calls f(s, n, e) for each element that a lane holds.
template <class F>
__device__ __forceinline__ void for_elements(F&& f) {
#pragma unroll
  for (int s = 0; s < 4; ++s) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) f(s, n, e);
    }
  }
}

__device__ __forceinline__ int lane_of_warp() {
  return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ __forceinline__ int first_row() {  // of the lane; further ones every 8
  return lane_of_warp() / 4;
}
__device__ __forceinline__ int first_column() {  // of the lane; the next one, and pairs every 8
  return 2 * (lane_of_warp() % 4);
}

/// Where head h of query i lies: units hold 32 >> bits queries with 1 << bits heads each, the last ones of
/// which may be empty. The heads of a query come first in the same lane (s, or n), then in neighbours, so
/// that their maximum takes few shuffles. With one head slots are queries.
struct SlotMap {
  std::int64_t batch;
  int heads, bits;

  __host__ __device__ int queries_a_unit() const { return kUnit >> bits; }
  __device__ __forceinline__ int order(int slot) const {
    return bits == 0 ? slot : slot / 8 + slot % 8 * 4;
  }
  __device__ __forceinline__ std::int64_t query(std::int64_t unit, int slot) const {
    return unit * queries_a_unit() + (order(slot) >> bits);
  }
  __device__ __forceinline__ int head(int slot) const { return order(slot) & ((1 << bits) - 1); }
  __device__ __forceinline__ std::int64_t slot(std::int64_t query, int head) const {
    const int n = queries_a_unit();
    const int k = (static_cast<int>(query % n) << bits) + head;
    return query / n * kUnit + (bits == 0 ? k : k / 4 + k % 4 * 8);
  }
};

}  // namespace belfry::cuda::retrieval_softmax_kernels
