// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross/cross.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/tested_cross.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

constexpr float kScales[] = {0.0f, 0.3f};

/// Inputs of both directions; every matrix has a padding of its own.
struct Problem {
  HostMatrix x0, x, p, d_y;
  float scale = 0;
  Problem(Random& random, std::int64_t rows, std::int64_t cols, float diag_scale,
          std::int64_t padding = 0)
      : x0(HostMatrix::normal(random, rows, cols, 1, padding)),
        x(HostMatrix::normal(random, rows, cols, 1, 2 * padding)),
        p(HostMatrix::normal(random, rows, cols, 1, 3 * padding)),
        d_y(HostMatrix::normal(random, rows, cols, 1, padding)),
        scale(diag_scale) {}
  std::int64_t rows() const { return x0.rows(); }
  std::int64_t cols() const { return x0.cols(); }
  HostMatrix out(float value = -7.0f, std::int64_t padding = 0) const {
    return HostMatrix(rows(), cols(), padding, value);
  }
};

struct Gradients {
  HostMatrix d_p, d_x0, d_x;
};
/// `one`: x is x0. `old`: what is added to.
Gradients gradients(const Context& ctx, const Problem& q, bool one, bool add = false,
                    float old = -7.0f) {
  Gradients g{q.out(), q.out(old, 1), q.out(old, 2)};
  tested::cross_grad(
      ctx, {q.x0.view(), one ? q.x0.view() : q.x.view(), q.p.view(), q.scale, q.d_y.view(),
            g.d_p.view(), g.d_x0.view(), one ? Matrix<float>() : g.d_x.view(), add, add});
  EXPECT_TRUE(g.d_p.padding_intact() && g.d_x0.padding_intact() && g.d_x.padding_intact());
  return g;
}

HostMatrix forward(const Context& ctx, const Problem& q, bool one) {
  HostMatrix y = q.out(-7.0f, 1);
  tested::cross(ctx, {q.x0.view(), one ? q.x0.view() : q.x.view(), q.p.view(), q.scale, y.view()});
  EXPECT_TRUE(y.padding_intact());
  return y;
}

double oracle(double x0, double x, double p, double s) {
  return x0 * (p + s * x) + x;
}

TEST(Cross, ByHand) {  // kernels of ones: p is the sum of x
  const Context ctx = make_context(1);
  const HostMatrix x0(1, 3, {0.1f, 0.2f, 0.3f}), x(1, 3, {0.4f, 0.5f, 0.6f});
  const HostMatrix p(1, 3, {1.5f, 1.5f, 1.5f}), p0(1, 3, {0.6f, 0.6f, 0.6f});
  HostMatrix y(1, 3);
  tested::cross(ctx, {x0.view(), x.view(), p.view(), 0, y.view()});
  expect_near(y.values(), std::vector<double>{0.55, 0.80, 1.05}, 1e-6, 0, "two inputs");
  tested::cross(ctx, {x0.view(), x0.view(), p0.view(), 0, y.view()});
  expect_near(y.values(), std::vector<double>{0.16, 0.32, 0.48}, 1e-6, 0, "one input");
  tested::cross(ctx, {x0.view(), x.view(), p.view(), 1, y.view()});
  expect_near(y.values(), std::vector<double>{0.59, 0.90, 1.23}, 1e-6, 0, "diag_scale");
}

TEST(Cross, MatchesFloat64OnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(2);
    Random random(1);
    std::int64_t padding = 0;
    for (const Shape& s : nasty_shapes()) {
      for (const float scale : kScales) {
        for (const bool one : {false, true}) {
          const std::string what = std::to_string(s.rows) + "x" + std::to_string(s.cols);
          const Problem q(random, s.rows, s.cols, scale, padding++ % 3);
          std::vector<double> y, d_p, d_x0, d_x;
          for (std::int64_t i = 0; i < s.rows; ++i) {
            for (std::int64_t j = 0; j < s.cols; ++j) {
              const double x0 = q.x0(i, j), x = one ? q.x0(i, j) : q.x(i, j), g = q.d_y(i, j);
              const double u = q.p(i, j) + double{scale} * x;
              y.push_back(x0 * u + x);
              d_p.push_back(g * x0);
              d_x.push_back(g + scale * g * x0);
              d_x0.push_back(g * u + (one ? d_x.back() : 0));
            }
          }
          expect_near(forward(ctx, q, one).values(), y, 1e-6, 1e-6, what + " y");
          const Gradients g = gradients(ctx, q, one);
          expect_near(g.d_p.values(), d_p, 1e-6, 1e-9, what + " d_p");
          expect_near(g.d_x0.values(), d_x0, 1e-6, 1e-6, what + " d_x0");
          const std::vector<double> untouched(d_x.size(), -7.0);
          expect_near(g.d_x.values(), one ? untouched : d_x, 1e-6, 1e-6, what + " d_x");
        }
      }
    }
  });
}

TEST(CrossGrad, IsTheFiniteDifferenceOfTheOracle) {
  Random random(2);
  const Context ctx = make_context(1);
  for (const float scale : kScales) {
    for (const bool one : {false, true}) {
      const Problem q(random, 1, 5, scale);
      std::vector<double> at;  // x0, x, p
      for (const HostMatrix* m : {&q.x0, &q.x, &q.p}) {
        for (const float v : m->values()) at.push_back(v);
      }
      const auto loss = [&](const std::vector<double>& v) {
        double sum = 0;
        for (int j = 0; j < 5; ++j) {
          sum += q.d_y(0, j) * oracle(v[j], one ? v[j] : v[5 + j], v[10 + j], scale);
        }
        return sum;
      };
      const std::vector<double> expected = finite_differences(loss, at);
      const Gradients g = gradients(ctx, q, one);
      const auto part = [&](int first) {
        return std::vector<double>(expected.begin() + first, expected.begin() + first + 5);
      };
      expect_near(g.d_x0.values(), part(0), 1e-5, 1e-5, "d_x0");
      if (!one) expect_near(g.d_x.values(), part(5), 1e-5, 1e-5, "d_x");
      expect_near(g.d_p.values(), part(10), 1e-5, 1e-5, "d_p");
    }
  }
}

TEST(CrossGrad, AddsToWhatIsThere) {
  Random random(3);
  const Context ctx = make_context(1);
  for (const std::int64_t cols : {5, 8}) {
    for (const bool one : {false, true}) {
      const Problem q(random, 33, cols, 0.5f);
      const Gradients fresh = gradients(ctx, q, one), added = gradients(ctx, q, one, true, 3.0f);
      std::vector<float> x0 = fresh.d_x0.values(), x = fresh.d_x.values();
      for (float& v : x0) v = 3.0f + v;
      for (float& v : x) v = one ? 3.0f : 3.0f + v;
      expect_equal_bits(added.d_x0.values(), x0, "d_x0");
      expect_equal_bits(added.d_x.values(), x, "d_x");
      expect_equal_bits(added.d_p.values(), fresh.d_p.values(), "d_p is not added to");
    }
  }
}

TEST(CrossGrad, AddsToEitherAlone) {
  Random random(4);
  const Context ctx = make_context(1);
  const Problem q(random, 3, 7, 0.5f);
  const Gradients fresh = gradients(ctx, q, false);
  for (const bool to_x0 : {false, true}) {
    HostMatrix d_p = q.out(), d_x0 = q.out(1.0f), d_x = q.out(1.0f);
    tested::cross_grad(ctx, {q.x0.view(), q.x.view(), q.p.view(), q.scale, q.d_y.view(), d_p.view(),
                             d_x0.view(), d_x.view(), to_x0, !to_x0});
    EXPECT_EQ(d_x0(1, 2), (to_x0 ? 1.0f : 0.0f) + fresh.d_x0(1, 2));
    EXPECT_EQ(d_x(1, 2), (to_x0 ? 0.0f : 1.0f) + fresh.d_x(1, 2));
  }
}

TEST(Cross, WorksInPlace) {
  Random random(5);
  const Context ctx = make_context(2);
  for (const std::int64_t cols : {12, 33}) {
    const Problem q(random, 70, cols, 0.5f);
    const std::vector<float> y = forward(ctx, q, false).values();
    HostMatrix x0 = q.x0, x = q.x, p = q.p;
    tested::cross(ctx, {x0.view(), q.x.view(), q.p.view(), q.scale, x0.view()});
    tested::cross(ctx, {q.x0.view(), x.view(), q.p.view(), q.scale, x.view()});
    tested::cross(ctx, {q.x0.view(), q.x.view(), p.view(), q.scale, p.view()});
    expect_equal_bits(x0.values(), y, "y is x0");
    expect_equal_bits(x.values(), y, "y is x");
    expect_equal_bits(p.values(), y, "y is p");

    const Gradients g = gradients(ctx, q, false);
    HostMatrix on_x = q.d_y, on_p = q.d_y, d_p = q.out(), d_x0 = q.out(), d_x = q.out();
    tested::cross_grad(ctx, {q.x0.view(), q.x.view(), q.p.view(), q.scale, on_x.view(), d_p.view(),
                             d_x0.view(), on_x.view()});
    expect_equal_bits(on_x.values(), g.d_x.values(), "d_x is d_y");
    expect_equal_bits(d_p.values(), g.d_p.values(), "d_p beside it");
    expect_equal_bits(d_x0.values(), g.d_x0.values(), "d_x0 beside it");
    tested::cross_grad(ctx, {q.x0.view(), q.x.view(), q.p.view(), q.scale, on_p.view(), on_p.view(),
                             d_x0.view(), d_x.view()});
    expect_equal_bits(on_p.values(), g.d_p.values(), "d_p is d_y");
    expect_equal_bits(d_x.values(), g.d_x.values(), "d_x beside it");
    expect_equal_bits(d_x0.values(), g.d_x0.values(), "d_x0 beside it, too");
  }
}

TEST(Cross, AnyMatrixMayBeTheOneThatIsNotAligned) {
  Random random(10);
  const Context ctx = make_context(1);
  const Problem q(random, 9, 8, 0.5f);
  const HostMatrix y = forward(ctx, q, false);
  const Gradients g = gradients(ctx, q, false);
  const auto odd = [](const HostMatrix& m, bool unaligned) {
    return HostMatrix(m.rows(), m.cols(), m.values(), unaligned ? 1 : 0);
  };
  for (int which = 0; which < 8; ++which) {
    const HostMatrix x0 = odd(q.x0, which == 0), x = odd(q.x, which == 1), p = odd(q.p, which == 2);
    const HostMatrix d_y = odd(q.d_y, which == 3);
    HostMatrix out = odd(q.out(), which == 4), d_p = odd(q.out(), which == 5);
    HostMatrix d_x0 = odd(q.out(), which == 6), d_x = odd(q.out(), which == 7);
    tested::cross(ctx, {x0.view(), x.view(), p.view(), q.scale, out.view()});
    tested::cross_grad(ctx, {x0.view(), x.view(), p.view(), q.scale, d_y.view(), d_p.view(),
                             d_x0.view(), d_x.view()});
    expect_equal_bits(out.values(), y.values(), "y");
    expect_equal_bits(d_p.values(), g.d_p.values(), "d_p");
    expect_equal_bits(d_x0.values(), g.d_x0.values(), "d_x0");
    expect_equal_bits(d_x.values(), g.d_x.values(), "d_x");
  }
}

TEST(Cross, WithoutDiagScaleAnInfiniteInputAddsNoNan) {
  const float inf = std::numeric_limits<float>::infinity();
  for_each_target([&] {
    const Context ctx = make_context(1);
    for (const std::int64_t cols : {1, 64}) {
      Random random(6);
      Problem q(random, 1, cols, 0);
      q.x = HostMatrix(1, cols, 0, inf);
      q.x0 = HostMatrix(1, cols, 0, inf);
      q.p = HostMatrix(1, cols, 0, 1.0f);
      q.d_y = HostMatrix(1, cols, 0, 1.0f);
      EXPECT_EQ(forward(ctx, q, false)(0, cols - 1), inf);
      const Gradients g = gradients(ctx, q, false);
      EXPECT_EQ(g.d_x(0, cols - 1), 1.0f);
      EXPECT_EQ(g.d_x0(0, cols - 1), 1.0f);
    }
  });
}

TEST(Cross, SameBitsWhateverTheSchedule) {
  Random random(7);
  for (const std::int64_t cols : {37, 40}) {
    const Problem q(random, by_backend(5000, 300), cols, 0.5f);
    std::vector<float> y, d_p, d_x0, d_x;
    for_each_variant([&](const Context& ctx) {
      const HostMatrix out = forward(ctx, q, false);
      const Gradients g = gradients(ctx, q, false);
      if (y.empty()) y = out.values(), d_p = g.d_p.values(), d_x0 = g.d_x0.values();
      if (d_x.empty()) d_x = g.d_x.values();
      expect_equal_bits(out.values(), y, "y");
      expect_equal_bits(g.d_p.values(), d_p, "d_p");
      expect_equal_bits(g.d_x0.values(), d_x0, "d_x0");
      expect_equal_bits(g.d_x.values(), d_x, "d_x");
    });
  }
}

TEST(Cross, EveryTargetAndBackendGivesTheSameBits) {
  Random random(8);
  for (const std::int64_t cols : {31, 36}) {
    for (const float scale : kScales) {
      for (const bool one : {false, true}) {
        const Problem q(random, 60, cols, scale);
        const Context cpu(Backend::cpu, 1);
        const HostMatrix y = forward(cpu, q, one);
        const Gradients g = gradients(cpu, q, one, true, 0.25f);
        for_each_target([&] {
          const Context ctx = make_context(1);
          expect_equal_bits(forward(ctx, q, one).values(), y.values(), "y");
          const Gradients other = gradients(ctx, q, one, true, 0.25f);
          expect_equal_bits(other.d_p.values(), g.d_p.values(), "d_p");
          expect_equal_bits(other.d_x0.values(), g.d_x0.values(), "d_x0");
          expect_equal_bits(other.d_x.values(), g.d_x.values(), "d_x");
        });
      }
    }
  }
}

TEST(Cross, CanBeReplayed) {
  Random random(9);
  const std::int64_t rows = 50, cols = 24, n = rows * cols;
  const Context ctx = make_context(1);
  const auto held = [&] { return Held<float>(ctx, random.normals(n)); };
  Held<float> x0 = held(), x = held(), p = held(), y = held(), d_y = held(), d_p = held(),
              d_x0 = held(), d_x = held();
  const auto m = [&](Held<float>& h) { return h.matrix(rows, cols); };
  Replay replay(ctx, [&] {
    belfry::cross(ctx, {m(x0), m(x), m(p), 0.5f, m(y)});
    belfry::cross_grad(ctx, {m(x0), m(x), m(p), 0.5f, m(d_y), m(d_p), m(d_x0), m(d_x)});
  });
  for (int round = 0; round < 2; ++round) {
    const Problem q(random, rows, cols, 0.5f);
    x0.set(q.x0.values());
    x.set(q.x.values());
    p.set(q.p.values());
    d_y.set(q.d_y.values());
    replay.run();
    const Gradients g = gradients(ctx, q, false);
    expect_equal_bits(y.get(), forward(ctx, q, false).values(), "y");
    expect_equal_bits(d_p.get(), g.d_p.values(), "d_p");
    expect_equal_bits(d_x0.get(), g.d_x0.values(), "d_x0");
    expect_equal_bits(d_x.get(), g.d_x.values(), "d_x");
  }
}

TEST(Cross, RefusesWrongShapesAndAliases) {
  const Context ctx = make_context(1);
  HostMatrix a(2, 3), b(2, 3), c(2, 3), y(2, 3), rows(3, 3), cols(2, 4);
  const CrossCall good{a.view(), b.view(), c.view(), 0.5f, y.view()};
  const auto refuses = [&](auto&& change) {
    CrossCall call = good;
    change(call);
    EXPECT_THROW(belfry::cross(ctx, call), ContractError);
  };
  EXPECT_NO_THROW(tested::cross(ctx, good));
  for (HostMatrix* wrong : {&rows, &cols}) {
    refuses([&](CrossCall& call) { call.x0 = wrong->view(); });
    refuses([&](CrossCall& call) { call.x = wrong->view(); });
    refuses([&](CrossCall& call) { call.p = wrong->view(); });
    refuses([&](CrossCall& call) { call.y = wrong->view(); });
  }
  refuses([](CrossCall& call) { call.diag_scale = -1.0f; });
  refuses([](CrossCall& call) { call.diag_scale = std::numeric_limits<float>::quiet_NaN(); });
  for (HostMatrix* in : {&a, &b, &c}) {  // the input, but with other steps between rows
    refuses([&](CrossCall& call) { call.y = Matrix<float>(in->view().data, 2, 3, 4); });
  }
}

TEST(CrossGrad, RefusesWrongShapesAndAliases) {
  const Context ctx = make_context(1);
  HostMatrix a(2, 3), b(2, 3), c(2, 3), d_y(2, 3), d_p(2, 3), d_x0(2, 3), d_x(2, 3);
  HostMatrix rows(3, 3), cols(2, 4);
  const CrossGradCall good{a.view(),   b.view(),   c.view(),    0.5f,
                           d_y.view(), d_p.view(), d_x0.view(), d_x.view()};
  const auto refuses = [&](auto&& change) {
    CrossGradCall call = good;
    change(call);
    EXPECT_THROW(belfry::cross_grad(ctx, call), ContractError);
  };
  EXPECT_NO_THROW(tested::cross_grad(ctx, good));
  for (HostMatrix* wrong : {&rows, &cols}) {
    refuses([&](CrossGradCall& call) { call.x0 = wrong->view(); });
    refuses([&](CrossGradCall& call) { call.x = wrong->view(); });
    refuses([&](CrossGradCall& call) { call.p = wrong->view(); });
    refuses([&](CrossGradCall& call) { call.d_y = wrong->view(); });
    refuses([&](CrossGradCall& call) { call.d_p = wrong->view(); });
    refuses([&](CrossGradCall& call) { call.d_x0 = wrong->view(); });
    refuses([&](CrossGradCall& call) { call.d_x = wrong->view(); });
  }
  refuses([](CrossGradCall& call) { call.diag_scale = -1.0f; });
  const Matrix<float> wide(d_y.view().data, 2, 3, 4);
  refuses([&](CrossGradCall& call) { call.d_p = wide; });
  refuses([&](CrossGradCall& call) { call.d_x = wide; });
  refuses([&](CrossGradCall& call) { call.d_x = call.d_p; });
  refuses([&](CrossGradCall& call) { call.d_x = call.d_x0; });
  refuses([&](CrossGradCall& call) { call.d_p = call.d_x0; });
  refuses([&](CrossGradCall& call) { call.d_x0 = d_y.view(); });
}

}  // namespace
}  // namespace belfry::test
