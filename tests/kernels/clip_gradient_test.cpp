// SPDX-License-Identifier: Apache-2.0
#include "kernels/clip_gradient/clip_gradient.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <limits>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_clip_gradient.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

void clip(const Context& ctx, ClipKind kind, float limit, std::vector<HostMatrix*> parts) {
  std::vector<Matrix<float>> views;
  for (HostMatrix* part : parts) views.push_back(part->view());
  tested::clip_gradient(ctx, kind, limit, views);
}

double norm(const std::vector<const HostMatrix*>& parts) {
  double sum = 0;
  for (const HostMatrix* part : parts) {
    for (const float v : part->values()) sum += static_cast<double>(v) * v;
  }
  return std::sqrt(sum);
}

TEST(ClipGradient, ValueByHand) {
  Context ctx = make_context(1);
  HostMatrix g(2, 3, {-2, -0.5, 0, 0.5, 0.75, 7});
  clip(ctx, ClipKind::value, 0.5f, {&g});
  EXPECT_EQ(g.values(), (std::vector<float>{-0.5, -0.5, 0, 0.5, 0.5, 0.5}));
}

TEST(ClipGradient, NormByHand) {
  Context ctx = make_context(1);
  HostMatrix g(1, 2, {3, 4});
  clip(ctx, ClipKind::norm, 5.0f, {&g});
  EXPECT_EQ(g.values(), (std::vector<float>{3, 4})) << "a norm equal to the limit stays";
  clip(ctx, ClipKind::norm, 2.5f, {&g});
  EXPECT_EQ(g.values(), (std::vector<float>{1.5, 2}));
}

TEST(ClipGradient, NormIsOverAllParts) {
  Context ctx = make_context(1);
  HostMatrix a(1, 2, {2, 4}), b(2, 2, {4, 4, 2, 5});  // squares 20 and 61: norm 9
  clip(ctx, ClipKind::norm, 4.5f, {&a, &b});
  expect_near(a.values(), std::vector<double>{1, 2}, 1e-7, 0, "a");
  expect_near(b.values(), std::vector<double>{2, 2, 1, 2.5}, 1e-7, 0, "b");
}

TEST(ClipGradient, RowsThatOccurTwiceCountTwice) {
  // Rows 0, 0 with 0.8 each: by value they still move by 1.6; a norm sees sqrt(2) 0.8, not 1.6.
  Context ctx = make_context(1);
  HostMatrix rows(2, 1, {0.8f, 0.8f});
  clip(ctx, ClipKind::value, 1.0f, {&rows});
  EXPECT_EQ(rows.values(), (std::vector<float>{0.8f, 0.8f}));
  clip(ctx, ClipKind::norm, 1.2f, {&rows});
  EXPECT_EQ(rows.values(), (std::vector<float>{0.8f, 0.8f}));
  clip(ctx, ClipKind::norm, 1.0f, {&rows});
  EXPECT_NEAR(rows(0, 0), 1 / std::sqrt(2.0), 1e-7);
}

TEST(ClipGradient, MatchesFloat64OnNastyShapes) {
  Context ctx = make_context(2);
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
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(ClipGradient, LargeAndTinyNormsDoNotOverflow) {
  Context ctx = make_context(1);
  HostMatrix large(1, 2, {3e30f, 4e30f});
  clip(ctx, ClipKind::norm, 5.0f, {&large});
  expect_near(large.values(), std::vector<double>{3, 4}, 2.5e-7, 0, "large");
  HostMatrix wide(1, 25, 0, 1e30f);
  clip(ctx, ClipKind::norm, 5.0f, {&wide});
  expect_near(wide.values(), std::vector<double>(25, 1.0), 2.5e-7, 0, "large and wide");
  HostMatrix tiny(1, 2, {3e-30f, 4e-30f});
  clip(ctx, ClipKind::norm, 2.5e-30f, {&tiny});
  expect_near(tiny.values(), std::vector<double>{1.5e-30, 2e-30}, 2.5e-7, 0, "tiny");
  HostMatrix largest(1, 2, {std::numeric_limits<float>::max(), 0});
  clip(ctx, ClipKind::norm, 1.0f, {&largest});
  expect_near(largest.values(), std::vector<double>{1, 0}, 1e-6, 0, "largest");
  EXPECT_EQ(ctx.read_state().status, 0u) << "the largest norm that a float has is one";
  HostMatrix zero(2, 2);
  clip(ctx, ClipKind::norm, 1.0f, {&zero});
  EXPECT_EQ(zero.values(), std::vector<float>(4, 0.0f));
}

TEST(ClipGradient, NonFiniteNormIsReported) {
  const float bad[] = {std::numeric_limits<float>::infinity(),
                       std::numeric_limits<float>::quiet_NaN()};
  for (const float v : bad) {
    Context ctx = make_context(1);
    HostMatrix g(1, 2, {1, v});
    clip(ctx, ClipKind::norm, 0.5f, {&g});
    EXPECT_EQ(ctx.read_state().status, kStatusNonFinite);
    EXPECT_EQ(g(0, 0), 1.0f);
    clip(ctx, ClipKind::value, 0.5f, {&g});
    EXPECT_EQ(std::isnan(g(0, 1)), std::isnan(v))
        << "NaN must reach the optimizer, which reports it";
  }
}

TEST(ClipGradient, SameBitsWhateverTheSchedule) {
  std::vector<float> first;
  for_each_variant([&](const Context& ctx) {
    Random random(8);
    HostMatrix a = HostMatrix::normal(random, by_backend(5001, 401), 33);
    HostMatrix b = HostMatrix::normal(random, 7, by_backend(20000, 2000));
    clip(ctx, ClipKind::norm, 1.0f, {&a, &b});
    EXPECT_NEAR(norm({&a, &b}), 1, 1e-6);
    std::vector<float> result = a.values();
    const std::vector<float> more = b.values();
    result.insert(result.end(), more.begin(), more.end());
    if (first.empty()) first = result;
    expect_equal_bits(result, first, "clipped");
  });
}

TEST(ClipGradient, AnyNumberOfParts) {
  const Context ctx = make_context(2), cpu(Backend::cpu, 1);
  for (const std::size_t count : {1u, 15u, 16u, 17u, 33u}) {
    Random random(9);
    std::deque<HostMatrix> parts, same;
    std::vector<HostMatrix*> all, all_same;
    for (std::size_t i = 0; i < count; ++i) {
      parts.push_back(HostMatrix::normal(random, random.below(9), random.below(9), 1, i % 3));
      same.push_back(parts.back());
      all.push_back(&parts.back());
      all_same.push_back(&same.back());
    }
    clip(ctx, ClipKind::norm, 3.0f, all);
    clip(cpu, ClipKind::norm, 3.0f, all_same);
    for (std::size_t i = 0; i < count; ++i) {
      expect_near(parts[i].values(), same[i].values(), 1.2e-7, 0, "norm, both backends");
    }
    clip(ctx, ClipKind::value, 0.2f, all);
    for (const HostMatrix& part : parts) {
      for (const float v : part.values()) EXPECT_LE(std::abs(v), 0.2f);
    }
  }
}

TEST(ClipGradient, CanBeReplayed) {
  const Context ctx = make_context(1);
  Random random(10);
  const std::int64_t rows = 130, cols = 40;
  Held<float> a(ctx, random.normals(rows * cols)), b(ctx, random.normals(cols));
  Replay replay(ctx, [&] {
    const Matrix<float> parts[] = {a.matrix(rows, cols), b.matrix(1, cols)};
    belfry::clip_gradient(ctx, ClipKind::norm, 20.0f, parts);
  });
  for (const double scale : {1.0, 0.1, 2.0}) {  // over, under, over the limit
    HostMatrix x = HostMatrix::normal(random, rows, cols, scale);
    HostMatrix y = HostMatrix::normal(random, 1, cols, scale);
    a.set(x.values());
    b.set(y.values());
    replay.run();
    clip(ctx, ClipKind::norm, 20.0f, {&x, &y});
    expect_equal_bits(a.get(), x.values(), "a");
    expect_equal_bits(b.get(), y.values(), "b");
  }
}

TEST(ClipGradient, RefusesABadLimit) {
  Context ctx = make_context(1);
  EXPECT_THROW(tested::clip_gradient(ctx, ClipKind::norm, 0.0f, {}), ContractError);
  EXPECT_THROW(tested::clip_gradient(ctx, ClipKind::value, -1.0f, {}), ContractError);
  EXPECT_THROW(tested::clip_gradient(ctx, ClipKind::value, kPadding, {}), ContractError);
  EXPECT_NO_THROW(tested::clip_gradient(ctx, ClipKind::norm, 1.0f, {}));
}

}  // namespace
}  // namespace belfry::test
