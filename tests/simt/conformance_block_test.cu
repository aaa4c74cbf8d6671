// SPDX-License-Identifier: Apache-2.0
// What CUDA says of blocks: indices, shared memory, barriers, atomics, grids. Runs on the executor, and
// compiled by nvcc on a GPU.
#include <cstdint>
#include <numeric>
#include <vector>

#include "device_array.hpp"
#include "kernels/core/simt.hpp"

namespace belfry::conformance {

using test::DeviceArray;
using test::for_each_schedule;

__device__ inline unsigned thread_rank() {
  return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}
__device__ inline unsigned block_rank() {
  return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
}

__global__ void write_indices(std::uint32_t* out) {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  const unsigned i = block_rank() * threads + thread_rank();
  out[i] = threadIdx.x | threadIdx.y << 4 | threadIdx.z << 8 | blockIdx.x << 12 | blockIdx.y << 16 |
           blockIdx.z << 20;
}

TEST(Block, IndicesInThreeDimensions) {
  for_each_schedule([] {
    DeviceArray<std::uint32_t> out(2 * 3 * 4 * 5 * 3 * 2);
    simt::launch({.grid = {2, 3, 4}, .block = {5, 3, 2}}, write_indices, out.data());
    const auto got = out.host();
    std::size_t i = 0;
    for (unsigned bz = 0; bz < 4; ++bz)
      for (unsigned by = 0; by < 3; ++by)
        for (unsigned bx = 0; bx < 2; ++bx)
          for (unsigned z = 0; z < 2; ++z)
            for (unsigned y = 0; y < 3; ++y)
              for (unsigned x = 0; x < 5; ++x, ++i) {
                EXPECT_EQ(got[i], x | y << 4 | z << 8 | bx << 12 | by << 16 | bz << 20);
              }
  });
}

template <int Scale>
__device__ int rotate_through_shared(int value) {
  SIMT_SHARED_ARRAY(int, line, [64]);
  line[threadIdx.x] = Scale * value;
  __syncthreads();
  return line[(threadIdx.x + 1) % 64];
}

/// Each instantiation has its own array: without a barrier between the two calls nothing is overwritten.
__global__ void two_instantiations(int* out) {
  const int a = rotate_through_shared<1>(static_cast<int>(threadIdx.x));
  const int b = rotate_through_shared<10>(static_cast<int>(threadIdx.x));
  out[threadIdx.x] = a + 1000 * b;
}

TEST(Block, SharedMemoryPerInstantiation) {
  for_each_schedule([] {
    DeviceArray<int> out(64);
    simt::launch({.grid = 1, .block = 64}, two_instantiations, out.data());
    const auto got = out.host();
    for (int i = 0; i < 64; ++i) EXPECT_EQ(got[i], (i + 1) % 64 * 10001);
  });
}

/// Static, two-dimensional and dynamic shared memory together; a block per row, blocks apart.
__global__ void all_kinds_of_shared(const float* in, float* out, int n) {
  SIMT_SHARED(float, total);
  SIMT_SHARED_ARRAY(float, tile, [4][33]);
  SIMT_DYN_SHARED(float, line);
  const int i = static_cast<int>(threadIdx.x);
  line[i] = in[static_cast<int>(blockIdx.x) * n + i];
  tile[i % 4][i / 4] = 2.0f * line[i];
  __syncthreads();
  if (i == 0) {
    total = 0.0f;
    for (int j = 0; j < n; ++j) total += line[j] + tile[j % 4][j / 4];
  }
  __syncthreads();
  out[static_cast<int>(blockIdx.x) * n + i] = total;
}

TEST(Block, SharedMemoryOfAllKinds) {
  for_each_schedule([] {
    constexpr int n = 96, blocks = 5;
    std::vector<float> in(n * blocks);
    std::iota(in.begin(), in.end(), 0.0f);
    DeviceArray<float> x(in), y(n * blocks);
    simt::launch({.grid = blocks, .block = n, .smem = n * 4}, all_kinds_of_shared, x.data(),
                 y.data(), n);
    const auto got = y.host();
    for (int b = 0; b < blocks; ++b) {
      const float sum = 3.0f * std::accumulate(in.begin() + b * n, in.begin() + (b + 1) * n, 0.0f);
      for (int i = 0; i < n; ++i) ASSERT_EQ(got[b * n + i], sum) << b << " " << i;
    }
  });
}

__global__ void large_dynamic_shared(int* out, int n) {
  SIMT_DYN_SHARED(int, line);
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) line[i] = i;
  __syncthreads();
  if (threadIdx.x == 0) *out = line[0] + line[n / 2] + line[n - 1];
}

TEST(Block, HundredKibibytesOfSharedMemory) {
  constexpr int n = 25600;
  DeviceArray<int> out(1);
  simt::launch({.grid = 1, .block = 128, .smem = n * 4}, large_dynamic_shared, out.data(), n);
  EXPECT_EQ(out.host()[0], n / 2 + n - 1);
}

__global__ void vote_at_barriers(int* out) {
  const int i = static_cast<int>(threadIdx.x);
  const int count = __syncthreads_count(i % 3 == 0);
  const int all = __syncthreads_and(i < 100);
  const int none = __syncthreads_and(i < 99);
  const int some = __syncthreads_or(i == 57);
  const int never = __syncthreads_or(i > 99);
  out[i] = count * 10000 + all * 1000 + none * 100 + some * 10 + never;
}

TEST(Block, VotesAtBarriers) {
  for_each_schedule([] {
    DeviceArray<int> out(100);
    simt::launch({.grid = 1, .block = 100}, vote_at_barriers, out.data());
    for (const int v : out.host()) EXPECT_EQ(v, 34 * 10000 + 1010);
  });
}

struct Atomics {
  int i_add, i_sub, i_min, i_max, i_and, i_or, i_xor;
  unsigned u_inc, u_dec, u_max;
  unsigned long long u64_add;
  long long i64_min;
  float f_add;
  double d_add;
};

__global__ void all_atomics(Atomics* a, int* exchanged) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(&a->i_add, i);
  atomicSub(&a->i_sub, i);
  atomicMin(&a->i_min, -i);
  atomicMax(&a->i_max, i);
  atomicAnd(&a->i_and, ~(1 << (i % 8)));
  atomicOr(&a->i_or, 1 << (i % 20));
  atomicXor(&a->i_xor, i);
  atomicInc(&a->u_inc, 6u);
  atomicDec(&a->u_dec, 4u);
  atomicMax(&a->u_max, 0x80000000u + static_cast<unsigned>(i));
  atomicAdd(&a->u64_add, 1ull << 33);
  atomicMin(&a->i64_min, -(1ll << 40) - i);
  atomicAdd(&a->f_add, 0.5f);
  atomicAdd(&a->d_add, 0.25);
  // A counter by compare-and-swap, and each old value handed out once.
  int seen = 0;
  for (;;) {
    const int before = atomicCAS(&exchanged[0], seen, seen + 1);
    if (before == seen) break;
    seen = before;
  }
  atomicExch(&exchanged[1 + seen], i);
}

TEST(Block, Atomics) {
  for_each_schedule([] {
    constexpr int n = 96;
    Atomics start{};
    start.i_and = 0xff;
    DeviceArray<Atomics> a(std::vector<Atomics>{start});
    auto exchanged = DeviceArray<int>::zeros(n + 1);
    simt::launch({.grid = 3, .block = 32}, all_atomics, a.data(), exchanged.data());
    const Atomics got = a.host()[0];
    EXPECT_EQ(got.i_add, n * (n - 1) / 2);
    EXPECT_EQ(got.i_sub, -n * (n - 1) / 2);
    EXPECT_EQ(got.i_min, -n + 1);
    EXPECT_EQ(got.i_max, n - 1);
    EXPECT_EQ(got.i_and, 0);
    EXPECT_EQ(got.i_or, 0xfffff);
    EXPECT_EQ(got.i_xor, 0);  // of 0 .. 4 k - 1
    EXPECT_EQ(got.u_inc, n % 7u);
    EXPECT_EQ(got.u_dec, 4u);  // 0 -> 4 -> 3 -> .. -> 0, 96 steps of a cycle of 5
    EXPECT_EQ(got.u_max, 0x80000000u + n - 1);
    EXPECT_EQ(got.u64_add, static_cast<unsigned long long>(n) << 33);
    EXPECT_EQ(got.i64_min, -(1ll << 40) - n + 1);
    EXPECT_EQ(got.f_add, 0.5f * n);
    EXPECT_EQ(got.d_add, 0.25 * n);
    auto ids = exchanged.host();
    EXPECT_EQ(ids[0], n);
    std::vector<int> seen(n);
    for (int i = 1; i <= n; ++i) ++seen[ids[i]];
    EXPECT_EQ(seen, std::vector<int>(n, 1));
  });
}

/// Threads pass a token: each spins until it is its turn. Ends only if waiting lets others run.
__global__ void pass_token(int* turn, int* order) {
  const int i = static_cast<int>(threadIdx.x);
  while (atomicAdd(turn, 0) != i) __nanosleep(20);
  order[i] = i * i;
  __threadfence();
  atomicAdd(turn, 1);
}

TEST(Block, SpinningThreadsLetOthersRun) {
  for_each_schedule([] {
    auto turn = DeviceArray<int>::zeros(1);
    DeviceArray<int> order(40);
    simt::launch({.grid = 1, .block = 40}, pass_token, turn.data(), order.data());
    EXPECT_EQ(turn.host()[0], 40);
    EXPECT_EQ(order.host()[39], 39 * 39);
  });
}

/// Each block writes; after the grid's barrier each reads its neighbour's value.
__global__ void ring_of_blocks(int* ring, int* out) {
  const auto grid = simt::cg::this_grid();
  if (threadIdx.x == 0) ring[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
  grid.sync();
  out[grid.thread_rank()] = ring[(blockIdx.x + 1) % gridDim.x];
  grid.sync();
  if (threadIdx.x == 0) ring[blockIdx.x] = -ring[blockIdx.x];
}

TEST(Block, GridBarrier) {
  for_each_schedule([] {
    DeviceArray<int> ring(6), out(6 * 40);
    simt::launch({.grid = 6, .block = 40, .cooperative = true}, ring_of_blocks, ring.data(),
                 out.data());
    const auto got = out.host();
    for (int i = 0; i < 240; ++i) EXPECT_EQ(got[i], (i / 40 + 1) % 6 + 1);
    EXPECT_EQ(ring.host(), (std::vector<int>{-1, -2, -3, -4, -5, -6}));
  });
}

struct View {
  float* data;
  int rows, columns;
};
__global__ void scale_view(View v, float factor, const bool negate) {
  const int i = static_cast<int>(blockIdx.x), j = static_cast<int>(threadIdx.x);
  if (j < v.columns) v.data[i * v.columns + j] *= negate ? -factor : factor;
}

TEST(Launch, ArgumentsAreCopiedAndConverted) {
  DeviceArray<float> x(std::vector<float>(30, 1.0f));
  simt::Stream stream;
  double factor = 3.0;  // converts
  simt::launch({.grid = 3, .block = 32, .stream = &stream}, scale_view, View{x.data(), 3, 10},
               factor, true);
  factor = 7.0;
  stream.sync();
  EXPECT_EQ(x.host(), std::vector<float>(30, -3.0f));
}

TEST(Launch, RefusesWhatNoDeviceTakes) {
  DeviceArray<int> out(1);
  const auto refused = [&](const simt::Dims& dims) {
    try {
      simt::launch(dims, large_dynamic_shared, out.data(), 1);
    } catch (const simt::DeviceFailure& e) {
      return e.failure == simt::Failure::bad_launch || e.failure == simt::Failure::bad_argument;
    }
    return false;
  };
  EXPECT_TRUE(refused({.grid = 1, .block = 1025}));
  EXPECT_TRUE(refused({.grid = 1, .block = {1, 1, 65}}));
  EXPECT_TRUE(refused({.grid = 1, .block = {32, 33}}));
  EXPECT_TRUE(refused({.grid = 0, .block = 32}));
  EXPECT_TRUE(refused({.grid = {1, 65536}, .block = 32}));
  EXPECT_TRUE(refused({.grid = 1, .block = 32, .smem = 233 * 1024}));
  EXPECT_FALSE(refused({.grid = 1, .block = 1024, .smem = 4}));
}

TEST(Launch, OutOfMemoryIsSaid) {
  const simt::DeviceInfo info = simt::device_info();
  try {
    simt::device_free(simt::device_malloc(info.memory_bytes + (std::int64_t{1} << 30)));
    ADD_FAILURE() << "took more than there is";
  } catch (const simt::DeviceFailure& e) {
    EXPECT_EQ(e.failure, simt::Failure::out_of_memory) << e.what();
  }
}

}  // namespace belfry::conformance
