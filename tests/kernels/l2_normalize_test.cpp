// SPDX-License-Identifier: Apache-2.0
#include "kernels/l2_normalize/l2_normalize.hpp"

#include <gtest/gtest.h>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/tested_l2_normalize.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

struct Row {
  std::vector<double> y;
  double r;
};
Row oracle_row(const std::vector<double>& x) {
  double square = 0;
  for (const double v : x) square += v * v;
  Row out{x, 1 / std::sqrt(std::max(square, static_cast<double>(kL2NormalizeFloor)))};
  for (double& v : out.y) v *= out.r;
  return out;
}
std::vector<double> row_of(const HostMatrix& m, std::int64_t i) {
  std::vector<double> out;
  for (std::int64_t j = 0; j < m.cols(); ++j) out.push_back(m(i, j));
  return out;
}

/// Rows of very different lengths, one all zero, one below the floor.
HostMatrix rows_of_many_sizes(Random& random, std::int64_t rows, std::int64_t cols,
                              std::int64_t padding) {
  HostMatrix x = HostMatrix::normal(random, rows, cols, 1, padding);
  for (std::int64_t i = 0; i < rows; ++i) {
    const double scale = i % 5 == 3 ? 1e-9 : i % 5 == 4 ? 0 : std::pow(10.0, i % 7 - 3);
    for (std::int64_t j = 0; j < cols; ++j) x(i, j) = static_cast<float>(x(i, j) * scale);
  }
  return x;
}

TEST(L2Normalize, ByHand) {
  const Context ctx = make_context(1);
  const HostMatrix x(3, 2, {3, 4, 0, 0, 3e-7f, 4e-7f});
  HostMatrix y(3, 2);
  std::vector<float> r(3);
  tested::l2_normalize(ctx, x.view(), y.view(), view(r));
  expect_near(y.values(), std::vector<double>{0.6, 0.8, 0, 0, 0.3, 0.4}, 1e-6, 0, "y");
  expect_near(r, std::vector<double>{0.2, 1e6, 1e6}, 1e-6, 0, "r");
  // Upstream (1, 0): r (e - (e . y) y) above the floor, r e below it.
  const HostMatrix d_y(3, 2, {1, 0, 1, 0, 1, 0});
  HostMatrix d_x(3, 2);
  tested::l2_normalize_grad(ctx, y.view(), view(r), d_y.view(), d_x.view());
  expect_near(d_x.values(), std::vector<double>{0.128, -0.096, 1e6, 0, 1e6, 0}, 1e-6, 0, "d_x");
}

TEST(L2Normalize, MatchesFloat64OnEveryTarget) {
  for_each_target([] {
    const Context ctx = make_context(2);
    Random random(21);
    for (const Shape& s : nasty_shapes()) {
      const HostMatrix x = rows_of_many_sizes(random, s.rows, s.cols, 3);
      HostMatrix y(s.rows, s.cols, 2);
      std::vector<float> r(static_cast<std::size_t>(s.rows));
      tested::l2_normalize(ctx, x.view(), y.view(), view(r));
      std::vector<double> expected_y, expected_r;
      for (std::int64_t i = 0; i < s.rows; ++i) {
        const Row row = oracle_row(row_of(x, i));
        expected_y.insert(expected_y.end(), row.y.begin(), row.y.end());
        expected_r.push_back(row.r);
      }
      const std::string what = std::to_string(s.rows) + "x" + std::to_string(s.cols);
      expect_near(y.values(), expected_y, 5e-7, 1e-38, what + " y");
      expect_near(r, expected_r, 5e-7, 0, what + " r");
      EXPECT_TRUE(y.padding_intact()) << what;
    }
  });
}

TEST(L2Normalize, GradientMatchesFiniteDifferences) {
  for_each_target([] {
    const Context ctx = make_context(1);
    Random random(22);
    for (const std::int64_t cols : {1, 2, 7, 16, 33, 100}) {
      const HostMatrix x = HostMatrix::normal(random, 3, cols);
      const HostMatrix d_y = HostMatrix::normal(random, 3, cols, 1, 1);
      HostMatrix y(3, cols), d_x(3, cols, 4);
      std::vector<float> r(3);
      tested::l2_normalize(ctx, x.view(), y.view(), view(r));
      tested::l2_normalize_grad(ctx, y.view(), view(r), d_y.view(), d_x.view());
      std::vector<double> expected;
      for (std::int64_t i = 0; i < 3; ++i) {
        const auto f = [&](const std::vector<double>& v) {
          const Row row = oracle_row(v);
          double sum = 0;
          for (std::int64_t j = 0; j < cols; ++j)
            sum += row.y[static_cast<std::size_t>(j)] * d_y(i, j);
          return sum;
        };
        const std::vector<double> g = finite_differences(f, row_of(x, i), 1e-6);
        expected.insert(expected.end(), g.begin(), g.end());
      }
      expect_near(d_x.values(), expected, 1e-5, 1e-5, std::to_string(cols) + " columns");
      EXPECT_TRUE(d_x.padding_intact());
    }
  });
}

TEST(L2Normalize, SameBitsWhateverTheSchedule) {
  for (const std::int64_t cols : {5, 33, 64, 300}) {
    Random random(23);
    const std::int64_t rows = by_backend(3000, 70);
    const HostMatrix x = rows_of_many_sizes(random, rows, cols, 0);
    const HostMatrix d_y = HostMatrix::normal(random, rows, cols);
    std::vector<float> first_y, first_d;
    for_each_variant([&](const Context& ctx) {
      HostMatrix y(rows, cols), d_x(rows, cols);
      std::vector<float> r(static_cast<std::size_t>(rows));
      tested::l2_normalize(ctx, x.view(), y.view(), view(r));
      tested::l2_normalize_grad(ctx, y.view(), view(r), d_y.view(), d_x.view());
      if (first_y.empty()) first_y = y.values(), first_d = d_x.values();
      expect_equal_bits(y.values(), first_y, "y");
      expect_equal_bits(d_x.values(), first_d, "d_x");
    });
  }
}

TEST(L2Normalize, BothBackendsAgree) {
  Random random(26);
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (const std::int64_t cols : {1, 4, 15, 16, 17, 32, 33, 64, 65, 127, 128, 129, 256, 257, 515}) {
    const std::int64_t rows = 19;
    const HostMatrix x = rows_of_many_sizes(random, rows, cols, 2);
    const HostMatrix d_y = HostMatrix::normal(random, rows, cols);
    HostMatrix y(rows, cols), d_x(rows, cols), y2 = y, d_x2 = d_x;
    std::vector<float> r(rows), r2(rows);
    tested::l2_normalize(ctx, x.view(), y.view(), view(r));
    tested::l2_normalize(cpu, x.view(), y2.view(), view(r2));
    const std::string what = std::to_string(cols) + " columns";
    expect_near(r, r2, 6e-7, 0, what);
    expect_near(y.values(), y2.values(), 7e-7, 1e-38, what);
    tested::l2_normalize_grad(ctx, y2.view(), view(r2), d_y.view(), d_x.view());
    tested::l2_normalize_grad(cpu, y2.view(), view(r2), d_y.view(), d_x2.view());
    for (std::int64_t i = 0; i < rows; ++i) {  // rows differ in size by their r
      for (std::int64_t j = 0; j < cols; ++j) {
        EXPECT_NEAR(d_x(i, j) / r[i], d_x2(i, j) / r[i], 4e-6) << what;
      }
    }
  }
}

TEST(L2Normalize, CanBeReplayed) {
  Random random(27);
  const std::int64_t rows = 21, cols = 24;
  const Context ctx = make_context(1);
  Held<float> x(ctx, random.normals(rows * cols)), y(ctx, random.normals(rows * cols));
  Held<float> d_x(ctx, random.normals(rows * cols)), r(ctx, random.normals(rows));
  const HostMatrix d_ys = HostMatrix::normal(random, rows, cols);
  Held<float> d_y(ctx, d_ys.values());
  Replay replay(ctx, [&] {
    belfry::l2_normalize(ctx, x.matrix(rows, cols), y.matrix(rows, cols), r.vector());
    belfry::l2_normalize_grad(ctx, y.matrix(rows, cols), r.vector(), d_y.matrix(rows, cols),
                              d_x.matrix(rows, cols));
  });
  for (int round = 0; round < 2; ++round) {
    const HostMatrix xs = HostMatrix::normal(random, rows, cols);
    HostMatrix ys(rows, cols), d_xs(rows, cols);
    std::vector<float> rs(rows);
    x.set(xs.values());
    replay.run();
    tested::l2_normalize(ctx, xs.view(), ys.view(), view(rs));
    tested::l2_normalize_grad(ctx, ys.view(), view(rs), d_ys.view(), d_xs.view());
    expect_equal_bits(y.get(), ys.values(), "y");
    expect_equal_bits(r.get(), rs, "r");
    expect_equal_bits(d_x.get(), d_xs.values(), "d_x");
  }
}

TEST(L2Normalize, WorksInPlace) {
  const Context ctx = make_context(2);
  Random random(24);
  HostMatrix x = rows_of_many_sizes(random, 300, 65, 1), y(300, 65, 1);
  HostMatrix d = HostMatrix::normal(random, 300, 65), d_x(300, 65);
  std::vector<float> r(300);
  tested::l2_normalize(ctx, x.view(), y.view(), view(r));
  tested::l2_normalize_grad(ctx, y.view(), view(r), d.view(), d_x.view());
  tested::l2_normalize(ctx, x.view(), x.view(), view(r));
  tested::l2_normalize_grad(ctx, x.view(), view(r), d.view(), d.view());
  expect_equal_bits(x.values(), y.values(), "y in place of x");
  expect_equal_bits(d.values(), d_x.values(), "d_x in place of d_y");
}

TEST(L2Normalize, GradientIsOrthogonalAndNormalizingTwiceIsOnce) {
  const Context ctx = make_context(1);
  Random random(25);
  HostMatrix x = HostMatrix::normal(random, 50, 40), y(50, 40), twice(50, 40), d_x(50, 40);
  const HostMatrix d_y = HostMatrix::normal(random, 50, 40);
  std::vector<float> r(50), ones(50);
  tested::l2_normalize(ctx, x.view(), y.view(), view(r));
  tested::l2_normalize_grad(ctx, y.view(), view(r), d_y.view(), d_x.view());
  for (std::int64_t i = 0; i < 50; ++i) {
    double along = 0;
    for (std::int64_t j = 0; j < 40; ++j) along += static_cast<double>(d_x(i, j)) * y(i, j);
    EXPECT_NEAR(along, 0, 2e-6) << i;
  }
  tested::l2_normalize(ctx, y.view(), twice.view(), view(ones));
  expect_near(twice.values(), y.values(), 3e-7, 0, "twice");
}

TEST(L2Normalize, KeepsNanInItsRow) {
  for_each_target([] {
    const Context ctx = make_context(1);
    HostMatrix x(2, 33, 0, 1.0f), y(2, 33);
    x(1, 20) = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> r(2);
    tested::l2_normalize(ctx, x.view(), y.view(), view(r));
    for (std::int64_t j = 0; j < 33; ++j) {
      EXPECT_FALSE(std::isnan(y(0, j)));
      EXPECT_TRUE(std::isnan(y(1, j)));
    }
  });
}

TEST(L2Normalize, NoColumnsGivesTheFloor) {
  const Context ctx = make_context(1);
  std::vector<float> r(4, 0.0f);
  tested::l2_normalize(ctx, Matrix<const float>(nullptr, 4, 0), Matrix<float>(nullptr, 4, 0),
                       view(r));
  EXPECT_EQ(r, std::vector<float>(4, 1e6f));
}

TEST(L2Normalize, RefusesWrongShapes) {
  const Context ctx = make_context(1);
  HostMatrix x(2, 3), y(2, 3), rows(3, 3), cols(2, 4);
  std::vector<float> r(2), short_r(1);
  EXPECT_THROW(tested::l2_normalize(ctx, x.view(), rows.view(), view(r)), ContractError);
  EXPECT_THROW(tested::l2_normalize(ctx, x.view(), cols.view(), view(r)), ContractError);
  EXPECT_THROW(tested::l2_normalize(ctx, x.view(), y.view(), view(short_r)), ContractError);
  EXPECT_THROW(tested::l2_normalize_grad(ctx, y.view(), view(r), rows.view(), x.view()),
               ContractError);
  EXPECT_THROW(tested::l2_normalize_grad(ctx, y.view(), view(r), x.view(), cols.view()),
               ContractError);
  EXPECT_THROW(tested::l2_normalize_grad(ctx, y.view(), view(short_r), x.view(), x.view()),
               ContractError);
}

}  // namespace
}  // namespace belfry::test
