// SPDX-License-Identifier: Apache-2.0
// Whole rows of a matrix by lanes: kLanes threads a row, several rows a warp. Rows of up to kLanes *
// kKeep columns are read once and kept in registers; wider ones are read again, mostly from the
// cache.
#pragma once

#include <cstdint>

#include "kernels/core/block.cuh"

namespace belfry::cuda {

inline constexpr int kRowThreads = 256;  ///< of a block
inline constexpr int kAnyWidth = 0;      ///< kKeep of the kernel that reads more than once

template <int kLanes>
__device__ __forceinline__ float sum_of_lanes(float v) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    v += __shfl_xor_sync(kAllLanes, v, offset);
  }
  return v;
}

/// A lane's elements of a row: kept, or read again.
template <int kLanes, int kKeep>
struct RowElements {
  const float* data;
  int lane;
  std::int64_t cols;
  float kept[kKeep == kAnyWidth ? 1 : kKeep];

  __device__ __forceinline__ RowElements(const float* row, std::int64_t n, int first)
      : data(row), lane(first), cols(n) {
#pragma unroll
    for (int i = 0; i < kKeep; ++i) {
      kept[i] = lane + i * kLanes < cols ? data[lane + i * kLanes] : 0.0f;
    }
  }
  __device__ __forceinline__ float at(int i) const {
    if constexpr (kKeep == kAnyWidth) return data[lane + std::int64_t{i} * kLanes];
    return kept[i];
  }
  /// Calls f(column, i) for this lane's columns.
  template <class F>
  __device__ __forceinline__ void each(F&& f) const {
    if constexpr (kKeep == kAnyWidth) {
      int i = 0;
      for (std::int64_t j = lane; j < cols; j += kLanes, ++i) f(j, i);
    } else {
#pragma unroll
      for (int i = 0; i < kKeep; ++i) {
        if (lane + i * kLanes < cols) f(static_cast<std::int64_t>(lane + i * kLanes), i);
      }
    }
  }
};

template <int kLanes, int kKeep>
struct RowShape {
  static constexpr int lanes = kLanes, keep = kKeep;
};
/// Calls f with lanes and kept elements for rows of `cols` columns: four elements a lane while
/// lanes last.
template <class F>
void with_row_shape(std::int64_t cols, F&& f) {
  if (cols <= 16) return f(RowShape<4, 4>());
  if (cols <= 32) return f(RowShape<8, 4>());
  if (cols <= 64) return f(RowShape<16, 4>());
  if (cols <= 128) return f(RowShape<32, 4>());
  if (cols <= 256) return f(RowShape<32, 8>());
  return f(RowShape<32, kAnyWidth>());
}

inline simt::Dims row_dims(simt::Stream& stream, std::int64_t rows, int lanes) {
  return {.grid = static_cast<unsigned>(ceil_div(rows, kRowThreads / lanes)),
          .block = kRowThreads,
          .stream = &stream};
}

}  // namespace belfry::cuda
