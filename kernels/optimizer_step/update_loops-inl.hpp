// SPDX-License-Identifier: Apache-2.0
// The loops of the CPU files of optimizer_step: plain C++ over a rule of update_rules.hpp, which the compiler
// vectorises, so that there is one text of the maths. Included once a target, after highway.h. (Files that do are
// built with -fno-math-errno and -fno-trapping-math, without which a root or a select stays scalar.)
#if defined(BELFRY_UPDATE_LOOPS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef BELFRY_UPDATE_LOOPS_INL
#undef BELFRY_UPDATE_LOOPS_INL
#else
#define BELFRY_UPDATE_LOOPS_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/optimizer_step/update_rules.hpp"
#include "kernels/optimizer_step/update_task.hpp"

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

}  // namespace belfry::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
