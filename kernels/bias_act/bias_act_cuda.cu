// SPDX-License-Identifier: Apache-2.0
// bias_act on the device. A block takes a tile of rows of up to 32 neighbouring columns: `lanes`
// threads side by side, the others below them. A thread stays in its column, so that the bias lies
// in a register and the gradient of the bias is a running sum. All passes are bound by memory.
#include "kernels/bias_act/bias_act.hpp"

#include <algorithm>

#include "kernels/core/block.cuh"
#include "kernels/core/logistic.cuh"

namespace belfry::cuda {
namespace bias_act_kernels {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;  // rows in flight in a thread
/// The tiles of d_bias; their number bounds the length of the second sum.
constexpr std::int64_t kMostTiles = 512;

struct Normal {
  float cdf;
  float pdf;
};
/// Standard normal, by the formula of the CPU's side (bias_act_cpu.cpp): exp(-t^2/2) times a
/// polynomial in the lower tail, so that small values keep their relative accuracy.
__device__ __forceinline__ Normal normal(float x) {
  constexpr double kG[] = {0.106345153632,    0.187139698597,     0.125855251682,
                           0.0616394298106,   0.0190656481694,    0.00156136648475,
                           -0.00138166049183, -0.000389856871784, 0.000134021321272,
                           5.16443248256e-5,  -2.06968882733e-5};
  const float t = fminf(fabsf(x), 15.0f);  // cdf(-15) is 0 in float32
  // t^2/2 = high + low, high exact (12 bits squared): a rounded t^2 would cost t^2/2 ulp.
  const float head = __uint_as_float(__float_as_uint(t) & 0xFFFFF000u);
  const float high = 0.5f * (head * head);
  const float low = 0.5f * ((t - head) * (t + head));  // at most 0.11
  float tail = fmaf(low, static_cast<float>(1.0 / 24), static_cast<float>(-1.0 / 6));
  tail = fmaf(tail, low, 0.5f);
  tail = fmaf(tail, low, -1.0f) * low;  // exp(-low) - 1
  const float e = expf(-high);
  const float bell = fmaf(e, tail, e);
  const float u = (3.5f - t) / (3.5f + t);
  float g = static_cast<float>(kG[10]);
#pragma unroll
  for (int i = 9; i >= 0; --i) g = fmaf(g, u, static_cast<float>(kG[i]));
  const float lower = bell * g;
  return {x < 0.0f ? lower : 1.0f - lower, bell * static_cast<float>(0.398942280401)};
}

// One struct an activation: y = value(z), d_z = grad(z, y, d_y), and what grad reads.
struct Linear {
  static constexpr bool kReadsZ = false, kReadsY = false;
  static __device__ float value(float z) { return z; }
  static __device__ float grad(float, float, float d_y) { return d_y; }
};
struct Relu {
  static constexpr bool kReadsZ = false, kReadsY = true;
  static __device__ float value(float z) { return z <= 0.0f ? 0.0f : z; }
  static __device__ float grad(float, float y, float d_y) { return y > 0.0f ? d_y : 0.0f; }
};
struct Gelu {
  static constexpr bool kReadsZ = true, kReadsY = false;
  static __device__ float value(float z) { return z * normal(z).cdf; }
  static __device__ float grad(float z, float, float d_y) {
    const Normal n = normal(z);
    return d_y * fmaf(z, n.pdf, n.cdf);
  }
};
struct Tanh {
  static constexpr bool kReadsZ = false, kReadsY = true;
  static __device__ float value(float z) { return tanhf(z); }
  static __device__ float grad(float, float y, float d_y) { return d_y * fmaf(-y, y, 1.0f); }
};
struct Sigmoid {
  static constexpr bool kReadsZ = false, kReadsY = true;
  static __device__ float value(float z) { return logistic(z).value; }
  static __device__ float grad(float, float y, float d_y) { return d_y * (y * (1.0f - y)); }
};
struct Elu {
  static constexpr bool kReadsZ = false, kReadsY = true;
  static __device__ float value(float z) { return z > 0.0f ? z : expm1f(z); }
  static __device__ float grad(float, float y, float d_y) {
    return y >= 0.0f ? d_y : d_y * (y + 1.0f);
  }
};
struct Selu {
  static constexpr double kScale = 1.05070098735548049342;
  static constexpr double kScaleAlpha = kScale * 1.67326324235437728482;
  static constexpr bool kReadsZ = false, kReadsY = true;
  static __device__ float value(float z) {
    return z > 0.0f ? z * static_cast<float>(kScale) : static_cast<float>(kScaleAlpha) * expm1f(z);
  }
  static __device__ float grad(float, float y, float d_y) {
    return d_y * (y >= 0.0f ? static_cast<float>(kScale) : y + static_cast<float>(kScaleAlpha));
  }
};
struct Softplus {
  static constexpr bool kReadsZ = true, kReadsY = false;
  static __device__ float value(float z) { return fmaxf(z, 0.0f) + log1pf(expf(-fabsf(z))); }
  static __device__ float grad(float z, float, float d_y) { return d_y * logistic(z).value; }
};
struct Swish {
  static constexpr bool kReadsZ = true, kReadsY = false;
  static __device__ float value(float z) { return z * logistic(z).value; }
  static __device__ float grad(float z, float, float d_y) {
    const Logistic s = logistic(z);
    return d_y * (s.value * fmaf(z, s.complement, 1.0f));
  }
};
/// 0.5 (1 + tanh u) is logistic(2 u), which keeps its relative accuracy in the lower tail. Both are
/// flat long before |z| = 30, where z^3 is still finite.
struct GeluTanh {
  static constexpr double kLinear = 1.59576912160573072;  // 2 sqrt(2 / pi)
  static constexpr double kCubic = 0.044715 * kLinear;
  static constexpr bool kReadsZ = true, kReadsY = false;
  static __device__ float inside(float z) { return fminf(fmaxf(z, -30.0f), 30.0f); }
  static __device__ float twice_u(float t) {
    return t * fmaf(static_cast<float>(kCubic), t * t, static_cast<float>(kLinear));
  }
  static __device__ float value(float z) { return z * logistic(twice_u(inside(z))).value; }
  static __device__ float grad(float z, float, float d_y) {
    const float t = inside(z);
    const Logistic s = logistic(twice_u(t));
    const float slope = fmaf(static_cast<float>(3 * kCubic), t * t, static_cast<float>(kLinear));
    return d_y * (s.value * (z * s.complement * slope + 1.0f));
  }
};

/// Calls f with the struct of the activation.
template <class F>
void with_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::linear:
      return f(Linear());
    case Activation::relu:
      return f(Relu());
    case Activation::gelu:
      return f(Gelu());
    case Activation::tanh:
      return f(Tanh());
    case Activation::sigmoid:
      return f(Sigmoid());
    case Activation::elu:
      return f(Elu());
    case Activation::selu:
      return f(Selu());
    case Activation::softplus:
      return f(Softplus());
    case Activation::swish:
      return f(Swish());
    case Activation::gelu_tanh:
      return f(GeluTanh());
  }
}

/// How a matrix is cut, by its shape alone.
struct Tiling {
  int lanes;  ///< columns side by side in a block, a power of two up to 32
  unsigned column_blocks;
  std::int64_t tile_rows;
  std::int64_t tiles;  ///< of rows

  unsigned blocks() const { return static_cast<unsigned>(tiles * column_blocks); }
};
/// Tiles of at least kUnroll rows a thread; larger ones where there would be more than
/// `most_tiles`.
inline Tiling tile(std::int64_t rows, std::int64_t cols, std::int64_t most_tiles) {
  Tiling t{1, 1, 1, 1};
  while (t.lanes < kWarp && t.lanes < cols) t.lanes *= 2;
  t.column_blocks = static_cast<unsigned>(ceil_div(cols, t.lanes));
  t.tile_rows = std::max<std::int64_t>(kThreads / t.lanes * kUnroll, ceil_div(rows, most_tiles));
  t.tiles = ceil_div(rows, t.tile_rows);
  return t;
}

/// Where a thread works: its column, and every `step`-th row from `row` to `end`.
struct Place {
  std::int64_t column, tile, row, end;
  int step;
};
__device__ __forceinline__ Place place(const Tiling& t, std::int64_t rows, std::int64_t cols) {
  const int lane = static_cast<int>(threadIdx.x) % t.lanes;
  Place p;
  p.step = kThreads / t.lanes;
  p.column = static_cast<std::int64_t>(blockIdx.x % t.column_blocks) * t.lanes + lane;
  p.tile = blockIdx.x / t.column_blocks;
  p.row = p.tile * t.tile_rows + static_cast<int>(threadIdx.x) / t.lanes;
  p.end = min(rows, (p.tile + 1) * t.tile_rows);
  if (p.column >= cols) p.end = 0;
  return p;
}

template <class A>
__global__ void __launch_bounds__(kThreads)
    forward(Matrix<float> z, const float* bias, Matrix<float> y, Tiling tiling) {
  const Place p = place(tiling, z.rows, z.cols);
  const float add = bias != nullptr && p.row < p.end ? bias[p.column] : 0.0f;
  const bool in_place = z.data == y.data;  // linear only
  for (std::int64_t row = p.row; row < p.end; row += kUnroll * p.step) {
    float v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (row + u * p.step < p.end) v[u] = z(row + u * p.step, p.column);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (row + u * p.step >= p.end) break;
      if (bias != nullptr) z(row + u * p.step, p.column) = v[u] = v[u] + add;
      if (!in_place) y(row + u * p.step, p.column) = A::value(v[u]);
    }
  }
}

/// d_z unless it is d_y unchanged (`only_sum`), and the sums of its columns over each tile of rows:
/// sums[tile, column], unless null.
template <class A>
__global__ void __launch_bounds__(kThreads)
    gradient(Matrix<const float> z, Matrix<const float> y, Matrix<const float> d_y,
             Matrix<float> d_z, bool only_sum, float* sums, Tiling tiling) {
  const Place p = place(tiling, d_y.rows, d_y.cols);
  float sum = 0.0f;
  for (std::int64_t row = p.row; row < p.end; row += kUnroll * p.step) {
    float zs[kUnroll] = {}, ys[kUnroll] = {}, ds[kUnroll] = {};
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const std::int64_t r = row + u * p.step;
      if (r >= p.end) break;
      if constexpr (A::kReadsZ) zs[u] = z(r, p.column);
      if constexpr (A::kReadsY) ys[u] = y(r, p.column);
      ds[u] = d_y(r, p.column);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const std::int64_t r = row + u * p.step;
      if (r >= p.end) break;
      const float g = A::grad(zs[u], ys[u], ds[u]);
      if (!only_sum) d_z(r, p.column) = g;
      sum += g;
    }
  }
  if (sums == nullptr) return;
  SIMT_SHARED_ARRAY(float, partial, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  partial[thread] = sum;
  __syncthreads();
  for (int half = p.step / 2; half > 0; half /= 2) {
    if (thread < half * tiling.lanes) partial[thread] += partial[thread + half * tiling.lanes];
    __syncthreads();
  }
  if (thread < tiling.lanes && p.column < d_y.cols) {
    sums[p.tile * d_y.cols + p.column] = partial[thread];
  }
}

}  // namespace bias_act_kernels

namespace k = bias_act_kernels;

void bias_act(const Context& ctx, Matrix<float> z, Vector<const float> bias, Activation activation,
              Matrix<float> y) {
  if (z.empty()) return;
  const k::Tiling tiling = k::tile(z.rows, z.cols, INT32_MAX / z.cols);
  k::with_activation(activation, [&](auto a) {
    simt::launch({.grid = tiling.blocks(), .block = k::kThreads, .stream = &ctx.stream()},
                 k::forward<decltype(a)>, z, bias.empty() ? nullptr : bias.data, y, tiling);
  });
}

void bias_act_grad(const Context& ctx, Matrix<const float> z, Matrix<const float> y,
                   Matrix<const float> d_y, Activation activation, Matrix<float> d_z,
                   Vector<float> d_bias) {
  if (z.empty()) {
    const std::int64_t bytes = d_bias.size * std::int64_t{sizeof(float)};
    if (bytes > 0) simt::device_memset(d_bias.data, 0, bytes, ctx.stream());
    return;
  }
  const bool only_sum =
      activation == Activation::linear && d_z.data == d_y.data && d_z.pitch == d_y.pitch;
  if (only_sum && d_bias.empty()) return;
  simt::Dims dims{.grid = 1, .block = k::kThreads, .stream = &ctx.stream()};
  const k::Tiling tiling = k::tile(z.rows, z.cols, k::kMostTiles);
  ArenaScope scope(ctx);
  float* sums = d_bias.empty() ? nullptr : d_bias.data;
  if (!d_bias.empty() && tiling.tiles > 1) {
    sums = ctx.arena().take<float>(tiling.tiles * z.cols);
  }
  k::with_activation(activation, [&](auto a) {
    dims.grid = tiling.blocks();
    simt::launch(dims, k::gradient<decltype(a)>, z, y, d_y, d_z, only_sum, sums, tiling);
  });
  // The sums of the tiles are summed in the same way, as one tile.
  if (sums != nullptr && sums != d_bias.data) {
    const Matrix<const float> tiles(sums, tiling.tiles, z.cols);
    const k::Tiling one = k::tile(tiles.rows, tiles.cols, 1);
    dims.grid = one.blocks();
    simt::launch(dims, k::gradient<k::Linear>, tiles, tiles, tiles, Matrix<float>(), true,
                 d_bias.data, one);
  }
}

}  // namespace belfry::cuda
