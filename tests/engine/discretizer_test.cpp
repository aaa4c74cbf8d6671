// SPDX-License-Identifier: Apache-2.0
#include "engine/discretizer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

using Floats = std::vector<float>;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(BucketOf, CountsBoundariesUpToTheValue) {
  const Floats boundaries = {-1, 0, 0, 2.5f};
  EXPECT_EQ(bucket_of(-kInf, boundaries), 0);
  EXPECT_EQ(bucket_of(-1.0001f, boundaries), 0);
  EXPECT_EQ(bucket_of(-1, boundaries), 1);
  EXPECT_EQ(bucket_of(-0.0f, boundaries), 3);
  EXPECT_EQ(bucket_of(2.49f, boundaries), 3);
  EXPECT_EQ(bucket_of(2.5f, boundaries), 4);
  EXPECT_EQ(bucket_of(kInf, boundaries), 4);
  EXPECT_EQ(bucket_of(kNan, boundaries), 4);
  EXPECT_EQ(bucket_of(7, {}), 0);
  EXPECT_EQ(bucket_of(kNan, {}), 0);
}

TEST(EvenBoundaries, StepFromSmallestToLargest) {
  const std::vector<double> values = {4, std::nan(""), 2, 3, 10};
  EXPECT_EQ(even_boundaries(values, 5), (Floats{2, 4, 6, 8, 10}));
  EXPECT_EQ(even_boundaries(values, 1), (Floats{2}));
  EXPECT_EQ(even_boundaries(values, 0), Floats{});
  EXPECT_EQ(even_boundaries({}, 5), Floats{});
  EXPECT_EQ(even_boundaries(std::vector<double>{3}, 3), (Floats{3, 3, 3}));
  EXPECT_EQ(even_boundaries(std::vector<double>{std::nan("")}, 3), Floats{});
  // The steps are cut in float64: 64-second steps of float32 would merge them only in the end.
  EXPECT_EQ(even_boundaries(std::vector<double>{1e9, 1e9 + 128}, 3),
            (Floats{1e9f, 1e9f + 64, 1e9f + 128}));
}

TEST(ExactQuantiles, LinearBetweenNeighbours) {
  EXPECT_EQ(exact_quantiles({5, 1, 3, 2, 4}, 4), (Floats{2, 3, 4}));
  EXPECT_EQ(exact_quantiles({1, 2}, 4), (Floats{1.25f, 1.5f, 1.75f}));
  EXPECT_EQ(exact_quantiles({std::nan(""), 9, std::nan("")}, 3), (Floats{9, 9}));
  EXPECT_EQ(exact_quantiles({-kInf, -kInf, 0, kInf, kInf}, 4), (Floats{-kInf, 0, kInf}));
  EXPECT_EQ(exact_quantiles({}, 3), Floats{});
  EXPECT_EQ(exact_quantiles({1, 2, 3}, 1), Floats{});
  EXPECT_EQ(error_of([] { exact_quantiles({1}, 0); }).code(), ExitCode::usage);
}

TEST(QuantileSketch, FewValuesAreInterpolatedByTheirShares) {
  // Shares 1/4 .. 4/4 of the values 1 .. 4: a quarter of the weight lies at the first one.
  QuantileSketch sketch(0.01);
  sketch.add({3, 1, kNan, 4, 2});
  EXPECT_EQ(sketch.boundaries(4), (Floats{1, 2, 3}));
  EXPECT_EQ(sketch.boundaries(2), (Floats{2}));
  EXPECT_EQ(sketch.boundaries(1), Floats{});
  // Fewer values than buckets stand for themselves, but for the last.
  EXPECT_EQ(sketch.boundaries(10), (Floats{1, 2, 3}));
}

TEST(QuantileSketch, NothingOneValueAndConstants) {
  QuantileSketch sketch(0.5);
  EXPECT_EQ(sketch.boundaries(3), Floats{});
  sketch.add({});
  sketch.add({kNan});
  EXPECT_EQ(sketch.boundaries(3), Floats{});
  sketch.add({7});
  EXPECT_EQ(sketch.boundaries(3), Floats{});
  for (int i = 0; i < 20; ++i) sketch.add(Floats(50, 7));
  EXPECT_EQ(sketch.boundaries(2), (Floats{7}));
  EXPECT_EQ(error_of([] { QuantileSketch sketch_of_none(0); }).code(), ExitCode::usage);
  EXPECT_EQ(error_of([] { QuantileSketch too_coarse(1.5); }).code(), ExitCode::usage);
}

TEST(QuantileSketch, StaysNearTheQuantilesOfManyBatches) {
  // 0, 1, .. 9999 in scattered order: the quantile is the share. Keras's rule drifts upwards by two hundred.
  QuantileSketch sketch(0.01);
  Floats batch;
  for (int i = 0; i < 10'000; ++i) {
    batch.push_back(static_cast<float>(i * 7919 % 10'000));
    if (batch.size() == 137) sketch.add(std::exchange(batch, {}));
  }
  sketch.add(batch);
  const Floats boundaries = sketch.boundaries(8);
  ASSERT_EQ(boundaries.size(), 7u);
  for (std::size_t i = 0; i < 7; ++i) {
    EXPECT_NEAR(boundaries[i], 1250.0f * static_cast<float>(i + 1), 300.0f);
  }
}

}  // namespace
}  // namespace belfry::test
