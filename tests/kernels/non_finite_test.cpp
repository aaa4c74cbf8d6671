// SPDX-License-Identifier: Apache-2.0
#include "kernels/non_finite/non_finite.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_non_finite.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::int64_t first_of(const Context& ctx, const HostMatrix& x) {
  std::int64_t first = 99;
  tested::find_non_finite(ctx, x.view(), &first);
  return first;
}

TEST(NonFinite, FindsTheFirst) {
  const Context ctx = make_context(2);
  HostMatrix x(2, 3, {1, -std::numeric_limits<float>::max(), 0, 1e-45f, -0.0f, 3});
  EXPECT_EQ(first_of(ctx, x), -1);
  x(1, 2) = kNan;
  EXPECT_EQ(first_of(ctx, x), 5);
  x(0, 1) = -kInf;
  EXPECT_EQ(first_of(ctx, x), 1);
  x(0, 0) = kInf;
  EXPECT_EQ(first_of(ctx, x), 0);
}

TEST(NonFinite, NastyShapes) {
  const Context ctx = make_context(2);
  Random random(1);
  for (const Shape& s : nasty_shapes()) {
    HostMatrix x = HostMatrix::normal(random, s.rows, s.cols, 1, 2);  // the padding is NaN
    EXPECT_EQ(first_of(ctx, x), -1);
    if (s.rows * s.cols == 0) continue;
    std::int64_t expected = s.rows * s.cols;
    for (int k = 0; k < 3; ++k) {
      const std::int64_t at = k == 0 ? s.rows * s.cols - 1 : random.below(s.rows * s.cols);
      expected = std::min(expected, at);
      x(at / s.cols, at % s.cols) = k == 1 ? kInf : kNan;
      EXPECT_EQ(first_of(ctx, x), expected) << s.rows << " x " << s.cols;
    }
  }
}

TEST(NonFinite, AllOfThem) {
  for_each_variant([](const Context& ctx) {
    HostMatrix x(70, 90, 0, kNan);
    EXPECT_EQ(first_of(ctx, x), 0);
    for (std::int64_t i = 0; i < 47; ++i) {
      for (std::int64_t j = 0; j < 90; ++j) x(i, j) = 0;
    }
    EXPECT_EQ(first_of(ctx, x), 47 * 90);
    HostMatrix padded(70, 90, 1, 0.0f);
    padded(69, 89) = kInf;
    EXPECT_EQ(first_of(ctx, padded), 70 * 90 - 1);
  });
}

TEST(NonFinite, CanBeReplayed) {
  const Context ctx = make_context(1);
  std::vector<float> values(5000);
  Held<float> x(ctx, values);
  Held<std::int64_t> first(ctx, std::vector<std::int64_t>(1));
  Replay replay(ctx, [&] { belfry::find_non_finite(ctx, x.matrix(50, 100), first.data()); });
  for (const std::int64_t at : {4999, 1234, -1}) {
    std::fill(values.begin(), values.end(), 1.0f);
    if (at >= 0) values[static_cast<std::size_t>(at)] = kNan;
    x.set(values);
    replay.run();
    EXPECT_EQ(first.get()[0], at);
  }
}

TEST(NonFinite, RefusesNoResult) {
  const Context ctx = make_context(1);
  EXPECT_THROW(tested::find_non_finite(ctx, {}, nullptr), ContractError);
}

}  // namespace
}  // namespace belfry::test
