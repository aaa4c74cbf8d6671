// SPDX-License-Identifier: Apache-2.0
// Element-wise kernels over matrices with padded rows, and over many matrices in one launch. A
// matrix is cut into tiles of kTileElements elements in row-major order, one block a tile.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/core/block.cuh"
#include "kernels/core/view.hpp"

namespace belfry::cuda {

inline constexpr int kTileThreads = 256;
inline constexpr std::int64_t kTileElements = 4096;
inline constexpr int kTileUnroll = 8;  // elements in flight in a thread

inline std::int64_t tiles_of(std::int64_t rows, std::int64_t cols) {
  return ceil_div(rows * cols, kTileElements);
}

/// Walks over a matrix in row-major order, kTileThreads elements at a time, without a division a
/// step.
template <class T>
class MatrixWalk {
 public:
  __device__ __forceinline__ MatrixWalk(const Matrix<T>& m, std::int64_t first)
      : cols_(m.cols), wrap_(m.pitch - m.cols) {
    const std::int64_t row = first / cols_;
    col_ = first - row * cols_;
    at_ = m.data + row * m.pitch + col_;
    const int step_rows = cols_ > kTileThreads ? 0 : kTileThreads / static_cast<int>(cols_);
    step_cols_ = kTileThreads - step_rows * cols_;
    stride_ = step_rows * m.pitch + step_cols_;
  }
  __device__ __forceinline__ T* at() const { return at_; }
  __device__ __forceinline__ void next() {
    at_ += stride_;
    col_ += step_cols_;
    if (col_ >= cols_) {
      col_ -= cols_;
      at_ += wrap_;
    }
  }

 private:
  std::int64_t cols_, wrap_, col_, step_cols_, stride_;
  T* at_;
};

/// Calls f(at) with the addresses of kTileUnroll of this thread's elements at a time, nullptr
/// beyond the end.
template <class T, class F>
__device__ __forceinline__ void for_tile(const Matrix<T>& m, std::int64_t tile, F&& f) {
  const std::int64_t first = tile * kTileElements + threadIdx.x;
  const std::int64_t end = min((tile + 1) * kTileElements, m.rows * m.cols);
  MatrixWalk<T> walk(m, first);
  for (std::int64_t e = first; e < end; e += kTileThreads * kTileUnroll) {
    T* at[kTileUnroll];
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) {
      at[u] = e + u * kTileThreads < end ? walk.at() : nullptr;
      walk.next();
    }
    f(at);
  }
}

/// Replaces every element x of the tile by f(x).
template <class F>
__device__ __forceinline__ void transform_tile(const Matrix<float>& m, std::int64_t tile, F&& f) {
  for_tile(m, tile, [&](float* const(&at)[kTileUnroll]) {
    float v[kTileUnroll];
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) {
      if (at[u] != nullptr) v[u] = *at[u];
    }
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) {
      if (at[u] != nullptr) *at[u] = f(v[u]);
    }
  });
}

/// Some matrices as one argument of a kernel: a kernel cannot read the host's list.
struct MatrixParts {
  static constexpr int kMost = 16;
  Matrix<float> part[kMost];
  std::int64_t first_tile[kMost + 1];  ///< of each part, in this launch; [count]: all tiles
  int count = 0;

  /// The part to which a tile of the launch belongs.
  __device__ __forceinline__ int part_of(std::int64_t tile) const {
    int p = 0;
    while (tile >= first_tile[p + 1]) ++p;
    return p;
  }
};

/// Calls launch(parts, tiles, tiles_before) for the parts that have elements, a few at a time.
template <class F>
void for_each_parts(std::span<const Matrix<float>> all, F&& launch) {
  MatrixParts parts;
  parts.first_tile[0] = 0;
  std::int64_t before = 0;
  const auto flush = [&] {
    const std::int64_t tiles = parts.first_tile[parts.count];
    if (tiles > 0) launch(parts, tiles, before);
    before += tiles;
    parts.count = 0;
  };
  for (const Matrix<float>& part : all) {
    if (part.empty()) continue;
    parts.part[parts.count] = part;
    parts.first_tile[parts.count + 1] =
        parts.first_tile[parts.count] + tiles_of(part.rows, part.cols);
    if (++parts.count == MatrixParts::kMost) flush();
  }
  flush();
}

/// One block a tile.
inline simt::Dims tile_dims(simt::Stream& stream, std::int64_t tiles) {
  return {.grid = static_cast<unsigned>(tiles), .block = kTileThreads, .stream = &stream};
}

}  // namespace belfry::cuda
