// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer_step/optimizer_step.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/optimizer_step/update_rules.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/optimizer_cases.hpp"
#include "tests/support/optimizer_oracle.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/tested_embedding_bag.hpp"
#include "tests/support/tested_optimizer_step.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

std::vector<bool> everything(std::int64_t rows) {
  return std::vector<bool>(static_cast<std::size_t>(rows), true);
}

void expect_parameter(const Parameter& p, const std::string& what) {
  expect_near(p.w.values(), p.w64, 2e-5, 2e-5, what + " parameter");
  for (int s = 0; s < slot_count(p.options); ++s) {
    // FTRL's linear term is what is left of larger ones, of the weight over the rate.
    const bool linear = p.options.kind == OptimizerKind::ftrl && s == 1;
    expect_near(p.slot[s].values(), p.slot64[s], 1e-4, linear ? 2e-5 : 1e-6,
                what + " slot " + std::to_string(s));
  }
  EXPECT_TRUE(p.padding_intact()) << what;
}

TEST(UpdateRules, MatchTheirFormulas) {
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    const float g = static_cast<float>(random.normal()), w0 = static_cast<float>(random.normal());
    const float a0 = static_cast<float>(random.uniform()), lr = 0.1f;
    const auto near = [&](double actual, double expected, double size) {
      EXPECT_NEAR(actual, expected, 4e-7 * (std::abs(size) + std::abs(expected)) + 1e-12);
    };
    float w = w0, a = a0;
    SgdRule{lr}(g, w);
    near(w, w0 - double(lr) * g, w0);

    w = w0, a = a0;
    MomentumRule<false>{lr, 0.9f}(g, w, a);
    const double v = double(0.9f) * a0 - double(lr) * g;
    near(a, v, 1);
    near(w, w0 + v, 1);
    w = w0, a = a0;
    MomentumRule<true>{lr, 0.9f}(g, w, a);
    near(w, w0 + double(0.9f) * v - double(lr) * g, 2);

    w = w0, a = a0;
    AdagradRule<EpsilonPlace::inside_root>{lr, 0.01f}(g, w, a);
    near(a, a0 + double(g) * g, 0);
    near(w, w0 - double(lr) * g / std::sqrt(a0 + double(g) * g + 0.01), w0);
    w = w0, a = a0;
    AdagradRule<EpsilonPlace::after_root>{lr, 0.01f}(g, w, a);
    near(w, w0 - double(lr) * g / (std::sqrt(a0 + double(g) * g) + 0.01), w0);

    w = w0, a = a0;
    float b = static_cast<float>(random.uniform()), c = 0.5f;
    const float b0 = b;
    const AdamConstants constants{0.05f, 0.25f, 0.125f, 0.01f, 0.02f};
    AmsgradRule{constants}(g, w, a, b, c);
    const double m64 = a0 + 0.25 * (double(g) - a0), v64 = b0 + 0.125 * (double(g) * g - b0);
    near(a, m64, 1);
    near(b, v64, 1);
    EXPECT_EQ(c, std::max(0.5f, b));
    near(w, w0 - double(0.02f) * w0 - double(0.05f) * m64 / (std::sqrt(double(c)) + double(0.01f)),
         1);
  }
}

TEST(UpdateRules, NothingMovesWhereTheRootIsZero) {
  float w = 3, a = 0, b = 0;
  AdagradRule<EpsilonPlace::inside_root>{0.1f, 0}(0, w, a);
  AdagradRule<EpsilonPlace::after_root>{0.1f, 0}(0, w, a);
  AdamRule{AdamConstants{0.1f, 0.1f, 0.1f, 0, 0}}(0, w, a, b);
  EXPECT_EQ(w, 3.0f);
}

TEST(UpdateRules, MomentsNeverBecomeSubnormal) {
  float w = 0, m = 1, v = 1;
  const AdamRule rule{AdamConstants{0.1f, 0.1f, 0.1f, 1e-7f, 0}};
  for (int i = 0; i < 2000; ++i) {
    rule(0, w, m, v);
    ASSERT_TRUE(m == 0 || std::isnormal(m)) << i;
    ASSERT_TRUE(v == 0 || std::isnormal(v)) << i;
  }
  EXPECT_EQ(m, 0.0f);
  EXPECT_EQ(flush_subnormal(-1e-40f), 0.0f);
  EXPECT_EQ(flush_subnormal(-2e-38f), -2e-38f);
  EXPECT_TRUE(std::isnan(flush_subnormal(kPadding)));
}

TEST(UpdateRules, MeanSquare) {
  Random random(2);
  for (const std::int64_t n : kNastySizes) {
    if (n == 0) continue;
    const std::vector<float> g = random.normals(n);
    double want = 0;
    for (const float x : g) want += double(x) * x / double(n);
    EXPECT_NEAR(mean_square(g.data(), n), want, 1e-6 * want) << n;
  }
}

TEST(OptimizerStep, AdamByHand) {
  // Step 1 moves by lr m / sqrt(v) = lr sign(g), whatever the betas; the hat constants are Keras's.
  const Context ctx = make_context(1);
  edit_state(ctx, [](StepState& state) { state.learning_rate[3] = 0.5f; });
  OptimizerOptions o;
  o.group = 3;
  Parameter p(o, HostMatrix(1, 2, {1, 2}));
  HostMatrix g(1, 2, {4, -0.25});
  tested::optimizer_step(ctx, o, p.w.view(), Matrix<const float>(g.view()), p.slots());
  expect_near(p.w.values(), std::vector<double>{0.5, 2.5}, 1e-5, 0, "step 1");
  expect_near(p.slot[0].values(), std::vector<double>{0.4, -0.025}, 1e-6, 0, "m");
  expect_near(p.slot[1].values(), std::vector<double>{0.016, 6.25e-5}, 2e-5, 0, "v");
}

TEST(OptimizerStep, SeveralDenseStepsMatchFloat64OnEveryTarget) {
  for_each_target([] {
    Random random(3);
    for (const NamedOptions& named : all_options()) {
      for (const Shape& s : nasty_shapes()) {
        if (s.rows * s.cols > 10000) continue;  // threads have a test of their own
        for (const std::int64_t padding : {0, 3}) {
          const Context ctx = make_context(1);
          Parameter p(named.options, HostMatrix::normal(random, s.rows, s.cols, 1, padding),
                      padding);
          for (int step = 0; step < 3; ++step) {
            const float rate = 0.05f * (step + 1);
            set_step(ctx, step, rate);
            const HostMatrix g = HostMatrix::normal(random, s.rows, s.cols, 1, padding);
            const std::vector<float> values = g.values();
            tested::optimizer_step(ctx, p.options, p.w.view(), g.view(), p.slots());
            oracle_step(p, {values.begin(), values.end()}, step, rate, everything(s.rows));
          }
          EXPECT_EQ(ctx.read_state().status, 0u) << named.name;
          expect_parameter(
              p, named.name + " " + std::to_string(s.rows) + " x " + std::to_string(s.cols));
        }
      }
    }
  });
}

TEST(OptimizerStep, ExactSparseEqualsDenseBitForBit) {
  Random random(4);
  for (const NamedOptions& named : all_options()) {
    for (const double share : {0.0, 0.02, 0.5, 1.0}) {
      for (const std::int64_t padding : {0, 2}) {
        const Context ctx = make_context(2);
        set_step(ctx, 0, 0.1f);
        const std::int64_t rows = by_backend(700, 90), width = 33;
        const HostMatrix start = HostMatrix::normal(random, rows, width, 1, padding);
        Parameter dense(named.options, start, padding), sparse(named.options, start, padding);
        for (int step = 0; step < 3; ++step) {
          set_step(ctx, step, 0.1f);
          Rows list = random_rows(random, rows, width, share, padding);
          const std::vector<double> g64 = list.dense(rows);
          const HostMatrix g(rows, width, std::vector<float>(g64.begin(), g64.end()), padding);
          tested::optimizer_step(ctx, named.options, dense.w.view(), g.view(), dense.slots());
          tested::optimizer_step(ctx, named.options, sparse.w.view(), list.get(), sparse.slots());
        }
        expect_equal_bits(sparse.w.values(), dense.w.values(), named.name);
        for (int s = 0; s < slot_count(named.options); ++s) {
          expect_equal_bits(sparse.slot[s].values(), dense.slot[s].values(), named.name + " slot");
        }
        EXPECT_TRUE(sparse.padding_intact() && dense.padding_intact());
      }
    }
  }
}

TEST(OptimizerStep, AnEmptyListIsAGradientOfZeros) {
  // Also without any room for rows: capacity 0, null pointers.
  Random random(14);
  for (const NamedOptions& named : all_options()) {
    const Context ctx = make_context(1);
    set_step(ctx, 0, 0.1f);
    const HostMatrix start = HostMatrix::normal(random, 5, 9), ones(5, 9, 0, 1.0f), zeros(5, 9);
    Parameter dense(named.options, start), sparse(named.options, start);
    tested::optimizer_step(ctx, named.options, dense.w.view(), ones.view(), dense.slots());
    tested::optimizer_step(ctx, named.options, sparse.w.view(), ones.view(), sparse.slots());
    std::int64_t n = 0;
    const RowGradient none{nullptr, Matrix<float>(nullptr, 0, 9), &n, 0};
    tested::optimizer_step(ctx, named.options, dense.w.view(), zeros.view(), dense.slots());
    tested::optimizer_step(ctx, named.options, sparse.w.view(), none, sparse.slots());
    expect_equal_bits(sparse.w.values(), dense.w.values(), named.name);
    const std::vector<float> before = sparse.w.values();
    OptimizerOptions lazy = named.options;
    lazy.sparse = SparseUpdate::lazy;
    tested::optimizer_step(ctx, lazy, sparse.w.view(), none, sparse.slots());
    expect_equal_bits(sparse.w.values(), before, named.name);
  }
}

TEST(OptimizerStep, LazyTouchesListedRowsAlone) {
  Random random(5);
  for (NamedOptions named : all_options()) {
    named.options.sparse = SparseUpdate::lazy;
    const Context ctx = make_context(2);
    set_step(ctx, 0, 0.1f);
    const std::int64_t rows = 500, width = 40;
    Parameter p(named.options, HostMatrix::normal(random, rows, width));
    for (int step = 0; step < 4; ++step) {
      set_step(ctx, step, 0.1f);
      Rows list = random_rows(random, rows, width, 0.1);
      std::vector<bool> touched(rows);
      for (std::int64_t i = 0; i < list.n; ++i) touched[list.rows[i]] = true;
      const Parameter before = p;
      tested::optimizer_step(ctx, p.options, p.w.view(), list.get(), p.slots());
      oracle_step(p, list.dense(rows), step, 0.1f, touched);
      for (std::int64_t r = 0; r < rows; ++r) {
        if (touched[r]) continue;
        for (std::int64_t d = 0; d < width; ++d) {
          ASSERT_EQ(bits_of(p.w(r, d)), bits_of(before.w(r, d))) << named.name << " row " << r;
        }
      }
    }
    expect_parameter(p, named.name);
  }
}

TEST(OptimizerStep, DuplicatesOfBothTowersAreSummedBeforeAnySquare) {
  // One table used by both towers with rows in common: sum first, then g^2, in float64.
  Random random(6);
  const std::int64_t rows = 30, width = 8;
  const Context ctx = make_context(2);
  set_step(ctx, 0, 0.1f);
  for (const OptimizerKind kind : {OptimizerKind::adagrad, OptimizerKind::rowwise_adagrad}) {
    OptimizerOptions o;
    o.kind = kind;
    Parameter p(o, HostMatrix::normal(random, rows, width));
    for (int step = 0; step < 3; ++step) {
      const std::vector<std::int32_t> query = random.ids(50, rows),
                                      candidate = random.ids(70, rows);
      const HostMatrix d_query = HostMatrix::normal(random, 50, width);
      const HostMatrix d_candidate = HostMatrix::normal(random, 70, width);
      const TableUse uses[] = {
          {{query.data(), nullptr, nullptr, 50, 50}, Pooling::sum, d_query.view()},
          {{candidate.data(), nullptr, nullptr, 70, 70}, Pooling::sum, d_candidate.view()}};
      Rows list{std::vector<std::int32_t>(rows), HostMatrix(rows, width)};
      tested::embedding_bag_grad(ctx, uses, rows, list.get());
      tested::optimizer_step(ctx, o, p.w.view(), list.get(), p.slots());

      std::vector<double> summed(rows * width);
      std::vector<bool> touched(rows);
      for (int u = 0; u < 2; ++u) {
        const auto& ids = u == 0 ? query : candidate;
        const HostMatrix& d = u == 0 ? d_query : d_candidate;
        for (std::size_t i = 0; i < ids.size(); ++i) {
          touched[ids[i]] = true;
          for (std::int64_t j = 0; j < width; ++j) summed[ids[i] * width + j] += d(i, j);
        }
      }
      oracle_step(p, summed, step, 0.1f, touched);
    }
    expect_parameter(p, "both towers");
  }
}

TEST(OptimizerStep, EveryTargetGivesTheSameBits) {
  std::vector<std::vector<float>> results;
  for_each_target([&results] {
    results.emplace_back();
    for (const NamedOptions& named : all_options()) {
      Random random(8);
      const Context ctx = make_context(1);
      set_step(ctx, 0, 0.1f);
      Parameter p(named.options, HostMatrix::normal(random, 20, 77));
      const HostMatrix g = HostMatrix::normal(random, 20, 77);
      tested::optimizer_step(ctx, p.options, p.w.view(), g.view(), p.slots());
      const std::vector<float> w = p.w.values();
      results.back().insert(results.back().end(), w.begin(), w.end());
    }
  });
  for (const std::vector<float>& r : results) expect_equal_bits(r, results[0], "target");
}

TEST(OptimizerStep, NonFiniteValuesAreReported) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const NamedOptions& named : all_options()) {
    for (const float bad : {inf, -inf, kPadding, 3e38f}) {
      for (const bool listed : {false, true}) {
        const bool squares =
            named.options.kind != OptimizerKind::sgd && !named.options.clip_accumulator_update;
        if (bad == 3e38f && !squares) continue;  // it is g^2 that overflows
        Random random(9);
        const Context ctx = make_context(1);
        set_step(ctx, 0, 0.1f);
        Parameter p(named.options, HostMatrix::normal(random, 3, 19));
        HostMatrix g(3, 19);
        g(1, 17) = bad;
        Rows list{{0, 1, 2}, g, 3};
        if (listed) {
          tested::optimizer_step(ctx, p.options, p.w.view(), list.get(), p.slots());
        } else {
          tested::optimizer_step(ctx, p.options, p.w.view(), Matrix<const float>(g.view()),
                                 p.slots());
        }
        EXPECT_EQ(ctx.read_state().status, kStatusNonFinite) << named.name << ' ' << bad;
      }
    }
  }
}

TEST(OptimizerStep, ListedRowsOutsideTheTableAreReported) {
  using enum OptimizerKind;
  for (const auto& [kind, sparse] :
       {std::pair(adam, SparseUpdate::exact), std::pair(adam, SparseUpdate::lazy),
        std::pair(rowwise_adagrad, SparseUpdate::lazy)}) {
    for (const std::int32_t bad : {-1, 3}) {
      Random random(10);
      const Context ctx = make_context(1);
      set_step(ctx, 0, 0.1f);
      OptimizerOptions o;
      o.kind = kind;
      o.sparse = sparse;
      Parameter p(o, HostMatrix::normal(random, 3, 4));
      const std::vector<float> before = p.w.values();
      Rows list{{bad}, HostMatrix(1, 4, 0, 1.0f), 1};
      tested::optimizer_step(ctx, o, p.w.view(), list.get(), p.slots());
      EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
      expect_equal_bits(p.w.values(), before, "nothing moves");
    }
  }
}

TEST(OptimizerStep, RefusesBadArguments) {
  const Context ctx = make_context(1);
  HostMatrix w(3, 4), g(3, 4), small(3, 3), slot(3, 4), scalar(3, 1);
  OptimizerOptions o;
  const auto call = [&](const OptimizerOptions& options, Matrix<const float> gradient,
                        OptimizerSlots slots) {
    tested::optimizer_step(ctx, options, w.view(), gradient, slots);
  };
  EXPECT_NO_THROW(call(o, g.view(), {slot.view(), slot.view(), {}}));
  EXPECT_THROW(call(o, small.view(), {slot.view(), slot.view(), {}}), ContractError);
  EXPECT_THROW(call(o, g.view(), {slot.view(), {}, {}}), ContractError);
  EXPECT_THROW(call(o, g.view(), {slot.view(), small.view(), {}}), ContractError);
  OptimizerOptions bad = o;
  bad.amsgrad = true;
  EXPECT_THROW(call(bad, g.view(), {slot.view(), slot.view(), {}}), ContractError);
  bad = o;
  bad.kind = OptimizerKind::rowwise_adagrad;
  EXPECT_THROW(call(bad, g.view(), {slot.view(), {}, {}}), ContractError);
  EXPECT_NO_THROW(call(bad, g.view(), {scalar.view(), {}, {}}));
  for (float OptimizerOptions::*field :
       {&OptimizerOptions::beta_1, &OptimizerOptions::beta_2, &OptimizerOptions::momentum}) {
    for (const float value : {1.0f, -0.1f, kPadding}) {
      bad = o;
      bad.*field = value;
      EXPECT_THROW(call(bad, g.view(), {slot.view(), slot.view(), {}}), ContractError);
    }
  }
  bad = o;
  bad.epsilon = -1;
  EXPECT_THROW(call(bad, g.view(), {slot.view(), slot.view(), {}}), ContractError);
  bad = o;
  bad.weight_decay = -1;
  EXPECT_THROW(call(bad, g.view(), {slot.view(), slot.view(), {}}), ContractError);
  bad = o;
  bad.group = kMaxParameterGroups;
  EXPECT_THROW(call(bad, g.view(), {slot.view(), slot.view(), {}}), ContractError);

  Rows list{{0}, HostMatrix(1, 3), 1};
  EXPECT_THROW(tested::optimizer_step(ctx, o, w.view(), list.get(), {slot.view(), slot.view(), {}}),
               ContractError);
  Rows short_list{{0}, HostMatrix(1, 4), 1};
  RowGradient gradient = short_list.get();
  gradient.capacity = 2;
  EXPECT_THROW(tested::optimizer_step(ctx, o, w.view(), gradient, {slot.view(), slot.view(), {}}),
               ContractError);
  gradient.capacity = 1;
  gradient.n = nullptr;
  EXPECT_THROW(tested::optimizer_step(ctx, o, w.view(), gradient, {slot.view(), slot.view(), {}}),
               ContractError);
}

}  // namespace
}  // namespace belfry::test
