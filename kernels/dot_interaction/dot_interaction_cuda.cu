// SPDX-License-Identifier: Apache-2.0
// dot_interaction on the device. A block takes some rows into shared memory; a thread makes four
// products (forward: of two features with two) or sixteen sums (backward: four features by four
// columns), so that a value that is read serves two or four of them. Rows that do not fit are read
// where they lie, through the cache.
#include "kernels/dot_interaction/dot_interaction.hpp"

#include <algorithm>

#include "kernels/core/block.cuh"

namespace belfry::cuda {
namespace dot_interaction_kernels {

constexpr int kThreads = 128;
constexpr std::int64_t kSharedFloats = 12288;  // 48 KiB: what every device gives without asking
constexpr int kTile = 4;                       // of the gradient, either way

/// A problem as the kernels see it. One row's sizes are small, but of rows there are many.
struct Plan {
  DotInteraction shape;
  int features = 0, width = 0;
  int pitch = 0;           ///< between features in shared memory
  int row_floats = 0;      ///< of shared memory a row
  int rows_per_block = 1;  ///< at most
  int items = 0;           ///< of a row: what one thread does at a time
};

/// As many rows as give every thread something to do, as far as shared memory reaches. Returns
/// whether it holds any.
inline bool fit_rows(Plan& plan, std::int64_t row_floats) {
  const bool staged = row_floats <= kSharedFloats;
  plan.row_floats = staged ? static_cast<int>(row_floats) : 0;
  std::int64_t rows = std::max(1, kThreads / std::max(1, plan.items));
  if (staged) rows = std::min(rows, kSharedFloats / std::max<std::int64_t>(1, row_floats));
  plan.rows_per_block = static_cast<int>(rows);
  return staged;
}

/// Copies `rows` rows of x from row `first` on into shared memory, features `pitch` floats apart.
__device__ __forceinline__ void stage(const Matrix<const float>& x, const Plan& plan,
                                      std::int64_t first, int rows, float* shared) {
  const int step_features = kThreads / plan.width, step_columns = kThreads % plan.width;
  for (int r = 0; r < rows; ++r) {
    const float* from = x.row(first + r);
    int f = static_cast<int>(threadIdx.x) / plan.width;
    int k = static_cast<int>(threadIdx.x) % plan.width;
    for (int e = static_cast<int>(threadIdx.x); e < x.cols; e += kThreads) {
      shared[r * plan.row_floats + f * plan.pitch + k] = from[e];
      f += step_features;
      k += step_columns;
      if (k >= plan.width) {
        k -= plan.width;
        ++f;
      }
    }
  }
}

/// The t-th pair a >= b, row-major over a lower triangle with its diagonal. The root is right as it is:
/// t < 2^20, so 8 t + 1 is exact, and where it is no square the root lies many ulp below the next integer.
struct Pair {
  int a, b;
};
__device__ __forceinline__ Pair pair_of(int t) {
  const int a = static_cast<int>((sqrtf(8.0f * static_cast<float>(t) + 1.0f) - 1.0f) * 0.5f);
  return {a, t - a * (a + 1) / 2};
}

/// The product of features i >= j where it belongs, and the zero on the other side of the diagonal.
__device__ __forceinline__ void put(const DotInteraction& shape, int i, int j, float product,
                                    float* y) {
  if (i >= shape.features) return;
  if (i == j && !shape.self_interaction) {
    if (shape.skip_gather) y[shape.place(i, i)] = 0.0f;
    return;
  }
  y[shape.place(i, j)] = product;
  if (shape.skip_gather && i != j) y[shape.place(j, i)] = 0.0f;
}

/// Thread: features a, a + half by b, b + half. Neighbouring threads take neighbouring b, whose
/// columns lie in different banks since the pitch is odd.
template <bool kStaged>
__global__ void __launch_bounds__(kThreads)
    forward(Matrix<const float> x, Plan plan, Matrix<float> y) {
  SIMT_DYN_SHARED(float, shared);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * plan.rows_per_block;
  const int rows = static_cast<int>(min(std::int64_t{plan.rows_per_block}, x.rows - first));
  if constexpr (kStaged) {
    stage(x, plan, first, rows, shared);
    __syncthreads();
  }
  const int half = (plan.features + 1) / 2;
  for (int item = static_cast<int>(threadIdx.x); item < rows * plan.items; item += kThreads) {
    const int r = item / plan.items;
    const Pair pair = pair_of(item - r * plan.items);
    const float* row = kStaged ? shared + r * plan.row_floats : x.row(first + r);
    const auto feature = [&](int f) {
      return row + std::int64_t{min(f, plan.features - 1)} * (kStaged ? plan.pitch : plan.width);
    };
    const float *a0 = feature(pair.a), *a1 = feature(pair.a + half);
    const float *b0 = feature(pair.b), *b1 = feature(pair.b + half);
    float s00 = 0.0f, s01 = 0.0f, s10 = 0.0f, s11 = 0.0f;
#pragma unroll 4
    for (int k = 0; k < plan.width; ++k) {
      const float u0 = a0[k], u1 = a1[k], v0 = b0[k], v1 = b1[k];
      s00 = fmaf(u0, v0, s00);
      s01 = fmaf(u0, v1, s01);
      s10 = fmaf(u1, v0, s10);
      s11 = fmaf(u1, v1, s11);
    }
    float* out = y.row(first + r);
    put(plan.shape, pair.a, pair.b, s00, out);
    put(plan.shape, pair.a + half, pair.b, s10, out);
    put(plan.shape, pair.b + half, pair.a, s01, out);  // a = b: the product above once more
    put(plan.shape, pair.a + half, pair.b + half, s11, out);
  }
}

/// How much of feature j goes into the gradient of feature i.
__device__ __forceinline__ float factor(const DotInteraction& shape, const float* d_y, int i,
                                        int j) {
  if (i == j) return shape.self_interaction ? 2.0f * d_y[shape.place(i, i)] : 0.0f;
  return i > j ? d_y[shape.place(i, j)] : d_y[shape.place(j, i)];
}

/// Thread: four neighbouring features by four columns a quarter of the width apart. Shared: the
/// row's features, then the F x F factors.
template <bool kStaged>
__global__ void __launch_bounds__(kThreads)
    gradient(Matrix<const float> x, Plan plan, Matrix<const float> d_y, Matrix<float> d_x) {
  SIMT_DYN_SHARED(float, shared);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * plan.rows_per_block;
  const int rows = static_cast<int>(min(std::int64_t{plan.rows_per_block}, x.rows - first));
  const int features = plan.features, width = plan.width, factors = features * width;
  if constexpr (kStaged) {
    stage(x, plan, first, rows, shared);
    const int square = features * features;
    for (int e = static_cast<int>(threadIdx.x); e < rows * square; e += kThreads) {
      const int r = e / square, i = (e - r * square) / features;
      shared[r * plan.row_floats + factors + e - r * square] =
          factor(plan.shape, d_y.row(first + r), i, e - r * square - i * features);
    }
    __syncthreads();
  }
  const int lanes = (width + kTile - 1) / kTile;
  for (int item = static_cast<int>(threadIdx.x); item < rows * plan.items; item += kThreads) {
    const int r = item / plan.items, group = (item - r * plan.items) / lanes;
    const int lane = item - r * plan.items - group * lanes;
    const float* row = kStaged ? shared + r * plan.row_floats : x.row(first + r);
    float sum[kTile][kTile] = {};
    for (int j = 0; j < features; ++j) {
      float xs[kTile], gs[kTile];
#pragma unroll
      for (int u = 0; u < kTile; ++u) {
        const int i = min(group * kTile + u, features - 1);
        xs[u] = row[std::int64_t{j} * width + min(lane + u * lanes, width - 1)];
        gs[u] = kStaged ? row[factors + i * features + j]
                        : factor(plan.shape, d_y.row(first + r), i, j);
      }
#pragma unroll
      for (int u = 0; u < kTile; ++u) {
#pragma unroll
        for (int v = 0; v < kTile; ++v) sum[u][v] = fmaf(gs[u], xs[v], sum[u][v]);
      }
    }
    float* out = d_x.row(first + r);
#pragma unroll
    for (int u = 0; u < kTile; ++u) {
      const int i = group * kTile + u;
#pragma unroll
      for (int v = 0; v < kTile; ++v) {
        const int k = lane + v * lanes;
        if (i < features && k < width) out[std::int64_t{i} * width + k] = sum[u][v];
      }
    }
  }
}

inline simt::Dims dims(const Context& ctx, std::int64_t rows, const Plan& plan) {
  return {.grid = static_cast<unsigned>(ceil_div(rows, plan.rows_per_block)),
          .block = kThreads,
          .smem = std::int64_t{plan.rows_per_block} * plan.row_floats * std::int64_t{sizeof(float)},
          .stream = &ctx.stream()};
}

}  // namespace dot_interaction_kernels

namespace k = dot_interaction_kernels;

void dot_interaction(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                     Matrix<float> y) {
  if (y.empty()) return;
  k::Plan plan{shape, static_cast<int>(shape.features), static_cast<int>(x.cols / shape.features)};
  const int half = (plan.features + 1) / 2;
  plan.items = half * (half + 1) / 2;
  plan.pitch = plan.width | 1;
  const bool staged = k::fit_rows(plan, shape.features * plan.pitch) && plan.width > 0;
  const auto dims = k::dims(ctx, x.rows, plan);
  if (staged) return simt::launch(dims, k::forward<true>, x, plan, y);
  simt::launch(dims, k::forward<false>, x, plan, y);
}

void dot_interaction_grad(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                          Matrix<const float> d_y, Matrix<float> d_x) {
  if (x.empty()) return;
  k::Plan plan{shape, static_cast<int>(shape.features), static_cast<int>(x.cols / shape.features)};
  plan.items = static_cast<int>(ceil_div(plan.features, k::kTile) * ceil_div(plan.width, k::kTile));
  plan.pitch = plan.width;
  const bool staged = k::fit_rows(plan, shape.features * (plan.width + shape.features));
  const auto dims = k::dims(ctx, x.rows, plan);
  if (staged) return simt::launch(dims, k::gradient<true>, x, plan, d_y, d_x);
  simt::launch(dims, k::gradient<false>, x, plan, d_y, d_x);
}

}  // namespace belfry::cuda
