// SPDX-License-Identifier: Apache-2.0
// kernels/core/block.cuh by itself: every primitive, with scratch that is used again at once.
#include "kernels/core/block.cuh"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "device_array.hpp"

namespace belfry::cuda {
namespace block_primitives {

using test::DeviceArray;
using test::for_each_schedule;

/// Three reductions over one scratch, each with every thread's result written down.
template <int kThreads>
__global__ void reduce_thrice(const int* in, int* out) {
  SIMT_SHARED_ARRAY(int, scratch, [kThreads / kWarp]);
  const int t = static_cast<int>(threadIdx.x), value = in[t];
  out[t] = block_reduce<kThreads>(value, Sum(), scratch);
  out[kThreads + t] = block_reduce<kThreads>(value, Max(), scratch);
  out[2 * kThreads + t] = block_reduce<kThreads>(value, Min(), scratch);
}

/// Two scans over one scratch.
template <int kThreads>
__global__ void scan_twice(const int* in, int* out, int* totals) {
  SIMT_SHARED_ARRAY(int, scratch, [kThreads / kWarp]);
  const int t = static_cast<int>(threadIdx.x);
  int total = 0;
  out[t] = block_exclusive_sum<kThreads>(in[t], &total, scratch);
  totals[t] = total;
  out[kThreads + t] = block_exclusive_sum<kThreads>(2 * in[t], &total, scratch);
  totals[kThreads + t] = total;
}

__global__ void warps(const int* in, int* out) {
  const int t = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
  out[t] = warp_reduce(in[t], Sum());
  out[n + t] = warp_inclusive_scan(in[t], Sum());
  out[2 * n + t] = warp_inclusive_scan(in[t], Max());
}

__global__ void raise(StepState* state) {
  raise_status(state, 1u << threadIdx.x % 3);
}

/// Differs in every place, negative ones among them.
std::vector<int> values(int n) {
  std::vector<int> v(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) v[static_cast<std::size_t>(i)] = i * 7919 % 257 - 100;
  return v;
}

template <int kThreads>
void expect_reductions_and_scans() {
  for_each_schedule([] {
    const std::vector<int> in = values(kThreads);
    const DeviceArray<int> device(in), reduced(3 * kThreads), scanned(2 * kThreads),
        totals(2 * kThreads);
    simt::launch({.grid = 1, .block = kThreads}, reduce_thrice<kThreads>, device.data(),
                 reduced.data());
    simt::launch({.grid = 1, .block = kThreads}, scan_twice<kThreads>, device.data(),
                 scanned.data(), totals.data());
    const int sum = std::accumulate(in.begin(), in.end(), 0);
    const int extremes[] = {*std::max_element(in.begin(), in.end()),
                            *std::min_element(in.begin(), in.end())};
    const auto r = reduced.host(), s = scanned.host(), t = totals.host();
    int before = 0;
    for (std::size_t i = 0; i < kThreads; ++i) {
      EXPECT_EQ(r[i], sum);
      EXPECT_EQ(r[kThreads + i], extremes[0]);
      EXPECT_EQ(r[2 * kThreads + i], extremes[1]);
      EXPECT_EQ(s[i], before);
      EXPECT_EQ(s[kThreads + i], 2 * before);
      EXPECT_EQ(t[i], sum);
      EXPECT_EQ(t[kThreads + i], 2 * sum);
      before += in[i];
    }
  });
}

TEST(BlockPrimitives, ReduceAndScanOfOneWarp) {
  expect_reductions_and_scans<32>();
}
TEST(BlockPrimitives, ReduceAndScanOfManyWarps) {
  expect_reductions_and_scans<64>();
  expect_reductions_and_scans<160>();
}

TEST(BlockPrimitives, WarpsByThemselves) {
  for_each_schedule([] {
    constexpr int kThreads = 64;
    const std::vector<int> in = values(kThreads);
    const DeviceArray<int> device(in), out(3 * kThreads);
    simt::launch({.grid = 1, .block = kThreads}, warps, device.data(), out.data());
    const auto got = out.host();
    for (int i = 0; i < kThreads; ++i) {
      const auto first = in.begin() + i / kWarp * kWarp, here = in.begin() + i + 1;
      EXPECT_EQ(got[static_cast<std::size_t>(i)], std::accumulate(first, first + kWarp, 0));
      EXPECT_EQ(got[static_cast<std::size_t>(kThreads + i)], std::accumulate(first, here, 0));
      EXPECT_EQ(got[static_cast<std::size_t>(2 * kThreads + i)], *std::max_element(first, here));
    }
  });
}

TEST(BlockPrimitives, StatusBitsOfAllThreadsArrive) {
  for_each_schedule([] {
    const DeviceArray<StepState> state(std::vector<StepState>(1));
    simt::launch({.grid = 3, .block = 64}, raise, state.data());
    EXPECT_EQ(state.host()[0].status, 7u);
  });
}

TEST(BlockPrimitives, GridsAreBounded) {
  EXPECT_EQ(ceil_div(1, 32), 1);
  EXPECT_EQ(ceil_div(32, 32), 1);
  EXPECT_EQ(ceil_div(33, 32), 2);
  EXPECT_EQ(grid_for(1, 256), 1u);
  EXPECT_EQ(grid_for(257, 256), 2u);
  EXPECT_EQ(grid_for(std::int64_t{1} << 40, 256), 1u << 16);
  EXPECT_EQ(grid_for(1000, 1, 10), 10u);
}

}  // namespace block_primitives
}  // namespace belfry::cuda
