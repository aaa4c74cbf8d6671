// SPDX-License-Identifier: Apache-2.0
#include "kernels/shuffle/shuffle.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_shuffle.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

std::vector<std::int64_t> order(std::uint64_t seed, std::uint64_t epoch, std::int64_t n,
                                int threads = 1) {
  Context ctx = make_context(threads);
  std::vector<std::int64_t> out(static_cast<std::size_t>(n), -1);
  tested::shuffle(ctx, make_permutation(seed, epoch, n), 0, view(out));
  return out;
}

constexpr std::int64_t kSizes[] = {0,  1,  2,  3,  4,  5,  16,   17,
                                   31, 32, 33, 63, 64, 65, 1000, by_backend(65537, 2049)};

TEST(Shuffle, IsABijectionForEverySize) {
  for (const std::int64_t n : kSizes) {
    for (const std::uint64_t epoch : {0u, 1u, 77u}) {
      std::vector<std::int64_t> rows = order(42, epoch, n);
      std::sort(rows.begin(), rows.end());
      for (std::int64_t i = 0; i < n; ++i) {
        ASSERT_EQ(rows[static_cast<std::size_t>(i)], i) << "n " << n << " epoch " << epoch;
      }
    }
  }
}

TEST(Shuffle, HasFixedValues) {
  EXPECT_EQ(order(42, 0, 10), (std::vector<std::int64_t>{5, 6, 8, 7, 9, 3, 2, 1, 0, 4}));
  EXPECT_EQ(order(42, 1, 10), (std::vector<std::int64_t>{0, 8, 5, 4, 7, 6, 9, 2, 3, 1}));
  const Permutation large = make_permutation(7, 3, 1'000'000'007);
  EXPECT_EQ(large.half_bits, 15);
  EXPECT_EQ(permuted(large, 0), 618809540);
  EXPECT_EQ(permuted(large, 1'000'000'006), 976171827);
}

TEST(Shuffle, NetworkIsAsSmallAsItCanBe) {
  EXPECT_EQ(make_permutation(0, 0, 0).half_bits, 1);
  EXPECT_EQ(make_permutation(0, 0, 4).half_bits, 1);
  EXPECT_EQ(make_permutation(0, 0, 5).half_bits, 2);
  EXPECT_EQ(make_permutation(0, 0, 16).half_bits, 2);
  EXPECT_EQ(make_permutation(0, 0, 17).half_bits, 3);
  const Permutation largest = make_permutation(0, 0, std::int64_t{1} << 62);
  EXPECT_EQ(largest.half_bits, 31);
  EXPECT_GE(permuted(largest, (std::int64_t{1} << 62) - 1), 0);
}

TEST(Shuffle, AnyPositionCanBeResumed) {
  Context ctx = make_context(2);
  const std::int64_t n = 10007;
  const std::vector<std::int64_t> all = order(5, 9, n);
  const Permutation p = make_permutation(5, 9, n);
  for (const std::int64_t first : {0, 1, 4095, 4096, 9999, 10007}) {
    std::vector<std::int64_t> part(
        static_cast<std::size_t>(std::min<std::int64_t>(n - first, 5000)));
    tested::shuffle(ctx, p, first, view(part));
    expect_equal_bits(
        part, std::vector<std::int64_t>(all.begin() + first, all.begin() + first + part.size()),
        "from " + std::to_string(first));
  }
}

TEST(Shuffle, SeedAndEpochGiveOtherOrders) {
  const std::int64_t n = 1000;
  std::vector<std::vector<std::int64_t>> orders;
  for (std::uint64_t seed : {0u, 1u}) {
    for (std::uint64_t epoch = 0; epoch < 5; ++epoch) orders.push_back(order(seed, epoch, n));
  }
  std::vector<std::int64_t> identity(n);
  std::iota(identity.begin(), identity.end(), 0);
  orders.push_back(identity);
  for (std::size_t a = 0; a < orders.size(); ++a) {
    for (std::size_t b = a + 1; b < orders.size(); ++b) {
      int same = 0;
      for (std::int64_t i = 0; i < n; ++i) same += orders[a][i] == orders[b][i] ? 1 : 0;
      EXPECT_LE(same, 10) << a << ' ' << b;  // one expected; more than 10 has probability 1e-8
    }
  }
}

/// Chi-square of counts against equal shares.
double chi_square(const std::vector<int>& counts, double expected) {
  double sum = 0;
  for (const int c : counts) sum += (c - expected) * (c - expected) / expected;
  return sum;
}

TEST(Shuffle, EveryRowIsEquallyLikelyAtEveryPosition) {
  for (const std::int64_t n : {2, 3, 5, 31, 33}) {
    const int epochs = 4000;
    std::vector<std::vector<int>> counts(n, std::vector<int>(n));
    for (int epoch = 0; epoch < epochs; ++epoch) {
      const Permutation p = make_permutation(1, epoch, n);
      for (std::int64_t i = 0; i < n; ++i) ++counts[i][permuted(p, i)];
    }
    for (std::int64_t i = 0; i < n; ++i) {  // mean n - 1, standard deviation sqrt(2 (n - 1))
      EXPECT_LT(chi_square(counts[i], static_cast<double>(epochs) / n),
                n - 1 + 6 * std::sqrt(2.0 * (n - 1)) + 12)
          << "n " << n << " position " << i;
    }
  }
}

TEST(Shuffle, NeighboursDoNotStayTogether) {
  // Where the row after i lands is independent of where row i lands: distances are spread evenly.
  const std::int64_t n = by_backend(65537, 8209);
  const std::vector<std::int64_t> rows = order(3, 0, n);
  std::vector<int> counts(64);
  for (std::int64_t i = 0; i + 1 < n; ++i) ++counts[(rows[i + 1] - rows[i] + n) % n * 64 / n];
  EXPECT_LT(chi_square(counts, (n - 1) / 64.0), 63 + 6 * std::sqrt(126.0));
}

TEST(Shuffle, SmallSetsReachEveryOrder) {
  std::set<std::vector<std::int64_t>> seen;
  for (std::uint64_t epoch = 0; epoch < 400; ++epoch) seen.insert(order(0, epoch, 3));
  EXPECT_EQ(seen.size(), 6u);
}

TEST(Shuffle, SameOrderEverywhere) {
  const std::int64_t n = by_backend(30011, 3011);
  const Permutation p = make_permutation(11, 2, n);
  std::vector<std::int64_t> expected;
  for (std::int64_t i = 0; i < n; ++i) expected.push_back(permuted(p, i));
  for_each_variant([&](const Context& ctx) {
    std::vector<std::int64_t> out(expected.size());
    tested::shuffle(ctx, p, 0, view(out));
    expect_equal_bits(out, expected, "order");
  });
}

TEST(Shuffle, CanBeReplayed) {
  const Context ctx = make_context(1);
  Held<std::int64_t> out(ctx, std::vector<std::int64_t>(100));
  const Permutation p = make_permutation(1, 2, 300);
  Replay replay(ctx, [&] { belfry::shuffle(ctx, p, 150, out.vector()); });
  std::vector<std::int64_t> expected(100);
  tested::shuffle(ctx, p, 150, view(expected));
  out.set(std::vector<std::int64_t>(100, -1));
  replay.run();
  expect_equal_bits(out.get(), expected, "order");
}

TEST(Shuffle, RefusesPositionsOutside) {
  Context ctx = make_context(1);
  std::vector<std::int64_t> out(3);
  EXPECT_THROW(tested::shuffle(ctx, make_permutation(0, 0, 2), 0, view(out)), ContractError);
  EXPECT_THROW(tested::shuffle(ctx, make_permutation(0, 0, 5), 3, view(out)), ContractError);
  EXPECT_THROW(tested::shuffle(ctx, make_permutation(0, 0, 5), -1, view(out)), ContractError);
  EXPECT_THROW(tested::shuffle(ctx, make_permutation(0, 0, -1), 0, {}), ContractError);
  EXPECT_NO_THROW(tested::shuffle(ctx, make_permutation(0, 0, 5), 5, {}));
}

}  // namespace
}  // namespace belfry::test
