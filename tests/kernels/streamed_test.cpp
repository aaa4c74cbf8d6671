// SPDX-License-Identifier: Apache-2.0
// Queued copies: the values of the moment arrive, whatever happens to the host's arrays afterwards, under all
// schedules of the device.
#include "kernels/core/streamed.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/matrix_ops/matrix_ops.hpp"
#include "tests/simt/device_array.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::test {
namespace {

std::vector<float> numbers(std::int64_t n, float first) {
  std::vector<float> out(static_cast<std::size_t>(n));
  std::iota(out.begin(), out.end(), first);
  return out;
}

TEST(Streamed, RoundTripsInOrder) {
  for_each_schedule([] {
    const Context ctx = make_context();
    StreamedIn<float> in;
    StreamedOut<float> out(ctx, 64);
    float first = 1;
    for (const std::int64_t n : {3, 1, 0, 5, 64, 2}) {  // it grows twice
      std::vector<float> values = numbers(n, first);
      const float* there = in.put(ctx, values);
      copy_matrix(ctx, {there, 1, n}, {out.data(ctx), 1, n});
      out.fetch(ctx, n);
      if (on_device()) std::fill(values.begin(), values.end(), -1.0f);
      const float* back = out.wait();
      EXPECT_EQ(std::vector<float>(back, back + n), numbers(n, first));
      first += 100;
    }
  });
}

TEST(Streamed, ManyTilesThroughTwoSlots) {
  for_each_schedule([] {
    const Context ctx = make_context();
    constexpr std::int64_t kN = 8, kTiles = 12;
    StreamedIn<float> in;
    std::vector<StreamedOut<float>> slots;
    for (int i = 0; i < 2; ++i) slots.emplace_back(ctx, kN);
    std::vector<float> values, got;
    const auto take = [&](std::int64_t tile) {
      const float* back = slots[static_cast<std::size_t>(tile % 2)].wait();
      got.insert(got.end(), back, back + kN);
    };
    for (std::int64_t tile = 0; tile < kTiles; ++tile) {
      values = numbers(kN, static_cast<float>(tile * kN));
      StreamedOut<float>& slot = slots[static_cast<std::size_t>(tile % 2)];
      copy_matrix(ctx, {in.put(ctx, values), 1, kN}, {slot.data(ctx), 1, kN});
      slot.fetch(ctx, kN);
      if (tile > 0) take(tile - 1);
    }
    take(kTiles - 1);
    EXPECT_EQ(got, numbers(kN * kTiles, 0));
  });
}

TEST(Streamed, NoOpReadsOrWritesWhatACopyIsAtWorkOn) {
  for_each_schedule([] {
    const Context ctx = make_context();
    constexpr std::int64_t kN = 8, kPuts = 7;
    StreamedIn<float> in;
    std::vector<StreamedOut<float>> outs;
    for (std::int64_t i = 0; i < kPuts; ++i) outs.emplace_back(ctx, kN);
    // Nothing is waited for until all is queued; the results of one are written over at once.
    StreamedOut<float> again(ctx, kN);
    std::vector<float> values, none(kN, -1.0f);
    for (std::int64_t i = 0; i < kPuts; ++i) {
      values = numbers(kN, static_cast<float>(100 * i));
      const float* there = in.put(ctx, values);
      StreamedOut<float>& out = outs[static_cast<std::size_t>(i)];
      copy_matrix(ctx, {there, 1, kN}, {out.data(ctx), 1, kN});
      out.fetch(ctx, kN);
      copy_matrix(ctx, {in.put(ctx, none), 1, kN},
                  {on_device() ? out.data(ctx) : again.data(ctx), 1, kN});
    }
    for (std::int64_t i = 0; i < kPuts; ++i) {
      const float* back = outs[static_cast<std::size_t>(i)].wait();
      EXPECT_EQ(std::vector<float>(back, back + kN), numbers(kN, static_cast<float>(100 * i)));
    }
  });
}

#if defined(BELFRY_SIMT)
TEST(Streamed, OpsDoNotWaitForCopiesOut) {
  bool beside = false;  // under the schedule that runs no more than what is waited for
  for_each_schedule([&] {
    const Context ctx = make_context();
    StreamedIn<float> in;
    StreamedOut<float> out(ctx, 4), next(ctx, 4);
    const std::vector<float> values = numbers(4, 1);
    const float* there = in.put(ctx, values);
    copy_matrix(ctx, {there, 1, 4}, {out.data(ctx), 1, 4});
    out.fetch(ctx, 4);
    const float* back = out.wait();
    out.fetch(ctx, 4);  // spoils what it will write
    copy_matrix(ctx, {there, 1, 4}, {next.data(ctx), 1, 4});
    ctx.synchronise();
    beside |= std::isnan(back[0]);
    EXPECT_EQ(out.wait()[0], 1.0f);
  });
  EXPECT_TRUE(beside);
}
#endif

TEST(Streamed, MayGoWhileCopiesAreUnderWay) {
  const Context ctx = make_context();
  const std::vector<float> values = numbers(100, 0);
  for (int i = 0; i < 3; ++i) {
    StreamedIn<float> in;
    StreamedOut<float> out(ctx, 100);
    copy_matrix(ctx, {in.put(ctx, values), 1, 100}, {out.data(ctx), 1, 100});
    out.fetch(ctx, 100);
  }
  ctx.synchronise();
}

TEST(Streamed, OnTheCpuNothingIsCopied) {
  const Context ctx(Backend::cpu, 1);
  const std::vector<float> values = numbers(4, 0);
  StreamedIn<float> in;
  EXPECT_EQ(in.put(ctx, values), values.data());
  StreamedOut<float> out(ctx, 4);
  float* place = out.data(ctx);
  out.fetch(ctx, 4);
  EXPECT_EQ(out.wait(), place);
}

}  // namespace
}  // namespace belfry::test
