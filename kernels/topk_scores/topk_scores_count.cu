// SPDX-License-Identifier: Apache-2.0
// count_above: one fp32 scan that counts, and a correction by the rows that lists name.
#include "kernels/topk_scores/topk_scores_plan.cuh"

namespace belfry::cuda {

namespace topk_scores_kernels {

/// What is counted: per query, items before (threshold, row).
struct Places {
  const float* thresholds;
  const std::int32_t* rows;

  __device__ bool before(float score, std::int64_t item, float threshold, std::int32_t row) const {
    return score > threshold || (score == threshold && item < row);
  }
};

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    scan_counts(PackedQueries queries, PackedItems items, TileOrder order, ItemMask mask, Work work,
                Places places, int ranges, unsigned long long* out) {
  SIMT_DYN_SHARED(float, shared);
  SIMT_SHARED_ARRAY(float, thresholds, [Shape::kRows]);
  SIMT_SHARED_ARRAY(std::int32_t, rows, [Shape::kRows]);
  SIMT_SHARED_ARRAY(int, sums, [Shape::kRows]);
  const std::int64_t row_tile = blockIdx.x / ranges, range = blockIdx.x % ranges;
  for (int r = static_cast<int>(threadIdx.x); r < Shape::kRows; r += Shape::kThreads) {
    const std::int64_t position = row_tile * Shape::kRows + r;
    const bool live = position < work.size();
    thresholds[r] = live ? places.thresholds[work.query(position)] : __uint_as_float(0x7fc00000u);
    rows[r] = live ? places.rows[work.query(position)] : -1;
    sums[r] = 0;
  }
  __syncthreads();
  int counts[kThreadRows] = {};
  Scan<Shape> scan(queries, items, order, row_tile, order.tiles * range / ranges,
                   order.tiles * (range + 1) / ranges, shared);
  scan.run([&](const float(&scores)[kThreadRows][kThreadItems], std::int64_t tile) {
    const std::int64_t first_item = tile * Shape::kItems + scan.first_item();
    bool counted[kThreadItems];
#pragma unroll
    for (int i = 0; i < kThreadItems; ++i) {
      counted[i] = first_item + i < items.n && allowed(mask, first_item + i);
    }
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      const float threshold = thresholds[scan.first_row() + r];
      const std::int32_t row = rows[scan.first_row() + r];
#pragma unroll
      for (int i = 0; i < kThreadItems; ++i) {
        if (counted[i] && places.before(scores[r][i], first_item + i, threshold, row)) ++counts[r];
      }
    }
  });
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
    if (counts[r] != 0) atomicAdd(&sums[scan.first_row() + r], counts[r]);
  }
  __syncthreads();
  for (int r = static_cast<int>(threadIdx.x); r < Shape::kRows; r += Shape::kThreads) {
    const std::int64_t position = row_tile * Shape::kRows + r;
    if (position < work.size() && sums[r] != 0) {
      atomicAdd(&out[work.query(position)], static_cast<unsigned long long>(sums[r]));
    }
  }
}

inline constexpr int kListThreads = 128;

/// One block a query. With an `only` list: counts its rows. Else takes back the excluded ones that the scan
/// has counted.
__global__ void __launch_bounds__(kListThreads)
    count_listed(Matrix<const float> queries, int heads, PackedItems items, ItemMask mask,
                 Places places, Vector<std::int64_t> out, StepState* status) {
  SIMT_SHARED_ARRAY(int, sums, [kListThreads / kWarp]);
  const std::int64_t query = blockIdx.x;
  const bool only = mask.only.offsets != nullptr;
  const RowLists lists{only ? mask.only.offsets : mask.exclude.offsets,
                       only ? mask.only.rows : mask.exclude.rows};
  const float threshold = places.thresholds[query];
  const std::int32_t place = places.rows[query];
  const std::int64_t end = lists.offsets[query + 1];
  int count = 0;
  for (std::int64_t i = lists.offsets[query] + threadIdx.x; i < end; i += kListThreads) {
    const std::int32_t row = lists.rows[i];
    if (row < 0 || row >= items.n) {
      if (only) raise_status(status, kStatusIdOutOfRange);
      continue;
    }
    if (!allowed(mask, row)) continue;
    if (only && mask.exclude.offsets != nullptr && in_list(mask.exclude, query, row)) continue;
    const float score = score_pair(queries, query, heads, items, row);
    count += places.before(score, row, threshold, place) ? 1 : 0;
  }
  count = block_reduce<kListThreads>(count, Sum{}, sums);
  if (threadIdx.x == 0) out[query] += only ? count : -count;
}

namespace {

template <class Shape>
void scan(const Context& ctx, Matrix<const float> queries, int heads, const PackedItems& items,
          const ItemMask& mask, const Places& places, Vector<std::int64_t> out) {
  const std::int64_t row_floats = heads * Shape::chunks(items.dim) * Shape::kDepth;
  const std::int64_t by_bytes =
      TopKLimits{}.query_bytes / (4 * row_floats) / Shape::kRows * Shape::kRows;
  const std::int64_t chunk = std::min(out.size, std::max<std::int64_t>(by_bytes, Shape::kRows));
  PackedQueries packed;
  float* memory = ctx.arena().take<float>(rounded_up(chunk, Shape::kRows) * row_floats);
  packed.data = memory;
  packed.heads = heads;
  packed.chunks = static_cast<int>(Shape::chunks(items.dim));
  packed.resident = Shape::resident(items.dim, heads);
  for (std::int64_t first = 0; first < out.size; first += chunk) {
    const Work work{first, std::min(chunk, out.size - first)};
    const std::int64_t tiles = ceil_div(work.most, Shape::kRows);
    const std::int64_t ranges =
        std::max<std::int64_t>(1, std::min(ceil_div(kUnits, tiles), items.n / kRangeItems));
    simt::launch({.grid = grid_for(tiles * Shape::kRows * row_floats, 256),
                  .block = 256,
                  .stream = &ctx.stream()},
                 pack_queries<Shape>, queries, heads, packed.chunks, work, memory);
    simt::launch({.grid = static_cast<unsigned>(tiles * ranges),
                  .block = Shape::kThreads,
                  .smem = Shape::shared_bytes(items.dim, heads),
                  .stream = &ctx.stream()},
                 scan_counts<Shape>, packed, items, tile_order(items.n, Shape::kItems), mask, work,
                 places, static_cast<int>(ranges), reinterpret_cast<unsigned long long*>(out.data));
  }
}

}  // namespace
}  // namespace topk_scores_kernels

void count_above(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, const ItemMask& mask, Vector<const float> threshold,
                 Vector<const std::int32_t> row, Vector<std::int64_t> out) {
  using namespace topk_scores_kernels;
  if (out.size == 0) return;
  simt::device_memset(out.data, 0, out.size * std::int64_t{sizeof(std::int64_t)}, ctx.stream());
  if (items.n == 0) return;
  ArenaScope scope(ctx);
  const Places places{threshold.data, row.data};
  const auto h = static_cast<int>(heads);
  if (mask.only.offsets == nullptr) {
    if (out.size <= FewQueries::kRows) {
      scan<FewQueries>(ctx, queries, h, items, mask, places, out);
    } else {
      scan<ManyQueries>(ctx, queries, h, items, mask, places, out);
    }
  }
  if (mask.only.offsets == nullptr && mask.exclude.offsets == nullptr) return;
  simt::launch(
      {.grid = static_cast<unsigned>(out.size), .block = kListThreads, .stream = &ctx.stream()},
      count_listed, queries, h, items, mask, places, out, ctx.state());
}

}  // namespace belfry::cuda
