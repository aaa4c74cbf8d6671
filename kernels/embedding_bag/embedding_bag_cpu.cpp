// SPDX-License-Identifier: Apache-2.0
// Lookup: one pass over the bags. Gradient: the places of each row, found by row_plan, are summed in chunks of
// 64, so that a hot row is shared by threads and still has one order.
#include "kernels/embedding_bag/embedding_bag.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/core/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/embedding_bag/embedding_bag_cpu.cpp"
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)  // nothing new for these loops
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef BELFRY_EMBEDDING_BAG_TYPES
#define BELFRY_EMBEDDING_BAG_TYPES
namespace belfry::cpu {

constexpr std::int64_t kChunk = kEmbeddingGradChunk;

struct SumTask {
  std::span<const TableUse> uses;
  RowPlan plan;
  std::int64_t n = 0;      ///< distinct rows
  Matrix<float> values;    ///< [n, D]: first chunk of every row
  Matrix<float> partials;  ///< the chunk that begins at place p: row p / kChunk

  /// Row of d_y that a place adds, times its factor.
  const float* row(std::int64_t place) const {
    std::int64_t bag = plan.bags[place];
    const TableUse* use = uses.data();
    for (; bag >= use->ids.bags; ++use) bag -= use->ids.bags;
    return use->d_y.row(bag);
  }
};

template <class T>
struct LookupTask {
  Matrix<const T> table;
  Ragged ids;
  Pooling pooling;
  Matrix<float> y;
};

}  // namespace belfry::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::HWY_NAMESPACE {

constexpr std::int64_t kPrefetchRows = 12;

template <class T>
HWY_INLINE void PrefetchRow(const T* row, std::int64_t width) {
  constexpr std::int64_t kStep = 64 / sizeof(T);
  for (std::int64_t d = 0; d < width && d < 8 * kStep; d += kStep) __builtin_prefetch(row + d);
}

/// out = scale row, or out += scale row.
template <bool kAdd, class T>
HWY_INLINE void ScaleRow(const T* HWY_RESTRICT row, float scale, float* HWY_RESTRICT out,
                         std::int64_t width) {
  for (std::int64_t d = 0; d < width; ++d) {
    const float x = scale * to_float(row[d]);
    out[d] = kAdd ? out[d] + x : x;
  }
}

HWY_INLINE void CopyRow(const float* HWY_RESTRICT row, float* HWY_RESTRICT out,
                        std::int64_t width) {
  std::memcpy(out, row, static_cast<std::size_t>(width) * sizeof(float));
}
HWY_INLINE void CopyRow(const bf16* HWY_RESTRICT row, float* HWY_RESTRICT out, std::int64_t width) {
  for (std::int64_t d = 0; d < width; ++d) out[d] = to_float(row[d]);
}

/// Bags first .. end-1 with one id each and no weight. Returns false if an id lies outside.
template <class T>
bool GatherBags(const LookupTask<T>& task, std::int64_t first, std::int64_t end) {
  const std::int64_t width = task.table.cols;
  const auto inside = [&task](std::int64_t id) { return id >= 0 && id < task.table.rows; };
  bool good = true;
  for (std::int64_t b = first; b < end; ++b) {
    if (b + kPrefetchRows < end && inside(task.ids.ids[b + kPrefetchRows])) {
      PrefetchRow(task.table.row(task.ids.ids[b + kPrefetchRows]), width);
    }
    const std::int32_t id = task.ids.ids[b];
    if (inside(id)) {
      CopyRow(task.table.row(id), task.y.row(b), width);
    } else {
      std::fill_n(task.y.row(b), width, 0.0f);
      good = false;
    }
  }
  return good;
}

template <class T>
bool PoolBags(const LookupTask<T>& task, std::int64_t first, std::int64_t end) {
  const std::int64_t width = task.table.cols;
  bool good = true;
  for (std::int64_t b = first; b < end; ++b) {
    const std::int64_t begin = task.ids.offsets != nullptr ? task.ids.offsets[b] : b;
    const std::int64_t stop = task.ids.offsets != nullptr ? task.ids.offsets[b + 1] : b + 1;
    float* y = task.y.row(b);
    bool started = false;
    for (std::int64_t j = begin; j < stop; ++j) {
      const std::int64_t id = task.ids.ids[j];
      if (id < 0 || id >= task.table.rows) {
        good = false;
        continue;
      }
      const float weight = task.ids.weights != nullptr ? task.ids.weights[j] : 1.0f;
      if (started) {
        ScaleRow<true>(task.table.row(id), weight, y, width);
      } else {
        ScaleRow<false>(task.table.row(id), weight, y, width);
      }
      started = true;
    }
    if (!started) {
      std::fill_n(y, width, 0.0f);
    } else if (task.pooling != Pooling::sum) {
      const float scale = bag_scale(task.ids, task.pooling, b);
      for (std::int64_t d = 0; d < width; ++d) y[d] = scale * y[d];
    }
  }
  return good;
}

template <class T>
bool Lookup(const LookupTask<T>& task, std::int64_t first, std::int64_t end) {
  return task.ids.offsets == nullptr && task.ids.weights == nullptr ? GatherBags(task, first, end)
                                                                    : PoolBags(task, first, end);
}
bool LookupFloat(const LookupTask<float>& task, std::int64_t first, std::int64_t end) {
  return Lookup(task, first, end);
}
bool LookupBf16(const LookupTask<bf16>& task, std::int64_t first, std::int64_t end) {
  return Lookup(task, first, end);
}

/// Sums the chunks that begin at places first .. end-1.
template <bool kScales>
void SumChunks(const SumTask& task, std::int64_t first, std::int64_t end) {
  const std::uint32_t* row_begin = task.plan.begin;
  const std::int64_t width = task.values.cols;
  const std::int64_t total = row_begin[task.n];
  std::int64_t s = std::upper_bound(row_begin, row_begin + task.n, first) - row_begin - 1;
  std::int64_t p = row_begin[s] + (first - row_begin[s] + kChunk - 1) / kChunk * kChunk;
  if (p >= row_begin[s + 1]) p = row_begin[++s];
  while (p < end) {
    const std::int64_t stop = std::min<std::int64_t>(p + kChunk, row_begin[s + 1]);
    float* out = p == row_begin[s] ? task.values.row(s) : task.partials.row(p / kChunk);
    for (std::int64_t i = p; i < stop; ++i) {
      if (i + kPrefetchRows < total) PrefetchRow(task.row(i + kPrefetchRows), width);
      const float scale = kScales ? task.plan.scales[i] : 1.0f;
      if (i == p) {
        ScaleRow<false>(task.row(i), scale, out, width);
      } else {
        ScaleRow<true>(task.row(i), scale, out, width);
      }
    }
    p = stop;
    if (p == row_begin[s + 1]) ++s;
  }
}

void SumTile(const SumTask& task, std::int64_t first, std::int64_t end) {
  return task.plan.scales != nullptr ? SumChunks<true>(task, first, end)
                                     : SumChunks<false>(task, first, end);
}

/// Adds the later chunks of rows first .. end-1 to their first one.
void AddPartials(const SumTask& task, std::int64_t first, std::int64_t end) {
  const std::uint32_t* begin = task.plan.begin;
  for (std::int64_t s = first; s < end; ++s) {
    for (std::int64_t p = begin[s] + kChunk; p < begin[s + 1]; p += kChunk) {
      ScaleRow<true>(task.partials.row(p / kChunk), 1.0f, task.values.row(s), task.values.cols);
    }
  }
}

}  // namespace belfry::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

void check_embedding_bag_arguments(std::int64_t width, const Ragged& ids, Matrix<const float> y) {
  require(y.rows == ids.bags, "embedding_bag: y must have one row a bag");
  require(y.cols == width, "embedding_bag: y must be as wide as the table");
  require(ids.offsets != nullptr || ids.nnz == ids.bags,
          "embedding_bag: without offsets there is exactly one id a bag");
}

void check_table_uses(std::span<const TableUse> uses, std::int64_t width) {
  require(static_cast<std::int64_t>(uses.size()) <= kMaxTableUses,
          "embedding_bag_grad: too many uses of one table");
  for (const TableUse& use : uses) {
    require(use.d_y.rows == use.ids.bags, "embedding_bag_grad: d_y must have one row a bag");
    require(use.d_y.cols == width, "embedding_bag_grad: all uses must be as wide as out");
    require(use.ids.offsets != nullptr || use.ids.nnz == use.ids.bags,
            "embedding_bag_grad: without offsets there is exactly one id a bag");
  }
}

std::int64_t ids_of_uses(std::span<const TableUse> uses, TableIds (&ids)[kMaxTableUses]) {
  std::int64_t nnz = 0;
  for (std::size_t u = 0; u < uses.size(); ++u) {
    ids[u] = {uses[u].ids, uses[u].pooling};
    nnz += uses[u].ids.nnz;
  }
  return nnz;
}

namespace cpu {

HWY_EXPORT(LookupFloat);
HWY_EXPORT(LookupBf16);
HWY_EXPORT(SumTile);
HWY_EXPORT(AddPartials);

namespace {

constexpr std::int64_t kSumTile = 256;
constexpr std::int64_t kRowTile = 1024;

/// Runs f(first, end) over [0, n) in tiles.
template <class F>
void for_tiles(const Context& ctx, std::int64_t n, std::int64_t tile, F&& f) {
  parallel_for(ctx, (n + tile - 1) / tile,
               [&](std::int64_t t, int) { f(t * tile, std::min(n, (t + 1) * tile)); });
}

std::int64_t lookup_tile(std::int64_t width) {
  return std::max<std::int64_t>(16, 16384 / width);
}

}  // namespace

void embedding_bag(const Context& ctx, Matrix<const float> table, const Ragged& ids,
                   Pooling pooling, Matrix<float> y) {
  if (y.empty()) return;
  const LookupTask<float> task{table, ids, pooling, y};
  for_tiles(ctx, ids.bags, lookup_tile(y.cols), [&](std::int64_t first, std::int64_t end) {
    if (!HWY_DYNAMIC_DISPATCH(LookupFloat)(task, first, end)) ctx.raise(kStatusIdOutOfRange);
  });
}

void embedding_bag(const Context& ctx, Matrix<const bf16> table, const Ragged& ids, Pooling pooling,
                   Matrix<float> y) {
  if (y.empty()) return;
  const LookupTask<bf16> task{table, ids, pooling, y};
  for_tiles(ctx, ids.bags, lookup_tile(y.cols), [&](std::int64_t first, std::int64_t end) {
    if (!HWY_DYNAMIC_DISPATCH(LookupBf16)(task, first, end)) ctx.raise(kStatusIdOutOfRange);
  });
}

void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, const RowPlan& plan,
                        Matrix<float> values) {
  const std::int64_t n = *plan.n, width = values.cols;
  if (n == 0 || width == 0) return;
  ArenaScope scope(ctx);
  const std::int64_t blocks = plan.nnz / kChunk + 1;
  float* partials = ctx.arena().take<float>(checked_product(blocks, width, "partials"));
  const SumTask task{uses, plan, n, values, {partials, blocks, width}};
  for_tiles(ctx, plan.begin[n], kSumTile, [&](std::int64_t first, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(SumTile)(task, first, end);
  });
  for_tiles(ctx, n, kRowTile, [&](std::int64_t first, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(AddPartials)(task, first, end);
  });
}

void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, std::int64_t table_rows,
                        const RowGradient& out) {
  TableIds ids[kMaxTableUses];
  const std::int64_t nnz = ids_of_uses(uses, ids);
  const bool scales = std::any_of(ids, ids + uses.size(), has_scales);
  ArenaScope scope(ctx);
  RowPlan plan = take_row_plan(ctx.arena(), nnz, table_rows, scales);
  plan.rows = out.rows;
  plan.n = out.n;
  cpu::row_plan(ctx, {ids, uses.size()}, table_rows, {&plan, 1});
  cpu::embedding_bag_grad(ctx, uses, plan, out.values);
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
