// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/gemm.hpp"

#include <gtest/gtest.h>

#include "tests/simt/device_array.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_gemm.hpp"

namespace belfry::test {
namespace {

constexpr Transpose kNo = Transpose::no, kYes = Transpose::yes;

struct Case {
  std::int64_t m, n, k;
};

/// Inner and outer sizes around lanes, oneDNN's kernels and our own tiles (512 x 1024, K by 2048).
const std::vector<Case> kCases = {
    {0, 3, 2},    {3, 0, 2},      {3, 4, 0},     {1, 1, 1},     {1, 33, 7},   {33, 1, 31},
    {31, 32, 33}, {64, 64, 64},   {65, 17, 129}, {513, 9, 5},   {3, 1025, 4}, {515, 1030, 3},
    {7, 5, 4096}, {33, 65, 4099}, {2, 3, 9001},  {1, 1, 50000},
};

double at(const HostMatrix& m, Transpose t, std::int64_t i, std::int64_t j) {
  return t == kYes ? m(j, i) : m(i, j);
}

HostMatrix stored(Random& random, std::int64_t rows, std::int64_t cols, Transpose t,
                  std::int64_t padding) {
  return t == kYes ? HostMatrix::normal(random, cols, rows, 1, padding)
                   : HostMatrix::normal(random, rows, cols, 1, padding);
}

/// alpha op(a) op(b) + beta c in float64, and the size of the terms behind each element.
struct Oracle {
  std::vector<double> value, scale;
};
Oracle oracle(const HostMatrix& a, const HostMatrix& b, const HostMatrix& c, const GemmOptions& o,
              std::int64_t k) {
  Oracle out;
  for (std::int64_t i = 0; i < c.rows(); ++i) {
    for (std::int64_t j = 0; j < c.cols(); ++j) {
      double sum = 0, size = 0;
      for (std::int64_t l = 0; l < k; ++l) {
        const double term = at(a, o.a, i, l) * at(b, o.b, l, j);
        sum += term;
        size += std::abs(term);
      }
      const double kept = o.beta == 0 ? 0 : static_cast<double>(o.beta) * c(i, j);
      out.value.push_back(o.alpha * sum + kept);
      out.scale.push_back(std::abs(o.alpha) * size + std::abs(kept));
    }
  }
  return out;
}

/// |actual - value| / scale: what rounding may cost, whatever the order of the sum.
void expect_rounded(const std::vector<float>& actual, const Oracle& expected, double tolerance,
                    const std::string& what) {
  ASSERT_EQ(actual.size(), expected.value.size());
  std::vector<double> error, zero(actual.size(), 0.0);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double scale = std::max(expected.scale[i], 1e-30);
    error.push_back((actual[i] - expected.value[i]) / scale);
  }
  expect_near(error, zero, 0, tolerance, what);
}

TEST(Gemm, ByHand) {
  const Context ctx = make_context(1);
  const HostMatrix a(2, 3, {1, 2, 3, 4, 5, 6});
  const HostMatrix b(3, 2, {7, 8, 9, 10, 11, 12});
  HostMatrix c(2, 2, {1, 1, 1, 1});
  tested::gemm(ctx, a.view(), b.view(), c.view());
  EXPECT_EQ(c.values(), (std::vector<float>{58, 64, 139, 154}));
  tested::gemm(ctx, a.view(), b.view(), c.view(), {.alpha = 2, .beta = -1});
  EXPECT_EQ(c.values(), (std::vector<float>{58, 64, 139, 154}));
  HostMatrix square(3, 3);  // a^T a
  tested::gemm(ctx, a.view(), a.view(), square.view(), {.a = kYes});
  EXPECT_EQ(square.values(), (std::vector<float>{17, 22, 27, 22, 29, 36, 27, 36, 45}));
  HostMatrix gram(2, 2);  // a a^T
  tested::gemm(ctx, a.view(), a.view(), gram.view(), {.b = kYes});
  EXPECT_EQ(gram.values(), (std::vector<float>{14, 32, 32, 77}));
}

TEST(Gemm, MatchesFloat64OnEveryLayout) {
  const Context ctx = make_context(2);
  if (!on_device()) {  // scratch comes as others left it
    ArenaScope scope(ctx);
    std::fill_n(ctx.arena().take<float>(200000), 200000, kPadding);
  }
  Random random(11);
  for (const Case& s : kCases) {
    for (int layout = 0; layout < 8; ++layout) {
      const GemmOptions o{.a = layout & 1 ? kYes : kNo,
                          .b = layout & 2 ? kYes : kNo,
                          .alpha = layout & 4 ? -0.75f : 1.0f,
                          .beta = layout & 4 ? 0.5f : 0.0f};
      const std::int64_t padding = layout & 1 ? 3 : 0;
      const HostMatrix a = stored(random, s.m, s.k, o.a, padding);
      const HostMatrix b = stored(random, s.k, s.n, o.b, padding);
      HostMatrix c = HostMatrix::normal(random, s.m, s.n, 1, 5);
      const Oracle expected = oracle(a, b, c, o, s.k);
      tested::gemm(ctx, a.view(), b.view(), c.view(), o);
      const std::string what = std::to_string(s.m) + "x" + std::to_string(s.n) + "x" +
                               std::to_string(s.k) + " layout " + std::to_string(layout);
      expect_rounded(c.values(), expected, 4e-7, what);
      EXPECT_TRUE(c.padding_intact()) << what;
    }
  }
}

TEST(Gemm, BetaZeroOverwritesWithoutReading) {
  const Context ctx = make_context(1);
  for (const std::int64_t k : {0, 1, 33, 5000}) {
    const HostMatrix a(5, k, 0, 1.0f), b(k, 7, 0, 2.0f);
    HostMatrix c(5, 7, 0, std::numeric_limits<float>::quiet_NaN());
    tested::gemm(ctx, a.view(), b.view(), c.view());
    EXPECT_EQ(c.values(), std::vector<float>(35, 2.0f * static_cast<float>(k))) << k;
  }
}

TEST(Gemm, NoInnerDimensionScalesC) {
  const Context ctx = make_context(1);
  const HostMatrix a(2, 0), b(0, 2);
  HostMatrix c(2, 2, {1, 2, 3, 4});
  tested::gemm(ctx, a.view(), b.view(), c.view(), {.beta = 3});
  EXPECT_EQ(c.values(), (std::vector<float>{3, 6, 9, 12}));
}

TEST(Gemm, SameBitsForAnyThreadCountAndSchedule) {
  Random random(12);
  const std::vector<Case> cases =
      on_device() ? std::vector<Case>{{70, 33, 64}, {20, 9, 900}}
                  : std::vector<Case>{{1300, 70, 64}, {520, 2100, 33}, {64, 48, 9000}};
  for (const Case& s : cases) {
    const HostMatrix a = HostMatrix::normal(random, s.m, s.k);
    const HostMatrix b = HostMatrix::normal(random, s.k, s.n);
    std::vector<float> first;
    const auto run = [&](int threads) {
      const Context ctx = make_context(threads);
      HostMatrix c(s.m, s.n);
      tested::gemm(ctx, a.view(), b.view(), c.view());
      if (first.empty()) first = c.values();
      expect_equal_bits(c.values(), first, std::to_string(threads) + " threads");
    };
    if (on_device()) {
      for_each_schedule([&] { run(1); });
    } else {
      for (const int threads : {1, 2, 4}) run(threads);
    }
  }
}

TEST(Gemm, LongSumsReuseTheirScratch) {
  const Context ctx = make_context(2);
  Random random(13);
  const HostMatrix a = HostMatrix::normal(random, 9000, 64),
                   b = HostMatrix::normal(random, 9000, 32);
  HostMatrix c(64, 32);
  tested::gemm(ctx, a.view(), b.view(), c.view(), {.a = kYes});
  const std::int64_t planned = ctx.arena().allocations();
  EXPECT_GT(ctx.arena().peak_bytes(), 0);
  tested::gemm(ctx, a.view(), b.view(), c.view(), {.a = kYes});
  EXPECT_EQ(ctx.arena().allocations(), planned);
}

TEST(Gemm, RefusesWrongShapes) {
  const Context ctx = make_context(1);
  const HostMatrix a(2, 3), b(3, 4);
  HostMatrix c(2, 4), wrong_rows(3, 4), wrong_cols(2, 3);
  const HostMatrix wrong_inner(4, 4);
  EXPECT_THROW(tested::gemm(ctx, a.view(), b.view(), wrong_rows.view()), ContractError);
  EXPECT_THROW(tested::gemm(ctx, a.view(), b.view(), wrong_cols.view()), ContractError);
  EXPECT_THROW(tested::gemm(ctx, a.view(), wrong_inner.view(), c.view()), ContractError);
  EXPECT_THROW(tested::gemm(ctx, a.view(), b.view(), c.view(), {.a = kYes}), ContractError);
  Matrix<float> overlapping = c.view();
  overlapping.pitch = 3;
  EXPECT_THROW(tested::gemm(ctx, a.view(), b.view(), overlapping), ContractError);
  EXPECT_NO_THROW(tested::gemm(ctx, a.view(), b.view(), c.view()));
}

}  // namespace
}  // namespace belfry::test
