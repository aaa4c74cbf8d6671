// SPDX-License-Identifier: Apache-2.0
// RMSprop, FTRL and ClippyAdagrad by hand, what they do at the edges, and what is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/optimizer_step/optimizer_step.hpp"
#include "tests/support/bf16_table.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/optimizer_cases.hpp"
#include "tests/support/tested_optimizer_step.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

using Values = std::vector<double>;

OptimizerOptions of_kind(OptimizerKind kind) {
  OptimizerOptions o;
  o.kind = kind;
  o.epsilon = 0;
  return o;
}

/// A parameter of one row, whose slots start at 0.
struct Row {
  OptimizerOptions options;
  HostMatrix w, slot[3];
  float factor = -1;

  Row(const OptimizerOptions& o, const std::vector<float>& start, float accumulator = 0)
      : options(o), w(1, static_cast<std::int64_t>(start.size()), start) {
    for (int s = 0; s < slot_count(o); ++s) {
      slot[s] = HostMatrix(1, w.cols(), 0, s == 0 ? accumulator : 0.0f);
    }
  }
  void step(const Context& ctx, float rate, const std::vector<float>& gradient) {
    set_step(ctx, 0, rate);
    const HostMatrix g(1, w.cols(), gradient);
    tested::optimizer_step(ctx, options, w.view(), Matrix<const float>(g.view()),
                           {slot[0].view(), slot[1].view(), slot[2].view(),
                            needs_whole_gradient(options) ? &factor : nullptr});
  }
  void expect(const Values& weights, const std::vector<Values>& slots) const {
    expect_near(w.values(), weights, 2e-6, 1e-7, "w");
    for (std::size_t s = 0; s < slots.size(); ++s) {
      expect_near(slot[s].values(), slots[s], 2e-6, 1e-7, "slot " + std::to_string(s));
    }
  }
};

TEST(OptimizerRules, RmspropByHand) {
  const Context ctx = make_context(1);
  OptimizerOptions o = of_kind(OptimizerKind::rmsprop);
  o.rho = 0.75f;
  Row plain(o, {1, 2});
  plain.step(ctx, 0.5f, {4, -2});  // v = g^2 / 4, so that the move is 2 lr sign(g)
  plain.expect({0, 3}, {{4, 1}});
  plain.step(ctx, 0.5f, {0, 0});
  plain.expect({0, 3}, {{3, 0.75}});

  o.momentum = 0.5f;
  Row momentum(o, {1, 2});
  momentum.step(ctx, 0.5f, {4, -2});
  momentum.step(ctx, 0.5f, {0, 0});
  momentum.expect({-0.5, 3.5}, {{3, 0.75}, {0.5, -0.5}});

  o.centered = true;  // v - m^2 = g^2 / 4 - g^2 / 16 = 3/16 g^2
  Row both(o, {1, 2});
  both.step(ctx, 0.75f, {4, -2});
  const double move = 0.75 / std::sqrt(3.0 / 16);
  both.expect({1 - move, 2 + move}, {{4, 1}, {1, -0.5}, {move, -move}});

  o.momentum = 0;
  o.epsilon = 1;
  Row centered(o, {1, 2});
  centered.step(ctx, 1, {4, -2});
  centered.expect({1 - 4 / 2.0, 2 + 2 / std::sqrt(1.75)}, {{4, 1}, {1, -0.5}});
  o.epsilon_place = EpsilonPlace::after_root;
  Row after(o, {1, 2});
  after.step(ctx, 1, {4, -2});
  after.expect({1 - 4 / (std::sqrt(3.0) + 1), 2 + 2 / (std::sqrt(0.75) + 1)}, {});
}

TEST(OptimizerRules, ACenteredVarianceIsNeverBelowZero) {
  // The same gradient again and again: the mean square becomes the square of the mean, give or take an ulp.
  const Context ctx = make_context(1);
  OptimizerOptions o = of_kind(OptimizerKind::rmsprop);
  o.centered = true;
  o.rho = 0.1f;
  std::vector<float> gradient;
  for (int i = 0; i < 40; ++i) gradient.push_back(0.1f + 0.037f * static_cast<float>(i));
  Row row(o, std::vector<float>(40, 1.0f));
  for (int step = 0; step < 30; ++step) row.step(ctx, 1e-3f, gradient);
  EXPECT_EQ(ctx.read_state().status, 0u);
  for (const float x : row.w.values()) EXPECT_FALSE(std::isnan(x));
}

TEST(OptimizerRules, FtrlByHand) {
  const Context ctx = make_context(1);
  OptimizerOptions o = of_kind(OptimizerKind::ftrl);
  Row plain(o, {1, 2}, 9);
  plain.step(ctx, 0.5f,
             {4, 0});  // root 3 -> 5: z = 4 - 2 / 0.5 * 1 = 0;  z = 0: the weight becomes 0
  plain.expect({0, 0}, {{25, 9}, {0, 0}});
  plain.step(ctx, 0.5f, {12, 4});  // root 5 -> 13, 3 -> 5, weights 0
  plain.expect({-12 / 26.0, -4 / 10.0}, {{169, 25}, {12, 4}});

  o.l1 = 3;
  o.l2 = 0.5f;
  o.beta = 2;
  o.l2_shrinkage = 0.25f;
  Row all(o, {1, 2}, 9);
  all.step(ctx, 0.5f, {4, 0});  // z = (4 + 0.5) - 4 = 0.5, (0 + 1) - 0 = 1: both below l1
  all.expect({0, 0}, {{25, 9}, {0.5, 1}});
  all.step(ctx, 0.5f, {12, -9});  // divisors (13 + 2) / 0.5 + 1, (sqrt(90) + 2) / 0.5 + 1
  all.expect({-(12.5 - 3) / 31, 5 / (2 * std::sqrt(90.0) + 5)}, {{169, 90}, {12.5, -8}});

  o = of_kind(OptimizerKind::ftrl);
  o.learning_rate_power = -1;
  Row power(o, {1}, 2);
  power.step(ctx, 0.5f, {2});  // z = 2 - (6 - 2) / 0.5 = -6, divisor 6 / 0.5
  power.expect({0.5}, {{6}, {-6}});
  o.learning_rate_power = 0;  // z = 2 - 0, divisor 1 / 0.5
  Row constant(o, {1}, 2);
  constant.step(ctx, 0.5f, {2});
  constant.expect({-1}, {{6}, {2}});
}

TEST(OptimizerRules, FtrlStaysWhereNothingIsKnown) {
  const Context ctx = make_context(1);
  for (const float power : {-0.5f, -0.4f}) {
    OptimizerOptions o = of_kind(OptimizerKind::ftrl);
    o.learning_rate_power = power;
    Row row(o, {1, 2});
    row.step(ctx, 0.5f, {0, 0});  // no gradient so far, no accumulator: 0 / 0
    row.expect({1, 2}, {{0, 0}, {0, 0}});
    row.step(ctx, 0, {4, 1});  // a schedule may end at 0, by which FTRL divides
    row.expect({1, 2}, {{0, 0}, {0, 0}});
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

/// The steps of TFRS's own tests (x and g of two elements, lr, accumulator, thresholds).
TEST(OptimizerRules, ClippyByHand) {
  const Context ctx = make_context(1);
  OptimizerOptions o = of_kind(OptimizerKind::clippy_adagrad);
  o.absolute_threshold = 0.1f;
  o.variable_relative_threshold = 0.4f;
  o.accumulator_relative_threshold = 0.01f;
  Row row(o, {1, 2}, 0.01f);  // moves of 20; limits 0.4 + 0.1 + 0.1 and 0.8 + 0.2
  row.step(ctx, 0.2f, {10, 10});
  row.expect({0.4, 1.4}, {{100.01, 100.01}});
  EXPECT_NEAR(row.factor, 0.03, 1e-7);

  o.clip_accumulator_update = true;
  Row clipped(o, {1, 2}, 0.01f);
  clipped.step(ctx, 0.2f, {10, 10});
  clipped.expect({0.4, 1.4}, {{0.1, 0.1}});

  o.clip_accumulator_update = false;
  o.use_standard_accumulator_update = true;
  Row standard(o, {1, 2}, 0);  // moves of lr; limits 0.4 + 0.01 / 10 + 0.1, 0.8 + ..
  standard.step(ctx, 2, {10, -10});
  EXPECT_NEAR(standard.factor, 0.501 / 2, 1e-7);
  standard.expect({1 - 0.501, 2 + 0.501}, {{100, 100}});
  standard.step(ctx, 1e-3f, {10, -10});
  EXPECT_EQ(standard.factor, 1.0f);
}

TEST(OptimizerRules, ClippyAtTheEdges) {
  const Context ctx = make_context(1);
  OptimizerOptions o = of_kind(OptimizerKind::clippy_adagrad);
  o.absolute_threshold = 0;
  Row zero(o, {0, 1}, 1);  // a weight of 0 may not move at all, so nothing does
  zero.step(ctx, 1, {1, 1});
  EXPECT_EQ(zero.factor, 0.0f);
  zero.expect({0, 1}, {{2, 2}});
  Row still(o, {0, 1}, 1);  // unless it has no gradient
  still.step(ctx, 1, {0, 0.05f});
  EXPECT_EQ(still.factor, 1.0f);
  still.expect({0, 0.95}, {{1, 1.0025}});
  Row nothing(o, {3, 4},
              0);  // no accumulator and no epsilon: as in Adagrad, a root of 0 moves nothing
  nothing.step(ctx, 1, {1, 0});
  EXPECT_EQ(nothing.factor, 1.0f);
  nothing.expect({3, 4}, {{1, 0}});
  EXPECT_EQ(ctx.read_state().status, 0u);
  Row bad(o, {1, 1}, 1);
  bad.step(ctx, 1, {std::numeric_limits<float>::quiet_NaN(), 0.01f});
  EXPECT_EQ(ctx.read_state().status, kStatusNonFinite);
  EXPECT_EQ(bad.factor, 1.0f);
}

/// Options that clip only by what is said of the element.
OptimizerOptions absolute(float threshold, SparseUpdate sparse) {
  OptimizerOptions o = of_kind(OptimizerKind::clippy_adagrad);
  o.variable_relative_threshold = 0;
  o.absolute_threshold = threshold;
  o.sparse = sparse;
  return o;
}

/// One element of all of a large table clips everything, wherever it is.
template <class T>
void expect_one_clips_all(std::int64_t rows, std::int64_t width, std::int64_t padding) {
  const Context ctx = make_context(2);
  set_step(ctx, 0, 1.0f);
  for (const std::int64_t row : {std::int64_t{0}, rows / 2, rows - 1}) {
    for (const std::int64_t column : {std::int64_t{0}, width - 1}) {
      const OptimizerOptions o = absolute(1, SparseUpdate::lazy);
      Random random(3);
      Bf16Table narrow(random, 2 * rows, width, padding);
      HostMatrix wide = narrow.wide(), a(2 * rows, width, padding, 1.0f);
      HostMatrix g(rows, width, padding, 0.25f);
      g(row, column) = 4;
      std::vector<std::int32_t> listed;
      for (std::int64_t r = 0; r < rows; ++r)
        listed.push_back(static_cast<std::int32_t>(2 * r + 1));
      std::int64_t n = rows;
      float factor = -1;
      const RowGradient gradient{listed.data(), g.view(), &n, n};
      const OptimizerSlots slots{a.view(), {}, {}, &factor};
      const HostMatrix before = wide;
      if constexpr (std::is_same_v<T, bf16>) {
        tested::optimizer_step(ctx, o, narrow.view(), gradient, slots);
        EXPECT_EQ(factor, 0.25f) << row << ' ' << column;
        continue;
      }
      tested::optimizer_step(ctx, o, wide.view(), gradient, slots);
      EXPECT_EQ(factor, 0.25f) << row << ' ' << column;
      for (std::int64_t r = 0; r < 2 * rows; ++r) {
        for (std::int64_t d = 0; d < width; ++d) {
          const float move = r % 2 == 0 ? 0 : r / 2 == row && d == column ? 1 : 0.0625f;
          ASSERT_EQ(wide(r, d), before(r, d) - move) << r << ' ' << d;
        }
      }
    }
  }
}

TEST(OptimizerRules, OneElementClipsAllOfAParameter) {
  for (const std::int64_t width : {1, 8, 33, 300}) {
    for (const std::int64_t padding : {0, 1}) {
      expect_one_clips_all<float>(by_backend(1200, 300), width, padding);
      expect_one_clips_all<bf16>(by_backend(300, 60), width, padding);
    }
  }
}

TEST(OptimizerRules, ClippyOfAnEmptyListHasFactorOne) {
  const Context ctx = make_context(1);
  set_step(ctx, 0, 1.0f);
  for (const SparseUpdate sparse : {SparseUpdate::exact, SparseUpdate::lazy}) {
    for (const std::int64_t capacity : {0, 2}) {
      HostMatrix w(3, 4, 0, 2.0f), a(3, 4, 0, 1.0f), g(capacity, 4);
      std::vector<std::int32_t> rows(static_cast<std::size_t>(capacity));
      std::int64_t n = 0;
      float factor = -1;
      tested::optimizer_step(ctx, absolute(1, sparse), w.view(),
                             {rows.data(), g.view(), &n, capacity}, {a.view(), {}, {}, &factor});
      EXPECT_EQ(factor, 1.0f);
      EXPECT_EQ(w.values(), std::vector<float>(12, 2.0f));
    }
  }
}

TEST(OptimizerRules, FactorHasTheSameBitsWhateverTheSchedule) {
  std::vector<float> factors;
  for_each_variant([&](const Context& ctx) {
    Random random(4);
    OptimizerOptions o = of_kind(OptimizerKind::clippy_adagrad);
    set_step(ctx, 0, 0.7f);
    Parameter p(o, HostMatrix::normal(random, by_backend(4000, 90), 33));
    const HostMatrix g = HostMatrix::normal(random, p.w.rows(), 33);
    float factor = -1;
    tested::optimizer_step(ctx, o, p.w.view(), g.view(), {p.slot[0].view(), {}, {}, &factor});
    factors.push_back(factor);
    EXPECT_LT(factor, 1.0f);
    EXPECT_EQ(bits_of(factor), bits_of(factors[0]));
  });
}

TEST(OptimizerRules, SlotsByKind) {
  OptimizerOptions o = of_kind(OptimizerKind::rmsprop);
  EXPECT_EQ(slot_count(o), 1);
  o.centered = true;
  EXPECT_EQ(slot_count(o), 2);
  o.momentum = 0.5f;
  EXPECT_EQ(slot_count(o), 3);
  o.centered = false;
  EXPECT_EQ(slot_count(o), 2);
  EXPECT_FALSE(has_accumulator(o));
  EXPECT_TRUE(moves_every_row(o));
  o.sparse = SparseUpdate::lazy;
  EXPECT_FALSE(moves_every_row(o));
  o = of_kind(OptimizerKind::ftrl);
  EXPECT_EQ(slot_count(o), 2);
  EXPECT_TRUE(has_accumulator(o));
  EXPECT_TRUE(moves_every_row(o));
  o = of_kind(OptimizerKind::clippy_adagrad);
  EXPECT_EQ(slot_count(o), 1);
  EXPECT_TRUE(has_accumulator(o));
  EXPECT_FALSE(moves_every_row(o));
  EXPECT_EQ(slot_width(o, 7), 7);
}

TEST(OptimizerRules, RefuseBadOptions) {
  const Context ctx = make_context(1);
  HostMatrix w(3, 4), g(3, 4), a(3, 4, 0, 1.0f), b(3, 4), c(3, 4), thin(3, 1);
  const auto call = [&](const OptimizerOptions& o, const OptimizerSlots& slots) {
    tested::optimizer_step(ctx, o, w.view(), Matrix<const float>(g.view()), slots);
  };
  const OptimizerSlots all{a.view(), b.view(), c.view()};
  using F = float OptimizerOptions::*;
  using K = OptimizerKind;
  for (const F field : {&OptimizerOptions::l1, &OptimizerOptions::l2,
                        &OptimizerOptions::l2_shrinkage, &OptimizerOptions::beta}) {
    OptimizerOptions o = of_kind(K::ftrl);
    EXPECT_NO_THROW(call(o, all));
    for (const float bad : {-1.0f, kPadding}) {
      o.*field = bad;
      EXPECT_THROW(call(o, all), ContractError);
    }
  }
  for (const F field :
       {&OptimizerOptions::variable_relative_threshold,
        &OptimizerOptions::accumulator_relative_threshold, &OptimizerOptions::absolute_threshold}) {
    OptimizerOptions o = of_kind(K::clippy_adagrad);
    EXPECT_NO_THROW(call(o, all));
    for (const float bad : {-1.0f, kPadding}) {
      o.*field = bad;
      EXPECT_THROW(call(o, all), ContractError);
    }
  }
  for (const float bad : {1.0f, -0.1f, kPadding}) {
    OptimizerOptions o = of_kind(K::rmsprop);
    o.rho = bad;
    EXPECT_THROW(call(o, all), ContractError);
  }
  for (const float bad : {0.5f, kPadding}) {
    OptimizerOptions o = of_kind(K::ftrl);
    o.learning_rate_power = bad;
    EXPECT_THROW(call(o, all), ContractError);
  }
  OptimizerOptions both = of_kind(K::clippy_adagrad);
  both.clip_accumulator_update = both.use_standard_accumulator_update = true;
  EXPECT_THROW(call(both, all), ContractError);
  EXPECT_THROW(call(of_kind(K::clippy_adagrad), {thin.view(), {}, {}}), ContractError);
  EXPECT_THROW(call(of_kind(K::ftrl), {a.view(), {}, {}}), ContractError);
  OptimizerOptions centered = of_kind(K::rmsprop);
  centered.centered = true;
  EXPECT_THROW(call(centered, {a.view(), {}, {}}), ContractError);
  centered.momentum = 0.5f;
  EXPECT_THROW(call(centered, {a.view(), b.view(), {}}), ContractError);
}

}  // namespace
}  // namespace belfry::test
