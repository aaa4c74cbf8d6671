// SPDX-License-Identifier: Apache-2.0
// Masks of padded lists for tests: on the host, and their device twin.
#pragma once

#include <string>
#include <vector>

#include "kernels/core/steps.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {

/// Device copy of a mask; the host's null pointers stay null.
class StepMaskTwin {
 public:
  StepMaskTwin(const Context& ctx, const StepMask& host, std::int64_t lists, std::int64_t steps)
      : valid_(ctx,
               Vector<const std::uint8_t>(host.valid, host.valid != nullptr ? lists * steps : 0)),
        lengths_(ctx,
                 Vector<const std::int32_t>(host.lengths, host.lengths != nullptr ? lists : 0)) {
    // An empty twin has no memory; whatever it points to is not read.
    view_.valid = valid_.data();
    view_.lengths = lengths_.data();
  }
  const StepMask& view() const { return view_; }

 private:
  Twin<const std::uint8_t> valid_;
  Twin<const std::int32_t> lengths_;
  StepMask view_;
};

/// A mask that owns its members.
struct HostMask {
  std::vector<std::uint8_t> valid;
  std::vector<std::int32_t> lengths;
  StepMask view() const {
    return {valid.empty() ? nullptr : valid.data(), lengths.empty() ? nullptr : lengths.data()};
  }
};

/// Kinds of masks: none, lengths (0 and beyond the end among them), holes, both.
inline constexpr int kMaskKinds = 4;
inline HostMask make_mask(Random& random, int kind, std::int64_t lists, std::int64_t steps) {
  HostMask mask;
  if (kind == 1 || kind == 3) {
    for (std::int64_t b = 0; b < lists; ++b) {
      const std::int64_t n = b % 4 == 1 ? 0 : b % 4 == 3 ? steps + 2 : random.below(steps + 1);
      mask.lengths.push_back(static_cast<std::int32_t>(n));
    }
  }
  if (kind == 2 || kind == 3) {
    for (std::int64_t i = 0; i < lists * steps; ++i) {
      mask.valid.push_back(random.uniform() < 0.6 ? static_cast<std::uint8_t>(1 + i % 3) : 0);
    }
  }
  return mask;
}
inline std::string mask_name(int kind) {
  constexpr const char* kNames[kMaskKinds] = {"no mask", "lengths", "holes", "lengths and holes"};
  return kNames[kind];
}

}  // namespace belfry::test
