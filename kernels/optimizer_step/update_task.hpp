// SPDX-License-Identifier: Apache-2.0
// What the CPU files of optimizer_step share: the work of a tile, and who does it by kind.
#pragma once

#include <cstdint>

#include "kernels/optimizer_step/optimizer_step.hpp"

namespace belfry::cpu {

/// What a tile of rows works on.
struct UpdateTask {
  OptimizerOptions options;
  const StepState* state = nullptr;
  Matrix<float> parameter;
  Matrix<bf16> narrow;  ///< the parameter, where it is stored in bf16
  OptimizerSlots slots;
  Matrix<const float> gradient;  ///< row i belongs to rows[i], or to row i
  bool dense = true;             ///< no list of rows (an empty list may be null, too)
  const std::int32_t* rows = nullptr;
  std::int64_t listed = 0;   ///< entries of rows
  bool all_rows = false;     ///< rows that are not listed get a zero gradient
  float clip_factor = 1.0f;  ///< clippy_adagrad
};

/// RMSprop, FTRL or ClippyAdagrad on one tile: rows of the parameter, or entries of the list of rows. True: all
/// new values are finite.
bool update_later_tile(const UpdateTask& task, std::int64_t first, std::int64_t end);
/// The least clippy_share of a tile.
std::uint32_t least_clippy_share(const UpdateTask& task, std::int64_t first, std::int64_t end);

}  // namespace belfry::cpu
