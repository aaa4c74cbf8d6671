// SPDX-License-Identifier: Apache-2.0
// Comparisons for kernel tests. Each prints its error profile when it fails (and with
// BELFRY_PROFILE=1 when it passes), so that tolerances can be tightened from numbers.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

namespace belfry::test {

/// How far float32 results lie from float64 ones. `used` is |actual - expected| over the tolerance.
struct ErrorProfile {
  double average = 0;     ///< mean absolute error
  double p99 = 0;         ///< 99th percentile of the absolute error
  double max = 0;         ///< largest absolute error
  double used = 0;        ///< largest share of the tolerance; above 1 is a failure
  std::size_t worst = 0;  ///< where
  double margin() const { return used > 0 ? 1 / used : std::numeric_limits<double>::infinity(); }
};

inline std::ostream& operator<<(std::ostream& out, const ErrorProfile& p) {
  return out << "avg " << p.average << ", p99 " << p.p99 << ", max " << p.max << ", margin "
             << p.margin() << "x at element " << p.worst;
}

/// Profile of |actual - expected| against atol + rtol |expected|. NaN equals NaN; equal infinities
/// are equal; NaN on one side only counts as an infinite error.
template <class A, class E>
ErrorProfile error_profile(const A& actual, const E& expected, double rtol, double atol) {
  ErrorProfile p;
  std::vector<double> errors;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double a = static_cast<double>(actual[i]), e = static_cast<double>(expected[i]);
    double error = a == e || (std::isnan(a) && std::isnan(e)) ? 0 : std::abs(a - e);
    if (std::isnan(error)) error = std::numeric_limits<double>::infinity();
    errors.push_back(error);
    const double used = error == 0 ? 0 : error / (atol + rtol * std::abs(e));
    if (!(used <= p.used)) {
      p.used = std::isnan(used) ? std::numeric_limits<double>::infinity() : used;
      p.worst = i;
    }
    p.average += error / static_cast<double>(expected.size());
  }
  if (errors.empty()) return p;
  std::sort(errors.begin(), errors.end());
  p.p99 = errors[(errors.size() - 1) * 99 / 100];
  p.max = errors.back();
  return p;
}

/// Every element within atol + rtol |expected|. Returns the profile, for tests that bound the
/// average too.
template <class A, class E>
ErrorProfile expect_near(const A& actual, const E& expected, double rtol, double atol,
                         const std::string& what) {
  EXPECT_EQ(actual.size(), expected.size()) << what;
  if (actual.size() != expected.size()) return {};
  const ErrorProfile p = error_profile(actual, expected, rtol, atol);
  const bool failed = !(p.used <= 1);
  if (failed) {
    ADD_FAILURE() << what << ": element " << p.worst << " is " << actual[p.worst] << ", expected "
                  << expected[p.worst] << "; " << p;
  } else if (std::getenv("BELFRY_PROFILE") != nullptr) {
    std::cout << what << ": " << p << '\n';
  }
  return p;
}

inline std::uint32_t bits_of(float v) {
  return std::bit_cast<std::uint32_t>(v);
}
inline std::uint64_t bits_of(double v) {
  return std::bit_cast<std::uint64_t>(v);
}
inline std::uint32_t bits_of(std::int32_t v) {
  return static_cast<std::uint32_t>(v);
}
inline std::uint64_t bits_of(std::int64_t v) {
  return static_cast<std::uint64_t>(v);
}
inline std::uint32_t bits_of(std::uint32_t v) {
  return v;
}
inline std::uint64_t bits_of(std::uint64_t v) {
  return v;
}

/// Bit for bit: -0 differs from 0, NaN equals the same NaN.
template <class A, class B>
void expect_equal_bits(const A& actual, const B& expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  std::size_t different = 0, first = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (bits_of(actual[i]) == bits_of(expected[i])) continue;
    if (different++ == 0) first = i;
  }
  if (different != 0) {
    ADD_FAILURE() << what << ": " << different << " of " << actual.size()
                  << " elements differ in bits, first " << first << ": " << actual[first] << " and "
                  << expected[first];
  }
}

/// Distance of two finite floats in units in the last place of `expected`'s binade.
inline double ulps(float actual, double expected) {
  if (static_cast<double>(actual) == expected) return 0;
  if (std::isnan(actual) && std::isnan(expected)) return 0;
  const double size =
      std::max(std::abs(expected), static_cast<double>(std::numeric_limits<float>::min()));
  int exponent = 0;
  std::frexp(size, &exponent);
  return std::abs(static_cast<double>(actual) - expected) / std::ldexp(1.0, exponent - 24);
}

}  // namespace belfry::test
