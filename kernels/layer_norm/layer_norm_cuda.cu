// SPDX-License-Identifier: Apache-2.0
// layer_norm on the device: some lanes a row (row_elements.cuh) for what is of rows; for the
// gradients of gamma and beta, tiles of rows whose threads stay in their column, then the same over
// the sums of the tiles.
#include "kernels/layer_norm/layer_norm.hpp"

#include <algorithm>

#include "kernels/core/row_elements.cuh"

namespace belfry::cuda {
namespace layer_norm_kernels {

constexpr std::int64_t kMostTiles = 512;  // bounds the length of the second sum

template <int kLanes, int kKeep>
__global__ void __launch_bounds__(kRowThreads) normalize(LayerNormCall c) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t i = grid_thread() / kLanes;
  const bool inside = i < c.x.rows;  // the warp's shuffles need the lanes of rows outside, too
  const RowElements<kLanes, kKeep> x(c.x.row(inside ? i : 0), inside ? c.x.cols : 0, lane);
  const float width = static_cast<float>(max(std::int64_t{1}, c.x.cols));
  float sum = 0.0f;
  x.each([&](std::int64_t, int e) { sum += x.at(e); });
  const float mean = sum_of_lanes<kLanes>(sum) / width;
  float square = 0.0f;
  x.each([&](std::int64_t, int e) { square = fmaf(x.at(e) - mean, x.at(e) - mean, square); });
  const float r = 1.0f / sqrtf(sum_of_lanes<kLanes>(square) / width + c.epsilon);
  if (!inside) return;
  if (lane == 0) {
    c.mean[i] = mean;
    c.inverse_deviation[i] = r;
  }
  x.each([&](std::int64_t j, int e) {
    float n = (x.at(e) - mean) * r;
    if (!c.gamma.empty()) n = n * c.gamma[j];
    if (!c.beta.empty()) n = n + c.beta[j];
    c.y(i, j) = n;
  });
}

template <int kLanes, int kKeep>
__global__ void __launch_bounds__(kRowThreads) gradient(LayerNormGradCall c) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const std::int64_t i = grid_thread() / kLanes;
  const bool inside = i < c.x.rows;
  const std::int64_t row = inside ? i : 0, cols = inside ? c.x.cols : 0;
  const RowElements<kLanes, kKeep> x(c.x.row(row), cols, lane), d_y(c.d_y.row(row), cols, lane);
  const float mean = c.mean[row], r = c.inverse_deviation[row];
  const float width = static_cast<float>(c.x.cols);
  const auto scaled = [&](std::int64_t j, int e) {
    return c.gamma.empty() ? d_y.at(e) : d_y.at(e) * c.gamma[j];
  };
  float sum = 0.0f, along = 0.0f;
  x.each([&](std::int64_t j, int e) {
    const float g = scaled(j, e);
    sum += g;
    along = fmaf(g, (x.at(e) - mean) * r, along);
  });
  const float mean_g = sum_of_lanes<kLanes>(sum) / width;
  const float mean_gn = sum_of_lanes<kLanes>(along) / width;
  if (!inside) return;
  x.each([&](std::int64_t j, int e) {
    const float n = (x.at(e) - mean) * r;
    c.d_x(i, j) = r * fmaf(-n, mean_gn, scaled(j, e) - mean_g);
  });
}

/// What is summed over rows: for gamma and for beta.
struct Terms {
  float gamma, beta;
};
/// Terms of the rows of the batch.
struct BatchTerms {
  Matrix<const float> x, d_y;
  const float *mean, *inverse_deviation;
  std::int64_t rows, cols;
  __device__ __forceinline__ Terms at(std::int64_t i, std::int64_t j) const {
    const float g = d_y(i, j);
    return {g * ((x(i, j) - mean[i]) * inverse_deviation[i]), g};
  }
};
/// Sums of tiles, one row a tile; null: not wanted.
struct TileTerms {
  const float *gamma, *beta;
  std::int64_t rows, cols;
  __device__ __forceinline__ Terms at(std::int64_t i, std::int64_t j) const {
    const std::int64_t e = i * cols + j;
    return {gamma == nullptr ? 0.0f : gamma[e], beta == nullptr ? 0.0f : beta[e]};
  }
};

/// How the rows and columns of a sum are cut, by shape alone.
struct Tiling {
  int lanes;  ///< columns side by side in a block, a power of two up to 32
  unsigned column_blocks;
  std::int64_t tile_rows, tiles;
};
inline Tiling tile(std::int64_t rows, std::int64_t cols, std::int64_t most_tiles) {
  Tiling t{1, 1, 1, 1};
  while (t.lanes < kWarp && t.lanes < cols) t.lanes *= 2;
  t.column_blocks = static_cast<unsigned>(ceil_div(cols, t.lanes));
  t.tile_rows = std::max<std::int64_t>(kRowThreads / t.lanes * 4, ceil_div(rows, most_tiles));
  t.tiles = ceil_div(rows, t.tile_rows);
  return t;
}

/// Sums over each tile of rows: gamma[tile, column], beta[tile, column], where wanted.
template <class Source>
__global__ void __launch_bounds__(kRowThreads)
    column_sums(Source source, Tiling t, float* gamma, float* beta) {
  SIMT_SHARED_ARRAY(Terms, partial, [kRowThreads]);
  const int thread = static_cast<int>(threadIdx.x), step = kRowThreads / t.lanes;
  const std::int64_t column =
      static_cast<std::int64_t>(blockIdx.x % t.column_blocks) * t.lanes + thread % t.lanes;
  const std::int64_t tile = blockIdx.x / t.column_blocks;
  const std::int64_t end = column < source.cols ? min(source.rows, (tile + 1) * t.tile_rows) : 0;
  Terms sum{0.0f, 0.0f};
#pragma unroll 4
  for (std::int64_t i = tile * t.tile_rows + thread / t.lanes; i < end; i += step) {
    const Terms term = source.at(i, column);
    sum.gamma += term.gamma;
    sum.beta += term.beta;
  }
  partial[thread] = sum;
  __syncthreads();
  for (int half = step / 2; half > 0; half /= 2) {
    if (thread < half * t.lanes) {
      partial[thread].gamma += partial[thread + half * t.lanes].gamma;
      partial[thread].beta += partial[thread + half * t.lanes].beta;
    }
    __syncthreads();
  }
  if (thread >= t.lanes || column >= source.cols) return;
  if (gamma != nullptr) gamma[tile * source.cols + column] = partial[thread].gamma;
  if (beta != nullptr) beta[tile * source.cols + column] = partial[thread].beta;
}

template <class Source>
void sum_columns(const Context& ctx, const Source& source, const Tiling& t, float* gamma,
                 float* beta) {
  simt::launch({.grid = static_cast<unsigned>(t.tiles * t.column_blocks),
                .block = kRowThreads,
                .stream = &ctx.stream()},
               column_sums<Source>, source, t, gamma, beta);
}

void parameters(const Context& ctx, const LayerNormGradCall& c) {
  float* gamma = c.d_gamma.empty() ? nullptr : c.d_gamma.data;
  float* beta = c.d_beta.empty() ? nullptr : c.d_beta.data;
  if (gamma == nullptr && beta == nullptr) return;
  const std::int64_t rows = c.x.rows, cols = c.x.cols;
  const BatchTerms batch{c.x, c.d_y, c.mean.data, c.inverse_deviation.data, rows, cols};
  const Tiling t = tile(rows, cols, kMostTiles);
  if (t.tiles == 1) return sum_columns(ctx, batch, t, gamma, beta);
  ArenaScope scope(ctx);
  const auto take = [&](float* wanted) {
    return wanted == nullptr ? nullptr : ctx.arena().take<float>(t.tiles * cols);
  };
  float *gammas = take(gamma), *betas = take(beta);
  sum_columns(ctx, batch, t, gammas, betas);
  sum_columns(ctx, TileTerms{gammas, betas, t.tiles, cols}, tile(t.tiles, cols, 1), gamma, beta);
}

inline void set_zero(const Context& ctx, Vector<float> v) {
  if (v.empty()) return;
  simt::device_memset(v.data, 0, v.size * std::int64_t{sizeof(float)}, ctx.stream());
}

}  // namespace layer_norm_kernels

namespace k = layer_norm_kernels;

void layer_norm(const Context& ctx, const LayerNormCall& call) {
  if (call.x.rows == 0) return;
  with_row_shape(call.x.cols, [&](auto s) {
    simt::launch(row_dims(ctx.stream(), call.x.rows, s.lanes), k::normalize<s.lanes, s.keep>, call);
  });
}

void layer_norm_grad(const Context& ctx, const LayerNormGradCall& call) {
  if (call.x.empty()) {
    k::set_zero(ctx, call.d_gamma);
    k::set_zero(ctx, call.d_beta);
    return;
  }
  k::parameters(ctx, call);  // before d_x, which may take the place of d_y
  with_row_shape(call.x.cols, [&](auto s) {
    simt::launch(row_dims(ctx.stream(), call.x.rows, s.lanes), k::gradient<s.lanes, s.keep>, call);
  });
}

}  // namespace belfry::cuda
