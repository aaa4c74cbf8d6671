// SPDX-License-Identifier: Apache-2.0
// optimizer_step on the CPU: tiles of rows on threads. SGD, Adagrad and Adam are here, compiled once an
// instruction set from the loops of update_loops-inl.hpp; the other kinds in later_rules_cpu.cpp.
#include "kernels/optimizer_step/optimizer_step.hpp"

#include <algorithm>
#include <numeric>

#include "kernels/core/parallel.hpp"
#include "kernels/optimizer_step/update_rules.hpp"
#include "kernels/optimizer_step/update_task.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/optimizer_step/optimizer_step_cpu.cpp"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)  // nothing new for these loops
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/optimizer_step/update_loops-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::HWY_NAMESPACE {

/// w -= rate g / root over one row.
inline std::uint32_t MoveRow(float* HWY_RESTRICT w, const float* HWY_RESTRICT g, float rate,
                             float root, std::int64_t width) {
  std::uint32_t top = 0;
  for (std::int64_t d = 0; d < width; ++d) {
    const float value = w[d] - rate * g[d] / root;
    top = Larger(top, Magnitude(value));
    w[d] = value;
  }
  return top;
}

std::uint32_t UpdateRowwiseAdagrad(const UpdateTask& task, float rate, std::int64_t first,
                                   std::int64_t end) {
  const std::int64_t width = task.gradient.cols;
  const float epsilon = task.options.epsilon;
  const EpsilonPlace place = task.options.epsilon_place;
  std::uint32_t top = 0;
  for (std::int64_t i = first; i < end; ++i) {
    const std::int64_t row = task.dense ? i : task.rows[i];
    if (!task.dense && task.narrow.data == nullptr && i + kPrefetchRows < end) {
      PrefetchRow(task.parameter.row(task.rows[i + kPrefetchRows]), width);
      PrefetchRow(task.slots.first.row(task.rows[i + kPrefetchRows]), 1);
    }
    const float* g = task.gradient.row(i);
    float& accumulator = *task.slots.first.row(row);
    accumulator = accumulator + mean_square(g, width);
    const float total = accumulator;
    const float root = place == EpsilonPlace::inside_root ? std::sqrt(total + epsilon)
                                                          : std::sqrt(total) + epsilon;
    top = Larger(top, Magnitude(total));
    if (root == 0.0f) continue;
    if (task.narrow.data == nullptr) {
      top = Larger(top, MoveRow(task.parameter.row(row), g, rate, root, width));
      continue;
    }
    for (std::int64_t column = 0; column < width; column += kNarrowTile) {
      const std::int64_t n = std::min(kNarrowTile, width - column);
      top = Larger(top, UpdateNarrow(task, row, column, n, [&](float* w) {
                     return MoveRow(w, g + column, rate, root, n);
                   }));
    }
  }
  return top;
}

/// One tile: rows of the parameter, or entries of the list of rows. True: all new values are finite.
bool UpdateTile(const UpdateTask& task, std::int64_t first, std::int64_t end) {
  const OptimizerOptions& o = task.options;
  const float rate = task.state->learning_rate[o.group];
  const bool inside = o.epsilon_place == EpsilonPlace::inside_root;
  std::uint32_t top = 0;
  switch (o.kind) {
    case OptimizerKind::sgd:
      top = o.momentum == 0.0f ? Update<0>(SgdRule{rate}, task, first, end)
            : o.nesterov       ? Update<1>(MomentumRule<true>{rate, o.momentum}, task, first, end)
                               : Update<1>(MomentumRule<false>{rate, o.momentum}, task, first, end);
      break;
    case OptimizerKind::adagrad:
      top =
          inside
              ? Update<1>(AdagradRule<EpsilonPlace::inside_root>{rate, o.epsilon}, task, first, end)
              : Update<1>(AdagradRule<EpsilonPlace::after_root>{rate, o.epsilon}, task, first, end);
      break;
    case OptimizerKind::rowwise_adagrad:
      top = UpdateRowwiseAdagrad(task, rate, first, end);
      break;
    case OptimizerKind::adam: {
      const AdamConstants c = adam_constants(o, *task.state);
      top = o.amsgrad ? Update<3>(AmsgradRule{c}, task, first, end)
                      : Update<2>(AdamRule{c}, task, first, end);
      break;
    }
    case OptimizerKind::rmsprop:
    case OptimizerKind::ftrl:
    case OptimizerKind::clippy_adagrad:
      break;  // update_later_tile
  }
  return top < kInfinite;
}

}  // namespace belfry::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

int slot_count(const OptimizerOptions& options) {
  switch (options.kind) {
    case OptimizerKind::sgd:
      return options.momentum != 0.0f ? 1 : 0;
    case OptimizerKind::adagrad:
    case OptimizerKind::rowwise_adagrad:
      return 1;
    case OptimizerKind::adam:
      return options.amsgrad ? 3 : 2;
    case OptimizerKind::rmsprop:
      return 1 + (options.centered ? 1 : 0) + (options.momentum != 0.0f ? 1 : 0);
    case OptimizerKind::ftrl:
      return 2;
    case OptimizerKind::clippy_adagrad:
      return 1;
  }
  return 0;
}

std::int64_t slot_width(const OptimizerOptions& options, std::int64_t width) {
  return options.kind == OptimizerKind::rowwise_adagrad ? 1 : width;
}

void check_optimizer_arguments(const OptimizerOptions& options, std::int64_t rows,
                               std::int64_t width, const OptimizerSlots& slots) {
  const auto fraction = [](float x) { return x >= 0.0f && x < 1.0f; };
  require(options.group >= 0 && options.group < kMaxParameterGroups,
          "optimizer_step: the group number lies outside the step state");
  require(fraction(options.momentum) && fraction(options.beta_1) && fraction(options.beta_2) &&
              fraction(options.rho),
          "optimizer_step: momentum, betas and rho must lie in [0, 1)");
  require(options.epsilon >= 0.0f && options.weight_decay >= 0.0f,
          "optimizer_step: epsilon and weight decay must not be negative");
  require(options.learning_rate_power <= 0.0f && options.l1 >= 0.0f && options.l2 >= 0.0f &&
              options.l2_shrinkage >= 0.0f && options.beta >= 0.0f,
          "optimizer_step: FTRL's power must not be above 0, its strengths and beta not below");
  require(options.variable_relative_threshold >= 0.0f &&
              options.accumulator_relative_threshold >= 0.0f && options.absolute_threshold >= 0.0f,
          "optimizer_step: thresholds must not be negative");
  require(!(options.clip_accumulator_update && options.use_standard_accumulator_update),
          "optimizer_step: an accumulator that is updated before the clipping cannot be clipped");
  const Matrix<float>* slot[3] = {&slots.first, &slots.second, &slots.third};
  for (int s = 0; s < slot_count(options); ++s) {
    require(slot[s]->rows == rows && slot[s]->cols == slot_width(options, width),
            "optimizer_step: a slot does not have the parameter's shape");
  }
}

void check_row_gradient(const RowGradient& gradient, std::int64_t width) {
  require(gradient.values.cols == width,
          "optimizer_step: the gradient must be as wide as the table");
  require(gradient.n != nullptr && gradient.values.rows >= gradient.capacity,
          "optimizer_step: the gradient lacks its count or its rows");
}

namespace cpu {

HWY_EXPORT(UpdateTile);

namespace {

constexpr std::int64_t kTileElements = 16384;

std::int64_t tile_rows(std::int64_t width) {
  return std::max<std::int64_t>(1, kTileElements / width);
}
std::int64_t tiles_of(std::int64_t rows, std::int64_t width) {
  return rows == 0 || width == 0 ? 0 : (rows + tile_rows(width) - 1) / tile_rows(width);
}

/// Calls f(tile, first row, end) for every tile, on threads.
template <class F>
void for_tiles(const Context& ctx, std::int64_t rows, std::int64_t width, F&& f) {
  parallel_for(ctx, tiles_of(rows, width), [&](std::int64_t tile, int) {
    f(tile, tile * tile_rows(width), std::min(rows, (tile + 1) * tile_rows(width)));
  });
}

/// The part of their moves that all elements make.
float clipping_factor(const Context& ctx, const UpdateTask& task, std::int64_t rows,
                      std::int64_t width) {
  ArenaScope scope(ctx);
  const std::int64_t tiles = tiles_of(rows, width);
  auto* shares = ctx.arena().take<std::uint32_t>(tiles);
  for_tiles(ctx, rows, width, [&](std::int64_t tile, std::int64_t first, std::int64_t end) {
    shares[tile] = least_clippy_share(task, first, end);
  });
  return float_of_bits(std::accumulate(shares, shares + tiles, kWholeMove,
                                       [](auto a, auto b) { return std::min(a, b); }));
}

void run(const Context& ctx, UpdateTask task, std::int64_t rows, std::int64_t width) {
  using enum OptimizerKind;
  const OptimizerKind kind = task.options.kind;
  if (kind == clippy_adagrad) {
    task.clip_factor = clipping_factor(ctx, task, rows, width);
    if (task.slots.clipping_factor != nullptr) *task.slots.clipping_factor = task.clip_factor;
  }
  const bool later = kind == rmsprop || kind == ftrl || kind == clippy_adagrad;
  for_tiles(ctx, rows, width, [&](std::int64_t, std::int64_t first, std::int64_t end) {
    const bool finite = later ? update_later_tile(task, first, end)
                              : HWY_DYNAMIC_DISPATCH(UpdateTile)(task, first, end);
    if (!finite) ctx.raise(kStatusNonFinite);
  });
}

/// task: with its parameter. Its table has `table_rows` rows.
void run_listed(const Context& ctx, UpdateTask task, const RowGradient& gradient,
                std::int64_t table_rows) {
  task.dense = false;
  task.rows = gradient.rows;
  task.listed = *gradient.n;
  task.gradient = gradient.values;
  task.all_rows = moves_every_row(task.options);
  const std::int64_t width = gradient.values.cols;
  if (task.listed > 0 && table_rows > 0 && width > 0 &&
      (task.rows[0] < 0 || task.rows[task.listed - 1] >= table_rows)) {
    ctx.raise(kStatusIdOutOfRange);  // ascending, so the ends speak for all
    return;
  }
  if (table_rows == 0 || width == 0) return;
  run(ctx, task, task.all_rows ? table_rows : task.listed, width);
}

}  // namespace

void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<float> parameter,
                    Matrix<const float> gradient, const OptimizerSlots& slots) {
  if (parameter.empty()) return;
  UpdateTask task;
  task.options = options;
  task.state = ctx.state();
  task.parameter = parameter;
  task.slots = slots;
  task.gradient = gradient;
  run(ctx, task, parameter.rows, parameter.cols);
}

void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<float> parameter,
                    const RowGradient& gradient, const OptimizerSlots& slots) {
  UpdateTask task;
  task.options = options;
  task.state = ctx.state();
  task.parameter = parameter;
  task.slots = slots;
  run_listed(ctx, task, gradient, parameter.rows);
}

void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<bf16> parameter,
                    const RowGradient& gradient, const OptimizerSlots& slots) {
  UpdateTask task;
  task.options = options;
  task.state = ctx.state();
  task.narrow = parameter;
  task.slots = slots;
  run_listed(ctx, task, gradient, parameter.rows);
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
