// SPDX-License-Identifier: Apache-2.0
// One element of a penalty, for both backends.
#pragma once

#include "kernels/penalty/penalty.hpp"

namespace belfry::penalty_math {

/// Elements whose sum is one number of the scratch.
inline constexpr std::int64_t kElements = 4096;

/// Rows of a tile; the width is at least 1.
inline std::int64_t tile_rows(std::int64_t width) {
  return width >= kElements ? 1 : kElements / width;
}

BELFRY_HD inline float gradient(const Penalty& p, float w) {
  const float sign = w > 0 ? 1.0f : w < 0 ? -1.0f : 0.0f;
  return 2.0f * p.l2 * w + p.l1 * sign;
}
BELFRY_HD inline double value(const Penalty& p, float w) {
  const double x = w;
  return static_cast<double>(p.l1) * (x < 0 ? -x : x) + static_cast<double>(p.l2) * (x * x);
}

}  // namespace belfry::penalty_math
