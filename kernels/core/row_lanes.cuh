// SPDX-License-Identifier: Apache-2.0
// Rows of a table by groups of lanes: a group of `lanes` neighbouring lanes of a warp (a power of 2) works on one
// row, each lane on `kColumns` neighbouring columns at a time, which it loads and stores with 16-byte accesses
// where rows are aligned for that (kColumns = 4 of float, 8 of bf16), else one by one (kColumns = 1).
#pragma once

#include <cstdint>

#include "kernels/core/bf16.hpp"
#include "kernels/core/block.cuh"
#include "kernels/core/view.hpp"

namespace belfry::cuda {

template <int kColumns>
struct Pack {
  float v[kColumns];
};

__device__ __forceinline__ Pack<1> load_pack(const float* p, Pack<1>) {
  return {{*p}};
}
__device__ __forceinline__ Pack<4> load_pack(const float* p, Pack<4>) {
  const float4 x = *reinterpret_cast<const float4*>(p);
  return {{x.x, x.y, x.z, x.w}};
}
__device__ __forceinline__ Pack<8> load_pack(const float* p, Pack<8>) {
  const Pack<4> a = load_pack(p, Pack<4>{}), b = load_pack(p + 4, Pack<4>{});
  return {{a.v[0], a.v[1], a.v[2], a.v[3], b.v[0], b.v[1], b.v[2], b.v[3]}};
}
__device__ __forceinline__ Pack<1> load_pack(const bf16* p, Pack<1>) {
  return {{to_float(*p)}};
}
__device__ __forceinline__ Pack<8> load_pack(const bf16* p, Pack<8>) {
  const uint4 x = *reinterpret_cast<const uint4*>(p);
  const std::uint32_t pairs[4] = {x.x, x.y, x.z, x.w};
  Pack<8> out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out.v[2 * i] = float_of_bits(pairs[i] << 16);
    out.v[2 * i + 1] = float_of_bits(pairs[i] & 0xFFFF0000u);
  }
  return out;
}
template <int kColumns, class T>
__device__ __forceinline__ Pack<kColumns> load_pack(const T* p) {
  return load_pack(p, Pack<kColumns>{});
}

__device__ __forceinline__ void store_pack(float* p, const Pack<1>& x) {
  *p = x.v[0];
}
__device__ __forceinline__ void store_pack(float* p, const Pack<4>& x) {
  *reinterpret_cast<float4*>(p) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
}
__device__ __forceinline__ void store_pack(float* p, const Pack<8>& x) {
  store_pack(p, Pack<4>{{x.v[0], x.v[1], x.v[2], x.v[3]}});
  store_pack(p + 4, Pack<4>{{x.v[4], x.v[5], x.v[6], x.v[7]}});
}

/// out = scale x, or out += scale x: a product and a sum, not fused.
template <bool kAdd, int kColumns>
__device__ __forceinline__ void scale_pack(const Pack<kColumns>& x, float scale,
                                           Pack<kColumns>& out) {
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const float term = scale * x.v[c];
    out.v[c] = kAdd ? out.v[c] + term : term;
  }
}

/// The calling thread's place in the groups of a grid.
struct RowLanes {
  int lanes;            ///< of a group
  int lane;             ///< of this thread in its group
  unsigned mask;        ///< of the group in its warp, for shuffles
  std::int64_t group;   ///< number of the group in the grid
  std::int64_t groups;  ///< of the grid
};
__device__ __forceinline__ RowLanes row_lanes(int lanes) {
  const int in_warp = static_cast<int>(threadIdx.x) % kWarp;
  const int lane = in_warp & (lanes - 1);
  const unsigned mask = lanes == kWarp ? kAllLanes : ((1u << lanes) - 1u) << (in_warp - lane);
  const int shift = __ffs(lanes) - 1;
  return {lanes, lane, mask, grid_thread() >> shift, grid_threads() >> shift};
}

/// Index of the first of `n` ascending values that is not below `value`.
template <class T>
__device__ __forceinline__ std::int64_t lower_bound(const T* values, std::int64_t n, T value) {
  std::int64_t first = 0;
  while (n > 0) {
    const std::int64_t half = n / 2;
    if (values[first + half] < value) {
      first += half + 1;
      n -= half + 1;
    } else {
      n = half;
    }
  }
  return first;
}

/// Lanes of a group for rows of `width` columns: no more than have work, at least `least`.
inline int lanes_for(std::int64_t width, int columns, int least = 1) {
  int lanes = least;
  while (lanes < kWarp && lanes * columns < width) lanes *= 2;
  return lanes;
}

/// Whether all rows can be read and written in packs of `columns`.
template <class T>
bool packable(Matrix<T> m, int columns) {
  const std::uintptr_t bytes = columns * sizeof(T) < 16 ? columns * sizeof(T) : 16;
  return m.cols % columns == 0 && (m.rows <= 1 || m.pitch % columns == 0) &&
         reinterpret_cast<std::uintptr_t>(m.data) % bytes == 0;
}

}  // namespace belfry::cuda
