// SPDX-License-Identifier: Apache-2.0
// A candidate as one unsigned integer whose order is the order of every list here: larger score first, then
// smaller row. Keys of one list are distinct, so a set of k greatest keys is unique, whoever finds it.
#pragma once

#include <cstdint>

#include "kernels/core/simt.hpp"

namespace belfry::cuda::topk {

using Key = unsigned long long;   // the type that CUDA has 64-bit atomics for
inline constexpr Key kNoKey = 0;  ///< below the key of any score, -inf included

/// Floats in the order of unsigned integers. NaN with sign lies below -inf, NaN without above +inf.
__device__ __forceinline__ unsigned ordered(float score) {
  const unsigned bits = __float_as_uint(score);
  return bits ^ (static_cast<unsigned>(static_cast<int>(bits) >> 31) | 0x80000000u);
}
__device__ __forceinline__ float unordered(unsigned place) {
  return __uint_as_float((place & 0x80000000u) != 0 ? place ^ 0x80000000u : ~place);
}

/// -0 counts, and is given back, as +0. The score is no NaN.
__device__ __forceinline__ Key make_key(float score, std::int32_t row) {
  return Key{ordered(score + 0.0f)} << 32 | static_cast<unsigned>(~row);
}
__device__ __forceinline__ float score_of(Key key) {
  return unordered(static_cast<unsigned>(key >> 32));
}
__device__ __forceinline__ std::int32_t row_of(Key key) {
  return static_cast<std::int32_t>(~static_cast<unsigned>(key));
}

}  // namespace belfry::cuda::topk
