// SPDX-License-Identifier: Apache-2.0
#include "kernels/gru/gru.hpp"

#include <gtest/gtest.h>

#include "tests/support/compare.hpp"
#include "tests/support/gru_oracle.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

constexpr GruShape kShapes[] = {{1, 1, 1, 1},  {5, 7, 3, 1},   {2, 3, 0, 2},  {3, 5, 4, 6},
                                {4, 3, 7, 31}, {3, 2, 33, 32}, {2, 4, 5, 33}, {33, 2, 3, 5},
                                {1, 33, 2, 3}, {9, 1, 2, 17}};

TEST(Gru, ByHand) {
  const Context ctx = make_context(1);
  Random random(1);
  GruCase c(random, {2, 2, 1, 1}, 0);
  // Without weights h: z = r = 1/2 and n = tanh(x), so that h_1 = n_1 / 2, h_2 = h_1 / 2 + n_2 / 2.
  c.x = HostMatrix(4, 1, {1, 2, 3, 4});
  c.kernel = HostMatrix(1, 3, {0, 0, 1});
  c.recurrent = HostMatrix(1, 3, {0, 0, 0});
  c.bias = HostMatrix(2, 3, {0, 0, 0, 0, 0, 0});
  c.d_states = HostMatrix(4, 1, {0, 0, 0, 1});
  c.d_last = HostMatrix(2, 1, {2, 0});
  c.mask.lengths = {2, 1};
  c.run(ctx);
  const double n1 = std::tanh(1.0), n2 = std::tanh(2.0), n3 = std::tanh(3.0);
  expect_near(c.states.values(), std::vector<double>{n1 / 2, n1 / 4 + n2 / 2, n3 / 2, n3 / 2}, 1e-6,
              0, "states");
  // The second list's last step is left out: what it owes goes to its first step.
  expect_near(c.d_x.values(),
              std::vector<double>{(1 - n1 * n1) / 2, 1 - n2 * n2, (1 - n3 * n3) / 2, 0}, 1e-6, 1e-7,
              "d_x");
  // h enters through the biases of the recurrent side alone: c.bias(1, 2) meets r = 1/2.
  expect_near(std::vector<float>{c.d_bias(1, 2)},
              std::vector<double>{0.5 * ((1 - n1 * n1) / 2 + (1 - n2 * n2) + (1 - n3 * n3) / 2)},
              1e-6, 0, "d_bias");
}

TEST(Gru, StatesMatchFloat64OnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(2);
    Random random(2);
    for (const GruShape& s : kShapes) {
      for (int kind = 0; kind < kMaskKinds; ++kind) {
        GruCase c(random, s, kind, kind);
        c.with_bias = kind != 2;
        tested::gru(ctx, c.call());
        const std::string what = s.text() + ", " + mask_name(kind);
        expect_near(c.states.values(), c.expected_states(), 2e-6, 2e-6, what);
        EXPECT_TRUE(c.padding_intact()) << what;
      }
    }
  });
}

TEST(Gru, GradientsMatchFiniteDifferences) {
  const Context ctx = make_context(2);
  Random random(3);
  for (const GruShape& s : kShapes) {
    for (int kind = 0; kind < kMaskKinds; ++kind) {
      if (s.units > 30 && kind != 3) continue;  // slow to differentiate
      GruCase c(random, s, kind, kind);
      c.with_bias = kind != 2;
      c.with_states = kind != 1;
      c.with_last = kind != 0;
      c.run(ctx);
      const GruInputs64 at = c.inputs();
      const auto compare = [&](const HostMatrix& gradient, std::vector<double> GruInputs64::*member,
                               const char* name) {
        const auto f = [&](const std::vector<double>& v) {
          GruInputs64 in = at;
          in.*member = v;
          return c.loss(in);
        };
        expect_near(gradient.values(), finite_differences(f, at.*member, 1e-6), 2e-5, 2e-5,
                    s.text() + ", " + mask_name(kind) + ": " + name);
      };
      compare(c.d_x, &GruInputs64::x, "d_x");
      compare(c.d_kernel, &GruInputs64::kernel, "d_kernel");
      compare(c.d_recurrent, &GruInputs64::recurrent, "d_recurrent");
      if (c.with_bias) compare(c.d_bias, &GruInputs64::bias, "d_bias");
      EXPECT_TRUE(c.padding_intact()) << s.text();
    }
  }
}

TEST(Gru, StepsLeftOutCarryTheStateAndOweNothing) {
  const Context ctx = make_context(1);
  Random random(4);
  GruCase c(random, {9, 6, 4, 5}, 3);
  c.run(ctx);
  const StepMask mask = c.mask.view();
  int left_out = 0;
  for (std::int64_t i = 0; i < c.states.rows(); ++i) {
    const std::int64_t list = i / 6, t = i % 6;
    if (mask.covers(list, t, 6)) continue;
    ++left_out;
    for (std::int64_t j = 0; j < 5; ++j) {
      EXPECT_EQ(bits_of(c.states(i, j)), bits_of(t > 0 ? c.states(i - 1, j) : 0.0f)) << i;
    }
    for (std::int64_t j = 0; j < 4; ++j) EXPECT_EQ(c.d_x(i, j), 0.0f) << i;
    for (std::int64_t j = 0; j < 20; ++j) EXPECT_EQ(c.gates(i, j), 0.0f) << i;
  }
  EXPECT_GT(left_out, 10);
}

TEST(Gru, EmptySizes) {
  const Context ctx = make_context(1);
  Random random(5);
  for (const GruShape& s : {GruShape{0, 3, 2, 4}, GruShape{3, 2, 2, 0}, GruShape{0, 1, 0, 0}}) {
    GruCase c(random, s, 1);
    for (HostMatrix* m : {&c.d_kernel, &c.d_recurrent, &c.d_bias, &c.d_x}) {
      *m = HostMatrix(m->rows(), m->cols(), 0, 7.0f);
    }
    c.run(ctx);
    for (HostMatrix* m : {&c.d_kernel, &c.d_recurrent, &c.d_bias, &c.d_x}) {
      for (const float v : m->values()) EXPECT_EQ(v, 0.0f);
    }
  }
}

TEST(Gru, LeavesOutWhatIsNotWanted) {
  const Context ctx = make_context(1);
  Random random(6);
  GruCase c(random, {4, 3, 2, 5}, 1), bare = c;
  c.run(ctx);
  bare.with_x = false;
  bare.run(ctx);
  expect_equal_bits(bare.d_kernel.values(), c.d_kernel.values(), "d_kernel");
  expect_equal_bits(bare.d_x.values(), std::vector<float>(24, 0.0f), "d_x");
  // No upstream gradient at all.
  c.with_states = c.with_last = false;
  c.run(ctx);
  for (const float v : c.d_recurrent.values()) EXPECT_EQ(v, 0.0f);
}

TEST(Gru, NanStaysNan) {
  for_each_target([] {
    const Context ctx = make_context(1);
    Random random(7);
    GruCase c(random, {2, 3, 2, 17}, 0);
    c.x(1, 0) = std::numeric_limits<float>::quiet_NaN();
    tested::gru(ctx, c.call());
    for (std::int64_t j = 0; j < 17; ++j) {
      EXPECT_FALSE(std::isnan(c.states(0, j)));
      EXPECT_TRUE(std::isnan(c.states(1, j)) && std::isnan(c.states(2, j)));
      EXPECT_FALSE(std::isnan(c.states(5, j)));
    }
  });
}

TEST(Gru, SameBitsWhateverTheSchedule) {
  Random random(8);
  GruCase c(random, {by_backend(600, 13), 4, 9, 21}, 3);
  std::vector<std::vector<float>> first;
  for_each_variant([&](const Context& ctx) {
    c.run(ctx);
    std::vector<std::vector<float>> all;
    for (const HostMatrix* m : {&c.states, &c.d_kernel, &c.d_recurrent, &c.d_bias, &c.d_x}) {
      all.push_back(m->values());
    }
    if (first.empty()) first = all;
    for (std::size_t i = 0; i < all.size(); ++i) {
      expect_equal_bits(all[i], first[i], "output " + std::to_string(i));
    }
  });
}

TEST(Gru, BothBackendsAgree) {
  Random random(9);
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (int kind = 0; kind < kMaskKinds; ++kind) {
    GruCase a(random, {11, 8, 6, 35}, kind), b = a;
    a.run(ctx);
    b.run(cpu);
    const std::string what = mask_name(kind);
    expect_near(a.states.values(), b.states.values(), 3e-6, 3e-6, what + " states");
    expect_near(a.d_x.values(), b.d_x.values(), 1e-5, 1e-5, what + " d_x");
    expect_near(a.d_kernel.values(), b.d_kernel.values(), 1e-5, 3e-5, what + " d_kernel");
    expect_near(a.d_recurrent.values(), b.d_recurrent.values(), 1e-5, 3e-5, what + " d_recurrent");
    expect_near(a.d_bias.values(), b.d_bias.values(), 1e-5, 3e-5, what + " d_bias");
  }
}

TEST(Gru, CanBeReplayed) {
  Random random(10);
  const GruShape s{5, 4, 3, 7};
  const std::int64_t rows = s.lists * s.steps, n = s.units;
  const Context ctx = make_context(1);
  GruCase c(random, s, 1);
  Held<float> x(ctx, c.x.values()), kernel(ctx, c.kernel.values()),
      recurrent(ctx, c.recurrent.values()), bias(ctx, c.bias.values()),
      d_states(ctx, c.d_states.values()), d_last(ctx, c.d_last.values());
  Held<float> gates(ctx, random.normals(rows * 4 * n)), states(ctx, random.normals(rows * n)),
      d_kernel(ctx, random.normals(s.inputs * 3 * n)), d_recurrent(ctx, random.normals(n * 3 * n)),
      d_bias(ctx, random.normals(6 * n)), d_x(ctx, random.normals(rows * s.inputs));
  Held<std::int32_t> lengths(ctx, c.mask.lengths);
  const GruParameters parameters{kernel.matrix(s.inputs, 3 * n), recurrent.matrix(n, 3 * n),
                                 bias.matrix(2, 3 * n)};
  const StepMask mask{nullptr, lengths.data()};
  Replay replay(ctx, [&] {
    belfry::gru(ctx, {x.matrix(rows, s.inputs), s.steps, mask, parameters,
                      gates.matrix(rows, 4 * n), states.matrix(rows, n)});
    belfry::gru_grad(
        ctx, {x.matrix(rows, s.inputs), s.steps, mask, parameters, states.matrix(rows, n),
              gates.matrix(rows, 4 * n), d_states.matrix(rows, n), d_last.matrix(s.lists, n),
              d_kernel.matrix(s.inputs, 3 * n), d_recurrent.matrix(n, 3 * n),
              d_bias.matrix(2, 3 * n), d_x.matrix(rows, s.inputs)});
  });
  for (int round = 0; round < 2; ++round) {
    c.x = HostMatrix::normal(random, rows, s.inputs);
    c.mask = make_mask(random, 1, s.lists, s.steps);
    x.set(c.x.values());
    lengths.set(c.mask.lengths);
    replay.run();
    c.run(ctx);
    expect_equal_bits(states.get(), c.states.values(), "states");
    expect_equal_bits(d_kernel.get(), c.d_kernel.values(), "d_kernel");
    expect_equal_bits(d_recurrent.get(), c.d_recurrent.values(), "d_recurrent");
    expect_equal_bits(d_bias.get(), c.d_bias.values(), "d_bias");
    expect_equal_bits(d_x.get(), c.d_x.values(), "d_x");
  }
}

TEST(Gru, RefusesWrongShapes) {
  const Context ctx = make_context(1);
  Random random(11);
  const GruCase good(random, {2, 3, 4, 5}, 0);
  const auto refuses = [&](auto&& spoil) {
    GruCase c = good;
    GruCall call = c.call();
    spoil(call);
    EXPECT_THROW(tested::gru(ctx, call), ContractError);
  };
  const auto grad_refuses = [&](auto&& spoil) {
    GruCase c = good;
    GruGradCall call = c.grad_call();
    spoil(call);
    EXPECT_THROW(tested::gru_grad(ctx, call), ContractError);
  };
  GruCase c = good;
  EXPECT_NO_THROW(c.run(ctx));
  HostMatrix other(3, 5);
  for (const std::int64_t steps : {0, -1, 4}) {
    refuses([&](GruCall& k) { k.steps = steps; });
    grad_refuses([&](GruGradCall& k) { k.steps = steps; });
  }
  refuses([&](GruCall& k) { k.parameters.kernel.rows = 3; });
  refuses([&](GruCall& k) { k.parameters.kernel.cols = 14; });
  refuses([&](GruCall& k) { k.parameters.recurrent.cols = 14; });
  refuses([&](GruCall& k) { k.parameters.bias.rows = 1; });
  refuses([&](GruCall& k) { k.parameters.bias.cols = 14; });
  refuses([&](GruCall& k) { k.gates.rows = 5; });
  refuses([&](GruCall& k) { k.gates.cols = 19; });
  refuses([&](GruCall& k) { k.states.rows = 5; });
  refuses([&](GruCall& k) { k.states.cols = 4; });
  grad_refuses([&](GruGradCall& k) { k.gates.cols = 15; });
  grad_refuses([&](GruGradCall& k) { k.d_states = other.view(); });
  grad_refuses([&](GruGradCall& k) { k.d_states.cols = 4; });
  grad_refuses([&](GruGradCall& k) { k.d_last = other.view(); });
  grad_refuses([&](GruGradCall& k) { k.d_last.cols = 4; });
  grad_refuses([&](GruGradCall& k) { k.d_kernel.rows = 3; });
  grad_refuses([&](GruGradCall& k) { k.d_kernel.cols = 5; });
  grad_refuses([&](GruGradCall& k) { k.d_recurrent.rows = 4; });
  grad_refuses([&](GruGradCall& k) { k.d_recurrent.cols = 5; });
  grad_refuses([&](GruGradCall& k) { k.d_bias.rows = 1; });
  grad_refuses([&](GruGradCall& k) { k.d_bias.cols = 5; });
  grad_refuses([&](GruGradCall& k) { k.d_x.rows = 5; });
  grad_refuses([&](GruGradCall& k) { k.d_x.cols = 5; });
}

}  // namespace
}  // namespace belfry::test
