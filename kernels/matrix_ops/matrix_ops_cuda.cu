// SPDX-License-Identifier: Apache-2.0
// matrix_ops on the device: one block a tile of elements.
#include "kernels/matrix_ops/matrix_ops.hpp"

#include "kernels/core/matrix_parts.cuh"

namespace belfry::cuda {
namespace matrix_ops_kernels {

__global__ void __launch_bounds__(kTileThreads) zero(const __grid_constant__ MatrixParts parts) {
  const std::int64_t tile = blockIdx.x;
  const int p = parts.part_of(tile);
  for_tile(parts.part[p], tile - parts.first_tile[p], [](float* const(&at)[kTileUnroll]) {
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) {
      if (at[u] != nullptr) *at[u] = 0.0f;
    }
  });
}

/// to = from, or to += from.
template <bool kAdd>
__global__ void __launch_bounds__(kTileThreads)
    combine(Matrix<const float> from, Matrix<float> to) {
  const std::int64_t tile = blockIdx.x;
  MatrixWalk<const float> in(from, tile * kTileElements + threadIdx.x);
  for_tile(to, tile, [&in](float* const(&at)[kTileUnroll]) {
    float v[kTileUnroll];
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) {
      if (at[u] != nullptr) {
        v[u] = *in.at();
        if constexpr (kAdd) v[u] = *at[u] + v[u];
      }
      in.next();
    }
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) {
      if (at[u] != nullptr) *at[u] = v[u];
    }
  });
}

__global__ void __launch_bounds__(kTileThreads) set_all(Vector<float> out, float value) {
  for (std::int64_t i = grid_thread(); i < out.size; i += grid_threads()) out[i] = value;
}

}  // namespace matrix_ops_kernels

namespace k = matrix_ops_kernels;

void set_zero(const Context& ctx, std::span<const Matrix<float>> parts) {
  for_each_parts(parts, [&](const MatrixParts& p, std::int64_t tiles, std::int64_t) {
    simt::launch(tile_dims(ctx.stream(), tiles), k::zero, p);
  });
}

void copy_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to) {
  if (from.empty()) return;
  if (from.contiguous() && to.contiguous()) {
    const std::int64_t bytes = from.rows * from.cols * std::int64_t{sizeof(float)};
    return simt::device_copy(to.data, from.data, bytes, ctx.stream());
  }
  simt::launch(tile_dims(ctx.stream(), tiles_of(from.rows, from.cols)), k::combine<false>, from,
               to);
}

void add_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to) {
  if (from.empty()) return;
  simt::launch(tile_dims(ctx.stream(), tiles_of(from.rows, from.cols)), k::combine<true>, from, to);
}

void fill(const Context& ctx, Vector<float> out, float value) {
  if (out.empty()) return;
  simt::launch(
      {.grid = grid_for(out.size, kTileElements), .block = kTileThreads, .stream = &ctx.stream()},
      k::set_all, out, value);
}

}  // namespace belfry::cuda
