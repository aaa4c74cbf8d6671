// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention.hpp"

#include <gtest/gtest.h>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/tested_attention.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

struct Shape4 {
  std::int64_t lists, steps, heads, keys;
  std::string text() const {
    return std::to_string(lists) + "x" + std::to_string(steps) + ", " + std::to_string(heads) +
           " heads of " + std::to_string(keys);
  }
};
/// Steps around the tiles of 16, 32, 64; keys around 32, 64, 128 and not in whole fours.
constexpr Shape4 kShapes[] = {{1, 1, 1, 1},   {3, 5, 2, 4},   {2, 16, 1, 3},   {2, 17, 3, 7},
                              {1, 31, 1, 31}, {1, 32, 2, 8},  {2, 33, 1, 33},  {1, 48, 1, 64},
                              {1, 65, 2, 5},  {1, 40, 1, 65}, {1, 20, 1, 128}, {5, 2, 1, 6}};

/// q, k and v in one vector each; what the op computes, in float64.
struct Oracle {
  Shape4 s;
  StepMask mask;
  bool causal;
  std::int64_t width() const { return s.heads * s.keys; }
  std::vector<double> out(const std::vector<double>& q, const std::vector<double>& k,
                          const std::vector<double>& v) const {
    std::vector<double> y(q.size());
    for (std::int64_t b = 0; b < s.lists; ++b) {
      for (std::int64_t h = 0; h < s.heads; ++h) {
        for (std::int64_t i = 0; i < s.steps; ++i) add_step(b, h, i, q, k, v, y);
      }
    }
    return y;
  }

 private:
  void add_step(std::int64_t b, std::int64_t h, std::int64_t i, const std::vector<double>& q,
                const std::vector<double>& k, const std::vector<double>& v,
                std::vector<double>& y) const {
    const auto at = [&](std::int64_t t, std::int64_t c) {
      return static_cast<std::size_t>((b * s.steps + t) * width() + h * s.keys + c);
    };
    std::vector<double> p(static_cast<std::size_t>(s.steps));
    double sum = 0;
    for (std::int64_t j = 0; j < s.steps; ++j) {
      if (!mask.covers(b, j, s.steps) || (causal && j > i)) continue;
      double score = 0;
      for (std::int64_t c = 0; c < s.keys; ++c) score += q[at(i, c)] * k[at(j, c)];
      sum += p[static_cast<std::size_t>(j)] =
          std::exp(score / std::sqrt(static_cast<double>(s.keys)));
    }
    for (std::int64_t j = 0; sum > 0 && j < s.steps; ++j) {
      for (std::int64_t c = 0; c < s.keys; ++c) {
        y[at(i, c)] += p[static_cast<std::size_t>(j)] / sum * v[at(j, c)];
      }
    }
  }
};

std::vector<double> doubles(const HostMatrix& m) {
  const std::vector<float> v = m.values();
  return {v.begin(), v.end()};
}

struct Case {
  Shape4 shape;
  HostMask mask;
  bool causal;
  HostMatrix q, k, v, d_out, out, log_sum, d_q, d_k, d_v;

  Case(Random& random, const Shape4& s, int kind, bool is_causal, std::int64_t padding = 0)
      : shape(s), mask(make_mask(random, kind, s.lists, s.steps)), causal(is_causal) {
    const std::int64_t rows = s.lists * s.steps, cols = s.heads * s.keys;
    for (HostMatrix* m : {&q, &k, &v, &d_out}) {
      *m = HostMatrix::normal(random, rows, cols, 1, padding);
    }
    for (HostMatrix* m : {&out, &d_q, &d_k, &d_v}) *m = HostMatrix(rows, cols, padding);
    log_sum = HostMatrix(rows, s.heads, padding);
  }
  AttentionOptions options() const { return {shape.steps, shape.heads, mask.view(), causal}; }
  AttentionCall call() {
    return {q.view(), k.view(), v.view(), options(), out.view(), log_sum.view()};
  }
  AttentionGradCall grad_call() {
    return {q.view(),       k.view(),     v.view(),   options(),  out.view(),
            log_sum.view(), d_out.view(), d_q.view(), d_k.view(), d_v.view()};
  }
  void run(const Context& ctx) {
    tested::attention(ctx, call());
    tested::attention_grad(ctx, grad_call());
  }
  Oracle oracle() const { return {shape, mask.view(), causal}; }
  bool padding_intact() const {
    return out.padding_intact() && log_sum.padding_intact() && d_q.padding_intact() &&
           d_k.padding_intact() && d_v.padding_intact();
  }
  std::string text(int kind) const {
    return shape.text() + ", " + mask_name(kind) + (causal ? ", causal" : "");
  }
};

TEST(Attention, ByHand) {
  const Context ctx = make_context(1);
  Random random(1);
  // Two steps, one head of one column: scores q_i k_j.
  Case c(random, {1, 2, 1, 1}, 0, false);
  c.q = HostMatrix(2, 1, {1, 0});
  c.k = HostMatrix(2, 1, {std::log(3.0f), 0});
  c.v = HostMatrix(2, 1, {4, 8});
  c.d_out = HostMatrix(2, 1, {1, 1});
  c.run(ctx);
  // p = (3/4, 1/4), (1/2, 1/2).
  expect_near(c.out.values(), std::vector<double>{5, 6}, 1e-6, 0, "out");
  expect_near(c.log_sum.values(), std::vector<double>{std::log(4.0), std::log(2.0)}, 1e-6, 0,
              "log_sum");
  expect_near(c.d_v.values(), std::vector<double>{1.25, 0.75}, 1e-6, 0, "d_v");
  // d_s = p (v - out): (-3/4, 3/4), (-1, 1).
  expect_near(c.d_q.values(), std::vector<double>{-0.75 * std::log(3.0), -std::log(3.0)}, 1e-6,
              1e-7, "d_q");
  expect_near(c.d_k.values(), std::vector<double>{-0.75, 0.75}, 1e-6, 1e-7, "d_k");
  c.causal = true;
  c.run(ctx);
  expect_near(c.out.values(), std::vector<double>{4, 6}, 1e-6, 0, "causal out");
  expect_near(c.d_v.values(), std::vector<double>{1.5, 0.5}, 1e-6, 0, "causal d_v");
}

TEST(Attention, MatchesFloat64OnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(2);
    Random random(2);
    for (const Shape4& s : kShapes) {
      for (int kind = 0; kind < kMaskKinds; ++kind) {
        for (const bool causal : {false, true}) {
          Case c(random, s, kind, causal, kind);
          tested::attention(ctx, c.call());
          const std::string what = c.text(kind);
          expect_near(c.out.values(), c.oracle().out(doubles(c.q), doubles(c.k), doubles(c.v)),
                      2e-6, 2e-6, what);
          EXPECT_TRUE(c.padding_intact()) << what;
        }
      }
    }
  });
}

/// The gradient by one of q, k, v from the formula in float64 (checked by finite differences
/// below).
struct Gradients {
  std::vector<double> q, k, v;
};
Gradients gradients(const Case& c) {
  const Shape4& s = c.shape;
  const std::vector<double> q = doubles(c.q), k = doubles(c.k), v = doubles(c.v),
                            up = doubles(c.d_out), out = c.oracle().out(q, k, v);
  Gradients g{std::vector<double>(q.size()), std::vector<double>(q.size()),
              std::vector<double>(q.size())};
  const double scale = 1 / std::sqrt(static_cast<double>(s.keys));
  const StepMask mask = c.mask.view();
  for (std::int64_t b = 0; b < s.lists; ++b) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const auto at = [&](std::int64_t t, std::int64_t n) {
        return static_cast<std::size_t>((b * s.steps + t) * s.heads * s.keys + h * s.keys + n);
      };
      const auto dot = [&](const std::vector<double>& x, std::int64_t i,
                           const std::vector<double>& y, std::int64_t j) {
        double sum = 0;
        for (std::int64_t n = 0; n < s.keys; ++n) sum += x[at(i, n)] * y[at(j, n)];
        return sum;
      };
      for (std::int64_t i = 0; i < s.steps; ++i) {
        std::vector<double> p(static_cast<std::size_t>(s.steps));
        double sum = 0;
        for (std::int64_t j = 0; j < s.steps; ++j) {
          if (!mask.covers(b, j, s.steps) || (c.causal && j > i)) continue;
          sum += p[static_cast<std::size_t>(j)] = std::exp(dot(q, i, k, j) * scale);
        }
        if (sum == 0) continue;
        for (std::int64_t j = 0; j < s.steps; ++j) {
          const double pj = p[static_cast<std::size_t>(j)] / sum;
          const double d_s = pj * (dot(up, i, v, j) - dot(up, i, out, i)) * scale;
          for (std::int64_t n = 0; n < s.keys; ++n) {
            g.v[at(j, n)] += pj * up[at(i, n)];
            g.q[at(i, n)] += d_s * k[at(j, n)];
            g.k[at(j, n)] += d_s * q[at(i, n)];
          }
        }
      }
    }
  }
  return g;
}

TEST(Attention, GradientsMatchFloat64OnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(2);
    Random random(3);
    for (const Shape4& s : kShapes) {
      for (int kind = 0; kind < kMaskKinds; ++kind) {
        for (const bool causal : {false, true}) {
          if (on_device() && s.steps > 30 && kind != (causal ? 3 : 1)) continue;  // slow
          Case c(random, s, kind, causal, kind);
          c.run(ctx);
          const Gradients g = gradients(c);
          const std::string what = c.text(kind);
          expect_near(c.d_q.values(), g.q, 1e-5, 1e-5, what + ": d_q");
          expect_near(c.d_k.values(), g.k, 1e-5, 1e-5, what + ": d_k");
          expect_near(c.d_v.values(), g.v, 1e-5, 1e-5, what + ": d_v");
          EXPECT_TRUE(c.padding_intact()) << what;
        }
      }
    }
  });
}

TEST(Attention, GradientsMatchFiniteDifferences) {
  const Context ctx = make_context(1);
  Random random(4);
  for (int kind = 0; kind < kMaskKinds; ++kind) {
    for (const bool causal : {false, true}) {
      Case c(random, {3, 5, 2, 4}, kind, causal);
      c.run(ctx);
      const Oracle oracle = c.oracle();
      const std::vector<double> at[] = {doubles(c.q), doubles(c.k), doubles(c.v)};
      const std::vector<double> up = doubles(c.d_out);
      const HostMatrix* results[] = {&c.d_q, &c.d_k, &c.d_v};
      for (int part = 0; part < 3; ++part) {
        const auto f = [&](const std::vector<double>& x) {
          const auto pick = [&](int p) { return p == part ? x : at[p]; };
          const std::vector<double> y = oracle.out(pick(0), pick(1), pick(2));
          double sum = 0;
          for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * up[i];
          return sum;
        };
        expect_near(results[part]->values(), finite_differences(f, at[part], 1e-6), 1e-5, 1e-5,
                    c.text(kind) + " part " + std::to_string(part));
      }
    }
  }
}

TEST(Attention, LargeScoresAndStepsWithoutAnyToAttendTo) {
  for_each_target([] {
    const Context ctx = make_context(1);
    Random random(5);
    Case c(random, {4, 37, 1, 4}, 0, true);
    for (std::int64_t i = 0; i < c.q.rows(); ++i) {
      for (std::int64_t j = 0; j < 4; ++j) c.q(i, j) *= 1e3f;
    }
    // The first steps are left out: the causal ones see none, from 33 on all see some; one list is
    // empty.
    c.mask.valid.assign(4 * 37, 1);
    for (std::int64_t b = 0; b < 4; ++b) {
      std::fill_n(c.mask.valid.begin() + b * 37, b == 3 ? 37 : b == 2 ? 33 : b, 0);
    }
    c.run(ctx);
    for (std::int64_t i = 0; i < c.out.rows(); ++i) {
      const std::int64_t b = i / 37, first = b == 3 ? 37 : b == 2 ? 33 : b;
      const bool sees = i % 37 >= first;
      EXPECT_EQ(std::isinf(c.log_sum(i, 0)), !sees) << i;
      for (std::int64_t j = 0; j < 4; ++j) {
        EXPECT_TRUE(std::isfinite(c.out(i, j)) && std::isfinite(c.d_q(i, j)) &&
                    std::isfinite(c.d_k(i, j)) && std::isfinite(c.d_v(i, j)));
        if (sees) continue;
        EXPECT_EQ(c.out(i, j), 0.0f);
        EXPECT_EQ(c.d_q(i, j), 0.0f);
        EXPECT_EQ(c.d_k(i, j), 0.0f);
        EXPECT_EQ(c.d_v(i, j), 0.0f);
      }
    }
  });
}

TEST(Attention, StepsLeftOutAreWithoutInfluence) {
  const Context ctx = make_context(1);
  Random random(6);
  Case c(random, {6, 19, 2, 3}, 3, false), other = c;
  for (std::int64_t i = 0; i < c.k.rows(); ++i) {
    if (c.mask.view().covers(i / 19, i % 19, 19)) continue;
    for (std::int64_t j = 0; j < 6; ++j) other.k(i, j) = 1e4f, other.v(i, j) = -1e4f;
  }
  c.run(ctx);
  other.run(ctx);
  expect_equal_bits(other.out.values(), c.out.values(), "out");
  expect_equal_bits(other.d_q.values(), c.d_q.values(), "d_q");
  expect_equal_bits(other.d_v.values(), c.d_v.values(), "d_v");
  expect_equal_bits(other.d_k.values(), c.d_k.values(), "d_k");
}

TEST(Attention, NanStaysInItsList) {
  for_each_target([] {
    const Context ctx = make_context(1);
    Random random(7);
    Case c(random, {2, 3, 1, 5}, 0, false);
    c.k(4, 2) = std::numeric_limits<float>::quiet_NaN();
    tested::attention(ctx, c.call());
    for (std::int64_t i = 0; i < 6; ++i) {
      for (std::int64_t j = 0; j < 5; ++j) EXPECT_EQ(std::isnan(c.out(i, j)), i >= 3);
    }
  });
}

TEST(Attention, TakesColumnsOfOneMatrix) {
  const Context ctx = make_context(1);
  Random random(8);
  Case apart(random, {3, 6, 2, 4}, 1, true);
  HostMatrix all(18, 24);
  for (std::int64_t i = 0; i < 18; ++i) {
    for (std::int64_t j = 0; j < 8; ++j) {
      all(i, j) = apart.q(i, j), all(i, 8 + j) = apart.k(i, j), all(i, 16 + j) = apart.v(i, j);
    }
  }
  tested::attention(ctx, apart.call());
  HostMatrix out(18, 8), log_sum(18, 2);
  const Matrix<const float> m = std::as_const(all).view();
  tested::attention(ctx, {m.columns(0, 8), m.columns(8, 8), m.columns(16, 8), apart.options(),
                          out.view(), log_sum.view()});
  expect_near(out.values(), apart.out.values(), 1e-6, 1e-6, "out");
}

TEST(Attention, EmptySizes) {
  const Context ctx = make_context(1);
  Random random(9);
  for (const Shape4& s : {Shape4{0, 3, 2, 4}, Shape4{3, 3, 2, 0}}) {
    Case c(random, s, 1, false);
    EXPECT_NO_THROW(c.run(ctx));
  }
}

TEST(Attention, SameBitsWhateverTheSchedule) {
  Random random(10);
  Case c(random, {by_backend(70, 3), 39, 2, 9}, 3, true);
  std::vector<std::vector<float>> first;
  for_each_variant([&](const Context& ctx) {
    c.run(ctx);
    std::vector<std::vector<float>> all;
    for (const HostMatrix* m : {&c.out, &c.log_sum, &c.d_q, &c.d_k, &c.d_v}) {
      all.push_back(m->values());
    }
    if (first.empty()) first = all;
    for (std::size_t i = 0; i < all.size(); ++i) {
      expect_equal_bits(all[i], first[i], "output " + std::to_string(i));
    }
  });
}

TEST(Attention, BothBackendsAgree) {
  Random random(11);
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (int kind = 0; kind < kMaskKinds; ++kind) {
    for (const bool causal : {false, true}) {
      Case a(random, {2, 41, 2, 10}, kind, causal), b = a;
      a.run(ctx);
      b.run(cpu);
      const std::string what = a.text(kind);
      expect_near(a.out.values(), b.out.values(), 2e-6, 2e-6, what + ": out");
      expect_near(a.log_sum.values(), b.log_sum.values(), 2e-6, 2e-6, what + ": log_sum");
      expect_near(a.d_q.values(), b.d_q.values(), 1e-5, 1e-5, what + ": d_q");
      expect_near(a.d_k.values(), b.d_k.values(), 1e-5, 1e-5, what + ": d_k");
      expect_near(a.d_v.values(), b.d_v.values(), 1e-5, 1e-5, what + ": d_v");
    }
  }
}

TEST(Attention, CanBeReplayed) {
  Random random(12);
  const Shape4 s{3, 18, 2, 4};
  const std::int64_t rows = s.lists * s.steps, cols = s.heads * s.keys;
  const Context ctx = make_context(1);
  Case c(random, s, 1, true);
  Held<float> q(ctx, c.q.values()), k(ctx, c.k.values()), v(ctx, c.v.values()),
      d_out(ctx, c.d_out.values());
  const std::vector<float> junk = random.normals(rows * cols);
  Held<float> out(ctx, junk), d_q(ctx, junk), d_k(ctx, junk), d_v(ctx, junk),
      log_sum(ctx, random.normals(rows * s.heads));
  Held<std::int32_t> lengths(ctx, c.mask.lengths);
  const AttentionOptions o{s.steps, s.heads, {nullptr, lengths.data()}, true};
  const auto m = [&](Held<float>& held) { return held.matrix(rows, cols); };
  Replay replay(ctx, [&] {
    belfry::attention(ctx, {m(q), m(k), m(v), o, m(out), log_sum.matrix(rows, s.heads)});
    belfry::attention_grad(ctx, {m(q), m(k), m(v), o, m(out), log_sum.matrix(rows, s.heads),
                                 m(d_out), m(d_q), m(d_k), m(d_v)});
  });
  for (int round = 0; round < 2; ++round) {
    c.q = HostMatrix::normal(random, rows, cols);
    c.mask = make_mask(random, 1, s.lists, s.steps);
    q.set(c.q.values());
    lengths.set(c.mask.lengths);
    replay.run();
    c.run(ctx);
    expect_equal_bits(out.get(), c.out.values(), "out");
    expect_equal_bits(d_q.get(), c.d_q.values(), "d_q");
    expect_equal_bits(d_k.get(), c.d_k.values(), "d_k");
    expect_equal_bits(d_v.get(), c.d_v.values(), "d_v");
  }
}

TEST(Attention, RefusesWrongShapes) {
  const Context ctx = make_context(1);
  Random random(13);
  const Case good(random, {2, 3, 2, 4}, 0, false);
  const auto refuses = [&](auto&& spoil) {
    Case c = good;
    AttentionCall call = c.call();
    spoil(call);
    EXPECT_THROW(belfry::attention(ctx, call), ContractError);
    AttentionGradCall grad = c.grad_call();
    spoil(grad);
    EXPECT_THROW(belfry::attention_grad(ctx, grad), ContractError);
  };
  const auto grad_refuses = [&](auto&& spoil) {
    Case c = good;
    AttentionGradCall call = c.grad_call();
    spoil(call);
    EXPECT_THROW(belfry::attention_grad(ctx, call), ContractError);
  };
  for (const std::int64_t bad : {0, -1, 4}) {
    refuses([&](auto& k) { k.options.steps = bad; });
  }
  for (const std::int64_t bad : {0, -1, 3}) {
    refuses([&](auto& k) { k.options.heads = bad; });
  }
  refuses([](auto& k) {
    k.q.cols = k.k.cols = k.v.cols = k.out.cols = 258;
    k.q.pitch = 258;
  });
  refuses([](auto& k) { k.q.rows = std::int64_t{3} << 30; });
  refuses([](auto& k) { k.k.rows = 3; });
  refuses([](auto& k) { k.k.cols = 4; });
  refuses([](auto& k) { k.v.rows = 3; });
  refuses([](auto& k) { k.v.cols = 4; });
  refuses([](auto& k) { k.out.rows = 3; });
  refuses([](auto& k) { k.out.cols = 4; });
  refuses([](auto& k) { k.log_sum.rows = 3; });
  refuses([](auto& k) { k.log_sum.cols = 1; });
  grad_refuses([](AttentionGradCall& k) { k.d_out.rows = 3; });
  grad_refuses([](AttentionGradCall& k) { k.d_out.cols = 3; });
  grad_refuses([](AttentionGradCall& k) { k.d_q.rows = 3; });
  grad_refuses([](AttentionGradCall& k) { k.d_q.cols = 3; });
  grad_refuses([](AttentionGradCall& k) { k.d_k.rows = 3; });
  grad_refuses([](AttentionGradCall& k) { k.d_k.cols = 3; });
  grad_refuses([](AttentionGradCall& k) { k.d_v.rows = 3; });
  grad_refuses([](AttentionGradCall& k) { k.d_v.cols = 3; });
}

}  // namespace
}  // namespace belfry::test
