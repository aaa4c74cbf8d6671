// SPDX-License-Identifier: Apache-2.0
// What changes from step to step lives in the backend's memory, so that a captured graph of steps
// can be replayed without new host arguments.
#pragma once

#include <cstdint>

namespace belfry {

/// Faults that only the device can see; a run with a bit set stops, names it, is never published.
enum StatusBit : std::uint32_t {
  kStatusIdOutOfRange = 1u << 0,
  kStatusNonFinite = 1u << 1,
  kStatusOverflow = 1u << 2,
};

inline constexpr int kMaxParameterGroups = 16;

struct StepState {
  std::int64_t step = 0;   ///< number of updates already made; the update being made is step + 1
  std::uint64_t seed = 0;  ///< key of all draws
  std::uint64_t epoch = 0;
  std::int64_t row_offset = 0;  ///< first position of this batch in the epoch's order
  std::int64_t batch_rows = 0;  ///< rows of this batch (the last one may be partial)
  float learning_rate[kMaxParameterGroups] = {};  ///< of the update being made, per group
  std::uint32_t status = 0;                       ///< OR of StatusBit
};

}  // namespace belfry
