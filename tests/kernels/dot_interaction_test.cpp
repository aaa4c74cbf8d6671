// SPDX-License-Identifier: Apache-2.0
#include "kernels/dot_interaction/dot_interaction.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/tested_dot_interaction.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

/// B rows of F features of D columns.
struct Sizes {
  std::int64_t rows, features, width;
};
/// Around the tiles of both directions, more features or columns than a block has threads, rows that share
/// a block, and (the last four) rows that do not fit into shared memory in one or both directions.
const std::vector<Sizes>& sizes() {
  static const std::vector<Sizes> all = {
      {0, 3, 5},   {2, 3, 0},    {1, 1, 1},    {3, 1, 7},     {4, 2, 1},   {5, 3, 5},  {2, 4, 32},
      {7, 5, 8},   {33, 4, 16},  {2, 7, 31},   {3, 8, 33},    {2, 9, 24},  {65, 2, 3}, {2, 27, 4},
      {3, 33, 16}, {1, 31, 129}, {1, 3, 4097}, {2, 1, 12289}, {1, 111, 3}, {1, 113, 2}};
  return all;
}

std::vector<DotInteraction> layouts(std::int64_t features) {
  std::vector<DotInteraction> out;
  for (const bool self : {false, true}) {
    for (const bool skip : {false, true}) out.push_back({features, self, skip});
  }
  return out;
}

std::string text(const Sizes& s, const DotInteraction& shape) {
  return std::to_string(s.rows) + " rows of " + std::to_string(s.features) + " x " +
         std::to_string(s.width) + (shape.self_interaction ? " self" : "") +
         (shape.skip_gather ? " square" : "");
}

/// Calls f(place in a row of y, i, j) for the wanted pairs, in order; counts the places itself.
template <class F>
void each_pair(const DotInteraction& shape, F&& f) {
  std::int64_t place = 0;
  for (std::int64_t i = 0; i < shape.features; ++i) {
    for (std::int64_t j = 0; j < shape.features; ++j) {
      const bool wanted = j < i || (j == i && shape.self_interaction);
      if (wanted) f(place, i, j);
      if (wanted || shape.skip_gather) ++place;
    }
  }
  EXPECT_EQ(place, shape.width());
}

/// Values with the sizes of their terms, which float32 rounding is measured against.
struct Sums {
  std::vector<double> sum, size;
  explicit Sums(std::int64_t n)
      : sum(static_cast<std::size_t>(n)), size(static_cast<std::size_t>(n)) {}
  void add(std::int64_t at, double term) {
    sum[static_cast<std::size_t>(at)] += term;
    size[static_cast<std::size_t>(at)] += std::abs(term);
  }
};
void expect_sums(const std::vector<float>& actual, const Sums& expected, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.sum.size()) << what;
  std::vector<double> error, zero(actual.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    error.push_back((actual[i] - expected.sum[i]) / (expected.size[i] + 1e-30));
  }
  expect_near(error, zero, 0, tolerance, what);
}

Sums products(const HostMatrix& x, const DotInteraction& shape) {
  const std::int64_t width = x.cols() / shape.features;
  Sums y(x.rows() * shape.width());
  for (std::int64_t b = 0; b < x.rows(); ++b) {
    each_pair(shape, [&](std::int64_t place, std::int64_t i, std::int64_t j) {
      for (std::int64_t k = 0; k < width; ++k) {
        y.add(b * shape.width() + place, double{x(b, i * width + k)} * x(b, j * width + k));
      }
    });
  }
  return y;
}

Sums gradient(const HostMatrix& x, const DotInteraction& shape, const HostMatrix& d_y) {
  const std::int64_t width = x.cols() / shape.features;
  Sums d_x(x.rows() * x.cols());
  for (std::int64_t b = 0; b < x.rows(); ++b) {
    each_pair(shape, [&](std::int64_t place, std::int64_t i, std::int64_t j) {
      for (std::int64_t k = 0; k < width; ++k) {
        const std::int64_t at = b * x.cols() + k;
        d_x.add(at + i * width, double{d_y(b, place)} * x(b, j * width + k));
        d_x.add(at + j * width, double{d_y(b, place)} * x(b, i * width + k));
      }
    });
  }
  return d_x;
}

HostMatrix run(const Context& ctx, const HostMatrix& x, const DotInteraction& shape) {
  HostMatrix y(x.rows(), shape.width(), 2, -7.0f);
  tested::dot_interaction(ctx, x.view(), shape, y.view());
  EXPECT_TRUE(y.padding_intact());
  return y;
}
HostMatrix run_grad(const Context& ctx, const HostMatrix& x, const DotInteraction& shape,
                    const HostMatrix& d_y) {
  HostMatrix d_x(x.rows(), x.cols(), 1, -7.0f);
  tested::dot_interaction_grad(ctx, x.view(), shape, d_y.view(), d_x.view());
  EXPECT_TRUE(d_x.padding_intact());
  return d_x;
}

TEST(DotInteraction, ByHand) {
  const Context ctx = make_context(1);
  const HostMatrix x(1, 6,
                     {1, 2, 3, 4, -5, 6});  // products 11: 5, 21: 11, 22: 25, 31: 7, 32: 9, 33: 61
  const auto y = [&](bool self, bool skip) { return run(ctx, x, {3, self, skip}).values(); };
  EXPECT_EQ(y(false, false), (std::vector<float>{11, 7, 9}));
  EXPECT_EQ(y(true, false), (std::vector<float>{5, 11, 25, 7, 9, 61}));
  EXPECT_EQ(y(false, true), (std::vector<float>{0, 0, 0, 11, 0, 0, 7, 9, 0}));
  EXPECT_EQ(y(true, true), (std::vector<float>{5, 0, 0, 11, 25, 0, 7, 9, 61}));
}

TEST(DotInteractionGrad, ByHand) {
  const Context ctx = make_context(1);
  const HostMatrix x(1, 4, {1, 2, 3, 4});
  EXPECT_EQ(run_grad(ctx, x, {2, false, false}, HostMatrix(1, 1, 0, 10.0f)).values(),
            (std::vector<float>{30, 40, 10, 20}));
  // x1 . x1 counts twice in the gradient of x1; what lies above the diagonal counts nowhere.
  EXPECT_EQ(run_grad(ctx, x, {2, true, true}, HostMatrix(1, 4, {1, 100, 10, 0})).values(),
            (std::vector<float>{32, 44, 10, 20}));
}

TEST(DotInteraction, MatchesFloat64OnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(2);
    Random random(1);
    for (const Sizes& s : sizes()) {
      for (const DotInteraction& shape : layouts(s.features)) {
        const HostMatrix x = HostMatrix::normal(random, s.rows, s.features * s.width, 1, 3);
        const HostMatrix d_y = HostMatrix::normal(random, s.rows, shape.width(), 1, 1);
        const double of_y = std::max(2e-6, 1e-9 * static_cast<double>(s.width));
        expect_sums(run(ctx, x, shape).values(), products(x, shape), of_y, text(s, shape) + " y");
        expect_sums(run_grad(ctx, x, shape, d_y).values(), gradient(x, shape, d_y), 1e-6,
                    text(s, shape) + " d_x");
      }
    }
  });
}

TEST(DotInteractionGrad, IsTheFiniteDifferenceOfTheOracle) {
  const Context ctx = make_context(1);
  Random random(2);
  const std::int64_t features = 3, width = 4;
  for (const DotInteraction& shape : layouts(features)) {
    const HostMatrix x = HostMatrix::normal(random, 1, features * width);
    const HostMatrix d_y = HostMatrix::normal(random, 1, shape.width());
    const auto loss = [&](const std::vector<double>& v) {
      double sum = 0;
      each_pair(shape, [&](std::int64_t place, std::int64_t i, std::int64_t j) {
        for (std::int64_t k = 0; k < width; ++k) {
          sum += d_y(0, place) * v[i * width + k] * v[j * width + k];
        }
      });
      return sum;
    };
    const std::vector<float> at = x.values();
    expect_near(run_grad(ctx, x, shape, d_y).values(),
                finite_differences(loss, {at.begin(), at.end()}), 1e-5, 1e-5, "d_x");
  }
}

TEST(DotInteractionGrad, WhatLiesAboveTheTriangleIsNotRead) {
  const Context ctx = make_context(1);
  Random random(3);
  for (const bool self : {false, true}) {
    const DotInteraction shape{5, self, true};
    const HostMatrix x = HostMatrix::normal(random, 2, 20);
    HostMatrix d_y = HostMatrix::normal(random, 2, 25);
    const HostMatrix before = run_grad(ctx, x, shape, d_y);
    for (std::int64_t b = 0; b < 2; ++b) {
      for (std::int64_t i = 0; i < 5; ++i) {
        for (std::int64_t j = self ? i + 1 : i; j < 5; ++j) d_y(b, i * 5 + j) = kPadding;
      }
    }
    expect_equal_bits(run_grad(ctx, x, shape, d_y).values(), before.values(), "d_x");
  }
}

TEST(DotInteraction, RowsStandAlone) {
  Random random(4);
  const Context ctx = make_context(2);
  for (const Sizes& s : {Sizes{9, 5, 16}, Sizes{3, 27, 9}}) {
    const DotInteraction shape{s.features, true, false};
    const HostMatrix x = HostMatrix::normal(random, s.rows, s.features * s.width);
    const HostMatrix d_y = HostMatrix::normal(random, s.rows, shape.width());
    const HostMatrix y = run(ctx, x, shape), d_x = run_grad(ctx, x, shape, d_y);
    for (std::int64_t b = 0; b < s.rows; ++b) {
      const auto row = [&](const HostMatrix& m) {
        const std::vector<float> all = m.values();
        return HostMatrix(1, m.cols(),
                          {all.begin() + b * m.cols(), all.begin() + (b + 1) * m.cols()});
      };
      expect_equal_bits(run(ctx, row(x), shape).values(), row(y).values(), "y");
      expect_equal_bits(run_grad(ctx, row(x), shape, row(d_y)).values(), row(d_x).values(), "d_x");
    }
  }
}

TEST(DotInteraction, SameBitsWhateverTheSchedule) {
  Random random(5);
  for (const Sizes& s : {Sizes{by_backend(3000, 60), 6, 16}, Sizes{by_backend(200, 4), 27, 17},
                         Sizes{2, 113, 110}}) {
    for (const DotInteraction& shape :
         {DotInteraction{s.features, true, false}, DotInteraction{s.features, false, true}}) {
      const HostMatrix x = HostMatrix::normal(random, s.rows, s.features * s.width);
      const HostMatrix d_y = HostMatrix::normal(random, s.rows, shape.width());
      if (on_device() && s.features > 100 && shape.skip_gather) continue;
      std::vector<float> y, d_x;
      for_each_variant([&](const Context& ctx) {
        const HostMatrix out = run(ctx, x, shape), grad = run_grad(ctx, x, shape, d_y);
        if (y.empty()) y = out.values(), d_x = grad.values();
        expect_equal_bits(out.values(), y, text(s, shape) + " y");
        expect_equal_bits(grad.values(), d_x, text(s, shape) + " d_x");
      });
    }
  }
}

TEST(DotInteraction, BothBackendsAgree) {
  Random random(6);
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (const DotInteraction& shape : layouts(9)) {
    const HostMatrix x = HostMatrix::normal(random, 5, 9 * 33);
    const HostMatrix d_y = HostMatrix::normal(random, 5, shape.width());
    expect_near(run(ctx, x, shape).values(), run(cpu, x, shape).values(), 2e-6, 2e-5, "y");
    expect_near(run_grad(ctx, x, shape, d_y).values(), run_grad(cpu, x, shape, d_y).values(), 2e-6,
                1e-5, "d_x");
  }
}

TEST(DotInteraction, CanBeReplayed) {
  Random random(7);
  const Context ctx = make_context(1);
  const DotInteraction shape{4, true, false};
  const std::int64_t rows = 20, cols = 4 * 8;
  Held<float> x(ctx, random.normals(rows * cols)), d_x(ctx, random.normals(rows * cols));
  Held<float> y(ctx, random.normals(rows * shape.width()));
  Held<float> d_y(ctx, random.normals(rows * shape.width()));
  Replay replay(ctx, [&] {
    belfry::dot_interaction(ctx, x.matrix(rows, cols), shape, y.matrix(rows, shape.width()));
    belfry::dot_interaction_grad(ctx, x.matrix(rows, cols), shape, d_y.matrix(rows, shape.width()),
                                 d_x.matrix(rows, cols));
  });
  for (int round = 0; round < 2; ++round) {
    const HostMatrix xs = HostMatrix::normal(random, rows, cols);
    const HostMatrix d_ys = HostMatrix::normal(random, rows, shape.width());
    x.set(xs.values());
    d_y.set(d_ys.values());
    replay.run();
    expect_equal_bits(y.get(), run(ctx, xs, shape).values(), "y");
    expect_equal_bits(d_x.get(), run_grad(ctx, xs, shape, d_ys).values(), "d_x");
  }
}

TEST(DotInteraction, RefusesWrongShapes) {
  const Context ctx = make_context(1);
  HostMatrix x(2, 6), y(2, 3), rows(3, 3), cols(2, 4), d_x(2, 6), d_rows(3, 6), d_cols(2, 5);
  const DotInteraction good{3, false, false};
  const auto forward = [&](const DotInteraction& shape, HostMatrix& out) {
    belfry::dot_interaction(ctx, x.view(), shape, out.view());
  };
  EXPECT_NO_THROW(run(ctx, x, good));
  EXPECT_THROW(forward(good, rows), ContractError);
  EXPECT_THROW(forward(good, cols), ContractError);
  EXPECT_THROW(forward({0, false, false}, y), ContractError);
  EXPECT_THROW(forward({4, false, false}, y), ContractError) << "6 columns are not 4 features";
  EXPECT_THROW(forward({3, true, false}, y), ContractError) << "wider with the diagonal";
  const auto backward = [&](const DotInteraction& shape, HostMatrix& d_y, HostMatrix& out) {
    belfry::dot_interaction_grad(ctx, x.view(), shape, d_y.view(), out.view());
  };
  EXPECT_NO_THROW(run_grad(ctx, x, good, y));
  EXPECT_THROW(backward(good, rows, d_x), ContractError);
  EXPECT_THROW(backward(good, cols, d_x), ContractError);
  EXPECT_THROW(backward(good, y, d_rows), ContractError);
  EXPECT_THROW(backward(good, y, d_cols), ContractError);
  EXPECT_THROW(backward({0, false, false}, y, d_x), ContractError);
  EXPECT_THROW(backward({4, false, false}, y, d_x), ContractError);
  const std::int64_t many = kMostInteractingFeatures + 1;
  HostMatrix wide(0, many), out(0, many * many), d_wide(0, many);
  EXPECT_THROW(belfry::dot_interaction(ctx, wide.view(), {many, false, true}, out.view()),
               ContractError);
  EXPECT_THROW(belfry::dot_interaction_grad(ctx, wide.view(), {many, false, true}, out.view(),
                                            d_wide.view()),
               ContractError);
}

}  // namespace
}  // namespace belfry::test
