// SPDX-License-Identifier: Apache-2.0
// Lists of users' rows: sizes, membership, order, and what the draws depend on.
#include "engine/list_sampler.hpp"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

#include "tests/support/generate.hpp"

namespace belfry::test {
namespace {

using Rows = std::vector<std::int64_t>;

std::vector<std::int32_t> users_of(std::int64_t rows, std::int64_t users, std::uint64_t seed) {
  return Random(seed).zipf_ids(rows, users, 0.8);
}

/// The lists of a result, one by one.
std::vector<Rows> split(const Rows& rows, std::int64_t size) {
  std::vector<Rows> out;
  for (auto at = rows.begin(); at != rows.end(); at += size) out.emplace_back(at, at + size);
  return out;
}

TEST(ListSampler, ListsOfDistinctRowsOfOneUserInFirstSeenOrder) {
  const auto users = users_of(400, 30, 1);
  constexpr std::int64_t kSize = 7, kLists = 3;
  std::map<std::int32_t, std::int64_t> count;
  std::vector<std::int32_t> first_seen;
  for (const std::int32_t u : users) {
    if (++count[u] == 1) first_seen.push_back(u);
  }
  std::vector<std::int32_t> expected;  // the user of each list
  for (const std::int32_t u : first_seen) {
    if (count[u] >= kSize) expected.insert(expected.end(), kLists, u);
  }
  ASSERT_LT(expected.size(), first_seen.size() * kLists);  // somebody is left out
  const auto lists = split(sample_lists(users, kSize, kLists, 5), kSize);
  ASSERT_EQ(lists.size(), expected.size());
  for (std::size_t l = 0; l < lists.size(); ++l) {
    EXPECT_EQ(std::set<std::int64_t>(lists[l].begin(), lists[l].end()).size(),
              static_cast<std::size_t>(kSize));
    for (const std::int64_t row : lists[l]) {
      EXPECT_EQ(users.at(static_cast<std::size_t>(row)), expected[l]) << l;
    }
  }
}

TEST(ListSampler, AListOfAllRowsIsAPermutation) {
  const std::vector<std::int32_t> users{4, 2, 4, 2, 4, 0};
  const auto lists = split(sample_lists(users, 3, 40, 9), 3);
  ASSERT_EQ(lists.size(), 40u);  // users 2 and 0 have fewer rows
  std::map<Rows, int> orders;
  for (Rows list : lists) {
    ++orders[list];
    std::sort(list.begin(), list.end());
    EXPECT_EQ(list, (Rows{0, 2, 4}));
  }
  EXPECT_EQ(orders.size(), 6u);  // every order, and none of them always
  for (const auto& [order, times] : orders) EXPECT_LT(times, 20);
}

TEST(ListSampler, RowsAreDrawnAlike) {
  const std::vector<std::int32_t> users(10, 0);
  constexpr std::int64_t kLists = 4000;
  std::vector<double> drawn(10);
  for (const std::int64_t row : sample_lists(users, 3, kLists, 2)) {
    drawn[static_cast<std::size_t>(row)] += 1;
  }
  // Each row is in a list with chance 0.3: sd of the count is about 29.
  for (const double n : drawn) EXPECT_NEAR(n, 0.3 * kLists, 5 * 29);
}

TEST(ListSampler, AFunctionOfSeedUserAndListAlone) {
  const auto users = users_of(300, 20, 3);
  const Rows all = sample_lists(users, 5, 4, 1);
  EXPECT_EQ(sample_lists(users, 5, 4, 1), all);
  EXPECT_NE(sample_lists(users, 5, 4, 2), all);
  // Fewer lists a user are the first ones; a further user changes nobody's.
  const auto four = split(all, 5), two = split(sample_lists(users, 5, 2, 1), 5);
  ASSERT_EQ(four.size(), 2 * two.size());
  for (std::size_t l = 0; l < two.size(); ++l) EXPECT_EQ(two[l], four[l / 2 * 4 + l % 2]);
  std::vector<std::int32_t> more = users;
  more.insert(more.end(), 5, 77);
  const Rows longer = sample_lists(more, 5, 4, 1);
  ASSERT_EQ(longer.size(), all.size() + 4 * 5);
  EXPECT_TRUE(std::equal(all.begin(), all.end(), longer.begin()));
}

TEST(ListSampler, NothingToDraw) {
  EXPECT_TRUE(sample_lists({}, 3, 5, 1).empty());
  EXPECT_TRUE(sample_lists({0, 1, 0, 1}, 3, 5, 1).empty());
  EXPECT_TRUE(sample_lists({0, 0, 0}, 3, 0, 1).empty());
}

}  // namespace
}  // namespace belfry::test
