// SPDX-License-Identifier: Apache-2.0
#include "kernels/draw_negatives/draw_negatives.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_draw_negatives.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

struct HostTable {
  std::vector<float> keep;
  std::vector<std::int32_t> alias;
  AliasTable get() const { return {view(keep), view(alias)}; }
};

HostTable alias_table(const std::vector<double>& weights) {
  HostTable t{std::vector<float>(weights.size(), -1.0f),
              std::vector<std::int32_t>(weights.size(), -1)};
  build_alias_table(view(weights), view(t.keep), view(t.alias));
  return t;
}

/// The probability of each row that an alias table stands for.
std::vector<double> probabilities(const HostTable& t) {
  std::vector<double> p(t.keep.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    p[i] += t.keep[i] / static_cast<double>(p.size());
    p[t.alias[i]] += (1.0 - t.keep[i]) / static_cast<double>(p.size());
  }
  return p;
}

std::vector<std::int32_t> draw(std::uint64_t seed, std::int64_t step, std::int64_t rows,
                               const AliasTable& table, std::int64_t n, int threads = 1) {
  const Context ctx = make_context(threads, seed);
  edit_state(ctx, [&](StepState& s) { s.step = step; });
  std::vector<std::int32_t> out(static_cast<std::size_t>(n), -1);
  tested::draw_negatives(ctx, rows, table, view(out));
  return out;
}

/// Chi-square of the draws against the probabilities; rows of probability 0 must not occur.
double chi_square(const std::vector<std::int32_t>& draws, const std::vector<double>& p) {
  std::vector<double> counts(p.size());
  for (const std::int32_t r : draws) counts.at(r) += 1;
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double expected = p[i] * draws.size();
    if (expected == 0) {
      EXPECT_EQ(counts[i], 0) << "row " << i << " has no weight";
    } else {
      sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
  }
  return sum;
}

double bound(double degrees) {
  return degrees + 5 * std::sqrt(2 * degrees) + 10;
}

TEST(AliasTableTest, IsExactForHandWeights) {
  // Shares 0.5, 1, 1.5, 1. Row 0 takes half from row 3, which takes half from row 2, then full.
  const HostTable t = alias_table({1, 2, 3, 2});
  EXPECT_EQ(t.keep, (std::vector<float>{0.5f, 1.0f, 1.0f, 0.5f}));
  EXPECT_EQ(t.alias[0], 3);
  EXPECT_EQ(t.alias[3], 2);
  expect_near(probabilities(t), std::vector<double>{0.125, 0.25, 0.375, 0.25}, 0, 1e-15, "shares");

  const HostTable one = alias_table({3});
  EXPECT_EQ(one.keep[0], 1.0f);
  const HostTable half = alias_table({0, 5});
  EXPECT_EQ(half.keep[0], 0.0f);
  EXPECT_EQ(half.alias[0], 1);
  EXPECT_EQ(half.keep[1], 1.0f);
}

TEST(AliasTableTest, StandsForTheWeights) {
  Random random(3);
  for (const std::int64_t n : kNastySizes) {
    if (n == 0) continue;
    std::vector<double> weights(n);
    for (double& w : weights) {
      w = random.uniform() < 0.3 ? 0.0 : std::exp(8 * random.normal());  // 0, and very uneven
    }
    weights[random.below(n)] = 1;
    double total = 0;
    for (const double w : weights) total += w;
    const HostTable t = alias_table(weights);
    std::vector<double> expected(n);
    for (std::int64_t i = 0; i < n; ++i) {
      expected[i] = weights[i] / total;
      EXPECT_GE(t.alias[i], 0);
      EXPECT_LT(t.alias[i], n);
      EXPECT_GT(weights[t.alias[i]], 0) << "an alias without weight";
      if (weights[i] == 0) {
        EXPECT_LE(t.keep[i], 0.0f);
      }
    }
    expect_near(probabilities(t), expected, 0, 1e-7, "n " + std::to_string(n));
  }
}

TEST(AliasTableTest, RoundingNeverFillsARowWithoutWeight) {
  // Rows without weight come first, so they are filled last, when rounding may have used up the rest.
  Random random(7);
  for (int trial = 0; trial < 3000; ++trial) {
    const std::int64_t n = 3 + random.below(60);
    std::vector<double> weights(n);
    for (std::int64_t i = 1 + random.below(2); i < n; ++i) weights[i] = random.uniform();
    const HostTable t = alias_table(weights);
    for (std::int64_t i = 0; i < n; ++i) {
      if (weights[i] > 0) continue;
      EXPECT_LE(t.keep[i], 0.0f) << "trial " << trial;
      EXPECT_GT(weights[t.alias[i]], 0) << "trial " << trial;
    }
  }
}

TEST(AliasTableTest, RefusesBadWeights) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(alias_table({}), ContractError);
  EXPECT_THROW(alias_table({0, 0}), ContractError);
  EXPECT_THROW(alias_table({1, -1, 5}), ContractError);
  EXPECT_THROW(alias_table({1, inf}), ContractError);
  EXPECT_THROW(alias_table({1, nan}), ContractError);
  EXPECT_THROW(alias_table({1.5e308, 1.5e308}), ContractError);
  std::vector<double> weights(3, 1.0);
  std::vector<float> keep(2);
  std::vector<std::int32_t> alias(3);
  EXPECT_THROW(build_alias_table(view(weights), view(keep), view(alias)), ContractError);
}

TEST(DrawNegatives, HasFixedValues) {
  EXPECT_EQ(draw(42, 0, 1000, {}, 6), (std::vector<std::int32_t>{318, 294, 52, 189, 704, 561}));
  EXPECT_EQ(draw(42, 1, 1000, {}, 6), (std::vector<std::int32_t>{251, 636, 638, 818, 316, 988}));
  const HostTable t = alias_table({1, 2, 3, 2});
  EXPECT_EQ(draw(42, 0, 4, t.get(), 12),
            (std::vector<std::int32_t>{1, 1, 3, 0, 2, 2, 2, 2, 3, 2, 2, 0}));
}

TEST(DrawNegatives, UniformIsUniform) {
  for (const std::int64_t rows : {1, 2, 3, 7, 100, 1023}) {
    const std::vector<double> p(rows, 1.0 / rows);
    EXPECT_LT(chi_square(draw(1, 5, rows, {}, by_backend(200000, 20000)), p), bound(rows - 1.0))
        << rows;
  }
}

TEST(DrawNegatives, PopularityFollowsTheWeights) {
  std::vector<double> weights(500);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = i % 7 == 0 ? 0 : 1.0 / (i + 1.0);
  double total = 0;
  for (const double w : weights) total += w;
  std::vector<double> p;
  for (const double w : weights) p.push_back(w / total);
  const HostTable t = alias_table(weights);
  EXPECT_LT(chi_square(draw(2, 0, 500, t.get(), by_backend(500000, 30000)), p), bound(499));
}

TEST(DrawNegatives, SeedAndStepGiveOtherDraws) {
  const auto a = draw(1, 0, 1'000'000, {}, 1000);
  for (const auto& b : {draw(1, 1, 1'000'000, {}, 1000), draw(2, 0, 1'000'000, {}, 1000)}) {
    int same = 0;
    for (std::size_t i = 0; i < a.size(); ++i) same += a[i] == b[i] ? 1 : 0;
    EXPECT_LE(same, 2);
  }
  expect_equal_bits(draw(1, 0, 1'000'000, {}, 1000), a, "the same step again");
}

TEST(DrawNegatives, ADrawDoesNotDependOnHowManyThereAre) {
  const auto many = draw(8, 3, 77, {}, 5000);
  for (const std::int64_t n : kNastySizes) {
    const auto few = draw(8, 3, 77, {}, n);
    expect_equal_bits(few, std::vector<std::int32_t>(many.begin(), many.begin() + n), "prefix");
  }
}

TEST(DrawNegatives, ReachesTheLastRowOfALargeCatalogue) {
  const std::int64_t rows = INT32_MAX;
  const std::int64_t n = by_backend(100000, 10000);
  const auto draws = draw(4, 0, rows, {}, n);
  EXPECT_GT(*std::max_element(draws.begin(), draws.end()), rows - rows / (n / 10));
  EXPECT_GE(*std::min_element(draws.begin(), draws.end()), 0);
}

TEST(DrawNegatives, SameDrawsEverywhere) {
  std::vector<double> weights(12345);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 1.0 / (i + 1.0);
  const HostTable t = alias_table(weights);
  for (const AliasTable& table : {AliasTable(), t.get()}) {
    const std::int64_t n = by_backend(20011, 3011);
    const Context cpu(Backend::cpu, 1, 9);
    edit_state(cpu, [](StepState& s) { s.step = 4; });
    std::vector<std::int32_t> expected(static_cast<std::size_t>(n));
    tested::draw_negatives(cpu, 12345, table, view(expected));
    for_each_variant(
        [&](const Context& ctx) {
          edit_state(ctx, [](StepState& s) { s.step = 4; });
          std::vector<std::int32_t> out(expected.size());
          tested::draw_negatives(ctx, 12345, table, view(out));
          expect_equal_bits(out, expected, "draws");
        },
        9);
  }
}

TEST(DrawNegatives, CanBeReplayed) {
  const Context ctx = make_context(1, 5);
  Held<std::int32_t> out(ctx, std::vector<std::int32_t>(300));
  Replay replay(ctx, [&] { belfry::draw_negatives(ctx, 1000, {}, out.vector()); });
  for (const std::int64_t step : {3, 7}) {  // the graph reads the step where it lies
    edit_state(ctx, [&](StepState& s) { s.step = step; });
    replay.run();
    expect_equal_bits(out.get(), draw(5, step, 1000, {}, 300), "draws");
  }
}

TEST(DrawNegatives, RefusesBadArguments) {
  Context ctx = make_context(1);
  std::vector<std::int32_t> out(2);
  const HostTable t = alias_table({1, 1, 1});
  EXPECT_THROW(tested::draw_negatives(ctx, 0, {}, view(out)), ContractError);
  EXPECT_THROW(tested::draw_negatives(ctx, std::int64_t{1} << 31, {}, view(out)), ContractError);
  EXPECT_THROW(tested::draw_negatives(ctx, 4, t.get(), view(out)), ContractError);
  EXPECT_THROW(tested::draw_negatives(ctx, 3, {view(t.keep), {}}, view(out)), ContractError);
  EXPECT_NO_THROW(tested::draw_negatives(ctx, 0, {}, {}));
}

}  // namespace
}  // namespace belfry::test
