// SPDX-License-Identifier: Apache-2.0
// Inputs for kernel tests: seeded and independent of the library under test (no Philox here), so that
// a fault in the code cannot hide in its own test data.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "kernels/core/view.hpp"

namespace belfry::test {

/// Sizes at which loops go wrong: empty, single, around vector widths and tiles, odd.
inline constexpr std::array<std::int64_t, 10> kNastySizes = {0, 1, 2, 3, 7, 31, 32, 33, 64, 129};

struct Shape {
  std::int64_t rows, cols;
};

/// [rows, cols] pairs: empty either way, vectors, around lanes and tiles, tall and wide.
inline const std::vector<Shape>& nasty_shapes() {
  static const std::vector<Shape> shapes = {{0, 0},     {0, 5},    {5, 0},    {1, 1},    {1, 31},
                                            {1, 257},   {2, 3},    {3, 16},   {7, 1},    {31, 33},
                                            {32, 32},   {33, 31},  {64, 17},  {129, 10}, {255, 65},
                                            {257, 128}, {1000, 3}, {1025, 33}};
  return shapes;
}

/// A seeded source of test values.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// In [0, 1).
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// In [0, n).
  std::int64_t below(std::int64_t n) {
    return std::min(n - 1, static_cast<std::int64_t>(uniform() * static_cast<double>(n)));
  }
  /// Standard normal (Box-Muller: the same numbers with every standard library).
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * 3.14159265358979323846 * uniform());
  }

  std::vector<float> normals(std::int64_t n, double scale = 1.0) {
    std::vector<float> out(static_cast<std::size_t>(n));
    for (float& v : out) v = static_cast<float>(scale * normal());
    return out;
  }
  std::vector<float> uniforms(std::int64_t n, double low, double high) {
    std::vector<float> out(static_cast<std::size_t>(n));
    for (float& v : out) v = static_cast<float>(uniform(low, high));
    return out;
  }
  std::vector<std::int32_t> ids(std::int64_t n, std::int64_t range) {
    std::vector<std::int32_t> out(static_cast<std::size_t>(n));
    for (auto& v : out) v = static_cast<std::int32_t>(below(range));
    return out;
  }
  /// Ids in [0, range) with P(rank r) ~ 1 / (r + 1)^exponent, ranks scattered over the range: a few
  /// rows take most of the hits, as popular items do.
  std::vector<std::int32_t> zipf_ids(std::int64_t n, std::int64_t range, double exponent = 1.05) {
    std::vector<double> cumulative(static_cast<std::size_t>(range));
    double sum = 0;
    for (std::int64_t r = 0; r < range; ++r) {
      sum += std::pow(static_cast<double>(r + 1), -exponent);
      cumulative[static_cast<std::size_t>(r)] = sum;
    }
    std::vector<std::int32_t> place(static_cast<std::size_t>(range));
    for (std::int64_t r = 0; r < range; ++r)
      place[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(r);
    for (std::int64_t r = range - 1; r > 0; --r) {
      std::swap(place[static_cast<std::size_t>(r)], place[static_cast<std::size_t>(below(r + 1))]);
    }
    std::vector<std::int32_t> out(static_cast<std::size_t>(n));
    for (auto& v : out) {
      const auto at = std::upper_bound(cumulative.begin(), cumulative.end(), uniform() * sum);
      v = place[std::min(static_cast<std::size_t>(at - cumulative.begin()), cumulative.size() - 1)];
    }
    return out;
  }
  /// Offsets of `bags` bags of 0 .. longest ids (offsets.back() is nnz); about a fifth are empty.
  std::vector<std::int64_t> offsets(std::int64_t bags, std::int64_t longest) {
    std::vector<std::int64_t> out(1, 0);
    for (std::int64_t b = 0; b < bags; ++b) {
      out.push_back(out.back() + (uniform() < 0.2 ? 0 : below(longest + 1)));
    }
    return out;
  }

 private:
  std::mt19937_64 engine_;
};

/// What the padding between rows holds: an op that reads it shows it, one that writes it is caught.
inline constexpr float kPadding = std::numeric_limits<float>::quiet_NaN();

/// A host matrix that owns its values; rows may be padded (pitch > cols), the padding holds NaN.
class HostMatrix {
 public:
  HostMatrix() = default;
  HostMatrix(std::int64_t rows, std::int64_t cols, std::int64_t padding = 0, float value = 0.0f)
      : rows_(rows),
        cols_(cols),
        pitch_(cols + padding),
        data_(static_cast<std::size_t>(std::max<std::int64_t>(1, rows * (cols + padding))),
              kPadding) {
    for (std::int64_t i = 0; i < rows; ++i) {
      std::fill_n(data_.begin() + i * pitch_, cols, value);
    }
  }
  HostMatrix(std::int64_t rows, std::int64_t cols, const std::vector<float>& values,
             std::int64_t padding = 0)
      : HostMatrix(rows, cols, padding) {
    for (std::int64_t i = 0; i < rows; ++i) {
      std::copy_n(values.begin() + i * cols, cols, data_.begin() + i * pitch_);
    }
  }
  static HostMatrix normal(Random& random, std::int64_t rows, std::int64_t cols, double scale = 1.0,
                           std::int64_t padding = 0) {
    return {rows, cols, random.normals(rows * cols, scale), padding};
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::int64_t pitch() const { return pitch_; }
  float& operator()(std::int64_t i, std::int64_t j) {
    return data_[static_cast<std::size_t>(i * pitch_ + j)];
  }
  float operator()(std::int64_t i, std::int64_t j) const {
    return data_[static_cast<std::size_t>(i * pitch_ + j)];
  }
  Matrix<float> view() { return {data_.data(), rows_, cols_, pitch_}; }
  Matrix<const float> view() const { return {data_.data(), rows_, cols_, pitch_}; }
  /// The elements without the padding.
  std::vector<float> values() const {
    std::vector<float> out;
    out.reserve(static_cast<std::size_t>(rows_ * cols_));
    for (std::int64_t i = 0; i < rows_; ++i) {
      out.insert(out.end(), data_.begin() + i * pitch_, data_.begin() + i * pitch_ + cols_);
    }
    return out;
  }
  /// True while nobody has written between the rows.
  bool padding_intact() const {
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = cols_; j < pitch_; ++j) {
        if (!std::isnan((*this)(i, j))) return false;
      }
    }
    return true;
  }

 private:
  std::int64_t rows_ = 0, cols_ = 0, pitch_ = 0;
  std::vector<float> data_;
};

template <class T>
Vector<T> view(std::vector<T>& values) {
  return {values.data(), static_cast<std::int64_t>(values.size())};
}
template <class T>
Vector<const T> view(const std::vector<T>& values) {
  return {values.data(), static_cast<std::int64_t>(values.size())};
}

/// Central finite differences of the scalar function f at x: df/dx_i for every i. `f` takes the
/// float64 values; a float64 oracle of the op belongs here, not the float32 op.
template <class F>
std::vector<double> finite_differences(F&& f, std::vector<double> x, double step = 1e-5) {
  std::vector<double> gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i];
    const double h = step * std::max(1.0, std::abs(kept));
    x[i] = kept + h;
    const double up = f(x);
    x[i] = kept - h;
    const double down = f(x);
    x[i] = kept;
    gradient[i] = (up - down) / (2 * h);
  }
  return gradient;
}

}  // namespace belfry::test
