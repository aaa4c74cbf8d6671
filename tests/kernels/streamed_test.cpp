// SPDX-License-Identifier: Apache-2.0
// Queued copies: the values of the moment arrive, whatever happens to the host's arrays afterwards, under all
// schedules of the device.
#include "kernels/core/streamed.hpp"

#include <gtest/gtest.h>

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
      copy_matrix(ctx, {there, 1, n}, {out.data(), 1, n});
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
      copy_matrix(ctx, {in.put(ctx, values), 1, kN}, {slot.data(), 1, kN});
      slot.fetch(ctx, kN);
      if (tile > 0) take(tile - 1);
    }
    take(kTiles - 1);
    EXPECT_EQ(got, numbers(kN * kTiles, 0));
  });
}

TEST(Streamed, MayGoWhileCopiesAreUnderWay) {
  const Context ctx = make_context();
  const std::vector<float> values = numbers(100, 0);
  for (int i = 0; i < 3; ++i) {
    StreamedIn<float> in;
    StreamedOut<float> out(ctx, 100);
    copy_matrix(ctx, {in.put(ctx, values), 1, 100}, {out.data(), 1, 100});
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
  float* place = out.data();
  out.fetch(ctx, 4);
  EXPECT_EQ(out.wait(), place);
}

}  // namespace
}  // namespace belfry::test
