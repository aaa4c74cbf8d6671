// SPDX-License-Identifier: Apache-2.0
#include "engine/history.hpp"

#include <gtest/gtest.h>

namespace belfry::test {
namespace {

using Rows = std::vector<std::int32_t>;

/// The list of value i.
Rows list(const FeatureValues& v, std::size_t i) {
  return {v.rows.begin() + v.begin[i], v.rows.begin() + v.end[i]};
}

// user, item, time, row: user 0 saw 5, 3, 4, 3 in this order; user 2 saw 1; user 1 nothing.
const std::vector<Moment> kMoments = {
    {0, 3, 20, 0}, {2, 1, 1, 1}, {0, 4, 30, 2}, {0, 5, 10, 3}, {0, 3, 30, 4}};
const Rows kRowOfItem = {10, 11, 12, 13, 14, 15};

TEST(Histories, EarlierItemsInOrderOfTimeThenRow) {
  const Histories histories(3, kMoments);
  const FeatureValues v = histories.before(kMoments, 0, kRowOfItem);
  EXPECT_EQ(list(v, 0), (Rows{15}));
  EXPECT_EQ(list(v, 1), Rows{});
  EXPECT_EQ(list(v, 2), (Rows{15, 13}));
  EXPECT_EQ(list(v, 3), Rows{});
  EXPECT_EQ(list(v, 4), (Rows{15, 13, 14}));
  EXPECT_EQ(v.rows.size(), 5u);  // the lists are parts of one
  const FeatureValues two = histories.before(kMoments, 2, kRowOfItem);
  EXPECT_EQ(list(two, 4), (Rows{13, 14}));
  EXPECT_EQ(list(two, 0), (Rows{15}));
}

TEST(Histories, OthersSeeWhatCameBeforeThem) {
  const Histories histories(3, kMoments);
  const std::vector<Moment> others = {{0, 0, 5, 9},  {0, 0, 20, 9}, {0, 0, 99, 9},
                                      {1, 0, 99, 9}, {7, 0, 99, 9}, {-1, 0, 99, 9}};
  const FeatureValues v = histories.before(others, 2, kRowOfItem);
  EXPECT_EQ(list(v, 0), Rows{});
  EXPECT_EQ(list(v, 1), (Rows{15, 13}));  // at the same time, but a row before
  EXPECT_EQ(list(v, 2), (Rows{14, 13}));
  for (const std::size_t i : {3, 4, 5}) EXPECT_EQ(list(v, i), Rows{});
}

TEST(Histories, LastOfEachUser) {
  const Histories histories(3, kMoments);
  const FeatureValues all = histories.last(0, kRowOfItem);
  EXPECT_EQ(list(all, 0), (Rows{15, 13, 14, 13}));
  EXPECT_EQ(list(all, 1), Rows{});
  EXPECT_EQ(list(all, 2), (Rows{11}));
  const FeatureValues one = histories.last(1, kRowOfItem);
  EXPECT_EQ(one.rows, (Rows{13, 11}));
  const Histories none(2, {});
  EXPECT_EQ(none.last(5, kRowOfItem).begin.size(), 2u);
  EXPECT_EQ(list(none.before(kMoments, 5, kRowOfItem), 0), Rows{});
}

TEST(ListsOfUsers, SharedAndEmptyForStrangers) {
  const FeatureValues users = Histories(3, kMoments).last(2, kRowOfItem);
  const Rows of = {2, 0, 0, 3, -1};
  const FeatureValues v = lists_of_users(users, of);
  EXPECT_EQ(v.rows, users.rows);
  EXPECT_EQ(list(v, 0), (Rows{11}));
  EXPECT_EQ(list(v, 1), (Rows{14, 13}));
  EXPECT_EQ(list(v, 2), (Rows{14, 13}));
  EXPECT_EQ(list(v, 3), Rows{});
  EXPECT_EQ(list(v, 4), Rows{});
}

}  // namespace
}  // namespace belfry::test
