// SPDX-License-Identifier: Apache-2.0
// Numbers to mean 0 and variance 1, as Keras's Normalization does it (population variance, the standard
// deviation at least 1e-7), in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace belfry {

/// Mean and population variance of a stream, without the cancellation of sums of squares.
class Moments {
 public:
  void add(double x) {
    ++count_;
    const double delta = x - mean_;
    mean_ += delta / static_cast<double>(count_);
    squares_ += delta * (x - mean_);
  }
  std::int64_t count() const { return count_; }
  double mean() const { return mean_; }  ///< 0 without a value
  double variance() const { return count_ > 0 ? squares_ / static_cast<double>(count_) : 0; }

 private:
  std::int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

/// One column's.
class Normalizer {
 public:
  Normalizer(double mean, double variance)
      : mean_(mean), deviation_(std::max(std::sqrt(variance), 1e-7)) {}
  explicit Normalizer(const Moments& moments) : Normalizer(moments.mean(), moments.variance()) {}
  double mean() const { return mean_; }
  double deviation() const { return deviation_; }
  double apply(double x) const { return (x - mean_) / deviation_; }
  double invert(double y) const { return y * deviation_ + mean_; }

 private:
  double mean_, deviation_;
};

}  // namespace belfry
