// SPDX-License-Identifier: Apache-2.0
#include "engine/discretizer.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "engine/error.hpp"

namespace belfry {
namespace {

/// Between two neighbours; equal ones stay themselves, infinite ones too.
double between(double low, double high, double share) {
  if (share <= 0 || low == high) return low;
  return share >= 1 ? high : low + (high - low) * share;
}

/// numpy.interp: y at x of the line through the points (xs, ys), level beyond its ends.
template <class X, class Y>
double interpolate(double x, std::size_t size, X&& xs, Y&& ys) {
  std::size_t low = 0, high = size;  // the last of the xs <= x is in [low - 1, high - 1]
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    if (xs(middle) <= x) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return ys(0);
  if (low == size) return ys(size - 1);
  const double left = xs(low - 1), right = xs(low);
  return between(ys(low - 1), ys(low), (x - left) / (right - left));
}

void check_bins(std::int64_t bins) {
  if (bins < 1) {
    throw Error(ExitCode::usage, "", std::to_string(bins) + " buckets: one or more are needed");
  }
}

}  // namespace

std::int64_t bucket_of(float x, std::span<const float> boundaries) {
  if (std::isnan(x)) return static_cast<std::int64_t>(boundaries.size());
  return std::upper_bound(boundaries.begin(), boundaries.end(), x) - boundaries.begin();
}

std::vector<float> even_boundaries(std::span<const double> values, std::int64_t count) {
  double low = INFINITY, high = -INFINITY;
  for (const double v : values) {  // NaN fails both comparisons
    low = v < low ? v : low;
    high = v > high ? v : high;
  }
  std::vector<float> out;
  if (low > high) return out;
  for (std::int64_t i = 0; i < count; ++i) {
    const double share = count == 1 ? 0 : static_cast<double>(i) / static_cast<double>(count - 1);
    out.push_back(static_cast<float>(between(low, high, share)));
  }
  return out;
}

std::vector<float> exact_quantiles(std::vector<double> values, std::int64_t bins) {
  check_bins(bins);
  std::erase_if(values, [](double v) { return std::isnan(v); });
  std::sort(values.begin(), values.end());
  std::vector<float> out;
  if (values.empty()) return out;
  const auto last = static_cast<double>(values.size() - 1);
  for (std::int64_t i = 1; i < bins; ++i) {
    const double place = last * static_cast<double>(i) / static_cast<double>(bins);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    out.push_back(static_cast<float>(
        between(values[below], values[above], place - static_cast<double>(below))));
  }
  return out;
}

QuantileSketch::QuantileSketch(double epsilon) : epsilon_(epsilon) {
  if (!(epsilon > 0 && epsilon <= 1)) {
    throw Error(ExitCode::usage, "", "the epsilon of a sketch of quantiles is in (0, 1]");
  }
}

void QuantileSketch::add(std::vector<float> batch) {
  std::erase_if(batch, [](float v) { return std::isnan(v); });
  std::sort(batch.begin(), batch.end());
  // Every increment-th value of the batch stands for so many.
  const auto increment = static_cast<std::size_t>(static_cast<float>(batch.size()) /
                                                  static_cast<float>(1.0 / epsilon_));
  const std::size_t stride = std::max<std::size_t>(increment, 1);
  std::vector<Point> merged;
  for (std::size_t i = increment; i < batch.size(); i += stride) {
    merged.push_back({batch[i], static_cast<float>(stride)});
  }
  const auto middle = static_cast<std::ptrdiff_t>(merged.size());
  merged.insert(merged.end(), points_.begin(), points_.end());
  std::inplace_merge(merged.begin(), merged.begin() + middle, merged.end(),
                     [](const Point& a, const Point& b) { return a.value < b.value; });
  // 1 / 0.01 and its like are whole but for rounding.
  const auto count = static_cast<std::int64_t>(std::ceil(1.0 / epsilon_ - 1e-9));
  points_ = compress(std::move(merged), epsilon_, count);
}

/// `count` points at the shares step, 2 step, ... of the weight. Few points stay as they are.
std::vector<QuantileSketch::Point> QuantileSketch::compress(std::vector<Point> points, double step,
                                                            std::int64_t count) {
  if (static_cast<double>(points.size()) * step < 1) return points;
  std::vector<float> sums, shares;
  float sum = 0;
  for (const Point& p : points) sums.push_back(sum += p.weight);
  for (const float s : sums) shares.push_back(s / sum);
  const auto share = [&](std::size_t i) { return static_cast<double>(shares[i]); };
  std::vector<Point> out;
  double before = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = step + static_cast<double>(i) * step;
    const double value = interpolate(x, points.size(), share, [&](std::size_t k) {
      return static_cast<double>(points[k].value);
    });
    const double weight = interpolate(x, points.size(), share,
                                      [&](std::size_t k) { return static_cast<double>(sums[k]); });
    out.push_back({static_cast<float>(value), static_cast<float>(weight - before)});
    before = weight;
  }
  return out;
}

std::vector<float> QuantileSketch::boundaries(std::int64_t bins) const {
  check_bins(bins);
  std::vector<float> out;
  for (const Point& p : compress(points_, 1.0 / static_cast<double>(bins), bins)) {
    out.push_back(p.value);
  }
  if (!out.empty()) out.pop_back();
  return out;
}

}  // namespace belfry
