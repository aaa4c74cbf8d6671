// SPDX-License-Identifier: Apache-2.0
// The loops below are plain C++ over the rules of update_rules.hpp, compiled once per instruction
// set; the compiler vectorises them, so there is one text of the maths. (This file is built with
// -fno-math-errno and -fno-trapping-math, without which a root or a select stays scalar.)
#include "kernels/optimizer_step/optimizer_step.hpp"

#include <algorithm>
#include <bit>

#include "kernels/core/parallel.hpp"
#include "kernels/optimizer_step/update_rules.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/optimizer_step/optimizer_step_cpu.cpp"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)  // nothing new for these loops
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef BELFRY_OPTIMIZER_STEP_TYPES
#define BELFRY_OPTIMIZER_STEP_TYPES
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
  std::int64_t listed = 0;  ///< entries of rows
  bool all_rows = false;    ///< rows that are not listed get a zero gradient
};

}  // namespace belfry::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::HWY_NAMESPACE {

/// Bits of |x|; at least kInfinite where x is infinite or NaN. Integer, so that a maximum over a row
/// stays cheap and exact.
inline std::uint32_t Magnitude(float x) {
  return std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFu;
}
inline std::uint32_t Larger(std::uint32_t a, std::uint32_t b) {
  return a > b ? a : b;
}
constexpr std::uint32_t kInfinite = 0x7F800000u;

constexpr std::int64_t kPrefetchRows = 6;

template <int kSlots>
struct Span {
  float* w;
  float* slot[kSlots > 0 ? kSlots : 1];
};

/// Updates n contiguous elements; kZero: their gradient is zero. Returns the largest magnitude of a
/// new value. Elements pass through locals: a conditional store would keep the loop scalar.
template <int kSlots, bool kZero, class Rule>
std::uint32_t UpdateElements(const Rule& rule, float* HWY_RESTRICT w, float* HWY_RESTRICT a,
                             float* HWY_RESTRICT b, float* HWY_RESTRICT c,
                             const float* HWY_RESTRICT g, std::int64_t n) {
  std::uint32_t top = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float gi = kZero ? 0.0f : g[i];
    float wi = w[i];
    if constexpr (kSlots == 0) {
      rule(gi, wi);
    } else if constexpr (kSlots == 1) {
      float ai = a[i];
      rule(gi, wi, ai);
      top = Larger(top, Magnitude(ai));
      a[i] = ai;
    } else {
      float ai = a[i], bi = b[i];
      if constexpr (kSlots == 2) {
        rule(gi, wi, ai, bi);
      } else {
        float ci = c[i];
        rule(gi, wi, ai, bi, ci);
        c[i] = ci;
      }
      top = Larger(top, Larger(Magnitude(ai), Magnitude(bi)));
      a[i] = ai;
      b[i] = bi;
    }
    top = Larger(top, Magnitude(wi));
    w[i] = wi;
  }
  return top;
}

template <int kSlots, bool kZero, class Rule>
std::uint32_t UpdateSpan(const Rule& rule, const Span<kSlots>& span, const float* g,
                         std::int64_t n) {
  return UpdateElements<kSlots, kZero>(rule, span.w, kSlots > 0 ? span.slot[0] : nullptr,
                                       kSlots > 1 ? span.slot[1] : nullptr,
                                       kSlots > 2 ? span.slot[2] : nullptr, g, n);
}

template <int kSlots>
Span<kSlots> SpanAt(const UpdateTask& task, std::int64_t row) {
  const Matrix<float>* slots[3] = {&task.slots.first, &task.slots.second, &task.slots.third};
  Span<kSlots> span{task.parameter.row(row), {}};
  for (int s = 0; s < kSlots; ++s) span.slot[s] = slots[s]->row(row);
  return span;
}

template <int kSlots>
bool Contiguous(const UpdateTask& task) {
  const Matrix<float>* slots[3] = {&task.slots.first, &task.slots.second, &task.slots.third};
  bool all = task.parameter.contiguous();
  for (int s = 0; s < kSlots; ++s) all = all && slots[s]->contiguous();
  return all;
}

/// Rows first .. end-1, none of which has a gradient.
template <int kSlots, class Rule>
std::uint32_t UpdateZeroRows(const Rule& rule, const UpdateTask& task, bool contiguous,
                             std::int64_t first, std::int64_t end) {
  const std::int64_t width = task.parameter.cols;
  if (first >= end) return 0;
  if (contiguous) {
    return UpdateSpan<kSlots, true>(rule, SpanAt<kSlots>(task, first), nullptr,
                                    (end - first) * width);
  }
  std::uint32_t top = 0;
  for (std::int64_t row = first; row < end; ++row) {
    top = Larger(top, UpdateSpan<kSlots, true>(rule, SpanAt<kSlots>(task, row), nullptr, width));
  }
  return top;
}

/// Rows first .. end-1 of the parameter, all of them; those not listed with a zero gradient.
template <int kSlots, class Rule>
std::uint32_t UpdateAllRows(const Rule& rule, const UpdateTask& task, std::int64_t first,
                            std::int64_t end) {
  const std::int64_t width = task.parameter.cols;
  const bool contiguous = Contiguous<kSlots>(task);
  if (task.dense && contiguous && task.gradient.contiguous()) {
    return UpdateSpan<kSlots, false>(rule, SpanAt<kSlots>(task, first), task.gradient.row(first),
                                     (end - first) * width);
  }
  std::uint32_t top = 0;
  if (task.dense) {
    for (std::int64_t row = first; row < end; ++row) {
      top = Larger(top, UpdateSpan<kSlots, false>(rule, SpanAt<kSlots>(task, row),
                                                  task.gradient.row(row), width));
    }
    return top;
  }
  const std::int32_t* last = task.rows + task.listed;
  const std::int32_t* at = std::lower_bound(task.rows, last, first);
  for (std::int64_t row = first; row < end; ++at) {
    const std::int64_t next = at != last && *at < end ? *at : end;
    top = Larger(top, UpdateZeroRows<kSlots>(rule, task, contiguous, row, next));
    if (next == end) break;
    top = Larger(top, UpdateSpan<kSlots, false>(rule, SpanAt<kSlots>(task, next),
                                                task.gradient.row(at - task.rows), width));
    row = next + 1;
  }
  return top;
}

HWY_INLINE void PrefetchRow(const float* row, std::int64_t width) {
  for (std::int64_t d = 0; d < width && d < 128; d += 16) __builtin_prefetch(row + d, 1);
}

/// Entries first .. end-1 of the list of rows; all other rows stay as they are.
template <int kSlots, class Rule>
std::uint32_t UpdateListedRows(const Rule& rule, const UpdateTask& task, std::int64_t first,
                               std::int64_t end) {
  const std::int64_t width = task.parameter.cols;
  std::uint32_t top = 0;
  for (std::int64_t i = first; i < end; ++i) {
    if (i + kPrefetchRows < end) {  // the table's rows lie anywhere; the gradient is a stream
      const Span<kSlots> ahead = SpanAt<kSlots>(task, task.rows[i + kPrefetchRows]);
      PrefetchRow(ahead.w, width);
      for (int s = 0; s < kSlots; ++s) PrefetchRow(ahead.slot[s], width);
    }
    top = Larger(top, UpdateSpan<kSlots, false>(rule, SpanAt<kSlots>(task, task.rows[i]),
                                                task.gradient.row(i), width));
  }
  return top;
}

/// Columns of a bf16 row that are updated at a time.
constexpr std::int64_t kNarrowTile = 256;
static_assert(kNarrowTile % kRoundingColumns == 0);

/// Columns column .. column + n - 1 of a row in bf16, as float32 while update(w) works on them.
template <class F>
std::uint32_t UpdateNarrow(const UpdateTask& task, std::int64_t row, std::int64_t column,
                           std::int64_t n, F&& update) {
  bf16* stored = task.narrow.row(row) + column;
  float w[kNarrowTile];
  for (std::int64_t d = 0; d < n; ++d) w[d] = to_float(stored[d]);
  const std::uint32_t top = update(w);
  const RoundingKey key = rounding_key(task.state->seed, task.state->step, task.options.table);
  for (std::int64_t d = 0; d < n; d += kRoundingColumns) {
    const Philox4 words = rounding_words(key, row, column + d, task.narrow.cols);
    for (std::int64_t i = d; i < std::min(n, d + kRoundingColumns); ++i) {
      stored[i] = round_stochastic(w[i], rounding_noise(words, i));
    }
  }
  return top;
}

/// One row of a parameter in bf16. g: its gradient; null: zero.
template <int kSlots, class Rule>
std::uint32_t UpdateNarrowRow(const Rule& rule, const UpdateTask& task, std::int64_t row,
                              const float* g) {
  const Matrix<float>* slots[3] = {&task.slots.first, &task.slots.second, &task.slots.third};
  std::uint32_t top = 0;
  for (std::int64_t column = 0; column < task.narrow.cols; column += kNarrowTile) {
    const std::int64_t n = std::min(kNarrowTile, task.narrow.cols - column);
    top = Larger(top, UpdateNarrow(task, row, column, n, [&](float* w) {
                   Span<kSlots> span{w, {}};
                   for (int s = 0; s < kSlots; ++s) span.slot[s] = slots[s]->row(row) + column;
                   return g == nullptr ? UpdateSpan<kSlots, true>(rule, span, nullptr, n)
                                       : UpdateSpan<kSlots, false>(rule, span, g + column, n);
                 }));
  }
  return top;
}

template <int kSlots, class Rule>
std::uint32_t UpdateNarrowRows(const Rule& rule, const UpdateTask& task, std::int64_t first,
                               std::int64_t end) {
  std::uint32_t top = 0;
  if (!task.all_rows) {
    for (std::int64_t i = first; i < end; ++i) {
      top = Larger(top, UpdateNarrowRow<kSlots>(rule, task, task.rows[i], task.gradient.row(i)));
    }
    return top;
  }
  const std::int32_t* last = task.rows + task.listed;
  const std::int32_t* at = std::lower_bound(task.rows, last, first);
  for (std::int64_t row = first; row < end; ++row) {
    const bool listed = at != last && *at == row;
    const float* g = listed ? task.gradient.row(at++ - task.rows) : nullptr;
    top = Larger(top, UpdateNarrowRow<kSlots>(rule, task, row, g));
  }
  return top;
}

template <int kSlots, class Rule>
std::uint32_t Update(const Rule& rule, const UpdateTask& task, std::int64_t first,
                     std::int64_t end) {
  if (task.narrow.data != nullptr) return UpdateNarrowRows<kSlots>(rule, task, first, end);
  const bool every_row = task.dense || task.all_rows;
  return every_row ? UpdateAllRows<kSlots>(rule, task, first, end)
                   : UpdateListedRows<kSlots>(rule, task, first, end);
}

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
  require(fraction(options.momentum) && fraction(options.beta_1) && fraction(options.beta_2),
          "optimizer_step: momentum and betas must lie in [0, 1)");
  require(options.epsilon >= 0.0f && options.weight_decay >= 0.0f,
          "optimizer_step: epsilon and weight decay must not be negative");
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

void run(const Context& ctx, const UpdateTask& task, std::int64_t rows, std::int64_t width) {
  if (rows == 0 || width == 0) return;
  const std::int64_t tile_rows = std::max<std::int64_t>(1, kTileElements / width);
  parallel_for(ctx, (rows + tile_rows - 1) / tile_rows, [&](std::int64_t tile, int) {
    const std::int64_t first = tile * tile_rows, end = std::min(rows, first + tile_rows);
    if (!HWY_DYNAMIC_DISPATCH(UpdateTile)(task, first, end)) ctx.raise(kStatusNonFinite);
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
  if (table_rows == 0) return;
  run(ctx, task, task.all_rows ? table_rows : task.listed, width);
}

}  // namespace

void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<float> parameter,
                    Matrix<const float> gradient, const OptimizerSlots& slots) {
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
