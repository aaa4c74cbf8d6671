// SPDX-License-Identifier: Apache-2.0
// Numbers -> buckets between boundaries, as Keras's Discretization does it, and the three ways to boundaries:
// even steps, exact quantiles, and Keras's sketch of quantiles (which `adapt` learns).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace belfry {

/// The number of boundaries <= x, compared in float32; NaN: the last bucket. `boundaries` ascend.
std::int64_t bucket_of(float x, std::span<const float> boundaries);

/// `count` boundaries in even steps from the smallest to the largest value (one: the smallest). NaN does
/// not count; no value: no boundaries.
std::vector<float> even_boundaries(std::span<const double> values, std::int64_t count);

/// The bins - 1 values below which 1/bins, 2/bins, ... of the values lie, linear between neighbours
/// (numpy.quantile). NaN does not count; no value: no boundaries.
std::vector<float> exact_quantiles(std::vector<double> values, std::int64_t bins);

/// Keras's summary of a stream: values and their weights, cut down to about 1 / epsilon after each batch.
/// What it learns depends on the batches and is off from the exact quantiles by a share of epsilon or so.
class QuantileSketch {
 public:
  explicit QuantileSketch(double epsilon = 0.01);
  void add(std::vector<float> batch);
  /// bins - 1 boundaries; fewer where fewer values than bins were kept.
  std::vector<float> boundaries(std::int64_t bins) const;

 private:
  struct Point {
    float value, weight;
  };
  static std::vector<Point> compress(std::vector<Point> points, double step, std::int64_t count);
  double epsilon_;
  std::vector<Point> points_;  ///< by ascending value
};

}  // namespace belfry
