// SPDX-License-Identifier: Apache-2.0
#include "kernels/bias_act/bias_act.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/tested_bias_act.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

using A = Activation;
struct Named {
  Activation activation;
  const char* name;
};
constexpr Named kAll[] = {{A::linear, "linear"},   {A::relu, "relu"},
                          {A::gelu, "gelu"},       {A::tanh, "tanh"},
                          {A::sigmoid, "sigmoid"}, {A::elu, "elu"},
                          {A::selu, "selu"},       {A::softplus, "softplus"},
                          {A::swish, "swish"},     {A::gelu_tanh, "gelu_tanh"}};

constexpr double kSeluScale = 1.05070098735548049342, kSeluAlpha = 1.67326324235437728482;

/// The argument of gelu_tanh's tanh, and its derivative.
double bent(double z) {
  return std::sqrt(2 / 3.14159265358979323846) * (z + 0.044715 * z * z * z);
}
double bent_slope(double z) {
  return std::sqrt(2 / 3.14159265358979323846) * (1 + 3 * 0.044715 * z * z);
}

double oracle(Activation a, double z) {
  switch (a) {
    case A::linear:
      return z;
    case A::relu:
      return z > 0 ? z : 0;
    case A::gelu:
      return 0.5 * z * std::erfc(-z / std::sqrt(2.0));
    case A::tanh:
      return std::tanh(z);
    case A::sigmoid:
      return 1 / (1 + std::exp(-z));
    case A::elu:
      return z > 0 ? z : std::expm1(z);
    case A::selu:
      return kSeluScale * (z > 0 ? z : kSeluAlpha * std::expm1(z));
    case A::softplus:
      return z > 0 ? z + std::log1p(std::exp(-z)) : std::log1p(std::exp(z));
    case A::swish:
      return z / (1 + std::exp(-z));
    case A::gelu_tanh:
      return z / (1 + std::exp(-2 * bent(z)));
  }
  return 0;
}

/// The derivative, one-sided (from above) only for linear pieces at 0.
double slope(Activation a, double z) {
  const double s = 1 / (1 + std::exp(-z));
  switch (a) {
    case A::linear:
      return 1;
    case A::relu:
      return z > 0 ? 1 : 0;
    case A::gelu:
      return 0.5 * std::erfc(-z / std::sqrt(2.0)) +
             z * std::exp(-z * z / 2) / std::sqrt(2 * 3.14159265358979323846);
    case A::tanh:
      return 1 - std::tanh(z) * std::tanh(z);
    case A::sigmoid:
      return s * (1 - s);
    case A::elu:
      return z >= 0 ? 1 : std::exp(z);
    case A::selu:
      return kSeluScale * (z >= 0 ? 1 : kSeluAlpha * std::exp(z));
    case A::softplus:
      return s;
    case A::swish:
      return s + z * s * (1 - s);
    case A::gelu_tanh: {
      const double t = std::tanh(bent(z));
      return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * bent_slope(z);
    }
  }
  return 0;
}

std::vector<float> apply(const Context& ctx, Activation a, std::vector<float> z) {
  std::vector<float> y(z.size());
  const auto n = static_cast<std::int64_t>(z.size());
  tested::bias_act(ctx, {z.data(), 1, n}, {}, a, {y.data(), 1, n});
  return y;
}

/// Every binade on both sides of 0, and a fine grid where the functions bend.
std::vector<float> sweep(double limit) {
  std::vector<float> z = {0.0f, -0.0f};
  for (double v = 1e-30; v < limit; v *= on_device() ? 1.3 : 1.07) {
    z.push_back(static_cast<float>(v));
    z.push_back(static_cast<float>(-v));
  }
  for (double v = -30; v <= 30; v += on_device() ? 0.037 : 0.0037)
    z.push_back(static_cast<float>(v));
  return z;
}

TEST(BiasAct, ByHand) {
  const Context ctx = make_context(1);
  // z = product + bias = (-1, 0, 2), at which the functions are known.
  const std::vector<double> expected[] = {{-1, 0, 2},
                                          {0, 0, 2},
                                          {-0.158655253931457, 0, 1.95449973610364},
                                          {-0.761594155955765, 0, 0.964027580075817},
                                          {0.268941421369995, 0.5, 0.880797077977882},
                                          {-0.632120558828558, 0, 2},
                                          {-1.11133073781255, 0, 2.10140197471096},
                                          {0.313261687518223, 0.693147180559945, 2.12692801104297},
                                          {-0.268941421369995, 0, 1.76159415595576},
                                          {-0.158808009391247, 0, 1.95459769361434}};
  for (std::size_t i = 0; i < std::size(kAll); ++i) {
    HostMatrix z(1, 3, {0, -1, 3}), y(1, 3);
    const std::vector<float> bias = {-1, 1, -1};
    tested::bias_act(ctx, z.view(), view(bias), kAll[i].activation, y.view());
    EXPECT_EQ(z.values(), (std::vector<float>{-1, 0, 2})) << "z becomes the pre-activation";
    expect_near(y.values(), expected[i], 4e-7, 1e-9, kAll[i].name);
  }
}

TEST(BiasAct, ValuesAreWithinAFewUlpOnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(1);
    for (const Named& a : kAll) {
      const std::vector<float> z = sweep(80);
      const std::vector<float> y = apply(ctx, a.activation, z);
      double worst = 0;
      std::size_t at = 0;
      for (std::size_t i = 0; i < z.size(); ++i) {
        // Below 1e-36 the steps of float32 are no longer relative (gelu's lower tail gets there).
        const double e = oracle(a.activation, z[i]);
        double error = std::abs(e) < 1e-36 ? std::abs(y[i] - e) / 1e-43 : ulps(y[i], e);
        // The lower tail is exp(2 u), to which a rounding of u brings its size.
        if (a.activation == A::gelu_tanh) error /= 1 + std::abs(bent(z[i])) / 0.8;
        if (!(error <= worst)) worst = error, at = i;
      }
      EXPECT_LE(worst, a.activation == A::gelu ? 8 : 4)
          << a.name << " at " << z[at] << ": " << y[at];
      if (std::getenv("BELFRY_PROFILE") != nullptr) {
        std::cout << a.name << ": " << worst << " ulp at " << z[at] << '\n';
      }
    }
  });
}

TEST(BiasAct, GradientsMatchTheDerivativeOnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(1);
    for (const Named& a : kAll) {
      const std::vector<float> z = sweep(80), y = apply(ctx, a.activation, z);
      const std::vector<float> d_y(z.size(), -1.5f);
      std::vector<float> d_z(z.size());
      std::vector<double> expected;
      for (const float v : z) expected.push_back(-1.5 * slope(a.activation, v));
      const auto n = static_cast<std::int64_t>(z.size());
      tested::bias_act_grad(ctx, {z.data(), 1, n}, {y.data(), 1, n}, {d_y.data(), 1, n},
                            a.activation, {d_z.data(), 1, n}, {});
      expect_near(d_z, expected, 1e-6, 3e-7, a.name);
    }
  });
}

TEST(BiasAct, DerivativesOfTheOracleAreFiniteDifferencesOfIt) {
  for (const Named& a : kAll) {
    for (double z = -6.05; z < 6; z += 0.1) {  // never at the bend of relu
      const auto f = [&](const std::vector<double>& x) { return oracle(a.activation, x[0]); };
      EXPECT_NEAR(finite_differences(f, {z})[0], slope(a.activation, z), 1e-8) << a.name << z;
    }
  }
}

TEST(BiasAct, ShapesPitchesAndBiasGradient) {
  Random random(31);
  const Context ctx = make_context(2);
  if (!on_device()) {  // scratch comes as others left it
    ArenaScope scope(ctx);
    std::fill_n(ctx.arena().take<float>(200000), 200000, kPadding);
  }
  for (const Shape& s : nasty_shapes()) {
    const Named& a = kAll[static_cast<std::size_t>(random.below(std::size(kAll)))];
    const std::string what =
        std::string(a.name) + " " + std::to_string(s.rows) + "x" + std::to_string(s.cols);
    const HostMatrix product = HostMatrix::normal(random, s.rows, s.cols);
    const std::vector<float> bias = random.normals(s.cols);
    HostMatrix z(s.rows, s.cols, product.values(), 3), y(s.rows, s.cols, 2), d_z(s.rows, s.cols, 1);
    const HostMatrix d_y = HostMatrix::normal(random, s.rows, s.cols, 1, 5);
    std::vector<float> d_bias(static_cast<std::size_t>(s.cols), 7.0f);
    tested::bias_act(ctx, z.view(), view(bias), a.activation, y.view());
    tested::bias_act_grad(ctx, z.view(), y.view(), d_y.view(), a.activation, d_z.view(),
                          view(d_bias));

    std::vector<double> expected_y, expected_d, sums(static_cast<std::size_t>(s.cols));
    std::vector<double> sizes(sums.size());
    for (std::int64_t i = 0; i < s.rows; ++i) {
      for (std::int64_t j = 0; j < s.cols; ++j) {
        const auto column = static_cast<std::size_t>(j);
        const double v = product(i, j) + bias[column];
        expected_y.push_back(oracle(a.activation, v));
        expected_d.push_back(d_y(i, j) * slope(a.activation, v));
        sums[column] += d_z(i, j);
        sizes[column] += std::abs(d_z(i, j));
      }
    }
    expect_near(y.values(), expected_y, 1e-6, 1e-6, what + " y");
    expect_near(d_z.values(), expected_d, 2e-6, 2e-6, what + " d_z");
    std::vector<double> error, zero(sums.size(), 0.0);
    for (std::size_t j = 0; j < sums.size(); ++j) {
      error.push_back((d_bias[j] - sums[j]) / std::max(sizes[j], 1e-30));
    }
    expect_near(error, zero, 0, 1e-6, what + " d_bias");
    EXPECT_TRUE(z.padding_intact() && y.padding_intact() && d_z.padding_intact()) << what;
  }
}

TEST(BiasAct, SameBitsWhateverTheSchedule) {
  Random random(32);
  const std::int64_t rows = by_backend(5000, 300), cols = 37;
  const HostMatrix product = HostMatrix::normal(random, rows, cols);
  const HostMatrix d_y = HostMatrix::normal(random, rows, cols);
  const std::vector<float> bias = random.normals(cols);
  for (const Named& a : kAll) {
    std::vector<float> first_y, first_d, first_bias;
    for_each_variant([&](const Context& ctx) {
      HostMatrix z = product, y(rows, cols), d_z(rows, cols);
      std::vector<float> d_bias(cols);
      tested::bias_act(ctx, z.view(), view(bias), a.activation, y.view());
      tested::bias_act_grad(ctx, z.view(), y.view(), d_y.view(), a.activation, d_z.view(),
                            view(d_bias));
      if (first_y.empty()) first_y = y.values(), first_d = d_z.values(), first_bias = d_bias;
      expect_equal_bits(y.values(), first_y, a.name);
      expect_equal_bits(d_z.values(), first_d, a.name);
      expect_equal_bits(d_bias, first_bias, a.name);
    });
  }
}

TEST(BiasAct, BothBackendsAgree) {
  Random random(35);
  const std::int64_t rows = 130, cols = 40;
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  const HostMatrix product = HostMatrix::normal(random, rows, cols, 3, 1);
  const HostMatrix d_y = HostMatrix::normal(random, rows, cols);
  const std::vector<float> bias = random.normals(cols);
  for (const Named& a : kAll) {
    HostMatrix z = product, y(rows, cols), d_z(rows, cols), z2 = product, y2 = y, d_z2 = d_z;
    std::vector<float> d_bias(cols), d_bias2(cols);
    tested::bias_act(ctx, z.view(), view(bias), a.activation, y.view());
    tested::bias_act(cpu, z2.view(), view(bias), a.activation, y2.view());
    expect_equal_bits(z.values(), z2.values(), std::string(a.name) + " z");
    expect_near(y.values(), y2.values(), 1.2e-6, 1e-38, std::string(a.name) + " y");
    tested::bias_act_grad(ctx, z.view(), y2.view(), d_y.view(), a.activation, d_z.view(),
                          view(d_bias));
    tested::bias_act_grad(cpu, z.view(), y2.view(), d_y.view(), a.activation, d_z2.view(),
                          view(d_bias2));
    expect_near(d_z.values(), d_z2.values(), 2e-6, 3e-7, std::string(a.name) + " d_z");
    expect_near(d_bias, d_bias2, 2e-6, 2e-5, std::string(a.name) + " d_bias");
  }
}

TEST(BiasAct, CanBeReplayed) {
  Random random(36);
  const std::int64_t rows = 90, cols = 33;
  const Context ctx = make_context(1);
  Held<float> z(ctx, random.normals(rows * cols)), bias(ctx, random.normals(cols));
  Held<float> y(ctx, random.normals(rows * cols)), d_y(ctx, random.normals(rows * cols));
  Held<float> d_z(ctx, random.normals(rows * cols)), d_bias(ctx, random.normals(cols));
  Replay replay(ctx, [&] {
    belfry::bias_act(ctx, z.matrix(rows, cols), bias.vector(), A::tanh, y.matrix(rows, cols));
    belfry::bias_act_grad(ctx, z.matrix(rows, cols), y.matrix(rows, cols), d_y.matrix(rows, cols),
                          A::tanh, d_z.matrix(rows, cols), d_bias.vector());
  });
  for (int round = 0; round < 2; ++round) {
    HostMatrix zs = HostMatrix::normal(random, rows, cols), ys(rows, cols), d_zs(rows, cols);
    const HostMatrix d_ys = HostMatrix::normal(random, rows, cols);
    std::vector<float> d_biases(cols);
    z.set(zs.values());
    d_y.set(d_ys.values());
    replay.run();
    tested::bias_act(ctx, zs.view(), view(bias.get()), A::tanh, ys.view());
    tested::bias_act_grad(ctx, zs.view(), ys.view(), d_ys.view(), A::tanh, d_zs.view(),
                          view(d_biases));
    expect_equal_bits(y.get(), ys.values(), "y");
    expect_equal_bits(d_z.get(), d_zs.values(), "d_z");
    expect_equal_bits(d_bias.get(), d_biases, "d_bias");
  }
}

TEST(BiasAct, BitsOfAnElementDoNotDependOnItsPlace) {
  for_each_target([] {
    const Context ctx = make_context(1);
    Random random(33);
    const std::vector<float> z = random.normals(67, 3);
    for (const Named& a : kAll) {
      const std::vector<float> together = apply(ctx, a.activation, z);
      std::vector<float> alone;
      for (const float v : z) alone.push_back(apply(ctx, a.activation, {v})[0]);
      expect_equal_bits(together, alone, a.name);
    }
  });
}

TEST(BiasAct, NanStaysNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for_each_target([&] {
    const Context ctx = make_context(1);
    for (const Named& a : kAll) {
      const std::vector<float> y = apply(ctx, a.activation, {nan, 1.0f, nan});
      EXPECT_TRUE(std::isnan(y[0]) && !std::isnan(y[1]) && std::isnan(y[2])) << a.name;
    }
    for (const A a :
         {A::gelu, A::softplus, A::swish, A::gelu_tanh}) {  // gradients that recompute from z
      const float z = nan, y = nan, d_y = 1;
      float d_z = 0;
      tested::bias_act_grad(ctx, {&z, 1, 1}, {&y, 1, 1}, {&d_y, 1, 1}, a, {&d_z, 1, 1}, {});
      EXPECT_TRUE(std::isnan(d_z));
    }
  });
}

TEST(BiasAct, LimitsAtInfinity) {
  const float inf = std::numeric_limits<float>::infinity();
  for_each_target([&] {
    const Context ctx = make_context(1);
    const auto at = [&](A a, float z) { return apply(ctx, a, {z})[0]; };
    for (const float big : {200.0f, 1e10f, 3e38f, inf}) {
      EXPECT_EQ(at(A::tanh, big), 1);
      EXPECT_EQ(at(A::tanh, -big), -1);
      EXPECT_EQ(at(A::sigmoid, big), 1);
      EXPECT_EQ(at(A::sigmoid, -big), 0);
      EXPECT_EQ(at(A::softplus, big), big);
      EXPECT_EQ(at(A::softplus, -big), 0);
      EXPECT_EQ(at(A::elu, -big), -1);
      EXPECT_FLOAT_EQ(at(A::selu, -big), static_cast<float>(-kSeluScale * kSeluAlpha));
      EXPECT_EQ(at(A::gelu, big), big);
      EXPECT_EQ(at(A::swish, big), big);
      EXPECT_EQ(at(A::gelu_tanh, big), big);
      if (big < inf) {  // at -infinity these are infinity times 0
        EXPECT_EQ(at(A::gelu, -big), 0);
        EXPECT_EQ(at(A::swish, -big), 0);
        EXPECT_EQ(at(A::gelu_tanh, -big), 0);
      }
    }
  });
}

TEST(BiasAct, WorksInPlace) {
  const Context ctx = make_context(2);
  Random random(34);
  const HostMatrix product = HostMatrix::normal(random, 700, 33);
  const std::vector<float> bias = random.normals(33);
  HostMatrix z = product, apart(700, 33), together = product;
  tested::bias_act(ctx, z.view(), view(bias), A::linear, apart.view());
  tested::bias_act(ctx, together.view(), view(bias), A::linear, together.view());
  expect_equal_bits(together.values(), apart.values(), "y is z");
  for (const Named& a : kAll) {
    HostMatrix d = HostMatrix::normal(random, 700, 33), d_z(700, 33), y(700, 33);
    std::vector<float> d_bias(33), d_bias_in_place(33);
    HostMatrix w = product;
    tested::bias_act(ctx, w.view(), {}, a.activation, y.view());
    tested::bias_act_grad(ctx, w.view(), y.view(), d.view(), a.activation, d_z.view(),
                          view(d_bias));
    tested::bias_act_grad(ctx, w.view(), y.view(), d.view(), a.activation, d.view(),
                          view(d_bias_in_place));
    expect_equal_bits(d.values(), d_z.values(), a.name);
    expect_equal_bits(d_bias_in_place, d_bias, a.name);
  }
}

TEST(BiasAct, EmptyBatchGivesZeroBiasGradient) {
  const Context ctx = make_context(1);
  HostMatrix none(0, 3);
  std::vector<float> d_bias(3, 5.0f);
  tested::bias_act(ctx, none.view(), {}, A::tanh, HostMatrix(0, 3).view());
  tested::bias_act_grad(ctx, none.view(), none.view(), none.view(), A::tanh, none.view(),
                        view(d_bias));
  EXPECT_EQ(d_bias, std::vector<float>(3, 0.0f));
}

TEST(BiasAct, RefusesWrongShapesAndAliases) {
  const Context ctx = make_context(1);
  HostMatrix z(2, 3), y(2, 3), rows(3, 3), cols(2, 2);
  std::vector<float> bias(3), short_bias(2);
  EXPECT_THROW(tested::bias_act(ctx, z.view(), view(bias), A::relu, rows.view()), ContractError);
  EXPECT_THROW(tested::bias_act(ctx, z.view(), view(bias), A::relu, cols.view()), ContractError);
  EXPECT_THROW(tested::bias_act(ctx, z.view(), view(short_bias), A::relu, y.view()), ContractError);
  EXPECT_THROW(tested::bias_act(ctx, z.view(), view(bias), A::relu, z.view()), ContractError);
  EXPECT_NO_THROW(tested::bias_act(ctx, z.view(), view(bias), A::linear, z.view()));
  const auto grad = [&](HostMatrix& a, HostMatrix& b, HostMatrix& c, HostMatrix& d,
                        std::vector<float>& e) {
    tested::bias_act_grad(ctx, a.view(), b.view(), c.view(), A::relu, d.view(), view(e));
  };
  EXPECT_NO_THROW(grad(z, y, y, y, bias));
  EXPECT_THROW(grad(rows, y, y, y, bias), ContractError);
  EXPECT_THROW(grad(z, rows, y, y, bias), ContractError);
  EXPECT_THROW(grad(z, y, cols, y, bias), ContractError);
  EXPECT_THROW(grad(z, y, y, cols, bias), ContractError);
  EXPECT_THROW(grad(z, y, y, y, short_bias), ContractError);
}

}  // namespace
}  // namespace belfry::test
