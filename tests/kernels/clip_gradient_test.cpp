// SPDX-License-Identifier: Apache-2.0
#include "kernels/clip_gradient/clip_gradient.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {
namespace {

void clip(const Context& ctx, ClipKind kind, float limit, std::vector<HostMatrix*> parts) {
  std::vector<Matrix<float>> views;
  for (HostMatrix* part : parts) views.push_back(part->view());
  clip_gradient(ctx, kind, limit, views);
}

double norm(const std::vector<const HostMatrix*>& parts) {
  double sum = 0;
  for (const HostMatrix* part : parts) {
    for (const float v : part->values()) sum += static_cast<double>(v) * v;
  }
  return std::sqrt(sum);
}

TEST(ClipGradient, ValueByHand) {
  Context ctx(Backend::cpu, 1);
  HostMatrix g(2, 3, {-2, -0.5, 0, 0.5, 0.75, 7});
  clip(ctx, ClipKind::value, 0.5f, {&g});
  EXPECT_EQ(g.values(), (std::vector<float>{-0.5, -0.5, 0, 0.5, 0.5, 0.5}));
}

TEST(ClipGradient, NormByHand) {
  Context ctx(Backend::cpu, 1);
  HostMatrix g(1, 2, {3, 4});
  clip(ctx, ClipKind::norm, 5.0f, {&g});
  EXPECT_EQ(g.values(), (std::vector<float>{3, 4})) << "a norm equal to the limit stays";
  clip(ctx, ClipKind::norm, 2.5f, {&g});
  EXPECT_EQ(g.values(), (std::vector<float>{1.5, 2}));
}

TEST(ClipGradient, NormIsOverAllParts) {
  Context ctx(Backend::cpu, 1);
  HostMatrix a(1, 2, {2, 4}), b(2, 2, {4, 4, 2, 5});  // squares 20 and 61: norm 9
  clip(ctx, ClipKind::norm, 4.5f, {&a, &b});
  expect_near(a.values(), std::vector<double>{1, 2}, 1e-7, 0, "a");
  expect_near(b.values(), std::vector<double>{2, 2, 1, 2.5}, 1e-7, 0, "b");
}

TEST(ClipGradient, RowsThatOccurTwiceCountTwice) {
  // Rows 0, 0 with 0.8 each: by value they still move by 1.6; a norm sees sqrt(2) 0.8, not 1.6.
  Context ctx(Backend::cpu, 1);
  HostMatrix rows(2, 1, {0.8f, 0.8f});
  clip(ctx, ClipKind::value, 1.0f, {&rows});
  EXPECT_EQ(rows.values(), (std::vector<float>{0.8f, 0.8f}));
  clip(ctx, ClipKind::norm, 1.2f, {&rows});
  EXPECT_EQ(rows.values(), (std::vector<float>{0.8f, 0.8f}));
  clip(ctx, ClipKind::norm, 1.0f, {&rows});
  EXPECT_NEAR(rows(0, 0), 1 / std::sqrt(2.0), 1e-7);
}

TEST(ClipGradient, MatchesFloat64OnNastyShapes) {
  Context ctx(Backend::cpu, 2);
  Random random(5);
  for (const Shape& s : nasty_shapes()) {
    for (const std::int64_t padding : {0, 3}) {
      HostMatrix a = HostMatrix::normal(random, s.rows, s.cols, 2.0, padding);
      HostMatrix b = HostMatrix::normal(random, s.cols, s.rows, 0.5, padding);
      const std::vector<float> a0 = a.values(), b0 = b.values();
      const double before = norm({&a, &b}), limit = 0.5f;
      clip(ctx, ClipKind::norm, 0.5f, {&a, &b});
      const double factor = before > limit ? limit / before : 1;
      std::vector<double> want_a, want_b;
      for (const float v : a0) want_a.push_back(v * factor);
      for (const float v : b0) want_b.push_back(v * factor);
      const std::string what = std::to_string(s.rows) + " x " + std::to_string(s.cols);
      expect_near(a.values(), want_a, 2.5e-7, 0, what);
      expect_near(b.values(), want_b, 2.5e-7, 0, what);
      EXPECT_TRUE(a.padding_intact() && b.padding_intact());

      HostMatrix c(s.rows, s.cols, a0, padding);
      clip(ctx, ClipKind::value, 0.7f, {&c});
      std::vector<float> want_c;
      for (const float v : a0) want_c.push_back(std::min(0.7f, std::max(-0.7f, v)));
      expect_equal_bits(c.values(), want_c, what);
    }
  }
  EXPECT_EQ(ctx.state()->status, 0u);
}

TEST(ClipGradient, LargeAndTinyNormsDoNotOverflow) {
  Context ctx(Backend::cpu, 1);
  HostMatrix large(1, 2, {3e30f, 4e30f});
  clip(ctx, ClipKind::norm, 5.0f, {&large});
  expect_near(large.values(), std::vector<double>{3, 4}, 2.5e-7, 0, "large");
  HostMatrix wide(1, 25, 0, 1e30f);
  clip(ctx, ClipKind::norm, 5.0f, {&wide});
  expect_near(wide.values(), std::vector<double>(25, 1.0), 2.5e-7, 0, "large and wide");
  HostMatrix tiny(1, 2, {3e-30f, 4e-30f});
  clip(ctx, ClipKind::norm, 2.5e-30f, {&tiny});
  expect_near(tiny.values(), std::vector<double>{1.5e-30, 2e-30}, 2.5e-7, 0, "tiny");
  HostMatrix zero(2, 2);
  clip(ctx, ClipKind::norm, 1.0f, {&zero});
  EXPECT_EQ(zero.values(), std::vector<float>(4, 0.0f));
}

TEST(ClipGradient, NonFiniteNormIsReported) {
  const float bad[] = {std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN()};
  for (const float v : bad) {
    Context ctx(Backend::cpu, 1);
    HostMatrix g(1, 2, {1, v});
    clip(ctx, ClipKind::norm, 0.5f, {&g});
    EXPECT_EQ(ctx.state()->status, kStatusNonFinite);
    EXPECT_EQ(g(0, 0), 1.0f);
    clip(ctx, ClipKind::value, 0.5f, {&g});
    EXPECT_EQ(std::isnan(g(0, 1)), std::isnan(v))
        << "NaN must reach the optimizer, which reports it";
  }
}

TEST(ClipGradient, SameBitsForAnyThreadCount) {
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 4}) {
    Context ctx(Backend::cpu, threads);
    Random random(8);
    HostMatrix a = HostMatrix::normal(random, 5001, 33), b = HostMatrix::normal(random, 7, 20000);
    clip(ctx, ClipKind::norm, 1.0f, {&a, &b});
    EXPECT_NEAR(norm({&a, &b}), 1, 1e-6);
    results.push_back(a.values());
    const std::vector<float> more = b.values();
    results.back().insert(results.back().end(), more.begin(), more.end());
  }
  expect_equal_bits(results[1], results[0], "2 threads");
  expect_equal_bits(results[2], results[0], "4 threads");
}

TEST(ClipGradient, RefusesABadLimit) {
  Context ctx(Backend::cpu, 1);
  EXPECT_THROW(clip_gradient(ctx, ClipKind::norm, 0.0f, {}), ContractError);
  EXPECT_THROW(clip_gradient(ctx, ClipKind::value, -1.0f, {}), ContractError);
  EXPECT_THROW(clip_gradient(ctx, ClipKind::value, kPadding, {}), ContractError);
  EXPECT_NO_THROW(clip_gradient(ctx, ClipKind::norm, 1.0f, {}));
}

}  // namespace
}  // namespace belfry::test
