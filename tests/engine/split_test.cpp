// SPDX-License-Identifier: Apache-2.0
#include "engine/split.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "engine/error.hpp"
#include "tests/support/generate.hpp"

namespace belfry {
namespace {

using RowNumbers = std::vector<std::int64_t>;
constexpr Amount rows_amount(double n) {
  return {n, false};
}
constexpr Amount part(double f) {
  return {f, true};
}

/// Users and times of `rows` interactions with many equal times.
struct Log {
  explicit Log(std::int64_t rows, std::int64_t users = 20) {
    test::Random random(rows + 1);
    for (std::int64_t i = 0; i < rows; ++i) {
      user.push_back(static_cast<std::uint32_t>(random.below(users)));
      time.push_back(static_cast<double>(random.below(rows / 2 + 1)));
    }
  }
  Split split(const SplitConfig& config, bool early_stop = false) const {
    return make_split(config, early_stop, user, time, static_cast<std::int64_t>(user.size()));
  }
  std::vector<std::uint32_t> user;
  std::vector<double> time;
};

SplitConfig make(SplitMethod method, std::optional<Amount> train = {},
                 std::optional<Amount> test = {}, std::optional<Amount> validation = {}) {
  SplitConfig c;
  c.method = method;
  c.train = train;
  c.test = test;
  c.validation = validation;
  c.place = "model.toml:3:1";
  return c;
}

RowNumbers all_rows(const Split& s) {
  RowNumbers rows = s.train;
  rows.insert(rows.end(), s.validation.begin(), s.validation.end());
  rows.insert(rows.end(), s.test.begin(), s.test.end());
  std::sort(rows.begin(), rows.end());
  return rows;
}

RowNumbers first_rows(std::int64_t n) {
  RowNumbers rows(n);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

bool ascending(const RowNumbers& rows) {
  return std::is_sorted(rows.begin(), rows.end());
}

void expect_refused(const SplitConfig& config, const std::string& word,
                    ExitCode code = ExitCode::usage, std::int64_t rows = 100) {
  const Log log(rows);
  try {
    log.split(config);
    FAIL() << "no error about " << word;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
    EXPECT_EQ(e.where(), "model.toml:3:1");
  }
}

TEST(Split, EveryMethodIsDisjointCompleteAndSeeded) {
  for (const std::int64_t n : {2, 3, 31, 32, 33, 1000}) {
    const Log log(n);
    for (const SplitMethod method :
         {SplitMethod::none, SplitMethod::file, SplitMethod::random, SplitMethod::shuffle,
          SplitMethod::temporal, SplitMethod::leave_last_out}) {
      SCOPED_TRACE(testing::Message() << n << " rows, method " << static_cast<int>(method));
      const SplitConfig config = make(method, {}, {}, n > 3 ? part(0.25) : part(0));
      const Split s = log.split(config);
      EXPECT_EQ(all_rows(s), first_rows(n));
      EXPECT_FALSE(s.train.empty());
      if (method != SplitMethod::shuffle) {
        EXPECT_TRUE(ascending(s.train));
        EXPECT_TRUE(ascending(s.validation));
        EXPECT_TRUE(ascending(s.test));
      }
      const Split again = log.split(config);
      EXPECT_EQ(again.train, s.train);
      EXPECT_EQ(again.validation, s.validation);
      EXPECT_EQ(again.test, s.test);
    }
  }
}

TEST(Split, SizesAreExact) {
  const Log log(100);
  const auto sizes = [&](const SplitConfig& c, bool early_stop = false) {
    const Split s = log.split(c, early_stop);
    return std::vector<std::size_t>{s.train.size(), s.validation.size(), s.test.size()};
  };
  using Sizes = std::vector<std::size_t>;
  for (const SplitMethod m : {SplitMethod::random, SplitMethod::temporal}) {
    EXPECT_EQ(sizes(make(m)), (Sizes{90, 0, 10}));
    EXPECT_EQ(sizes(make(m), true), (Sizes{86, 4, 10}));  // 5 % of 90, rounded down
  }
  EXPECT_EQ(sizes(make(SplitMethod::shuffle)), (Sizes{80, 0, 20}));
  for (const SplitMethod m : {SplitMethod::random, SplitMethod::temporal, SplitMethod::shuffle}) {
    EXPECT_EQ(sizes(make(m, {}, rows_amount(17))), (Sizes{83, 0, 17}));
    EXPECT_EQ(sizes(make(m, {}, part(0.29))), (Sizes{71, 0, 29}));
    EXPECT_EQ(sizes(make(m, part(0.7))), (Sizes{70, 0, 30}));
    EXPECT_EQ(sizes(make(m, part(0.7), part(0.3))), (Sizes{70, 0, 30}));
    EXPECT_EQ(sizes(make(m, rows_amount(30), part(0.5))), (Sizes{30, 0, 50}));
    EXPECT_EQ(sizes(make(m, {}, rows_amount(0))), (Sizes{100, 0, 0}));
    EXPECT_EQ(sizes(make(m, {}, part(0.199))), (Sizes{81, 0, 19}));
    EXPECT_EQ(sizes(make(m, {}, rows_amount(20), rows_amount(7))), (Sizes{73, 7, 20}));
    EXPECT_EQ(sizes(make(m, {}, rows_amount(20), part(0.1)), true), (Sizes{72, 8, 20}));
  }
  EXPECT_EQ(sizes(make(SplitMethod::none), true), (Sizes{95, 5, 0}));
  EXPECT_EQ(sizes(make(SplitMethod::file, {}, {}, rows_amount(0)), true), (Sizes{100, 0, 0}));
}

TEST(Split, SeedsDiffer) {
  const Log log(500);
  SplitConfig a = make(SplitMethod::random, {}, {}, part(0.2)), b = a;
  b.seed = a.seed + 1;
  EXPECT_NE(log.split(a).test, log.split(b).test);
  a.method = b.method = SplitMethod::none;
  EXPECT_NE(log.split(a).validation, log.split(b).validation);
  a.method = b.method = SplitMethod::shuffle;
  EXPECT_NE(log.split(a).train, log.split(b).train);
}

TEST(Split, TestRowsStayWhateverTrainsBesideThem) {
  const Log log(200);
  const auto whole = log.split(make(SplitMethod::random, {}, rows_amount(40)));
  const auto half = log.split(make(SplitMethod::random, rows_amount(80), rows_amount(40)));
  EXPECT_EQ(whole.test, half.test);
  EXPECT_EQ(half.train.size(), 80u);
  EXPECT_TRUE(
      std::includes(whole.train.begin(), whole.train.end(), half.train.begin(), half.train.end()));
  const auto validated = log.split(make(SplitMethod::random, {}, rows_amount(40), rows_amount(30)));
  EXPECT_EQ(whole.test, validated.test);
}

TEST(Split, RandomRowsSpreadEvenly) {
  // Each tenth of the file holds its share of the test rows, and of the validation rows.
  const Log log(10000);
  const auto s = log.split(make(SplitMethod::random, {}, part(0.2), part(0.2)));
  std::vector<int> test(10), validation(10);
  for (const auto r : s.test) ++test[r / 1000];
  for (const auto r : s.validation) ++validation[r / 1000];
  for (int i = 0; i < 10; ++i) {
    EXPECT_NEAR(test[i], 200, 70) << i;
    EXPECT_NEAR(validation[i], 160, 70) << i;
  }
}

TEST(Split, ValidationIsNoCopyOfTheTestDraw) {
  // With one key for both, the validation rows of method none would be the test rows of random.
  const Log log(1000);
  const auto random = log.split(make(SplitMethod::random, {}, part(0.1)));
  const auto none = log.split(make(SplitMethod::none, {}, {}, part(0.1)));
  RowNumbers both;
  std::set_intersection(random.test.begin(), random.test.end(), none.validation.begin(),
                        none.validation.end(), std::back_inserter(both));
  EXPECT_LT(both.size(), 40u);
}

TEST(Split, ShuffleKeepsOneShuffledOrder) {
  const Log log(300);
  const auto all = log.split(make(SplitMethod::shuffle, rows_amount(300)));
  EXPECT_FALSE(ascending(all.train));
  const auto s = log.split(make(SplitMethod::shuffle, rows_amount(200), rows_amount(50)));
  EXPECT_EQ(s.train, RowNumbers(all.train.begin(), all.train.begin() + 200));       // take(200)
  EXPECT_EQ(s.test, RowNumbers(all.train.begin() + 200, all.train.begin() + 250));  // skip, take
  const auto v =
      log.split(make(SplitMethod::shuffle, rows_amount(200), rows_amount(50), rows_amount(20)));
  EXPECT_EQ(v.validation.size(), 20u);
  RowNumbers merged;  // train without the validation rows, in the same order
  std::remove_copy_if(s.train.begin(), s.train.end(), std::back_inserter(merged), [&](auto r) {
    return std::count(v.validation.begin(), v.validation.end(), r) > 0;
  });
  EXPECT_EQ(v.train, merged);
}

TEST(Split, TemporalByHand) {
  const std::vector<std::uint32_t> users = {0, 0, 1, 1, 2, 2};
  const std::vector<double> times = {50, 10, 30, 30, 20, 40};
  // By (time, row): 1, 4, 2, 3, 5, 0.
  const auto at = [&](std::optional<Amount> train, std::optional<Amount> test) {
    return make_split(make(SplitMethod::temporal, train, test), false, users, times, 6);
  };
  EXPECT_EQ(at({}, rows_amount(2)).test, (RowNumbers{0, 5}));
  EXPECT_EQ(at({}, rows_amount(3)).test, (RowNumbers{0, 3, 5}));  // the tie at 30 by row
  EXPECT_EQ(at({}, rows_amount(3)).train, (RowNumbers{1, 2, 4}));
  EXPECT_EQ(at(rows_amount(2), rows_amount(2)).train, (RowNumbers{2, 3}));  // the latest before
}

TEST(Split, TemporalHasOneCut) {
  const Log log(400);
  const auto s = log.split(make(SplitMethod::temporal, {}, part(0.3)));
  const auto before = [&](std::int64_t a, std::int64_t b) {
    return std::pair(log.time[a], a) < std::pair(log.time[b], b);
  };
  EXPECT_TRUE(before(*std::max_element(s.train.begin(), s.train.end(), before),
                     *std::min_element(s.test.begin(), s.test.end(), before)));
}

TEST(Split, LeaveLastOutByHand) {
  const std::vector<std::uint32_t> users = {3, 0, 3, 0, 1, 3, 3};
  const std::vector<double> times = {9, 5, 9, 4, 1, 2, 9};
  const auto s = make_split(make(SplitMethod::leave_last_out), false, users, times, 7);
  EXPECT_EQ(s.test, (RowNumbers{1, 6}));  // user 1 keeps its only row; user 3's last by (time, row)
  EXPECT_EQ(s.train, (RowNumbers{0, 2, 3, 4, 5}));
  const auto file_order = make_split(make(SplitMethod::leave_last_out), false, users, {}, 7);
  EXPECT_EQ(file_order.test, (RowNumbers{3, 6}));
}

TEST(Split, LeaveLastOutTakesOneRowOfEachUser) {
  const Log log(300, 60);
  const auto s = log.split(make(SplitMethod::leave_last_out));
  std::vector<int> rows(60), tested(60);
  for (const auto u : log.user) ++rows[u];
  for (const auto r : s.test) {
    ++tested[log.user[r]];
    for (const auto t : s.train) {
      if (log.user[t] == log.user[r]) {
        EXPECT_LT(std::pair(log.time[t], t), std::pair(log.time[r], r));
      }
    }
  }
  for (int u = 0; u < 60; ++u) EXPECT_EQ(tested[u], rows[u] > 1 ? 1 : 0) << u;
}

TEST(Split, ImpossibleAmounts) {
  for (const SplitMethod m : {SplitMethod::random, SplitMethod::temporal, SplitMethod::shuffle}) {
    expect_refused(make(m, {}, rows_amount(101)), "split.test");
    expect_refused(make(m, {}, rows_amount(100)), "split.test");
    expect_refused(make(m, {}, part(1.0)), "split.test");
    expect_refused(make(m, {}, part(1.5)), "split.test");
    expect_refused(make(m, {}, rows_amount(-1)), "split.test");
    expect_refused(make(m, {}, rows_amount(2.5)), "split.test");
    expect_refused(make(m, {}, rows_amount(std::numeric_limits<double>::quiet_NaN())),
                   "split.test");
    expect_refused(make(m, rows_amount(101)), "split.train");
    expect_refused(make(m, rows_amount(0)), "split.train");
    expect_refused(make(m, rows_amount(60), rows_amount(41)), "split.train and split.test");
    expect_refused(make(m, {}, rows_amount(20), rows_amount(80)), "split.validation");
    expect_refused(make(m, {}, rows_amount(20), rows_amount(81)), "split.validation");
  }
  for (const SplitMethod m : {SplitMethod::none, SplitMethod::file, SplitMethod::leave_last_out}) {
    expect_refused(make(m, part(0.5)), "split.train");
    expect_refused(make(m, {}, part(0.5)), "split.test");
    expect_refused(make(m, {}, {}, part(1.0)), "split.validation");
  }
}

TEST(Split, NothingToTrainOnOrNoTime) {
  expect_refused(make(SplitMethod::none), "no row", ExitCode::bad_data, 0);
  const Log log(10);
  try {
    make_split(make(SplitMethod::temporal), false, log.user, {}, 10);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::usage);
    EXPECT_NE(std::string(e.what()).find("time"), std::string::npos);
  }
  auto times = log.time;
  times[4] = std::numeric_limits<double>::quiet_NaN();
  for (const SplitMethod m : {SplitMethod::temporal, SplitMethod::leave_last_out}) {
    EXPECT_THROW(make_split(make(m), false, log.user, times, 10), Error);
  }
}

TEST(Split, TinyDataKeepsItsRows) {
  // Fractions of next to nothing are no rows: training goes on without test or validation rows.
  const auto s = Log(2).split(make(SplitMethod::random), true);
  EXPECT_EQ(s.train.size(), 2u);
  EXPECT_TRUE(s.validation.empty() && s.test.empty());
}

}  // namespace
}  // namespace belfry
