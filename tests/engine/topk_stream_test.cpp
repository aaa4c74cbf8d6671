// SPDX-License-Identifier: Apache-2.0
// Tile by tile, the lists are those of one call for all queries: on the device under all schedules, since a
// missing wait or a buffer used too early shows there.
#include "engine/topk_stream.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

#include "tests/simt/device_array.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/ranking.hpp"

namespace belfry::test {
namespace {

struct Lists {
  std::vector<float> scores;
  std::vector<std::int32_t> rows;
};

struct Ragged32 {
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> rows;
  RowLists view() const { return {offsets.data(), rows.data()}; }
};

/// Random ascending lists, longer for later users, so that arrays on the device have to grow.
Ragged32 random_lists(Random& random, std::int64_t users, std::int64_t items) {
  Ragged32 out;
  for (std::int64_t u = 0; u < users; ++u) {
    for (std::int32_t i = 0; i < items; ++i) {
      if (random.below(users) < u / 2) out.rows.push_back(i);
    }
    out.offsets.push_back(static_cast<std::int64_t>(out.rows.size()));
  }
  return out;
}

/// A data set, and its lists from one call on the CPU.
struct Fixture {
  static constexpr std::int64_t kUsers = 23, kItems = 67, kDim = 3, kK = 5;
  explicit Fixture(std::int64_t number_of_heads)
      : heads(number_of_heads), world(7, kUsers, kItems, kDim, heads, false) {
    Random random(3);
    exclude = random_lists(random, kUsers, kItems);
    only = random_lists(random, kUsers, kItems);
    bits = {0xFFFFFFFFFFFFFFEEull, 5};
    const Context cpu(Backend::cpu, 1);
    const Packed packed(cpu, world.vectors, kItems, kDim);
    expected.scores.resize(kUsers * kK);
    expected.rows.resize(kUsers * kK);
    topk_scores(cpu, {world.queries.data(), kUsers * heads, kDim}, heads, packed.view,
                {exclude.view(), only.view(), {bits.data(), 2}},
                {{expected.scores.data(), kUsers, kK}, {expected.rows.data(), kUsers, kK}});
  }
  std::int64_t heads;
  World world;
  Ragged32 exclude, only;
  std::vector<std::uint64_t> bits;
  Lists expected;
};

/// The lists by tiles. One buffer of queries for all tiles and one of lists, as an engine has them.
Lists streamed(const Context& ctx, const Fixture& f, std::int64_t tile) {
  Lists out;
  const std::int64_t row = f.heads * Fixture::kDim;
  const Packed packed(ctx, f.world.vectors, Fixture::kItems, Fixture::kDim);
  StreamedIn<float> queries;
  TopKStream stream(
      ctx, packed.view, f.heads, tile, Fixture::kK, {f.bits.data(), 2},
      [&](std::int64_t first, Matrix<const float> scores, Matrix<const std::int32_t> rows) {
        EXPECT_EQ(first * Fixture::kK, static_cast<std::int64_t>(out.rows.size()));
        out.scores.insert(out.scores.end(), scores.data, scores.data + scores.rows * scores.cols);
        out.rows.insert(out.rows.end(), rows.data, rows.data + rows.rows * rows.cols);
      });
  std::vector<float> part;
  Ragged32 exclude, only;
  for (std::int64_t first = 0; first < Fixture::kUsers; first += tile) {
    const std::int64_t n = std::min(tile, Fixture::kUsers - first);
    part.assign(f.world.queries.begin() + first * row, f.world.queries.begin() + (first + n) * row);
    exclude.offsets.assign(f.exclude.offsets.begin() + first,
                           f.exclude.offsets.begin() + first + n + 1);
    only = f.only;
    stream.add(first, {queries.put(ctx, part), n * f.heads, Fixture::kDim},
               {exclude.offsets.data(), f.exclude.rows.data()},
               {only.offsets.data() + first, only.rows.data()});
    if (on_device()) {  // what was given may change at once
      std::fill(part.begin(), part.end(), std::nanf(""));
      std::fill(exclude.offsets.begin(), exclude.offsets.end(), -1);
      std::fill(only.rows.begin(), only.rows.end(), -1);
    }
  }
  stream.finish();
  return out;
}

TEST(TopKStream, TilesGiveTheListsOfOneCall) {
  for (const std::int64_t heads : {1, 2}) {
    const Fixture f(heads);
    for (const std::int64_t tile : {1, 4, 22, 23, 40}) {
      SCOPED_TRACE(testing::Message() << heads << " heads, tiles of " << tile);
      const Lists lists = streamed(make_context(2), f, tile);
      expect_equal_bits(lists.scores, f.expected.scores, "scores");
      EXPECT_EQ(lists.rows, f.expected.rows);
    }
  }
}

TEST(TopKStream, UnderAllSchedules) {
  const Fixture f(1);
  for_each_schedule([&] {
    const Lists lists = streamed(make_context(1), f, 6);
    expect_equal_bits(lists.scores, f.expected.scores, "scores");
    EXPECT_EQ(lists.rows, f.expected.rows);
  });
}

TEST(TopKStream, TheHostReadsOneTileWhileTheNextIsUnderWay) {
  if (!on_device()) GTEST_SKIP() << "the CPU does one thing after the other";
  const Context ctx = make_context();
  const Fixture f(1);
  const Packed packed(ctx, f.world.vectors, Fixture::kItems, Fixture::kDim);
  const Uploaded<float> queries(ctx, f.world.queries);
  std::vector<std::int64_t> handed, added;
  TopKStream stream(ctx, packed.view, 1, 4, 3, {}, [&](std::int64_t first, auto, auto) {
    handed.push_back(first);
    // The tile behind this one has been queued.
    EXPECT_EQ(added.back(), std::min<std::int64_t>(first + 4, 20));
  });
  std::int64_t allocations = 0;
  for (std::int64_t first = 0; first < 24; first += 4) {
    added.push_back(first);
    stream.add(first, {queries.data() + first * 3, std::min<std::int64_t>(4, 23 - first), 3});
    if (first == 8) allocations = simt::counters().allocations;
  }
  EXPECT_EQ(handed, (std::vector<std::int64_t>{0, 4, 8, 12, 16}));
  EXPECT_EQ(simt::counters().allocations, allocations);  // nothing is taken tile by tile
  stream.finish();
  stream.finish();
  EXPECT_EQ(handed.size(), 6u);
  EXPECT_GE(stream.device_seconds(), 0);
}

TEST(TopKStream, ASinkThatThrowsEndsIt) {
  const Context ctx = make_context();
  const Fixture f(1);
  const Packed packed(ctx, f.world.vectors, Fixture::kItems, Fixture::kDim);
  const Uploaded<float> queries(ctx, f.world.queries);
  const auto run = [&] {
    TopKStream stream(ctx, packed.view, 1, 4, 3, {},
                      [](auto, auto, auto) { throw std::runtime_error("full"); });
    for (std::int64_t first = 0; first < 20; first += 4) {
      stream.add(first, {queries.data() + first * 3, 4, 3});
    }
  };
  EXPECT_THROW(run(), std::runtime_error);
  ctx.synchronise();
}

TEST(TopKStream, EmptyTilesAndBrokenContracts) {
  const Context ctx = make_context();
  const Fixture f(1);
  const Packed packed(ctx, f.world.vectors, Fixture::kItems, Fixture::kDim);
  const Uploaded<float> queries(ctx, f.world.queries);
  int handed = 0;
  TopKStream stream(ctx, packed.view, 1, 4, 3, {}, [&](auto, auto, auto) { ++handed; });
  stream.finish();
  stream.add(0, {queries.data(), 0, 3});
  stream.finish();
  EXPECT_EQ(handed, 0);
  EXPECT_THROW(stream.add(0, {queries.data(), 5, 3}), ContractError);
}

}  // namespace
}  // namespace belfry::test
