// SPDX-License-Identifier: Apache-2.0
// Whole kernels in the style of the ops: reduction, scan, transpose, histogram, bf16 GEMM with ldmatrix
// and a cp.async pipeline, and the last block that sums up. Exact inputs: equality under any order.
#include <cstdint>
#include <numeric>
#include <vector>

#include "device_array.hpp"
#include "kernels/core/simt.hpp"

namespace belfry::conformance {

using test::DeviceArray;
using test::for_each_schedule;
constexpr unsigned kWarp = 0xffffffffu;

__device__ inline float warp_sum(float v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kWarp, v, step);
  return v;
}

/// Sum over the block, in thread 0. Threads: a multiple of 32.
__device__ inline float block_sum(float v) {
  SIMT_SHARED_ARRAY(float, of_warp, [32]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  v = warp_sum(v);
  __syncthreads();  // of_warp may still be read by the call before
  if (lane == 0) of_warp[warp] = v;
  __syncthreads();
  const int warps = static_cast<int>(blockDim.x) / 32;
  return warp == 0 ? warp_sum(lane < warps ? of_warp[lane] : 0.0f) : 0.0f;
}

/// out[0] = sum of x: blocks leave partial sums, and the block that finishes last adds them up.
__global__ void sum_last_block_done(const float* x, int n, float* partial, unsigned* ticket,
                                    float* out) {
  SIMT_SHARED(bool, last);
  float v = 0.0f;
  const int step = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += step) v += x[i];
  v = block_sum(v);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = v;
    __threadfence();
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (!last) return;
  v = 0.0f;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) v += partial[i];
  v = block_sum(v);
  if (threadIdx.x == 0) *out = v;
}

TEST(Feature, SumByTheLastBlock) {
  for_each_schedule([] {
    for (const int n : {0, 1, 100, 5000}) {
      std::vector<float> x(n);
      for (int i = 0; i < n; ++i) x[i] = static_cast<float>(i % 17) - 5.0f;
      DeviceArray<float> dx(x), partial(7), out(1);
      auto ticket = DeviceArray<unsigned>::zeros(1);
      simt::launch({.grid = 7, .block = 96}, sum_last_block_done, dx.data(), n, partial.data(),
                   ticket.data(), out.data());
      EXPECT_EQ(out.host()[0], std::accumulate(x.begin(), x.end(), 0.0f));
    }
  });
}

/// Inclusive prefix sums of one block's values: by warps, then over warps.
__global__ void inclusive_scan(const int* in, int* out, int n) {
  SIMT_SHARED_ARRAY(int, total_of_warp, [32]);
  const int i = static_cast<int>(threadIdx.x), lane = i % 32, warp = i / 32;
  int v = i < n ? in[i] : 0;
  for (int step = 1; step < 32; step *= 2) {
    const int below = __shfl_up_sync(kWarp, v, static_cast<unsigned>(step));
    if (lane >= step) v += below;
  }
  if (lane == 31) total_of_warp[warp] = v;
  __syncthreads();
  for (int w = 0; w < warp; ++w) v += total_of_warp[w];
  if (i < n) out[i] = v;
}

TEST(Feature, Scan) {
  for_each_schedule([] {
    for (const int n : {1, 31, 32, 33, 500, 512}) {
      std::vector<int> in(n), want(n);
      for (int i = 0; i < n; ++i) in[i] = i * 37 % 101 - 50;
      std::partial_sum(in.begin(), in.end(), want.begin());
      DeviceArray<int> x(in), y(n);
      simt::launch({.grid = 1, .block = 512}, inclusive_scan, x.data(), y.data(), n);
      EXPECT_EQ(y.host(), want) << n;
    }
  });
}

template <int Tile>
__global__ void transpose(const float* in, float* out, int rows, int columns) {
  SIMT_SHARED_ARRAY(float, tile, [Tile][Tile + 1]);
  const int x = static_cast<int>(blockIdx.x) * Tile + static_cast<int>(threadIdx.x);
  const int y = static_cast<int>(blockIdx.y) * Tile + static_cast<int>(threadIdx.y);
  if (x < columns && y < rows) tile[threadIdx.y][threadIdx.x] = in[y * columns + x];
  __syncthreads();
  const int tx = static_cast<int>(blockIdx.y) * Tile + static_cast<int>(threadIdx.x);
  const int ty = static_cast<int>(blockIdx.x) * Tile + static_cast<int>(threadIdx.y);
  if (tx < rows && ty < columns) out[ty * rows + tx] = tile[threadIdx.x][threadIdx.y];
}

TEST(Feature, Transpose) {
  for_each_schedule([] {
    constexpr int rows = 37, columns = 21;
    std::vector<float> in(rows * columns);
    std::iota(in.begin(), in.end(), 0.0f);
    DeviceArray<float> x(in), y(rows * columns);
    simt::launch({.grid = {(columns + 7) / 8, (rows + 7) / 8}, .block = {8, 8}}, transpose<8>,
                 x.data(), y.data(), rows, columns);
    const auto got = y.host();
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) ASSERT_EQ(got[j * rows + i], in[i * columns + j]);
    }
  });
}

/// Counts in shared memory first, then one atomic a block and bin.
__global__ void histogram(const int* values, int n, int* bins, int count) {
  SIMT_DYN_SHARED(int, mine);
  for (int b = static_cast<int>(threadIdx.x); b < count; b += static_cast<int>(blockDim.x))
    mine[b] = 0;
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) atomicAdd(&mine[values[i]], 1);
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < count; b += static_cast<int>(blockDim.x)) {
    if (mine[b] != 0) atomicAdd(&bins[b], mine[b]);
  }
}

TEST(Feature, Histogram) {
  for_each_schedule([] {
    constexpr int n = 1000, count = 50;
    std::vector<int> values(n), want(count);
    for (int i = 0; i < n; ++i) ++want[values[i] = i * i % count];
    DeviceArray<int> x(values);
    auto bins = DeviceArray<int>::zeros(count);
    simt::launch({.grid = 8, .block = 128, .smem = count * 4}, histogram, x.data(), n, bins.data(),
                 count);
    EXPECT_EQ(bins.host(), want);
  });
}

/// c[M, N] = a[M, K] b[N, K]^T for one 16 x 8 tile a warp; K in steps of 16 through a pipeline of
/// `Stages` cp.async groups. M, N, K multiples of the tile.
template <int Stages>
__global__ void gemm_nt(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int N, int K) {
  SIMT_SHARED_ARRAY(uint4, tile_a, [Stages][16][2]);  // 16 rows of 16 bf16
  SIMT_SHARED_ARRAY(uint4, tile_b, [Stages][8][2]);
  const int lane = static_cast<int>(threadIdx.x);
  const __nv_bfloat16* rows_a = a + static_cast<int>(blockIdx.y) * 16 * K;
  const __nv_bfloat16* rows_b = b + static_cast<int>(blockIdx.x) * 8 * K;
  const int steps = K / 16;
  const auto fetch = [&](int step) {
    if (step < steps) {
      const int s = step % Stages, row = lane / 2, half = lane % 2;
      simt::cp_async<16>(&tile_a[s][row][half], rows_a + row * K + step * 16 + half * 8);
      if (row < 8)
        simt::cp_async<16>(&tile_b[s][row][half], rows_b + row * K + step * 16 + half * 8);
    }
    simt::cp_async_commit();  // also when empty: the waits below count groups
  };
  float sum[4] = {};
  for (int step = 0; step < Stages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    simt::cp_async_wait<Stages - 2>();
    __syncwarp();  // everybody's copies of this stage are there, and the stage before is read
    fetch(step + Stages - 1);
    const int s = step % Stages;
    std::uint32_t fa[4], fb[2];
    simt::ldmatrix_x4(fa, &tile_a[s][lane % 16][lane / 16]);
    simt::ldmatrix_x2(fb, &tile_b[s][lane % 8][lane / 8 % 2]);
    simt::mma_m16n8k16_bf16(sum, fa, fb, sum);
  }
  const int row = static_cast<int>(blockIdx.y) * 16 + lane / 4;
  const int column = static_cast<int>(blockIdx.x) * 8 + lane % 4 * 2;
  for (int e = 0; e < 4; ++e) c[(row + e / 2 * 8) * N + column + e % 2] = sum[e];
}

template <int Stages>
void check_gemm(int M, int N, int K) {
  std::vector<__nv_bfloat16> a(M * K), b(N * K);
  for (int i = 0; i < M * K; ++i)
    a[i] = __float2bfloat16(static_cast<float>((i * 7 + i / K) % 9 - 4));
  for (int i = 0; i < N * K; ++i)
    b[i] = __float2bfloat16(static_cast<float>((i * 5 + i / K) % 7 - 3));
  DeviceArray<__nv_bfloat16> da(a), db(b);
  DeviceArray<float> dc(M * N);
  simt::launch({.grid = {static_cast<unsigned>(N / 8), static_cast<unsigned>(M / 16)}, .block = 32},
               gemm_nt<Stages>, da.data(), db.data(), dc.data(), N, K);
  const auto got = dc.host();
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      float sum = 0;
      for (int k = 0; k < K; ++k)
        sum += __bfloat162float(a[i * K + k]) * __bfloat162float(b[j * K + k]);
      ASSERT_EQ(got[i * N + j], sum) << i << " " << j;
    }
  }
}

TEST(Feature, PipelinedGemmOnTensorCores) {
  for_each_schedule([] {
    check_gemm<2>(32, 24, 64);
    check_gemm<3>(16, 8, 96);
    check_gemm<4>(16, 16, 16);
  });
}

}  // namespace belfry::conformance
