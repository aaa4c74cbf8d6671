// SPDX-License-Identifier: Apache-2.0
// Lookup: one pass over the bags. Gradient: a stable radix sort of (row, position), then the positions
// of each row are summed in chunks of 64, so that a hot row is shared by threads and still has one order.
#include "kernels/embedding_bag/embedding_bag.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
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

/// What a position adds to its row: scale * row.
struct Source {
  const float* row;
  float scale;
};

/// The sources of all positions: listed, or (one id a bag, no weights) row p of the use that holds
/// position p.
struct Sources {
  const Source* list = nullptr;
  std::span<const TableUse> uses;

  Source listed(std::uint32_t position) const { return list[position]; }
  Source plain(std::uint32_t position) const {
    std::int64_t p = position;
    const TableUse* use = uses.data();
    for (; p >= use->ids.nnz; ++use) p -= use->ids.nnz;
    return {use->d_y.row(p), 1.0f};
  }
};

/// Positions sorted by row, (row << 32 | position), and where each distinct row begins.
struct Segments {
  const std::uint64_t* sorted = nullptr;
  const std::uint32_t* begin = nullptr;  ///< [n + 1]
  std::int64_t n = 0;
};

struct SumTask {
  Sources sources;
  Segments segments;
  Matrix<float> values;    ///< [n, D]: first chunk of every row
  Matrix<float> partials;  ///< the chunk that begins at sorted position p: row p / kChunk
};

struct LookupTask {
  Matrix<const float> table;
  Ragged ids;
  Pooling pooling;
  Matrix<float> y;
};

}  // namespace belfry::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::HWY_NAMESPACE {

constexpr std::int64_t kPrefetchRows = 12;

HWY_INLINE void PrefetchRow(const float* row, std::int64_t width) {
  for (std::int64_t d = 0; d < width && d < 128; d += 16) __builtin_prefetch(row + d);
}

/// out = scale row, or out += scale row.
template <bool kAdd>
HWY_INLINE void ScaleRow(const float* HWY_RESTRICT row, float scale, float* HWY_RESTRICT out,
                         std::int64_t width) {
  for (std::int64_t d = 0; d < width; ++d) out[d] = kAdd ? out[d] + scale * row[d] : scale * row[d];
}

/// Bags first .. end-1 with one id each and no weight. Returns false if an id lies outside.
bool GatherBags(const LookupTask& task, std::int64_t first, std::int64_t end) {
  const std::int64_t width = task.table.cols;
  const std::size_t bytes = static_cast<std::size_t>(width) * sizeof(float);
  const auto inside = [&task](std::int64_t id) { return id >= 0 && id < task.table.rows; };
  bool good = true;
  for (std::int64_t b = first; b < end; ++b) {
    if (b + kPrefetchRows < end && inside(task.ids.ids[b + kPrefetchRows])) {
      PrefetchRow(task.table.row(task.ids.ids[b + kPrefetchRows]), width);
    }
    const std::int32_t id = task.ids.ids[b];
    if (inside(id)) {
      std::memcpy(task.y.row(b), task.table.row(id), bytes);
    } else {
      std::memset(task.y.row(b), 0, bytes);
      good = false;
    }
  }
  return good;
}

bool PoolBags(const LookupTask& task, std::int64_t first, std::int64_t end) {
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

bool LookupTile(const LookupTask& task, std::int64_t first, std::int64_t end) {
  return task.ids.offsets == nullptr && task.ids.weights == nullptr ? GatherBags(task, first, end)
                                                                    : PoolBags(task, first, end);
}

/// Sums the chunks that begin at sorted positions first .. end-1.
template <bool kListed>
void SumChunks(const SumTask& task, std::int64_t first, std::int64_t end) {
  const Segments& segments = task.segments;
  const std::int64_t width = task.values.cols;
  const std::int64_t total = segments.begin[segments.n];
  const auto source = [&](std::int64_t i) HWY_ATTR {
    const std::uint32_t position = static_cast<std::uint32_t>(segments.sorted[i]);
    return kListed ? task.sources.listed(position) : task.sources.plain(position);
  };
  std::int64_t s =
      std::upper_bound(segments.begin, segments.begin + segments.n, first) - segments.begin - 1;
  std::int64_t p = segments.begin[s] + (first - segments.begin[s] + kChunk - 1) / kChunk * kChunk;
  if (p >= segments.begin[s + 1]) p = segments.begin[++s];
  while (p < end) {
    const std::int64_t stop = std::min<std::int64_t>(p + kChunk, segments.begin[s + 1]);
    float* out = p == segments.begin[s] ? task.values.row(s) : task.partials.row(p / kChunk);
    for (std::int64_t i = p; i < stop; ++i) {
      if (i + kPrefetchRows < total) PrefetchRow(source(i + kPrefetchRows).row, width);
      const Source from = source(i);
      if (i == p) {
        ScaleRow<false>(from.row, from.scale, out, width);
      } else {
        ScaleRow<true>(from.row, from.scale, out, width);
      }
    }
    p = stop;
    if (p == segments.begin[s + 1]) ++s;
  }
}

void SumTile(const SumTask& task, std::int64_t first, std::int64_t end) {
  return task.sources.list != nullptr ? SumChunks<true>(task, first, end)
                                      : SumChunks<false>(task, first, end);
}

/// Adds the later chunks of rows first .. end-1 to their first one.
void AddPartials(const SumTask& task, std::int64_t first, std::int64_t end) {
  const std::uint32_t* begin = task.segments.begin;
  for (std::int64_t s = first; s < end; ++s) {
    for (std::int64_t p = begin[s] + kChunk; p < begin[s + 1]; p += kChunk) {
      ScaleRow<true>(task.partials.row(p / kChunk), 1.0f, task.values.row(s), task.values.cols);
    }
  }
}

}  // namespace belfry::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry::cpu {

HWY_EXPORT(LookupTile);
HWY_EXPORT(SumTile);
HWY_EXPORT(AddPartials);

namespace {

constexpr std::int64_t kSortTile = 65536;
constexpr std::int64_t kSumTile = 256;
constexpr std::int64_t kRowTile = 1024;

std::int64_t tiles_of(std::int64_t n, std::int64_t tile) {
  return (n + tile - 1) / tile;
}

/// Runs f(first, end) over [0, n) in tiles.
template <class F>
void for_tiles(const Context& ctx, std::int64_t n, std::int64_t tile, F&& f) {
  parallel_for(ctx, tiles_of(n, tile),
               [&](std::int64_t t, int) { f(t, t * tile, std::min(n, (t + 1) * tile)); });
}

/// (row << 32 | position) of all positions; ids outside the table become row `table_rows`, which
/// sorts last. Returns whether there are any.
bool fill_keys(const Context& ctx, std::span<const TableUse> uses, std::int64_t table_rows,
               std::uint64_t* keys) {
  std::uint32_t outside = 0;
  std::int64_t base = 0;
  for (const TableUse& use : uses) {
    for_tiles(ctx, use.ids.nnz, kSortTile, [&](std::int64_t, std::int64_t first, std::int64_t end) {
      bool good = true;
      for (std::int64_t j = first; j < end; ++j) {
        std::uint64_t row = static_cast<std::uint32_t>(use.ids.ids[j]);  // negative: very large
        if (row >= static_cast<std::uint64_t>(table_rows)) {
          row = static_cast<std::uint64_t>(table_rows);
          good = false;
        }
        keys[base + j] = (row << 32) | static_cast<std::uint64_t>(base + j);
      }
      if (!good) std::atomic_ref<std::uint32_t>(outside).store(1, std::memory_order_relaxed);
    });
    base += use.ids.nnz;
  }
  return outside != 0;
}

/// One stable pass over `bits` bits from `shift`. Every tile counts its own digits, so that the place
/// of each key follows from the shape alone.
void radix_pass(const Context& ctx, const std::uint64_t* from, std::uint64_t* to, std::int64_t n,
                int shift, int bits, std::uint32_t* counts) {
  const std::int64_t buckets = std::int64_t{1} << bits;
  const std::uint64_t mask = static_cast<std::uint64_t>(buckets - 1);
  for_tiles(ctx, n, kSortTile, [&](std::int64_t tile, std::int64_t first, std::int64_t end) {
    std::uint32_t* count = counts + tile * buckets;
    std::fill_n(count, buckets, 0u);
    for (std::int64_t i = first; i < end; ++i) ++count[(from[i] >> shift) & mask];
  });
  std::uint32_t place = 0;
  for (std::int64_t digit = 0; digit < buckets; ++digit) {
    for (std::int64_t tile = 0; tile < tiles_of(n, kSortTile); ++tile) {
      const std::uint32_t here = counts[tile * buckets + digit];
      counts[tile * buckets + digit] = place;
      place += here;
    }
  }
  for_tiles(ctx, n, kSortTile, [&](std::int64_t tile, std::int64_t first, std::int64_t end) {
    std::uint32_t* next = counts + tile * buckets;
    for (std::int64_t i = first; i < end; ++i) to[next[(from[i] >> shift) & mask]++] = from[i];
  });
}

/// Sorts keys[0 .. n) by row, positions staying in order; only as many bits as rows need. Returns the
/// sorted array (one of two halves of scratch).
const std::uint64_t* sort_positions(const Context& ctx, std::uint64_t* keys, std::int64_t n,
                                    std::uint64_t largest_row) {
  const int bits = std::bit_width(largest_row);
  const int widest =
      n < 4096 ? 8 : 11;  // few keys: emptying the counters would cost more than a pass
  const int passes = (bits + widest - 1) / widest;
  if (passes == 0) return keys;
  const int digit = (bits + passes - 1) / passes;
  std::uint64_t* other = ctx.arena().take<std::uint64_t>(n);
  std::uint32_t* counts =
      ctx.arena().take<std::uint32_t>(tiles_of(n, kSortTile) * (std::int64_t{1} << digit));
  for (int pass = 0; pass < passes; ++pass) {
    radix_pass(ctx, keys, other, n, 32 + pass * digit, digit, counts);
    std::swap(keys, other);
  }
  return keys;
}

/// Finds the distinct rows below `table_rows` among the sorted keys: fills out.rows, *out.n and
/// begin[0 .. *out.n].
Segments find_segments(const Context& ctx, const std::uint64_t* sorted, std::int64_t n,
                       std::int64_t table_rows, const RowGradient& out, std::uint32_t* begin) {
  const auto row_of = [&](std::int64_t i) { return static_cast<std::int64_t>(sorted[i] >> 32); };
  std::int64_t kept = n;
  while (kept > 0 && row_of(kept - 1) == table_rows) --kept;
  const auto heads = [&](std::int64_t i) { return i == 0 || row_of(i) != row_of(i - 1); };
  std::int64_t* before = ctx.arena().take<std::int64_t>(tiles_of(kept, kSortTile) + 1);
  before[0] = 0;
  for_tiles(ctx, kept, kSortTile, [&](std::int64_t tile, std::int64_t first, std::int64_t end) {
    std::int64_t count = 0;
    for (std::int64_t i = first; i < end; ++i) count += heads(i) ? 1 : 0;
    before[tile + 1] = count;
  });
  for (std::int64_t t = 0; t < tiles_of(kept, kSortTile); ++t) before[t + 1] += before[t];
  for_tiles(ctx, kept, kSortTile, [&](std::int64_t tile, std::int64_t first, std::int64_t end) {
    std::int64_t s = before[tile];
    for (std::int64_t i = first; i < end; ++i) {
      if (!heads(i)) continue;
      begin[s] = static_cast<std::uint32_t>(i);
      out.rows[s++] = static_cast<std::int32_t>(row_of(i));
    }
  });
  *out.n = before[tiles_of(kept, kSortTile)];
  begin[*out.n] = static_cast<std::uint32_t>(kept);
  return {sorted, begin, *out.n};
}

/// The list of sources where some use has bags or weights; otherwise positions speak for themselves.
Sources find_sources(const Context& ctx, std::span<const TableUse> uses, std::int64_t nnz) {
  const bool plain = std::all_of(uses.begin(), uses.end(), [](const TableUse& use) {
    return use.ids.offsets == nullptr && use.ids.weights == nullptr;
  });
  if (plain) return {nullptr, uses};
  Source* list = ctx.arena().take<Source>(nnz);
  std::int64_t base = 0;
  for (const TableUse& use : uses) {
    for_tiles(ctx, use.ids.bags, kRowTile, [&](std::int64_t, std::int64_t first, std::int64_t end) {
      for (std::int64_t b = first; b < end; ++b) {
        const float scale = bag_scale(use.ids, use.pooling, b);
        const std::int64_t begin = use.ids.offsets != nullptr ? use.ids.offsets[b] : b;
        const std::int64_t stop = use.ids.offsets != nullptr ? use.ids.offsets[b + 1] : b + 1;
        for (std::int64_t j = begin; j < stop; ++j) {
          const float weight = use.ids.weights != nullptr ? use.ids.weights[j] : 1.0f;
          list[base + j] = {use.d_y.row(b), scale * weight};
        }
      }
    });
    base += use.ids.nnz;
  }
  return {list, uses};
}

}  // namespace

void embedding_bag(const Context& ctx, Matrix<const float> table, const Ragged& ids,
                   Pooling pooling, Matrix<float> y) {
  if (y.empty()) return;
  const LookupTask task{table, ids, pooling, y};
  const std::int64_t tile = std::max<std::int64_t>(16, 16384 / y.cols);
  for_tiles(ctx, ids.bags, tile, [&](std::int64_t, std::int64_t first, std::int64_t end) {
    if (!HWY_DYNAMIC_DISPATCH(LookupTile)(task, first, end)) ctx.raise(kStatusIdOutOfRange);
  });
}

void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, std::int64_t table_rows,
                        const RowGradient& out) {
  std::int64_t nnz = 0;
  for (const TableUse& use : uses) nnz += use.ids.nnz;
  *out.n = 0;
  if (nnz == 0) return;
  ArenaScope scope(ctx);
  std::uint64_t* keys = ctx.arena().take<std::uint64_t>(nnz);
  const bool outside = fill_keys(ctx, uses, table_rows, keys);
  if (outside) ctx.raise(kStatusIdOutOfRange);
  const std::uint64_t* sorted =
      sort_positions(ctx, keys, nnz, static_cast<std::uint64_t>(table_rows - (outside ? 0 : 1)));
  std::uint32_t* begin = ctx.arena().take<std::uint32_t>(std::min(nnz, table_rows) + 1);
  const Segments segments = find_segments(ctx, sorted, nnz, table_rows, out, begin);
  if (segments.n == 0 || out.values.cols == 0) return;

  const std::int64_t width = out.values.cols;
  float* partials = ctx.arena().take<float>(checked_product(nnz / kChunk + 1, width, "partials"));
  const SumTask task{
      find_sources(ctx, uses, nnz), segments, out.values, {partials, nnz / kChunk + 1, width}};
  for_tiles(ctx, begin[segments.n], kSumTile,
            [&](std::int64_t, std::int64_t first, std::int64_t end) {
              HWY_DYNAMIC_DISPATCH(SumTile)(task, first, end);
            });
  for_tiles(ctx, segments.n, kRowTile, [&](std::int64_t, std::int64_t first, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(AddPartials)(task, first, end);
  });
}

}  // namespace belfry::cpu
#endif  // HWY_ONCE
