// SPDX-License-Identifier: Apache-2.0
// Top-K in fp32: the scan that fills lists, and the block that merges a query's lists into the answer.
#pragma once

#include <cstdint>

#include "kernels/select_k/block_topk.cuh"
#include "kernels/topk_scores/topk_scan.cuh"

namespace belfry::cuda::topk_scores_kernels {

using namespace belfry::cuda::topk;

/// The first `tiles` visits set a first threshold: the k-th best of them (a smaller k than the call's). Most
/// likely the answer's k keys reach it, and far fewer keys are pushed and dropped again; where they do not,
/// the query is scanned again without. Only where a list covers all items.
struct Sample {
  std::int64_t tiles = 0;
  int k = 0;
};

/// Queries of a chunk that some kernel leaves to a later one.
struct Appended {
  std::int32_t* queries = nullptr;
  int* count = nullptr;

  __device__ void add(std::int64_t query_of_chunk) const {
    queries[atomicAdd(count, 1)] = static_cast<std::int32_t>(query_of_chunk);
  }
};

/// A block's unit: a tile of rows against a range of the item tiles.
struct Unit {
  std::int64_t row_tile, first, last;
  int ranges;
};
/// Units past the last have row_tile < 0.
__device__ inline Unit unit_of_block(std::int64_t rows, int tile_rows, const Lists& lists,
                                     std::int64_t item_tiles) {
  const std::int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  const int ranges = lists.ranges(tiles);
  if (blockIdx.x >= tiles * ranges) return {-1, 0, 0, ranges};
  const std::int64_t range = blockIdx.x % ranges;
  return {blockIdx.x / ranges, item_tiles * range / ranges, item_tiles * (range + 1) / ranges,
          ranges};
}

/// Shared memory of the lists' upkeep.
template <class Shape>
struct RowState {
  Key edges[Shape::kRows];
  float thresholds[Shape::kRows];  ///< of the edges; +inf in rows without a query
  int counts[Shape::kRows];
  int settled[Shape::kRows];  ///< keys that have passed the masks
  unsigned bins[Shape::kWarps][kRadixBins];
};

/// The lists of one unit. All members but push() are called by all threads together.
template <class Shape>
class ListUpkeep {
 public:
  __device__ ListUpkeep(RowState<Shape>& rows, const Lists& lists, const ItemMask& mask,
                        const Work& work, const Unit& unit, Key* proven)
      : rows_(rows), lists_(lists), mask_(mask), work_(work), unit_(unit), proven_(proven) {
    for (int r = static_cast<int>(threadIdx.x); r < Shape::kRows; r += Shape::kThreads) {
      const bool live = position(r) < work.size();
      rows.edges[r] = kNoKey;
      rows.thresholds[r] = __uint_as_float(live ? 0xff800000u : 0x7f800000u);
      rows.counts[r] = rows.settled[r] = 0;
    }
    __syncthreads();
  }

  /// True when the row's list may not hold another tile.
  __device__ bool push(int row, float score, std::int64_t item) {
    const Key key = make_key(score, static_cast<std::int32_t>(item));
    if (key < rows_.edges[row] || !allowed(mask_, item)) return false;
    const int slot = atomicAdd(&rows_.counts[row], 1);
    keys_of(row)[slot] = key;
    return slot >= fullest();
  }

  /// Tests new keys against the masks and cuts lists back to k: the full ones, or all.
  __device__ void settle(bool all, int k, bool prove) {
    __syncthreads();
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    for (int r = warp; r < Shape::kRows; r += Shape::kWarps) {
      if (position(r) >= work_.size() || (!all && rows_.counts[r] <= fullest())) continue;
      settle_row(r, k, prove);
    }
    __syncthreads();
  }

  __device__ void store() const {
    for (int r = static_cast<int>(threadIdx.x); r < Shape::kRows; r += Shape::kThreads) {
      const std::int64_t list = std::int64_t{blockIdx.x} * Shape::kRows + r;
      lists_.counts[list] = rows_.counts[r];
      lists_.edges[list] = rows_.edges[r];
    }
  }

 private:
  __device__ std::int64_t position(int row) const { return unit_.row_tile * Shape::kRows + row; }
  __device__ int fullest() const { return lists_.capacity - Shape::kItems; }
  __device__ Key* keys_of(int row) const {
    return lists_.keys + (std::int64_t{blockIdx.x} * Shape::kRows + row) * lists_.capacity;
  }

  __device__ void settle_row(int r, int k, bool prove) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    unsigned* bins = rows_.bins[threadIdx.x / kWarp];
    Key* keys = keys_of(r);
    const int count = rows_.counts[r];
    int live = count;
    if (has_lists(mask_)) {
      const std::int64_t query = work_.query(position(r));
      for (int base = rows_.settled[r]; base < count; base += kWarp) {
        const int i = base + lane;
        const bool out = i < count && !eligible(mask_, query, row_of(keys[i]));
        if (out) keys[i] = kNoKey;
        live -= __popc(__ballot_sync(kAllLanes, out));
      }
      __syncwarp();
    }
    Key edge = rows_.edges[r];
    if (live >= k) {
      const Key kth = warp_edge(keys, count, k, 0, bins);
      edge = edge > kth ? edge : kth;
    }
    if (prove && proven_ != nullptr) {  // ranges of one query tell each other
      Key seen = kNoKey;
      if (lane == 0) seen = atomicMax(&proven_[position(r)], edge);
      seen = __shfl_sync(kAllLanes, seen, 0);
      edge = edge > seen ? edge : seen;
    }
    const int kept = warp_compact(keys, count, [&](Key key) { return key >= edge; });
    if (lane == 0) {
      rows_.edges[r] = edge;
      rows_.thresholds[r] = threshold_of(edge);
      rows_.counts[r] = rows_.settled[r] = kept;
    }
  }

  RowState<Shape>& rows_;
  const Lists& lists_;
  const ItemMask& mask_;
  const Work& work_;
  const Unit& unit_;
  Key* const proven_;
};

/// `proven` [positions], zeros at first: an edge that k keys of any ranges reach; or null.
template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    scan_lists(PackedQueries queries, PackedItems items, TileOrder order, ItemMask mask, Work work,
               Lists lists, Sample sample, Key* proven) {
  SIMT_DYN_SHARED(float, shared);
  SIMT_SHARED(RowState<Shape>, rows);
  const Unit unit = unit_of_block(work.size(), Shape::kRows, lists, order.tiles);
  if (unit.row_tile < 0) return;
  ListUpkeep<Shape> upkeep(rows, lists, mask, work, unit, unit.ranges > 1 ? proven : nullptr);
  std::int64_t sampled = unit.ranges == 1 ? sample.tiles : 0;
  Scan<Shape> scan(queries, items, order, unit.row_tile, unit.first, unit.last, shared);
  scan.run([&](const float(&scores)[kThreadRows][kThreadItems], std::int64_t tile) {
    const int first_row = scan.first_row();
    const std::int64_t first_item = tile * Shape::kItems + scan.first_item();
    bool full = false;
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      const float threshold = rows.thresholds[first_row + r];
#pragma unroll
      for (int i = 0; i < kThreadItems; ++i) {
        if (scores[r][i] >= threshold && first_item + i < items.n) {
          full |= upkeep.push(first_row + r, scores[r][i], first_item + i);
        }
      }
    }
    const bool any_full = __syncthreads_or(full) != 0;
    const bool sampling = sampled > 0, last_sample = sampled == 1;
    if (any_full || last_sample) {
      upkeep.settle(last_sample, sampling ? sample.k : lists.k, !sampling);
    }
    sampled -= sampling ? 1 : 0;
  });
  upkeep.settle(true, lists.k, true);
  upkeep.store();
}

/// Where the lists of a position lie: flattened, `width` keys each.
struct ListsOfQuery {
  const Lists& lists;
  std::int64_t first_list;  ///< of range 0
  int tile_rows, ranges;

  __device__ ListsOfQuery(const Lists& all, std::int64_t row, std::int64_t rows, int tile)
      : lists(all), tile_rows(tile) {
    ranges = all.ranges((static_cast<unsigned>(rows) + tile - 1) / static_cast<unsigned>(tile));
    const auto of_chunk = static_cast<unsigned>(row), size = static_cast<unsigned>(tile);
    first_list = std::int64_t{of_chunk / size * ranges} * tile + of_chunk % size;
  }
  __device__ std::int64_t list(int range) const {
    return first_list + std::int64_t{range} * tile_rows;
  }
};

inline constexpr int kFinishThreads = 128;
inline constexpr int kFinishEach = 8;

/// The answer of a query from its block's best: rows of `out` are queries.
__device__ inline void write_answer(const BlockTopK& best, int found, const TopK& out,
                                    std::int64_t query) {
  float* scores = out.scores.row(query);
  std::int32_t* rows = out.rows.row(query);
  for (std::int64_t i = threadIdx.x; i < out.scores.cols; i += blockDim.x) {
    const bool there = i < found;
    scores[i] = there ? score_of(best.keys()[i]) : __uint_as_float(0x7fc00000u);
    rows[i] = there ? row_of(best.keys()[i]) : -1;
  }
}

/// Writes the answer, unless lists dropped keys that belong to it: then the query is left to `failed`.
__device__ inline void finish_query(const BlockTopK& best, int found, int k, Key edge,
                                    const Work& work, std::int64_t position, const Appended& failed,
                                    const TopK& out) {
  const std::int64_t query = work.query(position);
  if (edge != kNoKey && (found < k || best.keys()[k - 1] < edge)) {
    if (threadIdx.x == 0) failed.add(query - work.first);
    return;
  }
  write_answer(best, found, out, query);
}

/// Greatest edge of all ranges; every thread gets it. `result` is shared memory.
__device__ inline Key edge_of_lists(const ListsOfQuery& mine, Key* result) {
  if (threadIdx.x == 0) *result = kNoKey;
  __syncthreads();
  Key edge = kNoKey;
  for (int s = static_cast<int>(threadIdx.x); s < mine.ranges; s += kFinishThreads) {
    const Key of_range = mine.lists.edges[mine.list(s)];
    edge = edge > of_range ? edge : of_range;
  }
  if (edge != kNoKey) atomicMax(result, edge);
  __syncthreads();
  return *result;
}

}  // namespace belfry::cuda::topk_scores_kernels
