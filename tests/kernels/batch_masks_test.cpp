// SPDX-License-Identifier: Apache-2.0
#include "kernels/batch_masks/batch_masks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_batch_masks.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

using Ids = std::vector<std::int32_t>;

struct Lists {
  std::vector<std::int64_t> offsets;
  Ids columns;
};
struct Case {
  std::vector<Ids> known;  // per user
  Ids users, items;
  std::vector<std::int64_t> known_offsets;
  Ids all_known;

  BatchMaskInput input() {
    known_offsets.assign(1, 0);
    all_known.clear();
    for (const Ids& list : known) {
      all_known.insert(all_known.end(), list.begin(), list.end());
      known_offsets.push_back(static_cast<std::int64_t>(all_known.size()));
    }
    return {view(std::as_const(known_offsets)), view(std::as_const(all_known)),
            view(std::as_const(users)), view(std::as_const(items))};
  }
};

/// By the definition: every row against every column.
Lists oracle(const Case& c) {
  Lists out{{0}, {}};
  for (std::size_t i = 0; i < c.users.size(); ++i) {
    const Ids& list = c.known[static_cast<std::size_t>(c.users[i])];
    const std::set<std::int32_t> known(list.begin(), list.end());
    for (std::size_t column = 0; column < c.items.size(); ++column) {
      if (c.items[column] != c.items[i] && known.count(c.items[column]) != 0) {
        out.columns.push_back(static_cast<std::int32_t>(column));
      }
    }
    out.offsets.push_back(static_cast<std::int64_t>(out.columns.size()));
  }
  return out;
}

Case random_case(std::uint64_t seed, std::int64_t users, std::int64_t items, std::int64_t rows,
                 std::int64_t columns, std::int64_t longest) {
  Random random(seed);
  Case c;
  for (std::int64_t u = 0; u < users; ++u) {
    const Ids drawn = random.zipf_ids(random.below(longest + 1), items);
    const std::set<std::int32_t> distinct(drawn.begin(), drawn.end());
    c.known.emplace_back(distinct.begin(), distinct.end());
  }
  c.users = random.ids(rows, users);
  c.items = random.zipf_ids(columns, items);
  return c;
}

void expect_lists(const Context& ctx, Case c, const Lists& expected, const std::string& what) {
  std::vector<std::int64_t> offsets(c.users.size() + 1, -7);
  Ids columns(expected.columns.size() + 3, -7);
  tested::batch_masks(ctx, c.input(), view(offsets), view(columns));
  expect_equal_bits(offsets, expected.offsets, what + " offsets");
  EXPECT_EQ(columns.back(), -7) << what << ": nothing is written behind the end";
  columns.resize(expected.columns.size());
  expect_equal_bits(columns, expected.columns, what + " columns");
  EXPECT_EQ(ctx.read_state().status, 0u) << what;
}

TEST(BatchMasks, ByHand) {
  const Context ctx = make_context(2);
  // User 0 knows 5, 7, 9; user 1 knows 7. Columns: 5 7 7 9, and 8 as an extra negative.
  Case c{{{5, 7, 9}, {7}}, {0, 1, 0, 0}, {5, 7, 7, 9, 8}, {}, {}};
  expect_lists(ctx, c, {{0, 3, 3, 5, 8}, {1, 2, 3, 0, 3, 0, 1, 2}}, "by hand");
}

TEST(BatchMasks, MatchesTheDefinition) {
  const Context ctx = make_context(2);
  int seed = 0;
  for (const std::int64_t rows : {1, 2, 31, 33, 64, 200}) {
    for (const std::int64_t extra : {0, 1, 40}) {
      for (const std::int64_t items : {1, 3, 50, 5000}) {
        const Case c = random_case(++seed, 20, items, rows, rows + extra, 60);
        expect_lists(
            ctx, c, oracle(c),
            std::to_string(rows) + " + " + std::to_string(extra) + " of " + std::to_string(items));
      }
    }
  }
}

TEST(BatchMasks, LongListsAndManyColumns) {
  // One user who knows everything: rows of thousands of columns.
  const Context ctx = make_context(2);
  Case c = random_case(3, 2, 900, 3, 5000, 10);
  c.known[0].clear();
  for (std::int32_t i = 0; i < 900; ++i) c.known[0].push_back(i);
  c.users = {0, 1, 0};
  expect_lists(ctx, c, oracle(c), "long lists");
}

TEST(BatchMasks, MoreColumnsThanOnePass) {
  // The device's bitmap holds 65536 columns.
  const Context ctx = make_context(1);
  Case c{{{1, 2}, {}}, {0, 1}, Ids(65536 + 300, 0), {}, {}};
  for (const std::int64_t column : {1, 3, 65535, 65536, 65700}) c.items[column] = 1;
  c.items[65835] = 2;
  expect_lists(ctx, c, oracle(c), "two passes");
}

TEST(BatchMasks, EmptyListsAndEmptyBatch) {
  const Context ctx = make_context(1);
  Case none{{{}, {}}, {0, 1, 1}, {4, 4, 5}, {}, {}};
  expect_lists(ctx, none, {{0, 0, 0, 0}, {}}, "no lists");
  Case empty{{{1}}, {}, {}, {}, {}};
  expect_lists(ctx, empty, {{0}, {}}, "no rows");
}

TEST(BatchMasks, TooLittleRoomIsToldOrReported) {
  Case c = random_case(9, 5, 12, 40, 50, 12);
  const Lists expected = oracle(c);
  const auto total = static_cast<std::int64_t>(expected.columns.size());
  ASSERT_GT(total, 100);
  for (const std::int64_t capacity :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{77}, total - 1, total}) {
    for (const bool told : {false, true}) {
      const Context ctx = make_context(2);
      std::vector<std::int64_t> offsets(c.users.size() + 1), cut;
      Ids columns(static_cast<std::size_t>(capacity), -7);
      std::int64_t needed = -7;
      tested::batch_masks(ctx, c.input(), view(offsets), view(columns), told ? &needed : nullptr);
      for (const std::int64_t o : expected.offsets) cut.push_back(std::min(o, capacity));
      EXPECT_EQ(offsets, cut);
      EXPECT_TRUE(std::equal(columns.begin(), columns.end(), expected.columns.begin()));
      EXPECT_EQ(needed, told ? total : -7);
      EXPECT_EQ(ctx.read_state().status, told || capacity == total ? 0u : kStatusOverflow);
    }
  }
}

TEST(BatchMasks, IdsOutsideAreReported) {
  const Context ctx = make_context(1);
  Case c{{{5, 7}}, {0, 1, 0}, {5, 7, 7}, {}, {}};
  std::vector<std::int64_t> offsets(4);
  Ids columns(9);
  tested::batch_masks(ctx, c.input(), view(offsets), view(columns));
  EXPECT_EQ(offsets, (std::vector<std::int64_t>{0, 2, 2, 3})) << "user 1 has no list";
  EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
  for (const std::int32_t user : {-1, INT32_MAX}) {
    const Context other = make_context(1);
    c.users[1] = user;
    tested::batch_masks(other, c.input(), view(offsets), view(columns));
    EXPECT_EQ(other.read_state().status, kStatusIdOutOfRange);
  }
  const Context third = make_context(1);
  c.users[1] = 0;
  c.items[2] = -1;
  tested::batch_masks(third, c.input(), view(offsets), view(columns));
  EXPECT_EQ(offsets, (std::vector<std::int64_t>{0, 1, 2, 4}));
  EXPECT_EQ(third.read_state().status, kStatusIdOutOfRange);
}

TEST(BatchMasks, SameListsWhateverTheSchedule) {
  const Case c = random_case(12, 10, 40, 70, 100, 30);
  const Lists expected = oracle(c);
  for_each_variant([&](const Context& ctx) { expect_lists(ctx, c, expected, "lists"); });
}

TEST(BatchMasks, CanBeReplayed) {
  const Context ctx = make_context(1);
  Case c = random_case(20, 10, 40, 30, 45, 30);
  c.input();
  Held<std::int64_t> known_offsets(ctx, c.known_offsets),
      offsets(ctx, std::vector<std::int64_t>(31));
  Held<std::int32_t> known(ctx, c.all_known), users(ctx, c.users), items(ctx, c.items);
  Held<std::int32_t> columns(ctx, Ids(2000));
  Replay replay(ctx, [&] {
    belfry::batch_masks(ctx,
                        {known_offsets.vector(), known.vector(), users.vector(), items.vector()},
                        offsets.vector(), columns.vector());
  });
  for (const std::uint64_t seed : {21, 22}) {
    const Case other = random_case(seed, 10, 40, 30, 45, 30);
    c.users = other.users;
    c.items = other.items;
    users.set(c.users);
    items.set(c.items);
    replay.run();
    const Lists expected = oracle(c);
    expect_equal_bits(offsets.get(), expected.offsets, "offsets");
    Ids got = columns.get();
    got.resize(expected.columns.size());
    expect_equal_bits(got, expected.columns, "columns");
  }
}

TEST(BatchMasks, RefusesWrongShapes) {
  const Context ctx = make_context(1);
  Case c{{{1}}, {0, 0}, {1, 2}, {}, {}};
  std::vector<std::int64_t> offsets(3), short_offsets(2);
  Ids columns(4);
  EXPECT_THROW(tested::batch_masks(ctx, c.input(), view(short_offsets), view(columns)),
               ContractError);
  BatchMaskInput in = c.input();
  in.items.size = 1;
  EXPECT_THROW(tested::batch_masks(ctx, in, view(offsets), view(columns)), ContractError);
  in = c.input();
  in.known_offsets.size = 0;
  EXPECT_THROW(tested::batch_masks(ctx, in, view(offsets), view(columns)), ContractError);
}

}  // namespace
}  // namespace belfry::test
