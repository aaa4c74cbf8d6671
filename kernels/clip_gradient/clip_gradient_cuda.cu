// SPDX-License-Identifier: Apache-2.0
// clip_gradient on the device. The norm never reaches the host: one block adds the sums of the
// tiles and leaves the factor in device memory for the launches that scale.
#include "kernels/clip_gradient/clip_gradient.hpp"

#include <limits>

#include "kernels/core/matrix_parts.cuh"

namespace belfry::cuda {
namespace clip_gradient_kernels {

constexpr int kSumThreads = 256;
constexpr double kLargest = std::numeric_limits<double>::max();

__global__ void __launch_bounds__(kTileThreads)
    clip_value(const __grid_constant__ MatrixParts parts, float limit) {
  const std::int64_t tile = blockIdx.x;
  const int p = parts.part_of(tile);
  transform_tile(parts.part[p], tile - parts.first_tile[p], [limit](float x) {
    const float below = x > limit ? limit : x;  // NaN passes both comparisons
    return below < -limit ? -limit : below;
  });
}

/// sums[tile] = sum of squares of the tile's elements.
__global__ void __launch_bounds__(kTileThreads)
    square_sums(const __grid_constant__ MatrixParts parts, double* sums) {
  SIMT_SHARED_ARRAY(double, scratch, [kTileThreads / kWarp]);
  const std::int64_t tile = blockIdx.x;
  const int p = parts.part_of(tile);
  double sum = 0;
  for_tile(parts.part[p], tile - parts.first_tile[p], [&sum](float* const(&at)[kTileUnroll]) {
    float v[kTileUnroll];
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) v[u] = at[u] != nullptr ? *at[u] : 0.0f;
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) sum = fma(double{v[u]}, double{v[u]}, sum);
  });
  sum = block_reduce<kTileThreads>(sum, Sum(), scratch);
  if (threadIdx.x == 0) sums[tile] = sum;
}

/// *factor = limit / norm, or 1 where nothing is to be done.
__global__ void __launch_bounds__(kSumThreads)
    clip_factor(const double* sums, std::int64_t tiles, float limit, float* factor,
                StepState* state) {
  SIMT_SHARED_ARRAY(double, scratch, [kSumThreads / kWarp]);
  double sum = 0;
  for (std::int64_t t = threadIdx.x; t < tiles; t += kSumThreads) sum += sums[t];
  sum = block_reduce<kSumThreads>(sum, Sum(), scratch);
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum);
  float f = 1.0f;
  if (!(norm <= kLargest)) {
    raise_status(state, kStatusNonFinite);
  } else if (norm > double{limit}) {
    f = static_cast<float>(double{limit} / norm);
  }
  *factor = f;
}

__global__ void __launch_bounds__(kTileThreads)
    scale(const __grid_constant__ MatrixParts parts, const float* factor) {
  const float f = *factor;
  if (f == 1.0f) return;
  const std::int64_t tile = blockIdx.x;
  const int p = parts.part_of(tile);
  transform_tile(parts.part[p], tile - parts.first_tile[p], [f](float x) { return x * f; });
}

}  // namespace clip_gradient_kernels

namespace k = clip_gradient_kernels;

void clip_gradient(const Context& ctx, ClipKind kind, float limit,
                   std::span<const Matrix<float>> parts) {
  if (kind == ClipKind::value) {
    for_each_parts(parts, [&](const MatrixParts& p, std::int64_t tiles, std::int64_t) {
      simt::launch(tile_dims(ctx.stream(), tiles), k::clip_value, p, limit);
    });
    return;
  }
  std::int64_t all_tiles = 0;
  for (const Matrix<float>& part : parts) all_tiles += tiles_of(part.rows, part.cols);
  if (all_tiles == 0) return;
  ArenaScope scope(ctx);
  double* sums = ctx.arena().take<double>(all_tiles);
  float* factor = ctx.arena().take<float>(1);
  for_each_parts(parts, [&](const MatrixParts& p, std::int64_t tiles, std::int64_t before) {
    simt::launch(tile_dims(ctx.stream(), tiles), k::square_sums, p, sums + before);
  });
  simt::launch({.grid = 1, .block = k::kSumThreads, .stream = &ctx.stream()}, k::clip_factor, sums,
               all_tiles, limit, factor, ctx.state());
  for_each_parts(parts, [&](const MatrixParts& p, std::int64_t tiles, std::int64_t) {
    simt::launch(tile_dims(ctx.stream(), tiles), k::scale, p, factor);
  });
}

}  // namespace belfry::cuda
