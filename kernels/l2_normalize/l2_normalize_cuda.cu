// SPDX-License-Identifier: Apache-2.0
// l2_normalize on the device: kLanes threads a row, several rows a warp. Rows of up to kLanes *
// kKeep columns are read once and kept in registers; wider ones are read again, mostly from the
// cache.
#include "kernels/core/block.cuh"
#include "kernels/l2_normalize/l2_normalize.hpp"

namespace belfry::cuda {
namespace l2_normalize_kernels {

constexpr int kThreads = 256;
constexpr int kAnyWidth = 0;  // kKeep of the kernel that reads twice

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
struct Row {
  const float* data;
  int lane;
  std::int64_t cols;
  float kept[kKeep == kAnyWidth ? 1 : kKeep];

  __device__ __forceinline__ Row(const float* row, std::int64_t n, int first)
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

__device__ __forceinline__ float inverse_root(float square) {
  return 1.0f / sqrtf(square);
}

template <int kLanes, int kKeep>
__global__ void __launch_bounds__(kThreads)
    normalize(Matrix<const float> x, Matrix<float> y, float* inverse_norm) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t i = grid_thread() / kLanes;
  const bool inside = i < x.rows;  // the warp's shuffles need the lanes of rows outside, too
  const Row<kLanes, kKeep> in(x.row(inside ? i : 0), inside ? x.cols : 0, lane);
  float square = 0.0f;
  in.each([&](std::int64_t, int e) { square = fmaf(in.at(e), in.at(e), square); });
  square = sum_of_lanes<kLanes>(square);
  if (!inside) return;
  // A NaN fails the comparison and so stays in the row.
  const float r = inverse_root(square < kL2NormalizeFloor ? kL2NormalizeFloor : square);
  if (lane == 0) inverse_norm[i] = r;
  in.each([&](std::int64_t j, int e) { y(i, j) = in.at(e) * r; });
}

template <int kLanes, int kKeep>
__global__ void __launch_bounds__(kThreads)
    normalize_grad(Matrix<const float> y, const float* inverse_norm, Matrix<const float> d_y,
                   Matrix<float> d_x) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t i = grid_thread() / kLanes;
  const bool inside = i < y.rows;
  const std::int64_t row = inside ? i : 0, cols = inside ? y.cols : 0;
  const Row<kLanes, kKeep> unit(y.row(row), cols, lane), in(d_y.row(row), cols, lane);
  float along = 0.0f;
  in.each([&](std::int64_t, int e) { along = fmaf(in.at(e), unit.at(e), along); });
  along = sum_of_lanes<kLanes>(along);
  if (!inside) return;
  const float r = inverse_norm[i];
  if (r == inverse_root(kL2NormalizeFloor)) along = 0.0f;  // the row was below the floor
  in.each([&](std::int64_t j, int e) { d_x(i, j) = r * fmaf(-along, unit.at(e), in.at(e)); });
}

template <int kLanes, int kKeep>
struct Shape {
  static constexpr int lanes = kLanes, keep = kKeep;
};
/// Calls f with lanes and kept elements for rows of `cols` columns: four elements a lane while
/// lanes last.
template <class F>
void with_shape(std::int64_t cols, F&& f) {
  if (cols <= 16) return f(Shape<4, 4>());
  if (cols <= 32) return f(Shape<8, 4>());
  if (cols <= 64) return f(Shape<16, 4>());
  if (cols <= 128) return f(Shape<32, 4>());
  if (cols <= 256) return f(Shape<32, 8>());
  return f(Shape<32, kAnyWidth>());
}

inline simt::Dims dims(const Context& ctx, std::int64_t rows, int lanes) {
  return {.grid = static_cast<unsigned>(ceil_div(rows, kThreads / lanes)),
          .block = kThreads,
          .stream = &ctx.stream()};
}

}  // namespace l2_normalize_kernels

namespace k = l2_normalize_kernels;

void l2_normalize(const Context& ctx, Matrix<const float> x, Matrix<float> y,
                  Vector<float> inverse_norm) {
  if (x.rows == 0) return;
  k::with_shape(x.cols, [&](auto s) {
    simt::launch(k::dims(ctx, x.rows, s.lanes), k::normalize<s.lanes, s.keep>, x, y,
                 inverse_norm.data);
  });
}

void l2_normalize_grad(const Context& ctx, Matrix<const float> y, Vector<const float> inverse_norm,
                       Matrix<const float> d_y, Matrix<float> d_x) {
  if (y.empty()) return;
  k::with_shape(y.cols, [&](auto s) {
    simt::launch(k::dims(ctx, y.rows, s.lanes), k::normalize_grad<s.lanes, s.keep>, y,
                 inverse_norm.data, d_y, d_x);
  });
}

}  // namespace belfry::cuda
