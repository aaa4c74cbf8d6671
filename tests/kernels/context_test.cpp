// SPDX-License-Identifier: Apache-2.0
#include "kernels/core/context.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "kernels/core/buffer.hpp"
#include "kernels/core/built_ops.hpp"
#include "kernels/core/parallel.hpp"

namespace belfry::test {
namespace {

bool aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 64 == 0;
}

TEST(Buffer, IsZeroFilledAlignedAndMoves) {
  Buffer<float> a(Backend::cpu, 1000);
  EXPECT_EQ(a.size(), 1000);
  EXPECT_TRUE(aligned(a.data()));
  for (const float v : a.view()) ASSERT_EQ(v, 0.0f);
  a.data()[3] = 5;
  float* data = a.data();
  Buffer<float> b(std::move(a));
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(b.data()[3], 5);
  EXPECT_EQ(a.data(), nullptr);  // NOLINT: what a move leaves is part of the contract
  EXPECT_EQ(a.size(), 0);
  Buffer<float> c;
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.size(), 1000);
}

TEST(Buffer, LargeOnesAreZeroToo) {
  Buffer<std::int64_t> a(Backend::cpu, std::int64_t{3} << 20);  // takes huge pages
  EXPECT_TRUE(aligned(a.data()));
  for (const std::int64_t v : a.view()) ASSERT_EQ(v, 0);
}

TEST(Buffer, EmptyOnesHoldNothing) {
  Buffer<float> a(Backend::cpu, 0);
  EXPECT_EQ(a.data(), nullptr);
  EXPECT_TRUE(a.view().empty());
}

TEST(Buffer, ViewsMayNotBeLargerThanTheBuffer) {
  Buffer<float> a(Backend::cpu, 12);
  const Matrix<float> m = a.matrix(3, 4);
  EXPECT_EQ(m.row(2), a.data() + 8);
  EXPECT_THROW(a.matrix(3, 5), ContractError);
  EXPECT_THROW(a.matrix(std::int64_t{1} << 40, std::int64_t{1} << 40), std::length_error);
}

TEST(Buffer, ImpossibleSizesAreErrors) {
  EXPECT_THROW(Buffer<double>(Backend::cpu, -1), std::length_error);
  EXPECT_THROW(Buffer<double>(Backend::cpu, std::numeric_limits<std::int64_t>::max() / 2),
               std::length_error);
}

TEST(Arena, TakesAlignedSeparateMemory) {
  const Context ctx(Backend::cpu, 1);
  ArenaScope scope(ctx);
  char* a = ctx.arena().take<char>(3);
  char* b = ctx.arena().take<char>(1);
  EXPECT_TRUE(aligned(a) && aligned(b));
  EXPECT_GE(b - a, 64);
}

TEST(Arena, ScopesNestAndGiveBack) {
  const Context ctx(Backend::cpu, 1);
  ArenaScope outer(ctx);
  float* a = ctx.arena().take<float>(100);
  a[99] = 7;
  float* inner_first = nullptr;
  {
    ArenaScope inner(ctx);
    inner_first = ctx.arena().take<float>(100);
    inner_first[0] = 1;
    EXPECT_GE(inner_first, a + 100);
  }
  EXPECT_EQ(ctx.arena().take<float>(100), inner_first) << "what the inner scope took is free again";
  EXPECT_EQ(a[99], 7);
}

TEST(Arena, MemoryStaysValidWhileTheArenaGrows) {
  const Context ctx(Backend::cpu, 1);
  ArenaScope scope(ctx);
  std::vector<std::int64_t*> taken;
  constexpr std::int64_t kCount = 300000;  // 2.4 MB each: several blocks
  for (std::int64_t n = 0; n < 5; ++n) {
    taken.push_back(ctx.arena().take<std::int64_t>(kCount));
    for (std::int64_t i = 0; i < kCount; ++i) taken.back()[i] = n * kCount + i;
  }
  for (std::int64_t n = 0; n < 5; ++n) {
    for (std::int64_t i = 0; i < kCount; ++i)
      ASSERT_EQ(taken[static_cast<std::size_t>(n)][i], n * kCount + i);
  }
  EXPECT_GE(ctx.arena().peak_bytes(), 5 * kCount * 8);
}

TEST(Arena, ARepeatedStepAllocatesNothingAfterItsFirstRun) {
  const Context ctx(Backend::cpu, 1);
  const auto step = [&] {
    ArenaScope outer(ctx);
    ctx.arena().take<char>(700 << 10);
    for (int i = 0; i < 3; ++i) {
      ArenaScope inner(ctx);
      ctx.arena().take<char>(900 << 10);
      ctx.arena().take<char>(2 << 20);
    }
    return ctx.arena().take<char>(500 << 10);
  };
  step();
  const std::int64_t planned = ctx.arena().allocations();
  const std::int64_t peak = ctx.arena().peak_bytes();
  char* address = step();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(step(), address) << "addresses are fixed once planned";
  EXPECT_EQ(ctx.arena().allocations(), planned);
  EXPECT_EQ(ctx.arena().peak_bytes(), peak);
}

TEST(Arena, KeepsOneBlockOfThePeakSize) {
  const Context ctx(Backend::cpu, 1);
  {
    ArenaScope scope(ctx);
    for (int i = 0; i < 4; ++i) ctx.arena().take<char>(3 << 20);
  }
  const std::int64_t planned = ctx.arena().allocations();
  ArenaScope scope(ctx);
  ctx.arena().take<char>(ctx.arena().peak_bytes());  // fits no block of the first run
  EXPECT_EQ(ctx.arena().allocations(), planned);
}

TEST(Arena, ImpossibleSizesAreErrors) {
  const Context ctx(Backend::cpu, 1);
  ArenaScope scope(ctx);
  EXPECT_THROW(ctx.arena().take<double>(-1), std::length_error);
  EXPECT_THROW(ctx.arena().take<double>(std::numeric_limits<std::int64_t>::max()),
               std::length_error);
  EXPECT_NO_THROW(ctx.arena().take<double>(0));
}

TEST(ParallelFor, RunsEveryTileOnce) {
  for (const int threads : {1, 2, 4}) {
    const Context ctx(Backend::cpu, threads);
    for (const std::int64_t tiles : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tiles));
      parallel_for(ctx, tiles, [&](std::int64_t t, int) { ++runs[static_cast<std::size_t>(t)]; });
      for (const auto& n : runs) ASSERT_EQ(n, 1) << threads << " threads, " << tiles << " tiles";
    }
  }
}

TEST(ParallelFor, NoTilesIsNoCall) {
  const Context ctx(Backend::cpu, 2);
  parallel_for(ctx, -3, [](std::int64_t, int) { FAIL(); });
}

TEST(ParallelFor, OneThreadRunsInOrderOnTheCaller) {
  const Context ctx(Backend::cpu, 1);
  std::vector<std::int64_t> order;
  parallel_for(ctx, 50, [&](std::int64_t t, int worker) {
    EXPECT_EQ(worker, 0);
    order.push_back(t);
  });
  for (std::int64_t t = 0; t < 50; ++t) EXPECT_EQ(order[static_cast<std::size_t>(t)], t);
}

TEST(ParallelFor, NoTwoTilesShareAWorkerAtATime) {
  for (const int threads : {2, 4}) {
    const Context ctx(Backend::cpu, threads);
    std::vector<std::atomic<int>> busy(static_cast<std::size_t>(threads));
    std::atomic<bool> shared{false}, outside{false};
    parallel_for(ctx, 2000, [&](std::int64_t, int worker) {
      if (worker < 0 || worker >= threads) {
        outside = true;
        return;
      }
      auto& mine = busy[static_cast<std::size_t>(worker)];
      if (mine.fetch_add(1) != 0) shared = true;
      std::this_thread::yield();
      mine.fetch_sub(1);
    });
    EXPECT_FALSE(shared);
    EXPECT_FALSE(outside);
  }
}

TEST(ParallelFor, TwoThreadsRunAtOnce) {
  const Context ctx(Backend::cpu, 2);
  std::atomic<int> arrived{0};
  std::atomic<bool> met{true};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  parallel_for(ctx, 2, [&](std::int64_t, int) {  // each tile waits for the other
    ++arrived;
    while (arrived < 2) {
      if (std::chrono::steady_clock::now() > deadline) {
        met = false;
        return;
      }
      std::this_thread::yield();
    }
  });
  EXPECT_TRUE(met);
}

TEST(ParallelFor, ExceptionsReachTheCaller) {
  for (const int threads : {1, 4}) {
    const Context ctx(Backend::cpu, threads);
    const auto run = [&] {
      parallel_for(ctx, 100, [](std::int64_t t, int) {
        if (t == 57) throw ContractError("tile 57");
      });
    };
    try {
      run();
      FAIL() << "no exception";
    } catch (const ContractError& e) {
      EXPECT_STREQ(e.what(), "tile 57");
    }
    std::atomic<int> runs{0};  // and the context is still good
    parallel_for(ctx, 10, [&](std::int64_t, int) { ++runs; });
    EXPECT_EQ(runs, 10);
  }
}

TEST(Context, HoldsItsThreadsAndSeed) {
  const Context ctx(Backend::cpu, 3, 42);
  EXPECT_EQ(ctx.threads(), 3);
  EXPECT_EQ(ctx.backend(), Backend::cpu);
  EXPECT_EQ(ctx.state()->seed, 42u);
  EXPECT_EQ(ctx.state()->step, 0);
  EXPECT_EQ(ctx.state()->status, 0u);
  EXPECT_GE(Context(Backend::cpu).threads(), 1);
}

TEST(Context, StatusBitsAddUpFromManyThreads) {
  const Context ctx(Backend::cpu, 4);
  parallel_for(ctx, 100, [&](std::int64_t t, int) {
    if (t == 5) ctx.raise(kStatusIdOutOfRange);
    if (t == 77) ctx.raise(kStatusNonFinite);
  });
  EXPECT_EQ(ctx.state()->status, kStatusIdOutOfRange | kStatusNonFinite);
}

// A build that lacks a backend says so; it never computes elsewhere in silence. (In a build that has
// CUDA the same holds for a machine without a device.)
TEST(Context, AMissingBackendIsRefusedByName) {
  if (kHasCuda::gemm) GTEST_SKIP() << "this build has CUDA";
  try {
    const Context ctx(Backend::cuda);
    FAIL() << "no exception";
  } catch (const DeviceError& e) {
    EXPECT_NE(std::string(e.what()).find("CUDA"), std::string::npos) << e.what();
  }
  EXPECT_THROW(Buffer<float>(Backend::cuda, 8), DeviceError);
  try {
    throw_no_backend("gemm");
  } catch (const DeviceError& e) {
    EXPECT_EQ(std::string(e.what()).rfind("gemm:", 0), 0u) << e.what();
  }
}

}  // namespace
}  // namespace belfry::test
