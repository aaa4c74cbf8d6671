// SPDX-License-Identifier: Apache-2.0
// l2_normalize on the device: some lanes a row (row_elements.cuh).
#include "kernels/core/row_elements.cuh"
#include "kernels/l2_normalize/l2_normalize.hpp"

namespace belfry::cuda {
namespace l2_normalize_kernels {

__device__ __forceinline__ float inverse_root(float square) {
  return 1.0f / sqrtf(square);
}

template <int kLanes, int kKeep>
__global__ void __launch_bounds__(kRowThreads)
    normalize(Matrix<const float> x, Matrix<float> y, float* inverse_norm) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t i = grid_thread() / kLanes;
  const bool inside = i < x.rows;  // the warp's shuffles need the lanes of rows outside, too
  const RowElements<kLanes, kKeep> in(x.row(inside ? i : 0), inside ? x.cols : 0, lane);
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
__global__ void __launch_bounds__(kRowThreads)
    normalize_grad(Matrix<const float> y, const float* inverse_norm, Matrix<const float> d_y,
                   Matrix<float> d_x) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t i = grid_thread() / kLanes;
  const bool inside = i < y.rows;
  const std::int64_t row = inside ? i : 0, cols = inside ? y.cols : 0;
  const RowElements<kLanes, kKeep> unit(y.row(row), cols, lane), in(d_y.row(row), cols, lane);
  float along = 0.0f;
  in.each([&](std::int64_t, int e) { along = fmaf(in.at(e), unit.at(e), along); });
  along = sum_of_lanes<kLanes>(along);
  if (!inside) return;
  const float r = inverse_norm[i];
  if (r == inverse_root(kL2NormalizeFloor)) along = 0.0f;  // the row was below the floor
  in.each([&](std::int64_t j, int e) { d_x(i, j) = r * fmaf(-along, unit.at(e), in.at(e)); });
}

}  // namespace l2_normalize_kernels

namespace k = l2_normalize_kernels;

void l2_normalize(const Context& ctx, Matrix<const float> x, Matrix<float> y,
                  Vector<float> inverse_norm) {
  if (x.rows == 0) return;
  with_row_shape(x.cols, [&](auto s) {
    simt::launch(row_dims(ctx.stream(), x.rows, s.lanes), k::normalize<s.lanes, s.keep>, x, y,
                 inverse_norm.data);
  });
}

void l2_normalize_grad(const Context& ctx, Matrix<const float> y, Vector<const float> inverse_norm,
                       Matrix<const float> d_y, Matrix<float> d_x) {
  if (y.empty()) return;
  with_row_shape(y.cols, [&](auto s) {
    simt::launch(row_dims(ctx.stream(), y.rows, s.lanes), k::normalize_grad<s.lanes, s.keep>, y,
                 inverse_norm.data, d_y, d_x);
  });
}

}  // namespace belfry::cuda
