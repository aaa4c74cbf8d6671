// SPDX-License-Identifier: Apache-2.0
// RMSprop, FTRL and ClippyAdagrad on a tile of rows: see optimizer_step_cpu.cpp.
#include "kernels/optimizer_step/update_task.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/optimizer_step/later_rules_cpu.cpp"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)  // nothing new for these loops
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/optimizer_step/update_loops-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::HWY_NAMESPACE {

std::uint32_t UpdateRmsprop(const UpdateTask& task, std::int64_t first, std::int64_t end) {
  const OptimizerOptions& o = task.options;
  const RmspropConstants c = rmsprop_constants(o, *task.state);
  const bool momentum = o.momentum != 0.0f;
  if (o.centered) {
    return momentum ? Update<3>(RmspropRule<true, true>{c}, task, first, end)
                    : Update<2>(RmspropRule<true, false>{c}, task, first, end);
  }
  return momentum ? Update<2>(RmspropRule<false, true>{c}, task, first, end)
                  : Update<1>(RmspropRule<false, false>{c}, task, first, end);
}

std::uint32_t UpdateFtrl(const UpdateTask& task, std::int64_t first, std::int64_t end) {
  const FtrlConstants c = ftrl_constants(task.options, *task.state);
  return c.exponent == 0.5f ? Update<2>(FtrlRule<true>{c}, task, first, end)
                            : Update<2>(FtrlRule<false>{c}, task, first, end);
}

template <ClippyAccumulator kMode>
std::uint32_t UpdateClippy(const UpdateTask& task, std::int64_t first, std::int64_t end) {
  const ClippyRule<kMode> rule{clippy_constants(task.options, *task.state), task.clip_factor};
  return Update<1>(rule, task, first, end);
}

bool UpdateLaterTile(const UpdateTask& task, std::int64_t first, std::int64_t end) {
  using enum ClippyAccumulator;
  std::uint32_t top = 0;
  if (task.options.kind == OptimizerKind::rmsprop) {
    top = UpdateRmsprop(task, first, end);
  } else if (task.options.kind == OptimizerKind::ftrl) {
    top = UpdateFtrl(task, first, end);
  } else {
    switch (clippy_accumulator(task.options)) {
      case standard:
        top = UpdateClippy<standard>(task, first, end);
        break;
      case clipped:
        top = UpdateClippy<clipped>(task, first, end);
        break;
      case unclipped:
        top = UpdateClippy<unclipped>(task, first, end);
        break;
    }
  }
  return top < kInfinite;
}

/// The least share of n contiguous elements, at most `least`.
template <bool kStandard>
std::uint32_t LeastShare(const ClippyConstants& c, const float* HWY_RESTRICT w,
                         const float* HWY_RESTRICT a, const float* HWY_RESTRICT g, std::int64_t n,
                         std::uint32_t least) {
  constexpr ClippyAccumulator kMode =
      kStandard ? ClippyAccumulator::standard : ClippyAccumulator::unclipped;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t share = clippy_share(c, g[i], w[i], clippy_scale(kMode, g[i], a[i]));
    least = share < least ? share : least;
  }
  return least;
}

std::uint32_t LeastShareOfTile(const UpdateTask& task, std::int64_t first, std::int64_t end) {
  const ClippyConstants c = clippy_constants(task.options, *task.state);
  const auto part =
      task.options.use_standard_accumulator_update ? LeastShare<true> : LeastShare<false>;
  const std::int64_t width = task.gradient.cols;
  std::uint32_t least = kWholeMove;
  for (std::int64_t i = first; i < end; ++i) {
    const std::int64_t row = task.dense ? i : task.rows[i];
    const float* g = task.gradient.row(i);
    const float* a = task.slots.first.row(row);
    if (task.narrow.data == nullptr) {
      least = part(c, task.parameter.row(row), a, g, width, least);
      continue;
    }
    for (std::int64_t column = 0; column < width; column += kNarrowTile) {
      const std::int64_t n = std::min(kNarrowTile, width - column);
      const bf16* stored = task.narrow.row(row) + column;
      float w[kNarrowTile];
      for (std::int64_t d = 0; d < n; ++d) w[d] = to_float(stored[d]);
      least = part(c, w, a + column, g + column, n, least);
    }
  }
  return least;
}

}  // namespace belfry::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry::cpu {

HWY_EXPORT(UpdateLaterTile);
HWY_EXPORT(LeastShareOfTile);

bool update_later_tile(const UpdateTask& task, std::int64_t first, std::int64_t end) {
  return HWY_DYNAMIC_DISPATCH(UpdateLaterTile)(task, first, end);
}

std::uint32_t least_clippy_share(const UpdateTask& task, std::int64_t first, std::int64_t end) {
  return HWY_DYNAMIC_DISPATCH(LeastShareOfTile)(task, first, end);
}

}  // namespace belfry::cpu
#endif  // HWY_ONCE
