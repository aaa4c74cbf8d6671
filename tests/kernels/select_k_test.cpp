// SPDX-License-Identifier: Apache-2.0
// The k best of each row against a full sort; everything is compared by equality.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_select_k.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Selected {
  std::vector<float> scores;
  std::vector<std::int32_t> rows;
};

Selected selected(const Context& ctx, const HostMatrix& scores, std::int64_t k) {
  // Wider than k: nothing may be written between the rows.
  const std::int64_t q = scores.rows(), pitch = k + 3;
  std::vector<float> best(q * pitch, 777.0f);
  std::vector<std::int32_t> rows(q * pitch, 777);
  tested::select_k(ctx, scores.view(), {{best.data(), q, k, pitch}, {rows.data(), q, k, pitch}});
  Selected out;
  for (std::int64_t i = 0; i < q * pitch; ++i) {
    if (i % pitch < k) {
      out.scores.push_back(best[i]);
      out.rows.push_back(rows[i]);
    } else {
      EXPECT_EQ(best[i], 777.0f);
      EXPECT_EQ(rows[i], 777);
    }
  }
  return out;
}

Selected sorted(const HostMatrix& scores, std::int64_t k) {
  Selected out;
  for (std::int64_t q = 0; q < scores.rows(); ++q) {
    std::vector<std::int32_t> order;
    for (std::int32_t i = 0; i < scores.cols(); ++i) {
      if (!std::isnan(scores(q, i))) order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return scores(q, a) > scores(q, b); });
    for (std::int64_t i = 0; i < k; ++i) {
      const bool there = i < static_cast<std::int64_t>(order.size());
      out.scores.push_back(there ? scores(q, order[i]) + 0.0f : kNan);
      out.rows.push_back(there ? order[i] : -1);
    }
  }
  return out;
}

void expect_sorted(const Context& ctx, const HostMatrix& scores, std::int64_t k,
                   const std::string& what) {
  const Selected actual = selected(ctx, scores, k), expected = sorted(scores, k);
  expect_equal_bits(actual.rows, expected.rows, what + ": columns");
  expect_equal_bits(actual.scores, expected.scores, what + ": scores");
}

TEST(SelectK, ByHand) {
  const Context ctx = make_context(2);
  const HostMatrix scores(2, 5, {3, kNan, -0.0f, 3, kInf, -kInf, 0, -0.0f, kNan, kNan}, 1);
  const Selected best = selected(ctx, scores, 4);
  EXPECT_EQ(best.rows, (std::vector<std::int32_t>{4, 0, 3, 2, 1, 2, 0, -1}));
  expect_equal_bits(best.scores, std::vector<float>{kInf, 3, 3, 0, 0, 0, -kInf, kNan}, "scores");
}

TEST(SelectK, NastyShapes) {
  const Context ctx = make_context(2);
  Random random(1);
  for (const std::int64_t n : {0, 1, 31, 32, 33, 255, 256, 257, 1000, 4097, 5000}) {
    if (on_device() && n == 4097) continue;
    const std::int64_t q = 1 + random.below(5);
    const auto normal = HostMatrix::normal(random, q, n, 1, 2);
    auto ties = normal;
    for (std::int64_t i = 0; i < q; ++i) {
      for (std::int64_t j = 0; j < n; ++j) ties(i, j) = std::round(2 * ties(i, j));
    }
    for (const std::int64_t k :
         {std::int64_t{1}, std::int64_t{2}, std::int64_t{100}, std::int64_t{1024}, n, n + 7}) {
      if (k < 1) continue;
      const std::string what = std::to_string(n) + " columns, k " + std::to_string(k);
      expect_sorted(ctx, normal, k, what);
      expect_sorted(ctx, ties, k, what + ", ties");
    }
  }
}

/// k above what fits a block's memory: radix passes, runs and merges.
TEST(SelectK, LargeK) {
  const Context ctx = make_context(2);
  Random random(2);
  const std::int64_t n = by_backend(30000, 9000);
  auto scores = HostMatrix::normal(random, 3, n, 1, 0);
  for (std::int64_t j = 0; j < n; ++j) {
    scores(1, j) = static_cast<float>(j % 3);         // the k-th place lies among ties
    scores(2, j) = j % 5 == 0 ? scores(2, j) : kNan;  // fewer than k
  }
  for (const std::int64_t k :
       {std::int64_t{1025}, std::int64_t{2048}, std::int64_t{2049}, n / 2, n}) {
    expect_sorted(ctx, scores, k, "k " + std::to_string(k));
  }
}

TEST(SelectK, AllEqual) {
  const Context ctx = make_context(2);
  for (const float value : {0.0f, -kInf, kInf, kNan}) {
    const HostMatrix scores(2, 3000, std::vector<float>(6000, value), 0);
    expect_sorted(ctx, scores, 70, "k 70");
    expect_sorted(ctx, scores, 1500, "k 1500");
  }
}

/// Every score beats all before it: each chunk is pushed whole.
TEST(SelectK, Ascending) {
  const Context ctx = make_context(2);
  HostMatrix scores(2, 6000);
  for (std::int64_t j = 0; j < 6000; ++j) {
    scores(0, j) = static_cast<float>(j);
    scores(1, j) = static_cast<float>(-j);
  }
  for (const std::int64_t k : {1, 300, 1024, 1025})
    expect_sorted(ctx, scores, k, std::to_string(k));
}

/// Rows cut into parts (a part has 16384 columns at least).
TEST(SelectK, FewLongRows) {
  const Context ctx = make_context(2);
  Random random(3);
  const auto scores = HostMatrix::normal(random, 1, 40000, 1, 0);
  for (const std::int64_t k : {1, 90, 1024, 1100}) expect_sorted(ctx, scores, k, std::to_string(k));
}

TEST(SelectK, ManyRows) {
  const Context ctx = make_context(2);
  Random random(4);
  expect_sorted(ctx, HostMatrix::normal(random, by_backend(2000, 150), 60, 1, 1), 10, "many rows");
}

TEST(SelectK, ThreadsAndSchedulesGiveEqualBits) {
  Random random(5);
  auto scores = HostMatrix::normal(random, 7, 2500, 1, 0);
  for (std::int64_t j = 0; j < 2500; ++j) scores(3, j) = std::round(scores(3, j));
  for_each_variant([&](const Context& ctx) {
    for (const std::int64_t k : {20, 1300}) expect_sorted(ctx, scores, k, std::to_string(k));
  });
}

TEST(SelectK, CanBeReplayed) {
  Random random(6);
  const Context ctx = make_context();
  for (const std::int64_t k : {5, 1030}) {
    const auto first = HostMatrix::normal(random, 3, 1200, 1, 0);
    const auto second = HostMatrix::normal(random, 3, 1200, 1, 0);
    Held<float> scores(ctx, first.values()), best(ctx, std::vector<float>(3 * k));
    Held<std::int32_t> rows(ctx, std::vector<std::int32_t>(3 * k));
    Replay replay(ctx, [&] {
      select_k(ctx, scores.matrix(3, 1200), {best.matrix(3, k), rows.matrix(3, k)});
    });
    for (const HostMatrix* m : {&second, &first}) {
      scores.set(m->values());
      replay.run();
      expect_equal_bits(rows.get(), sorted(*m, k).rows, "columns");
      expect_equal_bits(best.get(), sorted(*m, k).scores, "scores");
    }
  }
}

TEST(SelectK, BrokenContractsAreRefused) {
  const Context ctx = make_context(1);
  const HostMatrix scores(2, 5);
  std::vector<float> best(6);
  std::vector<std::int32_t> rows(6);
  const Matrix<float> s(best.data(), 2, 3);
  const Matrix<std::int32_t> r(rows.data(), 2, 3);
  EXPECT_THROW(tested::select_k(ctx, scores.view().slice(0, 1), {s, r}), ContractError);
  EXPECT_THROW(tested::select_k(ctx, scores.view(), {s, r.columns(0, 2)}), ContractError);
  EXPECT_THROW(tested::select_k(ctx, scores.view(), {s.columns(0, 0), r.columns(0, 0)}),
               ContractError);
  tested::select_k(ctx, scores.view().slice(0, 0), {s.slice(0, 0), r.slice(0, 0)});
}

}  // namespace
}  // namespace belfry::test
