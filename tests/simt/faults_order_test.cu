// SPDX-License-Identifier: Apache-2.0
// Planted faults of order and of control flow: races, barriers, warps, launches. Each is found by exactly
// the builds that README.md names, and races under every schedule.
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "expect_fault.hpp"
#include "kernels/core/simt.hpp"

namespace belfry::faults {

using simt::Fault;
using test::DeviceArray;
using test::expect_row;
using test::Row;
using test::Seen;

constexpr unsigned kAll = 0xffffffffu;
const Row kRace{Seen::output, Seen::output, Seen::report, Fault::race};
const Row kHiddenRace{Seen::nothing, Seen::nothing, Seen::report, Fault::race};
Row everywhere(Fault fault) {
  return {Seen::report, Seen::report, Seen::report, fault};
}

/// Launches kernel(out) on `block` threads; the output as it should be is want(i).
template <class K, class F>
std::function<bool()> output_of(K kernel, unsigned grid, unsigned block, int n, F want) {
  return [=] {
    auto out = DeviceArray<int>::zeros(n);
    simt::launch({.grid = grid, .block = block}, kernel, out.data());
    const auto got = out.host();
    for (int i = 0; i < n; ++i) {
      if (got[i] != want(i)) return false;
    }
    return true;
  };
}
template <class K>
std::function<bool()> runs(K kernel, unsigned block) {
  return output_of(kernel, 1, block, 64, [](int) { return 0; });
}

/// Neighbours exchange: kBefore, kAfter say which barriers are there.
template <bool kBefore, bool kAfter>
__global__ void rotate_twice(int* out) {
  SIMT_SHARED_ARRAY(int, line, [64]);
  const int i = static_cast<int>(threadIdx.x);
  line[i] = -1;
  __syncthreads();
  line[i] = i;
  if (kBefore) __syncthreads();
  const int a = line[(i + 1) % 64];
  if (kAfter) __syncthreads();
  line[i] = 100 + a;
  __syncthreads();
  out[i] = line[(i + 1) % 64];
}
int rotated(int i) {
  return 100 + (i + 2) % 64;
}

TEST(Faults, NoFaultHere) {
  expect_row({Seen::nothing, Seen::nothing, Seen::nothing},
             output_of(rotate_twice<true, true>, 1, 64, 64, rotated));
}
TEST(Faults, MissingBarrierReadAfterWrite) {
  expect_row(kRace, output_of(rotate_twice<false, true>, 1, 64, 64, rotated));
}
TEST(Faults, MissingBarrierBeforeReuse) {
  expect_row(kRace, output_of(rotate_twice<true, false>, 1, 64, 64, rotated));
}

/// Threads read what lower threads wrote: right when they run in order.
__global__ void reads_from_below(int* out) {
  SIMT_SHARED_ARRAY(int, line, [64]);
  const int i = static_cast<int>(threadIdx.x);
  line[i] = -1;
  __syncthreads();
  line[i] = i;
  out[i] = i > 0 ? line[i - 1] : 0;
}
TEST(Faults, MissingBarrierRightInOrder) {
  expect_row(kRace,
             output_of(reads_from_below, 1, 64, 64, [](int i) { return i > 0 ? i - 1 : 0; }));
  if (simt::build() != simt::Build::check) {  // and fifo does hide it
    const simt::ScopedOptions fifo{simt::Options{}};
    EXPECT_TRUE(output_of(reads_from_below, 1, 64, 64, [](int i) { return i > 0 ? i - 1 : 0; })());
  }
}

__global__ void missing_syncwarp(int* out) {
  SIMT_SHARED_ARRAY(int, line, [32]);
  const int i = static_cast<int>(threadIdx.x);
  line[i] = -1;
  __syncthreads();
  line[i] = i;
  out[i] = line[i ^ 1];
}
TEST(Faults, MissingSyncwarp) {
  expect_row(kRace, output_of(missing_syncwarp, 1, 32, 32, [](int i) { return i ^ 1; }));
}

/// A shuffle in place of __syncwarp: meets the lanes, orders no memory.
__global__ void shuffle_is_no_barrier(int* out) {
  SIMT_SHARED_ARRAY(int, line, [32]);
  const int i = static_cast<int>(threadIdx.x);
  line[i] = -1;
  __syncthreads();
  line[i] = i;
  const int zero = __shfl_sync(kAll, 0, 0);
  out[i] = line[i ^ 1] + zero;
}
TEST(Faults, ShuffleOrdersNothing) {
  expect_row(kHiddenRace, output_of(shuffle_is_no_barrier, 1, 32, 32, [](int i) { return i ^ 1; }));
}

/// __syncwarp where __syncthreads is needed: the other warp's readers matter.
__global__ void syncwarp_for_a_block(int* out) {
  SIMT_SHARED(int, value);
  if (threadIdx.x == 0) value = 1;
  __syncthreads();
  const int seen = value;
  __syncwarp();
  if (threadIdx.x == 63) value = 2;
  out[threadIdx.x] = seen;
}
TEST(Faults, SyncwarpForABlock) {
  expect_row(kRace, output_of(syncwarp_for_a_block, 1, 64, 64, [](int) { return 1; }));
}

/// The same with the writer in the first warp: readers of the second one must be remembered too.
__global__ void syncwarp_for_a_block_first(int* out) {
  SIMT_SHARED(int, value);
  if (threadIdx.x == 0) value = 1;
  __syncthreads();
  out[threadIdx.x] = value;
  __syncwarp();
  if (threadIdx.x == 0) value = 2;
}
TEST(Faults, SyncwarpForABlockSeenFromTheFirstWarp) {
  if (simt::build() != simt::Build::check) return;  // the others see it by luck
  expect_row(kRace, output_of(syncwarp_for_a_block_first, 1, 64, 64, [](int) { return 1; }));
}

/// Everybody reads; then all add by atomics; then one reads without a barrier.
__global__ void read_after_atomics(int* out) {
  SIMT_SHARED(int, count);
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  if (count != 0) __trap();
  __syncthreads();
  atomicAdd(&count, 1);
  if (threadIdx.x == 63) out[0] = count;
}
TEST(Faults, PlainReadAfterAtomics) {
  expect_row(kRace, output_of(read_after_atomics, 1, 64, 1, [](int) { return 64; }));
}

__global__ void plain_update(int* out) {
  out[0] += 1;
}
TEST(Faults, UpdateWithoutAtomic) {
  expect_row(kHiddenRace, output_of(plain_update, 1, 64, 1, [](int) { return 64; }));
}
__global__ void plain_beside_atomic(int* out) {
  if (threadIdx.x == 0) {
    out[0] = out[0] + 1;
  } else {
    atomicAdd(out, 1);
  }
}
TEST(Faults, PlainBesideAtomic) {
  expect_row(kHiddenRace, output_of(plain_beside_atomic, 1, 64, 1, [](int) { return 64; }));
}
__global__ void same_word_by_blocks(int* out) {
  if (threadIdx.x == 0) out[blockIdx.x / 2] = 5;
}
TEST(Faults, RaceBetweenBlocks) {
  expect_row(kHiddenRace, output_of(same_word_by_blocks, 4, 32, 2, [](int) { return 5; }));
}

/// The last block adds up; kFence, kBarrier say what is there.
template <bool kFence, bool kBarrier>
__global__ void ticket_sum(int* out) {  // out: sum, ticket, partials of 4 blocks
  SIMT_SHARED(int, last);
  if (threadIdx.x == 1) last = 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    out[2 + blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
    if (kFence) __threadfence();
    last = atomicAdd(&out[1], 1) == 3;
  }
  if (kBarrier) __syncthreads();
  if (last && threadIdx.x == 1) out[0] = out[2] + out[3] + out[4] + out[5];
}
int ticket_result(int) {
  return 10;
}
TEST(Faults, TicketIsRight) {
  expect_row({Seen::nothing, Seen::nothing, Seen::nothing}, [] {
    auto out = DeviceArray<int>::zeros(6);
    simt::launch({.grid = 4, .block = 32}, ticket_sum<true, true>, out.data());
    return out.host()[0] == 10;
  });
}
TEST(Faults, MissingFenceBeforeTicket) {
  expect_row(kHiddenRace, [] {
    auto out = DeviceArray<int>::zeros(6);
    simt::launch({.grid = 4, .block = 32}, ticket_sum<false, true>, out.data());
    return out.host()[0] == 10;
  });
}
/// All threads write, and the ticket's holder publishes for them; kDevice says how far its fence goes.
template <bool kDevice>
__global__ void ticket_for_a_block(int* out) {  // out: sum, ticket, partials of 2 blocks
  int* partial = out + 2;
  partial[blockIdx.x * 32 + threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (kDevice) {
    __threadfence();
  } else {
    __threadfence_block();
  }
  if (atomicAdd(&out[1], 1) != 1) return;
  __threadfence();
  for (int i = 0; i < 64; ++i) out[0] += partial[i];
}
template <bool kDevice>
bool run_ticket_for_a_block() {
  auto out = DeviceArray<int>::zeros(66);
  simt::launch({.grid = 2, .block = 32}, ticket_for_a_block<kDevice>, out.data());
  return out.host()[0] == 64;
}
TEST(Faults, TicketForABlockIsRight) {
  expect_row({Seen::nothing, Seen::nothing, Seen::nothing}, run_ticket_for_a_block<true>);
}
TEST(Faults, FenceOfTheBlockForOtherBlocks) {
  expect_row(kHiddenRace, run_ticket_for_a_block<false>);
}

/// The fence stands before the write that it should publish.
__global__ void fence_too_early(int* out) {  // out: sum, ticket, partials of 4 blocks
  if (threadIdx.x != 0) return;
  __threadfence();
  out[2 + blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
  if (atomicAdd(&out[1], 1) == 3) out[0] = out[2] + out[3] + out[4] + out[5];
}
TEST(Faults, FenceBeforeTheWrite) {
  expect_row(kHiddenRace, [] {
    auto out = DeviceArray<int>::zeros(6);
    simt::launch({.grid = 4, .block = 32}, fence_too_early, out.data());
    return out.host()[0] == 10;
  });
}
TEST(Faults, MissingBarrierAfterTicket) {
  expect_row(kRace, [] {
    auto out = DeviceArray<int>::zeros(6);
    simt::launch({.grid = 4, .block = 32}, ticket_sum<true, false>, out.data());
    return out.host()[0] == 10;
  });
}
TEST(Faults, StrictAcquireWantsAFenceAfterTheTicketToo) {
  if (simt::build() != simt::Build::check) return;  // an option of that build
  Row row = everywhere(Fault::race);
  row.adjust = [](simt::Options& o) { o.strict_acquire = true; };
  expect_row(row, [] {
    auto out = DeviceArray<int>::zeros(6);
    simt::launch({.grid = 4, .block = 32}, ticket_sum<true, true>, out.data());
    return true;
  });
}

__global__ void barrier_after_return(int*) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
}
TEST(Faults, BarrierAfterReturn) {
  expect_row(everywhere(Fault::barrier), runs(barrier_after_return, 64));
}

__global__ void different_barriers(int*) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
TEST(Faults, DifferentBarriers) {
  expect_row(everywhere(Fault::barrier), runs(different_barriers, 64));
}

__global__ void different_trip_counts(int*) {
  for (unsigned i = 0; i <= threadIdx.x / 32; ++i) __syncthreads();
}
TEST(Faults, DifferentTripCounts) {
  expect_row(everywhere(Fault::barrier), runs(different_trip_counts, 64));
}

__global__ void shuffle_from_returned(int* out) {
  if (threadIdx.x == 5) return;
  out[threadIdx.x] = __shfl_sync(kAll, 0, 5);
}
TEST(Faults, ShuffleFromReturnedLane) {
  expect_row(everywhere(Fault::warp), runs(shuffle_from_returned, 32));
}
__global__ void shuffle_from_outside(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 0, 20);
}
TEST(Faults, ShuffleFromOutsideOfMask) {
  expect_row(everywhere(Fault::warp), runs(shuffle_from_outside, 32));
}
__global__ void caller_outside_of_mask(int* out) {
  out[threadIdx.x] = __shfl_sync(0xffffu, 0, 1);
}
TEST(Faults, CallerOutsideOfMask) {
  expect_row(everywhere(Fault::warp), runs(caller_outside_of_mask, 32));
}
__global__ void mixed_intrinsics(int* out) {
  if (threadIdx.x % 2 == 0) {
    out[threadIdx.x] = __shfl_sync(kAll, 0, 1);
  } else {
    out[threadIdx.x] = __any_sync(kAll, 0);
  }
}
TEST(Faults, MixedIntrinsics) {
  expect_row(everywhere(Fault::warp), runs(mixed_intrinsics, 32));
}
__global__ void incomplete_mma(float* out) {
  if (threadIdx.x == 31) return;
  const std::uint32_t a[4] = {}, b[2] = {};
  float c[4] = {};
  simt::mma_m16n8k16_bf16(c, a, b, c);
  out[threadIdx.x] = c[0];
}
TEST(Faults, IncompleteMma) {
  expect_row(everywhere(Fault::warp), [] {
    DeviceArray<float> out(32);
    simt::launch({.grid = 1, .block = 32}, incomplete_mma, out.data());
    return true;
  });
}

__global__ void full_mask_in_a_branch(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(kAll, 0, 1);
  __syncthreads();
}
TEST(Faults, FullMaskInADivergentBranch) {
  expect_row(everywhere(Fault::deadlock), runs(full_mask_in_a_branch, 32));
  try {
    runs(full_mask_in_a_branch, 32)();
  } catch (const simt::Error& e) {  // who waits, where
    const std::string text = e.what();
    EXPECT_NE(text.find("threads 0-15 wait at faults_order_test.cu:"), std::string::npos) << text;
    EXPECT_NE(text.find("threads 16-31 wait at the block barrier at faults_order_test.cu:"),
              std::string::npos)
        << text;
  }
}

__global__ void waits_for_ever(int* flag) {
  while (atomicAdd(flag, 0) == 0) {
  }
}
TEST(Faults, Livelock) {
  Row row = everywhere(Fault::watchdog);
  row.adjust = [](simt::Options& o) { o.max_switches = 1000; };
  expect_row(row, runs(waits_for_ever, 2));
}

__global__ void traps(int*) {
  if (threadIdx.x == 3) __trap();
}
TEST(Faults, Trap) {
  expect_row(everywhere(Fault::trap), runs(traps, 32));
}

__global__ void nothing(int*) {}
TEST(Faults, BadLaunch) {
  const auto launched = [](const simt::Dims& dims) {
    return [dims] {
      DeviceArray<int> out(1);
      simt::launch(dims, nothing, out.data());
      return true;
    };
  };
  expect_row(everywhere(Fault::config), launched({.grid = 1, .block = 1025}));
  expect_row(everywhere(Fault::config), launched({.grid = {1, 65536}, .block = 32}));
  expect_row(everywhere(Fault::config), launched({.grid = 0, .block = 32}));
  expect_row(everywhere(Fault::config), launched({.grid = 1, .block = 32, .smem = 227 * 1024 + 1}));
}
__global__ void large_static_shared(int* out) {
  SIMT_SHARED_ARRAY(int, line, [12 * 1024 + 1]);
  line[threadIdx.x] = 1;
  out[threadIdx.x] = line[threadIdx.x];
}
TEST(Faults, TooMuchStaticShared) {
  expect_row(everywhere(Fault::config), runs(large_static_shared, 32));
}

/// 32 KiB of static shared memory beside the dynamic.
__global__ void static_and_dynamic(int* out) {
  SIMT_SHARED_ARRAY(int, line, [8 * 1024]);
  SIMT_DYN_SHARED(int, more);
  line[threadIdx.x] = more[threadIdx.x] = 1;
  out[threadIdx.x] = line[threadIdx.x] + more[threadIdx.x];
}
TEST(Faults, MoreSharedMemoryThanTheArchitectureHas) {
  for (const auto& [architecture, kib] :
       {std::pair(75, 64), std::pair(80, 163), std::pair(86, 99), std::pair(90, 227)}) {
    const auto with = [&, at = architecture](std::int64_t dynamic) {
      return [=] {
        simt::Options o = simt::options();
        o.architecture = at;
        const simt::ScopedOptions scope(o);
        const DeviceArray<int> out(32);
        simt::launch({.grid = 1, .block = 32, .smem = dynamic}, static_and_dynamic, out.data());
        return out.host() == std::vector<int>(32, 2);
      };
    };
    const std::int64_t most = (kib - 32) * 1024;  // of dynamic
    EXPECT_TRUE(with(most)()) << architecture;
    expect_row(everywhere(Fault::config), with(most + 1));
    expect_row(everywhere(Fault::config), with(kib * 1024 + 1));
    try {
      with(most + 4)();
      ADD_FAILURE();
    } catch (const simt::Error& e) {  // names kernel, bytes and limit
      const std::string text = e.what();
      for (const std::string& part :
           {std::string("static_and_dynamic"), std::to_string(kib * 1024 + 4) + " bytes",
            "sm_" + std::to_string(architecture) + " gives a block " +
                std::to_string(kib * 1024)}) {
        EXPECT_NE(text.find(part), std::string::npos) << text;
      }
    }
  }
}

__global__ void multiplies(int* out) {
  const std::uint32_t a[4] = {}, b[2] = {};
  const float c[4] = {};
  float d[4];
  simt::mma_m16n8k16_bf16(d, a, b, c);
  out[threadIdx.x] = d[0] == 0.0f;
}
TEST(Faults, NoTensorCoresForBf16) {
  expect_row(everywhere(Fault::trap), [] {
    simt::Options o = simt::options();
    o.architecture = 75;
    const simt::ScopedOptions scope(o);
    return runs(multiplies, 32)();
  });
}
__global__ void grid_barrier_alone(int*) {
  simt::cg::this_grid().sync();
}
TEST(Faults, GridBarrierWithoutCooperativeLaunch) {
  expect_row(everywhere(Fault::barrier), runs(grid_barrier_alone, 32));
}

TEST(Faults, ReportsNameThreadsAndLines) {
  if (simt::build() != simt::Build::check) return;  // the others have no such reports
  try {
    runs(missing_syncwarp, 32)();
    ADD_FAILURE();
  } catch (const simt::Error& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("race: data race: "), std::string::npos) << text;
    EXPECT_NE(text.find("block (0,0,0) thread (1,0,0)"), std::string::npos) << text;
    EXPECT_NE(text.find("missing_syncwarp"), std::string::npos) << text;
    const auto first = text.find("faults_order_test.cu:");
    ASSERT_NE(first, std::string::npos) << text;
    EXPECT_NE(text.find("faults_order_test.cu:", first + 1), std::string::npos) << text;
  }
}

}  // namespace belfry::faults
