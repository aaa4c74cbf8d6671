// SPDX-License-Identifier: Apache-2.0
#include "kernels/penalty/penalty.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/bf16_table.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_penalty.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

/// A gradient of the rows listed, whose room ends `spare` rows behind them.
struct Listed {
  std::vector<std::int32_t> rows;
  HostMatrix values;
  std::int64_t n;

  Listed(std::vector<std::int32_t> listed, HostMatrix of, std::int64_t spare = 0)
      : rows(std::move(listed)), values(std::move(of)), n(static_cast<std::int64_t>(rows.size())) {
    rows.resize(rows.size() + static_cast<std::size_t>(spare), -7);
  }
  RowGradient view() {
    return {rows.data(), values.view(), &n, static_cast<std::int64_t>(rows.size())};
  }
};

double value_of(const Penalty& p, const std::vector<double>& w) {
  double sum = 0;
  for (const double x : w) sum += double{p.l1} * std::abs(x) + double{p.l2} * x * x;
  return sum;
}

TEST(Penalty, ByHand) {
  const Context ctx = make_context(1);
  HostMatrix w(2, 2, {1, -2, 0, 4}), g(2, 2, {10, 20, 30, 40});
  double loss = 5;
  tested::penalty(ctx, {0.5f, 0.25f}, w.view(), g.view(), &loss);
  // 2 l2 w = 0.5 w; l1 sign w: the sign of 0 is 0.
  EXPECT_EQ(g.values(), (std::vector<float>{10 + 0.5f + 0.5f, 20 - 1 - 0.5f, 30, 40 + 2 + 0.5f}));
  EXPECT_DOUBLE_EQ(loss, 5 + 0.5 * 7 + 0.25 * 21);
  tested::penalty(ctx, {1, 0}, w.view(), g.view(), nullptr);
  EXPECT_EQ(g.values(), (std::vector<float>{12, 17.5, 30, 43.5}));
}

TEST(Penalty, ListedRowsByHand) {
  const Context ctx = make_context(1);
  HostMatrix w(4, 2, {1, -2, 3, 3, -4, 0, 9, 9});
  Listed g({0, 2}, HostMatrix(4, 2, {1, 1, 2, 2, 8, 8, 9, 9}), 2);
  double loss = 1;
  tested::penalty_of_rows(ctx, {1, 0.5f}, w.view(), g.view(), &loss);
  EXPECT_EQ(g.values.values(), (std::vector<float>{3, -2, -3, 2, 8, 8, 9, 9}));
  EXPECT_DOUBLE_EQ(loss, 1 + (3 + 0.5 * 5) + (4 + 0.5 * 16));
  HostMatrix all(4, 2, 0, 1.0f);
  tested::add_rows(ctx, g.view(), all.view());
  EXPECT_EQ(all.values(), (std::vector<float>{4, -1, 1, 1, -2, 3, 1, 1}));
}

TEST(Penalty, MatchesFloat64AndItsDifferences) {
  const Context ctx = make_context(2);
  Random random(3);
  for (const Shape& s : nasty_shapes()) {
    for (const std::int64_t padding : {0, 3}) {
      HostMatrix w = HostMatrix::normal(random, s.rows, s.cols, 2.0, padding);
      HostMatrix g = HostMatrix::normal(random, s.rows, s.cols, 1.0, padding);
      const Penalty p{0.03f, 0.7f};
      const std::vector<float> w0 = w.values(), g0 = g.values();
      const std::vector<double> wide(w0.begin(), w0.end());
      double loss = 0.5;
      tested::penalty(ctx, p, w.view(), g.view(), &loss);
      EXPECT_NEAR(loss, 0.5 + value_of(p, wide), 1e-12 * (1 + value_of(p, wide)));
      std::vector<double> want(g0.begin(), g0.end());
      for (std::size_t i = 0; i < want.size(); ++i) {
        const auto one = [&](double x) { return value_of(p, {x}); };
        want[i] += (one(wide[i] + 1e-6) - one(wide[i] - 1e-6)) / 2e-6;
      }
      expect_near(g.values(), want, 1e-6, 1e-6, "gradient");
      EXPECT_EQ(w.values(), w0);
      EXPECT_TRUE(g.padding_intact());
    }
  }
}

TEST(Penalty, ListedRowsAreThoseOfTheWhole) {
  for_each_variant([](const Context& ctx) {
    Random random(8);
    for (const std::int64_t width : {1, 7, 64, 300}) {
      const std::int64_t height = 90;
      HostMatrix w = HostMatrix::normal(random, height, width, 1.0, 5);
      std::vector<std::int32_t> some;
      for (std::int32_t r = 0; r < height; r += 1 + r % 3) some.push_back(r);
      HostMatrix all = HostMatrix::normal(random, height, width);
      HostMatrix listed(static_cast<std::int64_t>(some.size()) + 4, width, 2);
      for (std::size_t i = 0; i < some.size(); ++i) {
        for (std::int64_t d = 0; d < width; ++d) listed(i, d) = all(some[i], d);
      }
      Listed g(some, listed, 4);
      double whole = 0, of_rows = 0, rest = 0;
      tested::penalty(ctx, {0.1f, 0.2f}, w.view(), all.view(), &whole);
      tested::penalty_of_rows(ctx, {0.1f, 0.2f}, w.view(), g.view(), &of_rows);
      std::vector<double> unlisted;
      std::size_t next = 0;
      for (std::int64_t r = 0; r < height; ++r) {
        const bool is_listed = next < some.size() && some[next] == r;
        for (std::int64_t d = 0; d < width; ++d) {
          if (is_listed) {
            EXPECT_EQ(g.values(static_cast<std::int64_t>(next), d), all(r, d)) << "row " << r;
          } else {
            unlisted.push_back(w(r, d));
          }
        }
        next += is_listed ? 1 : 0;
      }
      rest = value_of({0.1f, 0.2f}, unlisted);
      EXPECT_NEAR(whole, of_rows + rest, 1e-11 * whole);
    }
  });
}

TEST(Penalty, TablesInBf16CountWhatTheyStore) {
  const Context ctx = make_context(2);
  Random random(4);
  Bf16Table table(random, 33, 12, 3);
  HostMatrix wide = table.wide();
  HostMatrix a(33, 12, 0, 0.0f), b(33, 12, 0, 0.0f);
  double of_halves = 0, of_floats = 0;
  tested::penalty(ctx, {0.5f, 0.1f}, table.view(), a.view(), &of_halves);
  tested::penalty(ctx, {0.5f, 0.1f}, wide.view(), b.view(), &of_floats);
  EXPECT_EQ(a.values(), b.values());
  EXPECT_EQ(of_halves, of_floats);
  Listed c({1, 32}, HostMatrix(2, 12, 0, 0.0f)), d({1, 32}, HostMatrix(2, 12, 0, 0.0f));
  tested::penalty_of_rows(ctx, {0.5f, 0.1f}, table.view(), c.view(), nullptr);
  tested::penalty_of_rows(ctx, {0.5f, 0.1f}, wide.view(), d.view(), nullptr);
  EXPECT_EQ(c.values.values(), d.values.values());
  EXPECT_EQ(c.values(1, 3), a(32, 3));
}

TEST(Penalty, SameBitsForAnyThreadCountAndSchedule) {
  std::vector<float> bits;
  double sum = 0;
  bool first = true;
  for_each_variant([&](const Context& ctx) {
    Random random(6);
    HostMatrix w = HostMatrix::normal(random, by_backend(3000, 300), 33),
               g = HostMatrix::normal(random, w.rows(), 33);
    double loss = 0;
    tested::penalty(ctx, {0.01f, 0.02f}, w.view(), g.view(), &loss);
    if (first) {
      bits = g.values();
      sum = loss;
      first = false;
    }
    EXPECT_EQ(g.values(), bits);
    EXPECT_EQ(loss, sum);
  });
}

TEST(Penalty, NothingListed) {
  const Context ctx = make_context(1);
  HostMatrix w(3, 2, 0, 1.0f);
  Listed g({}, HostMatrix(4, 2, 0, 2.0f), 4);
  double loss = 3;
  tested::penalty_of_rows(ctx, {1, 1}, w.view(), g.view(), &loss);
  tested::add_rows(ctx, g.view(), w.view());
  EXPECT_EQ(loss, 3);
  EXPECT_EQ(g.values.values(), std::vector<float>(8, 2.0f));
  EXPECT_EQ(w.values(), std::vector<float>(6, 1.0f));
  Listed none({}, HostMatrix(0, 2));
  tested::penalty_of_rows(ctx, {1, 1}, w.view(), none.view(), &loss);
  tested::add_rows(ctx, none.view(), w.view());
  EXPECT_EQ(loss, 3);
}

TEST(Penalty, RowsOutsideOfTheTableAreToldAndLeftOut) {
  const Context ctx = make_context(1);
  HostMatrix w(2, 1, {1, 2});
  Listed g({0, 2}, HostMatrix(2, 1, {5, 6}));
  double loss = 0;
  tested::penalty_of_rows(ctx, {1, 0}, w.view(), g.view(), &loss);
  EXPECT_EQ(g.values.values(), (std::vector<float>{6, 6}));
  EXPECT_EQ(loss, 1);
  EXPECT_EQ(ctx.read_state().status & kStatusIdOutOfRange, kStatusIdOutOfRange);
  edit_state(ctx, [](StepState& s) { s.status = 0; });
  tested::add_rows(ctx, g.view(), w.view());
  EXPECT_EQ(w.values(), (std::vector<float>{7, 2}));
  EXPECT_EQ(ctx.read_state().status & kStatusIdOutOfRange, kStatusIdOutOfRange);
}

TEST(Penalty, RefusesOtherShapes) {
  const Context ctx = make_context(1);
  HostMatrix w(2, 3, 0, 0.0f), g(3, 3, 0, 0.0f);
  EXPECT_THROW(belfry::penalty(ctx, {1, 1}, std::as_const(w).view(), g.view(), nullptr),
               ContractError);
  Listed narrow({0}, HostMatrix(1, 2, 0, 0.0f));
  EXPECT_THROW(belfry::add_rows(ctx, narrow.view(), w.view()), ContractError);
  Listed small({0, 1}, HostMatrix(1, 3, 0, 0.0f));
  EXPECT_THROW(belfry::penalty_of_rows(ctx, {1, 1}, std::as_const(w).view(), small.view(), nullptr),
               ContractError);
}

TEST(Penalty, IsReplayedWithoutHostOrHeap) {
  const Context ctx = make_context(1);
  Buffer<float> w(ctx.backend(), 6), g(ctx.backend(), 6);
  Buffer<double> loss(ctx.backend(), 1);
  set_values(w, {1, 2, 3, 4, 5, 6});
  Replay replay(ctx, [&] {
    belfry::penalty(ctx, {0, 0.5f}, Matrix<const float>(w.data(), 2, 3), g.matrix(2, 3),
                    loss.data());
  });
  const double before = host_values(loss)[0];
  EXPECT_DOUBLE_EQ(before, 45.5);
  replay.run();
  EXPECT_DOUBLE_EQ(host_values(loss)[0], 91);
  EXPECT_EQ(host_values(g), (std::vector<float>{2, 4, 6, 8, 10, 12}));
}

}  // namespace
}  // namespace belfry::test
