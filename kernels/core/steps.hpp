// SPDX-License-Identifier: Apache-2.0
// Padded lists of steps: B lists of T steps each are a matrix [B T, D] whose row b T + t is step t
// of list b, so that a list lies in one piece, and a step of all lists is a matrix of a T times
// larger pitch.
#pragma once

#include <cstdint>

#include "kernels/core/view.hpp"

namespace belfry {

/// The steps that count: all, but for those that either member leaves out. Usable in device code.
struct StepMask {
  const std::uint8_t* valid = nullptr;    ///< [B T], 0: left out; nullptr: none is
  const std::int32_t* lengths = nullptr;  ///< [B], left out from this step on; nullptr: none is

  constexpr bool covers(std::int64_t list, std::int64_t step, std::int64_t steps) const {
    return (lengths == nullptr || step < lengths[list]) &&
           (valid == nullptr || valid[list * steps + step] != 0);
  }
};

/// Step t of all lists: [B, D] of [B T, D].
template <class T>
constexpr Matrix<T> step_of(Matrix<T> m, std::int64_t steps, std::int64_t t) {
  return {m.data + t * m.pitch, m.rows / steps, m.cols, steps * m.pitch};
}

}  // namespace belfry
