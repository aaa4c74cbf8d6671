// SPDX-License-Identifier: Apache-2.0
#include "kernels/layer_norm/layer_norm.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/tested_layer_norm.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

struct Problem {
  HostMatrix x, d_y;
  std::vector<float> gamma, beta;
  float epsilon = kLayerNormEpsilon;
  Problem(Random& random, std::int64_t rows, std::int64_t cols, std::int64_t padding = 0)
      : x(HostMatrix::normal(random, rows, cols, 2, padding)),
        d_y(HostMatrix::normal(random, rows, cols, 1, 2 * padding)),
        gamma(random.uniforms(cols, 0.5, 1.5)),
        beta(random.normals(cols)) {}
  std::int64_t rows() const { return x.rows(); }
  std::int64_t cols() const { return x.cols(); }
};

struct Result {
  HostMatrix y, d_x;
  std::vector<float> mean, inverse, d_gamma, d_beta;
};
Result run(const Context& ctx, const Problem& p) {
  Result r{HostMatrix(p.rows(), p.cols(), 1, -7.0f), HostMatrix(p.rows(), p.cols(), 3, -7.0f),
           std::vector<float>(p.rows(), 7.0f),       std::vector<float>(p.rows(), 7.0f),
           std::vector<float>(p.cols(), 7.0f),       std::vector<float>(p.cols(), 7.0f)};
  tested::layer_norm(ctx, {p.x.view(), view(p.gamma), view(p.beta), p.epsilon, r.y.view(),
                           view(r.mean), view(r.inverse)});
  const std::vector<float>&mean = r.mean, &inverse = r.inverse;
  tested::layer_norm_grad(ctx, {p.x.view(), view(p.gamma), view(mean), view(inverse), p.d_y.view(),
                                r.d_x.view(), view(r.d_gamma), view(r.d_beta)});
  EXPECT_TRUE(r.y.padding_intact() && r.d_x.padding_intact());
  return r;
}

/// Everything in float64, the sums over rows with the sizes of their terms.
struct Oracle {
  std::vector<double> y, d_x, mean, inverse, d_gamma, d_beta, gamma_size, beta_size;
  explicit Oracle(const Problem& p)
      : d_gamma(p.cols()), d_beta(p.cols()), gamma_size(p.cols()), beta_size(p.cols()) {
    for (std::int64_t i = 0; i < p.rows(); ++i) row(p, i);
  }

 private:
  void row(const Problem& p, std::int64_t i) {
    const std::int64_t n = p.cols();
    double m = 0, v = 0, mean_g = 0, mean_gn = 0;
    for (std::int64_t j = 0; j < n; ++j) m += p.x(i, j) / static_cast<double>(n);
    for (std::int64_t j = 0; j < n; ++j) {
      v += (p.x(i, j) - m) * (p.x(i, j) - m) / static_cast<double>(n);
    }
    const double r = 1 / std::sqrt(v + double{p.epsilon});
    mean.push_back(m);
    inverse.push_back(r);
    for (std::int64_t j = 0; j < n; ++j) {
      const double unit = (p.x(i, j) - m) * r, g = p.d_y(i, j) * double{p.gamma[j]};
      y.push_back(p.gamma[j] * unit + p.beta[j]);
      mean_g += g / static_cast<double>(n);
      mean_gn += g * unit / static_cast<double>(n);
      d_gamma[j] += p.d_y(i, j) * unit;
      d_beta[j] += p.d_y(i, j);
      gamma_size[j] += std::abs(p.d_y(i, j) * unit);
      beta_size[j] += std::abs(p.d_y(i, j));
    }
    for (std::int64_t j = 0; j < n; ++j) {
      const double unit = (p.x(i, j) - m) * r, g = p.d_y(i, j) * double{p.gamma[j]};
      d_x.push_back(r * (g - mean_g - unit * mean_gn));
    }
  }
};

void expect_sum(const std::vector<float>& actual, const std::vector<double>& expected,
                const std::vector<double>& size, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  std::vector<double> error, zero(actual.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    error.push_back((actual[i] - expected[i]) / (size[i] + 1e-6));
  }
  expect_near(error, zero, 0, 2e-6, what);
}

TEST(LayerNorm, ByHand) {
  const Context ctx = make_context(1);
  // Mean 3, variance 4: deviations -2, 2 over sqrt(4 + 0.41).
  const HostMatrix x(1, 2, {1, 5});
  const std::vector<float> gamma = {2, 3}, beta = {10, 20};
  HostMatrix y(1, 2);
  std::vector<float> mean(1), inverse(1);
  tested::layer_norm(
      ctx, {x.view(), view(gamma), view(beta), 0.41f, y.view(), view(mean), view(inverse)});
  EXPECT_EQ(mean[0], 3);
  expect_near(inverse, std::vector<double>{1 / 2.1}, 1e-6, 0, "1 / deviation");
  expect_near(y.values(), std::vector<double>{10 - 4 / 2.1, 20 + 6 / 2.1}, 1e-6, 0, "y");
  tested::layer_norm(ctx, {x.view(), {}, {}, 0.41f, y.view(), view(mean), view(inverse)});
  expect_near(y.values(), std::vector<double>{-2 / 2.1, 2 / 2.1}, 1e-6, 0, "no gamma, no beta");
}

TEST(LayerNorm, ConstantRowsAndEmptyOnes) {
  const Context ctx = make_context(1);
  const HostMatrix x(2, 40, 0, 1234.5f), none(3, 0);
  HostMatrix y(2, 40), nothing(3, 0);
  std::vector<float> mean(2), inverse(2), means(3, 7.0f), inverses(3);
  tested::layer_norm(ctx, {x.view(), {}, {}, 1e-3f, y.view(), view(mean), view(inverse)});
  EXPECT_EQ(y.values(), std::vector<float>(80, 0.0f));
  EXPECT_EQ(mean, std::vector<float>(2, 1234.5f));
  const std::vector<double> root(3, 1 / std::sqrt(1e-3));
  tested::layer_norm(ctx,
                     {none.view(), {}, {}, 1e-3f, nothing.view(), view(means), view(inverses)});
  EXPECT_EQ(means, std::vector<float>(3, 0.0f));
  expect_near(inverses, root, 1e-6, 0, "of no columns");
}

TEST(LayerNorm, MatchesFloat64OnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(2);
    if (!on_device()) {  // scratch comes as others left it
      ArenaScope scope(ctx);
      std::fill_n(ctx.arena().take<float>(200000), 200000, kPadding);
    }
    Random random(1);
    std::int64_t padding = 0;
    for (const Shape& s : nasty_shapes()) {
      const std::string what = std::to_string(s.rows) + "x" + std::to_string(s.cols);
      const Problem p(random, s.rows, s.cols, padding++ % 3);
      const Result r = run(ctx, p);
      const Oracle o(p);
      if (s.cols > 0) expect_near(r.mean, o.mean, 1e-6, 1e-6, what + " mean");
      if (s.cols > 0) expect_near(r.inverse, o.inverse, 5e-6, 0, what + " 1 / deviation");
      expect_near(r.y.values(), o.y, 3e-6, 4e-6, what + " y");
      expect_near(r.d_x.values(), o.d_x, 1e-5, 1e-5, what + " d_x");
      expect_sum(r.d_gamma, o.d_gamma, o.gamma_size, what + " d_gamma");
      expect_sum(r.d_beta, o.d_beta, o.beta_size, what + " d_beta");
    }
  });
}

TEST(LayerNorm, KeepsItsDigitsFarFromZero) {
  for_each_target([] {
    const Context ctx = make_context(1);
    Random random(2);
    for (const std::int64_t cols : {5, 64, 300}) {
      Problem p(random, 3, cols);
      for (std::int64_t i = 0; i < 3; ++i) {
        for (std::int64_t j = 0; j < cols; ++j) p.x(i, j) = 4096.0f + 0.25f * (j % 7);
      }
      const Oracle o(p);
      expect_near(run(ctx, p).y.values(), o.y, 1e-3, 2e-3, "x far from 0");
    }
  });
}

TEST(LayerNormGrad, IsTheFiniteDifferenceOfTheOracle) {
  const Context ctx = make_context(1);
  Random random(3);
  Problem p(random, 1, 6);
  const Result r = run(ctx, p);
  std::vector<double> at;
  for (const float v : p.x.values()) at.push_back(v);
  for (const float v : p.gamma) at.push_back(v);
  for (const float v : p.beta) at.push_back(v);
  const auto loss = [&](const std::vector<double>& v) {
    double m = 0, square = 0, sum = 0;
    for (int j = 0; j < 6; ++j) m += v[j] / 6;
    for (int j = 0; j < 6; ++j) square += (v[j] - m) * (v[j] - m) / 6;
    for (int j = 0; j < 6; ++j) {
      sum += p.d_y(0, j) * (v[6 + j] * (v[j] - m) / std::sqrt(square + p.epsilon) + v[12 + j]);
    }
    return sum;
  };
  const std::vector<double> expected = finite_differences(loss, at);
  const auto part = [&](int first) {
    return std::vector<double>(expected.begin() + first, expected.begin() + first + 6);
  };
  expect_near(r.d_x.values(), part(0), 1e-5, 1e-5, "d_x");
  expect_near(r.d_gamma, part(6), 1e-5, 1e-5, "d_gamma");
  expect_near(r.d_beta, part(12), 1e-5, 1e-5, "d_beta");
}

TEST(LayerNormGrad, OutputsThatNobodyWants) {
  const Context ctx = make_context(2);
  Random random(4);
  Problem p(random, 2500 / (on_device() ? 5 : 1), 20);
  const Result r = run(ctx, p);
  const auto grad = [&](bool gamma, bool beta) {
    HostMatrix d_x(p.rows(), p.cols());
    std::vector<float> d_gamma(gamma ? p.cols() : 0), d_beta(beta ? p.cols() : 0);
    tested::layer_norm_grad(ctx, {p.x.view(), view(p.gamma), view(std::as_const(r.mean)),
                                  view(std::as_const(r.inverse)), p.d_y.view(), d_x.view(),
                                  view(d_gamma), view(d_beta)});
    expect_equal_bits(d_x.values(), r.d_x.values(), "d_x");
    if (gamma) expect_equal_bits(d_gamma, r.d_gamma, "d_gamma");
    if (beta) expect_equal_bits(d_beta, r.d_beta, "d_beta");
  };
  grad(false, false);
  grad(true, false);
  grad(false, true);
  const std::vector<float> ones(p.cols(), 1.0f);
  HostMatrix with(p.rows(), p.cols()), without(p.rows(), p.cols());
  for (HostMatrix* d_x : {&with, &without}) {
    tested::layer_norm_grad(ctx, {p.x.view(),
                                  d_x == &with ? view(ones) : Vector<const float>(),
                                  view(std::as_const(r.mean)),
                                  view(std::as_const(r.inverse)),
                                  p.d_y.view(),
                                  d_x->view(),
                                  {},
                                  {}});
  }
  expect_equal_bits(without.values(), with.values(), "no gamma is a gamma of 1");
}

TEST(LayerNormGrad, NoRowsGiveZeros) {
  const Context ctx = make_context(1);
  Random random(5);
  const Result r = run(ctx, Problem(random, 0, 3));
  EXPECT_EQ(r.d_gamma, std::vector<float>(3, 0.0f));
  EXPECT_EQ(r.d_beta, std::vector<float>(3, 0.0f));
}

TEST(LayerNorm, WorksInPlace) {
  const Context ctx = make_context(2);
  Random random(6);
  for (const std::int64_t cols : {33, 260}) {
    const Problem p(random, 70, cols);
    const Result r = run(ctx, p);
    HostMatrix x = p.x, d = p.d_y;
    std::vector<float> mean(70), inverse(70), d_gamma(cols), d_beta(cols);
    tested::layer_norm(ctx, {x.view(), view(p.gamma), view(p.beta), p.epsilon, x.view(), view(mean),
                             view(inverse)});
    expect_equal_bits(x.values(), r.y.values(), "y is x");
    tested::layer_norm_grad(
        ctx, {p.x.view(), view(p.gamma), view(std::as_const(mean)), view(std::as_const(inverse)),
              d.view(), d.view(), view(d_gamma), view(d_beta)});
    expect_equal_bits(d.values(), r.d_x.values(), "d_x is d_y");
    expect_equal_bits(d_gamma, r.d_gamma, "d_gamma");
    expect_equal_bits(d_beta, r.d_beta, "d_beta");
  }
}

TEST(LayerNorm, NanStaysInItsRow) {
  for_each_target([] {
    const Context ctx = make_context(1);
    Random random(7);
    Problem p(random, 3, 37);
    p.x(1, 36) = std::numeric_limits<float>::quiet_NaN();
    const Result r = run(ctx, p);
    for (std::int64_t i = 0; i < 3; ++i) {
      EXPECT_EQ(std::isnan(r.y(i, 0)), i == 1);
      EXPECT_EQ(std::isnan(r.d_x(i, 0)), i == 1);
    }
  });
}

TEST(LayerNorm, SameBitsWhateverTheSchedule) {
  Random random(8);
  for (const std::int64_t cols : {5, 37, 270}) {
    const Problem p(random, by_backend(5000, cols < 100 ? 400 : 100), cols);
    Result first;
    for_each_variant([&](const Context& ctx) {
      Result r = run(ctx, p);
      if (first.mean.empty()) first = r;
      expect_equal_bits(r.y.values(), first.y.values(), "y");
      expect_equal_bits(r.mean, first.mean, "mean");
      expect_equal_bits(r.inverse, first.inverse, "1 / deviation");
      expect_equal_bits(r.d_x.values(), first.d_x.values(), "d_x");
      expect_equal_bits(r.d_gamma, first.d_gamma, "d_gamma");
      expect_equal_bits(r.d_beta, first.d_beta, "d_beta");
    });
  }
}

TEST(LayerNorm, BothBackendsAgree) {
  Random random(9);
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (const std::int64_t cols : {7, 32, 130, 300}) {
    const Problem p(random, 50, cols);
    const Result a = run(ctx, p), b = run(cpu, p);
    expect_near(a.mean, b.mean, 1e-6, 1e-6, "mean");
    expect_near(a.inverse, b.inverse, 3e-6, 0, "1 / deviation");
    expect_near(a.y.values(), b.y.values(), 3e-6, 4e-6, "y");
    expect_near(a.d_x.values(), b.d_x.values(), 1e-5, 1e-5, "d_x");
    expect_near(a.d_gamma, b.d_gamma, 1e-5, 3e-5, "d_gamma");
    expect_near(a.d_beta, b.d_beta, 1e-5, 3e-5, "d_beta");
  }
}

TEST(LayerNorm, CanBeReplayed) {
  Random random(10);
  const std::int64_t rows = 90, cols = 33;
  const Context ctx = make_context(1);
  const auto held = [&](std::int64_t n) { return Held<float>(ctx, random.normals(n)); };
  Held<float> x = held(rows * cols), d_y = held(rows * cols), y = held(rows * cols),
              d_x = held(rows * cols), gamma = held(cols), beta = held(cols), mean = held(rows),
              inverse = held(rows), d_gamma = held(cols), d_beta = held(cols);
  const auto m = [&](Held<float>& h) { return h.matrix(rows, cols); };
  Replay replay(ctx, [&] {
    belfry::layer_norm(ctx, {m(x), gamma.vector(), beta.vector(), kLayerNormEpsilon, m(y),
                             mean.vector(), inverse.vector()});
    belfry::layer_norm_grad(ctx, {m(x), gamma.vector(), mean.vector(), inverse.vector(), m(d_y),
                                  m(d_x), d_gamma.vector(), d_beta.vector()});
  });
  for (int round = 0; round < 2; ++round) {
    const Problem p(random, rows, cols);
    x.set(p.x.values());
    d_y.set(p.d_y.values());
    gamma.set(p.gamma);
    beta.set(p.beta);
    replay.run();
    const Result r = run(ctx, p);
    expect_equal_bits(y.get(), r.y.values(), "y");
    expect_equal_bits(d_x.get(), r.d_x.values(), "d_x");
    expect_equal_bits(d_gamma.get(), r.d_gamma, "d_gamma");
    expect_equal_bits(d_beta.get(), r.d_beta, "d_beta");
  }
}

TEST(LayerNorm, RefusesWrongShapesAndAliases) {
  const Context ctx = make_context(1);
  HostMatrix x(2, 3), y(2, 3), rows(3, 3), cols(2, 4);
  std::vector<float> gamma(3), beta(3), mean(2), inverse(2), wrong(1);
  const LayerNormCall good{x.view(), view(gamma), view(beta),   1e-3f,
                           y.view(), view(mean),  view(inverse)};
  const auto refuses = [&](auto&& change) {
    LayerNormCall call = good;
    change(call);
    EXPECT_THROW(belfry::layer_norm(ctx, call), ContractError);
  };
  EXPECT_NO_THROW(tested::layer_norm(ctx, good));
  refuses([&](LayerNormCall& c) { c.y = rows.view(); });
  refuses([&](LayerNormCall& c) { c.y = cols.view(); });
  refuses([&](LayerNormCall& c) { c.y = Matrix<float>(x.view().data, 2, 3, 4); });
  refuses([&](LayerNormCall& c) { c.gamma = view(wrong); });
  refuses([&](LayerNormCall& c) { c.beta = view(wrong); });
  refuses([&](LayerNormCall& c) { c.mean = view(wrong); });
  refuses([&](LayerNormCall& c) { c.inverse_deviation = view(wrong); });
  refuses([](LayerNormCall& c) { c.epsilon = 0.0f; });
  refuses([](LayerNormCall& c) { c.epsilon = std::numeric_limits<float>::quiet_NaN(); });
}

TEST(LayerNormGrad, RefusesWrongShapesAndAliases) {
  const Context ctx = make_context(1);
  HostMatrix x(2, 3), d_y(2, 3), d_x(2, 3), rows(3, 3), cols(2, 4);
  std::vector<float> gamma(3), mean(2), inverse(2), d_gamma(3), d_beta(3), wrong(1);
  const LayerNormGradCall good{x.view(),   view(gamma), view(mean),    view(inverse),
                               d_y.view(), d_x.view(),  view(d_gamma), view(d_beta)};
  const auto refuses = [&](auto&& change) {
    LayerNormGradCall call = good;
    change(call);
    EXPECT_THROW(belfry::layer_norm_grad(ctx, call), ContractError);
  };
  EXPECT_NO_THROW(tested::layer_norm_grad(ctx, good));
  for (HostMatrix* bad : {&rows, &cols}) {
    refuses([&](LayerNormGradCall& c) { c.x = bad->view(); });
    refuses([&](LayerNormGradCall& c) { c.d_y = bad->view(); });
    refuses([&](LayerNormGradCall& c) { c.d_x = bad->view(); });
  }
  refuses([&](LayerNormGradCall& c) { c.d_x = Matrix<float>(d_y.view().data, 2, 3, 4); });
  refuses([&](LayerNormGradCall& c) { c.d_x = x.view(); });
  refuses([&](LayerNormGradCall& c) { c.gamma = view(wrong); });
  refuses([&](LayerNormGradCall& c) { c.mean = view(wrong); });
  refuses([&](LayerNormGradCall& c) { c.inverse_deviation = view(wrong); });
  refuses([&](LayerNormGradCall& c) { c.d_gamma = view(wrong); });
  refuses([&](LayerNormGradCall& c) { c.d_beta = view(wrong); });
}

}  // namespace
}  // namespace belfry::test
