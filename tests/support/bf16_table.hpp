// SPDX-License-Identifier: Apache-2.0
// A table of random values in bf16.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/bf16.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {

struct Bf16Table {
  std::int64_t rows, width, pitch;
  std::vector<bf16> data;

  Bf16Table(Random& random, std::int64_t r, std::int64_t d, std::int64_t padding)
      : rows(r), width(d), pitch(d + padding) {
    for (std::int64_t i = 0; i < rows * pitch; ++i) {
      data.push_back(round_to_nearest(static_cast<float>(random.normal())));
    }
  }
  Matrix<bf16> view() { return {data.data(), rows, width, pitch}; }
  /// In float32.
  HostMatrix wide() const {
    HostMatrix out(rows, width);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t d = 0; d < width; ++d) out(r, d) = to_float(data[r * pitch + d]);
    }
    return out;
  }
};

}  // namespace belfry::test
