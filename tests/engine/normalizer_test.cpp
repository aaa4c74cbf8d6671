// SPDX-License-Identifier: Apache-2.0
#include "engine/normalizer.hpp"

#include <gtest/gtest.h>

namespace belfry::test {
namespace {

TEST(Moments, MeanAndPopulationVariance) {
  Moments moments;
  EXPECT_EQ(moments.mean(), 0);
  EXPECT_EQ(moments.variance(), 0);
  moments.add(2);
  EXPECT_EQ(moments.mean(), 2);
  EXPECT_EQ(moments.variance(), 0);
  for (const double x : {4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}) moments.add(x);
  EXPECT_EQ(moments.count(), 8);
  EXPECT_DOUBLE_EQ(moments.mean(), 5);
  EXPECT_DOUBLE_EQ(moments.variance(), 4);
}

TEST(Moments, SmallVarianceOfLargeNumbers) {
  Moments moments;  // sums of squares would cancel: 1.6e18 has no room for 2/3
  for (const double x : {1.3e9, 1.3e9 + 1, 1.3e9 + 2}) moments.add(x);
  EXPECT_DOUBLE_EQ(moments.mean(), 1.3e9 + 1);
  EXPECT_DOUBLE_EQ(moments.variance(), 2.0 / 3);
}

TEST(Normalizer, ThereAndBack) {
  const Normalizer normalizer(5, 4);
  EXPECT_EQ(normalizer.mean(), 5);
  EXPECT_EQ(normalizer.deviation(), 2);
  EXPECT_EQ(normalizer.apply(9), 2);
  EXPECT_EQ(normalizer.apply(5), 0);
  EXPECT_EQ(normalizer.invert(-1.5), 2);
  EXPECT_TRUE(std::isnan(normalizer.apply(NAN)));
}

TEST(Normalizer, AConstantColumnIsDividedByTheFloor) {
  Moments moments;
  for (int i = 0; i < 10; ++i) moments.add(3);
  const Normalizer normalizer(moments);
  EXPECT_EQ(normalizer.deviation(), 1e-7);
  EXPECT_EQ(normalizer.apply(3), 0);
  EXPECT_DOUBLE_EQ(normalizer.apply(4), 1e7);
  EXPECT_EQ(Normalizer(Moments{}).apply(0), 0);
}

}  // namespace
}  // namespace belfry::test
