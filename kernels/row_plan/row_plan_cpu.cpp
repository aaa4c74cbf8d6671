// SPDX-License-Identifier: Apache-2.0
// A stable radix sort of (row, position), then one pass that finds where each distinct row begins.
#include <algorithm>
#include <atomic>
#include <bit>

#include "kernels/core/parallel.hpp"
#include "kernels/row_plan/row_plan.hpp"

namespace belfry {

void check_row_plan_arguments(std::span<const TableIds> uses, std::int64_t table_rows,
                              std::span<const RowPlan> plans) {
  require(table_rows >= 0 && table_rows <= INT32_MAX, "row_plan: row numbers are int32");
  require(plans.empty() ? uses.empty() : uses.size() % plans.size() == 0,
          "row_plan: all steps must use the table equally often");
  if (plans.empty()) return;
  const std::size_t per_step = uses.size() / plans.size();
  require(static_cast<std::int64_t>(per_step) <= kMaxTableUses,
          "row_plan: too many uses of one table");
  std::int64_t total = 0;
  for (std::size_t t = 0; t < plans.size(); ++t) {
    std::int64_t nnz = 0, bags = 0;
    for (const TableIds& use : uses.subspan(t * per_step, per_step)) {
      nnz += use.ids.nnz;
      bags += use.ids.bags;
      require(use.ids.offsets != nullptr || use.ids.nnz == use.ids.bags,
              "row_plan: without offsets there is exactly one id a bag");
      require(!has_scales(use) || plans[t].scales != nullptr || use.ids.nnz == 0,
              "row_plan: a plan lacks room for factors");
    }
    total += nnz;
    require(plans[t].nnz == nnz, "row_plan: a plan must have a place for each id");
    require(plans[t].capacity >= std::min(nnz, table_rows) && plans[t].n != nullptr,
            "row_plan: a plan holds fewer rows than may be distinct");
    require(bags <= UINT32_MAX, "row_plan: bags are numbered with 32 bits");
  }
  require(total <= UINT32_MAX, "row_plan: positions are 32 bits wide");
}

namespace cpu {
namespace {

constexpr std::int64_t kTile = 65536;
constexpr std::int64_t kBagTile = 1024;

std::int64_t tiles_of(std::int64_t n, std::int64_t tile) {
  return (n + tile - 1) / tile;
}

/// Runs f(tile, first, end) over [0, n) in tiles.
template <class F>
void for_tiles(const Context& ctx, std::int64_t n, std::int64_t tile, F&& f) {
  parallel_for(ctx, tiles_of(n, tile),
               [&](std::int64_t t, int) { f(t, t * tile, std::min(n, (t + 1) * tile)); });
}

/// (row << 32 | position) of all positions; ids outside of the table or of all bags become row
/// `table_rows`, which sorts last. Returns whether there are ids outside of the table.
bool fill_keys(const Context& ctx, std::span<const TableIds> uses, std::int64_t table_rows,
               std::uint64_t* keys) {
  std::uint32_t outside = 0;
  std::int64_t base = 0;
  for (const TableIds& use : uses) {
    const Ragged& ids = use.ids;
    const std::int64_t begin = ids.offsets != nullptr ? ids.offsets[0] : 0;
    const std::int64_t stop = ids.offsets != nullptr ? ids.offsets[ids.bags] : ids.nnz;
    for_tiles(ctx, ids.nnz, kTile, [&](std::int64_t, std::int64_t first, std::int64_t end) {
      bool good = true;
      for (std::int64_t j = first; j < end; ++j) {
        std::uint64_t row = static_cast<std::uint64_t>(table_rows);
        if (j >= begin && j < stop) {
          row = static_cast<std::uint32_t>(ids.ids[j]);  // negative: very large
          if (row >= static_cast<std::uint64_t>(table_rows)) {
            row = static_cast<std::uint64_t>(table_rows);
            good = false;
          }
        }
        keys[base + j] = (row << 32) | static_cast<std::uint64_t>(base + j);
      }
      if (!good) std::atomic_ref<std::uint32_t>(outside).store(1, std::memory_order_relaxed);
    });
    base += ids.nnz;
  }
  return outside != 0;
}

/// One stable pass over `bits` bits from `shift`. Every tile counts its own digits, so that the place
/// of each key follows from the shape alone.
void radix_pass(const Context& ctx, const std::uint64_t* from, std::uint64_t* to, std::int64_t n,
                int shift, int bits, std::uint32_t* counts) {
  const std::int64_t buckets = std::int64_t{1} << bits;
  const std::uint64_t mask = static_cast<std::uint64_t>(buckets - 1);
  for_tiles(ctx, n, kTile, [&](std::int64_t tile, std::int64_t first, std::int64_t end) {
    std::uint32_t* count = counts + tile * buckets;
    std::fill_n(count, buckets, 0u);
    for (std::int64_t i = first; i < end; ++i) ++count[(from[i] >> shift) & mask];
  });
  std::uint32_t place = 0;
  for (std::int64_t digit = 0; digit < buckets; ++digit) {
    for (std::int64_t tile = 0; tile < tiles_of(n, kTile); ++tile) {
      const std::uint32_t here = counts[tile * buckets + digit];
      counts[tile * buckets + digit] = place;
      place += here;
    }
  }
  for_tiles(ctx, n, kTile, [&](std::int64_t tile, std::int64_t first, std::int64_t end) {
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
      ctx.arena().take<std::uint32_t>(tiles_of(n, kTile) * (std::int64_t{1} << digit));
  for (int pass = 0; pass < passes; ++pass) {
    radix_pass(ctx, keys, other, n, 32 + pass * digit, digit, counts);
    std::swap(keys, other);
  }
  return keys;
}

/// Finds the distinct rows below `table_rows` among the sorted keys: fills rows, n, begin, chunk_rows.
/// Returns the number of places that count.
std::int64_t find_rows(const Context& ctx, const std::uint64_t* sorted, std::int64_t table_rows,
                       const RowPlan& plan) {
  const auto row_of = [&](std::int64_t i) { return static_cast<std::int64_t>(sorted[i] >> 32); };
  std::int64_t kept = plan.nnz;
  while (kept > 0 && row_of(kept - 1) == table_rows) --kept;
  const auto heads = [&](std::int64_t i) { return i == 0 || row_of(i) != row_of(i - 1); };
  std::int64_t* before = ctx.arena().take<std::int64_t>(tiles_of(kept, kTile) + 1);
  before[0] = 0;
  for_tiles(ctx, kept, kTile, [&](std::int64_t tile, std::int64_t first, std::int64_t end) {
    std::int64_t count = 0;
    for (std::int64_t i = first; i < end; ++i) count += heads(i) ? 1 : 0;
    before[tile + 1] = count;
  });
  for (std::int64_t t = 0; t < tiles_of(kept, kTile); ++t) before[t + 1] += before[t];
  for_tiles(ctx, kept, kTile, [&](std::int64_t tile, std::int64_t first, std::int64_t end) {
    std::int64_t s = before[tile];
    for (std::int64_t i = first; i < end; ++i) {
      if (!heads(i)) continue;
      plan.begin[s] = static_cast<std::uint32_t>(i);
      plan.rows[s++] = static_cast<std::int32_t>(row_of(i));
    }
  });
  const std::int64_t n = before[tiles_of(kept, kTile)];
  *plan.n = n;
  plan.begin[n] = static_cast<std::uint32_t>(kept);
  std::fill_n(plan.chunk_rows, plan.nnz / kEmbeddingGradChunk + 1, kNoChunk);
  for_tiles(ctx, n, kTile, [&](std::int64_t, std::int64_t first, std::int64_t end) {
    for (std::int64_t s = first; s < end; ++s) {
      for (std::int64_t p = plan.begin[s] + kEmbeddingGradChunk; p < plan.begin[s + 1];
           p += kEmbeddingGradChunk) {
        plan.chunk_rows[p / kEmbeddingGradChunk] = static_cast<std::uint32_t>(s);
      }
    }
  });
  return kept;
}

/// Bag and factor of each position, where they are not plain.
struct Sources {
  std::uint32_t* bags = nullptr;  ///< null: a position is its bag
  float* scales = nullptr;        ///< null: all are 1
};

Sources find_sources(const Context& ctx, std::span<const TableIds> uses, const RowPlan& plan) {
  const bool plain = std::all_of(uses.begin(), uses.end(), [](const TableIds& use) {
    return use.ids.offsets == nullptr && use.ids.weights == nullptr;
  });
  if (plain) return {};
  Sources out{ctx.arena().take<std::uint32_t>(plan.nnz), nullptr};
  if (plan.scales != nullptr) out.scales = ctx.arena().take<float>(plan.nnz);
  std::int64_t base = 0, base_bag = 0;
  for (const TableIds& use : uses) {
    const Ragged& ids = use.ids;
    for_tiles(ctx, ids.bags, kBagTile, [&](std::int64_t, std::int64_t first, std::int64_t end) {
      for (std::int64_t b = first; b < end; ++b) {
        const float scale = bag_scale(ids, use.pooling, b);
        const std::int64_t begin = ids.offsets != nullptr ? ids.offsets[b] : b;
        const std::int64_t stop = ids.offsets != nullptr ? ids.offsets[b + 1] : b + 1;
        for (std::int64_t j = begin; j < stop; ++j) {
          out.bags[base + j] = static_cast<std::uint32_t>(base_bag + b);
          const float weight = ids.weights != nullptr ? ids.weights[j] : 1.0f;
          if (out.scales != nullptr) out.scales[base + j] = scale * weight;
        }
      }
    });
    base += ids.nnz;
    base_bag += ids.bags;
  }
  return out;
}

void plan_step(const Context& ctx, std::span<const TableIds> uses, std::int64_t table_rows,
               const RowPlan& plan) {
  *plan.n = 0;
  plan.begin[0] = 0;
  plan.chunk_rows[0] = kNoChunk;
  if (plan.nnz == 0) return;
  ArenaScope scope(ctx);
  std::uint64_t* keys = ctx.arena().take<std::uint64_t>(plan.nnz);
  if (fill_keys(ctx, uses, table_rows, keys)) ctx.raise(kStatusIdOutOfRange);
  const std::uint64_t* sorted =
      sort_positions(ctx, keys, plan.nnz, static_cast<std::uint64_t>(table_rows));
  const std::int64_t kept = find_rows(ctx, sorted, table_rows, plan);
  const Sources from = find_sources(ctx, uses, plan);
  for_tiles(ctx, kept, kTile, [&](std::int64_t, std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) {
      const std::uint32_t position = static_cast<std::uint32_t>(sorted[i]);
      plan.bags[i] = from.bags != nullptr ? from.bags[position] : position;
    }
    if (plan.scales == nullptr) return;
    for (std::int64_t i = first; i < end; ++i) {
      const std::uint32_t position = static_cast<std::uint32_t>(sorted[i]);
      plan.scales[i] = from.scales != nullptr ? from.scales[position] : 1.0f;
    }
  });
}

}  // namespace

void row_plan(const Context& ctx, std::span<const TableIds> uses, std::int64_t table_rows,
              std::span<const RowPlan> plans) {
  const std::size_t per_step = plans.empty() ? 0 : uses.size() / plans.size();
  for (std::size_t t = 0; t < plans.size(); ++t) {
    plan_step(ctx, uses.subspan(t * per_step, per_step), table_rows, plans[t]);
  }
}

}  // namespace cpu
}  // namespace belfry
