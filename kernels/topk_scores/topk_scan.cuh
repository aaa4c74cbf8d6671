// SPDX-License-Identifier: Apache-2.0
// Bit-defined scores of a tile of queries with tiles of items, in fp32: queries and panels of items stream
// through shared memory, each thread owns kThreadRows x 4 scores, and a `use` of them is called per tile.
#pragma once

#include <cstdint>

#include "kernels/core/block.cuh"
#include "kernels/topk_scores/topk_lists.cuh"
#include "kernels/topk_scores/topk_scores.hpp"

namespace belfry::cuda::topk {

inline constexpr int kPanel = static_cast<int>(kPanelItems);
inline constexpr int kThreadRows = 8, kThreadItems = 4;

/// A warp's lanes are kLaneRows x (32 / kLaneRows), warps are kWarpRows x kWarpItems.
template <int LaneRows, int WarpRows, int WarpItems, int Depth>
struct ScanShape {
  static constexpr int kLaneRows = LaneRows, kLaneItems = kWarp / LaneRows;
  static constexpr int kWarps = WarpRows * WarpItems, kThreads = kWarps * kWarp;
  static constexpr int kRows = kThreadRows * LaneRows * WarpRows;       // queries of a tile
  static constexpr int kItems = kThreadItems * kLaneItems * WarpItems;  // items of a tile
  static constexpr int kDepth = Depth;                                  // dimensions of a stage
  static constexpr int kStages = 3;
  static constexpr int kPanels = kItems / kPanel;
  static_assert(kItems % kPanel == 0);

  static std::int64_t chunks(std::int64_t dim) { return dim <= kDepth ? 1 : ceil_div(dim, kDepth); }
  /// Whether all of a tile's queries lie in shared memory at once; within what every architecture has.
  static bool resident(std::int64_t dim, std::int64_t heads) {
    return (kStages * kItems + heads * chunks(dim) * kRows) * kDepth * 4 <= (52 << 10);
  }
  static std::int64_t shared_bytes(std::int64_t dim, std::int64_t heads) {
    const std::int64_t query_stages = resident(dim, heads) ? heads * chunks(dim) : kStages;
    return (kStages * kItems + query_stages * kRows) * kDepth * 4;
  }
};
using FewQueries = ScanShape<1, 1, 3, 8>;    // 8 queries x 384 items: bound by memory
using ManyQueries = ScanShape<4, 2, 3, 16>;  // 64 queries x 96 items

/// Queries as a scan wants them: [tile][head][dimension, padded][row], zeros where there is none.
struct PackedQueries {
  const float* data = nullptr;
  int heads = 1;
  int chunks = 1;  // of Shape::kDepth dimensions
  bool resident = true;
};

/// The order in which item tiles are visited: scattered, so that a catalogue sorted by score costs no more.
struct TileOrder {
  std::int64_t tiles = 0, stride = 1;
  __device__ std::int64_t tile(std::int64_t visit) const { return visit * stride % tiles; }
};

/// One row tile against the item tiles of visits [first, last).
template <class Shape>
class Scan {
 public:
  __device__ Scan(const PackedQueries& queries, const PackedItems& items, const TileOrder& order,
                  std::int64_t row_tile, std::int64_t first, std::int64_t last, float* shared)
      : queries_(queries),
        items_(items),
        order_(order),
        last_(last),
        loading_{0, 0, 0, first, order.tile(first)},
        item_stages_(shared),
        query_stages_(shared + Shape::kStages * kItemFloats),
        packed_(queries.data + row_tile * queries.heads * queries.chunks * kQueryFloats) {}

  /// use(scores, tile), called by all threads together, for each tile of items.
  template <class F>
  __device__ void run(F&& use) {
    Step step = loading_;
    if (queries_.resident) load_resident();
    for (int s = 0; s < Shape::kStages - 1; ++s) load();
    float scores[kThreadRows][kThreadItems], best[kThreadRows][kThreadItems];
    while (step.visit < last_) {
      simt::cp_async_wait<Shape::kStages - 2>();
      __syncthreads();  // the stage is there, and the one before is free
      load();
      if (step.chunk == 0) clear(scores);
      const int query_stage =
          queries_.resident ? step.head * queries_.chunks + step.chunk : step.stage;
      add_products(item_stages_ + step.stage * kItemFloats,
                   query_stages_ + query_stage * kQueryFloats, scores);
      if (step.chunk + 1 == queries_.chunks) {
        merge_head(scores, best, step.head);
        if (step.head + 1 == queries_.heads) use(best, step.tile);
      }
      advance(step);
    }
    simt::cp_async_wait<0>();
    __syncthreads();
  }

  /// First of this thread's rows of the tile, and of its items.
  __device__ static int first_row() {
    return (warp() / kWarpItems * Shape::kLaneRows + lane() / Shape::kLaneItems) * kThreadRows;
  }
  __device__ static int first_item() {
    return (warp() % kWarpItems * Shape::kLaneItems + lane() % Shape::kLaneItems) * kThreadItems;
  }

 private:
  static constexpr int kItemFloats = Shape::kDepth * Shape::kItems;
  static constexpr int kQueryFloats = Shape::kDepth * Shape::kRows;
  static constexpr int kWarpItems = Shape::kItems / (kThreadItems * Shape::kLaneItems);

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / kWarp; }

  __device__ static void clear(float (&scores)[kThreadRows][kThreadItems]) {
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
#pragma unroll
      for (int i = 0; i < kThreadItems; ++i) scores[r][i] = 0.0f;
    }
  }

  __device__ void load_resident() {
    const int pieces = queries_.heads * queries_.chunks * kQueryFloats / 4;
    for (int i = static_cast<int>(threadIdx.x); i < pieces; i += Shape::kThreads) {
      simt::cp_async<16>(query_stages_ + 4 * i, packed_ + 4 * i);
    }  // of the group of the first stage
  }

  /// One stage's work: some dimensions of one head against one tile of items.
  struct Step {
    int stage, chunk, head;
    std::int64_t visit, tile;
  };
  __device__ void advance(Step& step) const {
    step.stage = step.stage + 1 == Shape::kStages ? 0 : step.stage + 1;
    if (++step.chunk < queries_.chunks) return;
    step.chunk = 0;
    if (++step.head < queries_.heads) return;
    step.head = 0;
    step.tile = order_.tile(++step.visit);
  }

  /// Starts the copies of the next step; every step is one group, an empty one behind the end.
  __device__ void load() {
    if (loading_.visit < last_) {
      if (!queries_.resident) {
        const float* from =
            packed_ + (loading_.head * queries_.chunks + loading_.chunk) * kQueryFloats;
        float* to = query_stages_ + loading_.stage * kQueryFloats;
        for (int i = static_cast<int>(threadIdx.x); i < kQueryFloats / 4; i += Shape::kThreads) {
          simt::cp_async<16>(to + 4 * i, from + 4 * i);
        }
      }
      load_items(loading_.tile, loading_.chunk * Shape::kDepth,
                 item_stages_ + loading_.stage * kItemFloats);
      advance(loading_);
    }
    simt::cp_async_commit();
  }

  /// Dimensions and panels that are not there become zeros.
  __device__ void load_items(std::int64_t tile, int first_dim, float* to) {
    constexpr int kPieces = Shape::kItems / 4, kPanelPieces = kPanel / 4;
    const std::int64_t panels = (items_.n + kPanel - 1) / kPanel,
                       first_panel = tile * Shape::kPanels;
    for (int i = static_cast<int>(threadIdx.x); i < Shape::kDepth * kPieces; i += Shape::kThreads) {
      const int dim = first_dim + i / kPieces, piece = i % kPieces;
      const std::int64_t panel = first_panel + piece / kPanelPieces;
      const bool there = dim < items_.dim && panel < panels;
      const float* from =
          there ? items_.data + (panel * items_.dim + dim) * kPanel + piece % kPanelPieces * 4
                : packed_;  // an address for nothing
      simt::cp_async<16>(to + 4 * i, from, there ? 16 : 0);
    }
  }

  __device__ static void add_products(const float* items, const float* queries,
                                      float (&scores)[kThreadRows][kThreadItems]) {
    const float* item = items + first_item();
    const float* query = queries + first_row();
#pragma unroll
    for (int k = 0; k < Shape::kDepth; ++k) {
      const float4 v = *reinterpret_cast<const float4*>(item + k * Shape::kItems);
      const float4 a = *reinterpret_cast<const float4*>(query + k * Shape::kRows);
      const float4 b = *reinterpret_cast<const float4*>(query + k * Shape::kRows + 4);
      const float q[kThreadRows] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
      for (int r = 0; r < kThreadRows; ++r) {
        scores[r][0] = fmaf(q[r], v.x, scores[r][0]);
        scores[r][1] = fmaf(q[r], v.y, scores[r][1]);
        scores[r][2] = fmaf(q[r], v.z, scores[r][2]);
        scores[r][3] = fmaf(q[r], v.w, scores[r][3]);
      }
    }
  }

  /// The maximum over heads: the first of equal ones; a NaN of any head stays.
  __device__ static void merge_head(const float (&scores)[kThreadRows][kThreadItems],
                                    float (&best)[kThreadRows][kThreadItems], int head) {
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
#pragma unroll
      for (int i = 0; i < kThreadItems; ++i) {
        const float s = scores[r][i];
        if (head == 0 || s > best[r][i] || s != s) best[r][i] = s;
      }
    }
  }

  const PackedQueries& queries_;
  const PackedItems& items_;
  const TileOrder& order_;
  const std::int64_t last_;
  Step loading_;
  float* const item_stages_;
  float* const query_stages_;
  const float* const packed_;
};

/// Packs the queries of a launch for Scan<Shape>.
template <class Shape>
__global__ void pack_queries(Matrix<const float> queries, int heads, int chunks, Work work,
                             float* out) {
  const std::int64_t size = work.size();
  const std::int64_t depth = std::int64_t{chunks} * Shape::kDepth;
  const std::int64_t each = heads * depth * Shape::kRows;
  const std::int64_t tiles = (size + Shape::kRows - 1) / Shape::kRows;
  for (std::int64_t t = grid_thread(); t < tiles * each; t += grid_threads()) {
    const std::int64_t position = t / each * Shape::kRows + t % Shape::kRows;
    const std::int64_t k = t % each / Shape::kRows % depth, head = t % each / Shape::kRows / depth;
    const bool there = position < size && k < queries.cols;
    out[t] = there ? queries(work.query(position) * heads + head, k) : 0.0f;
  }
}

/// The bit-defined score of a query's heads with one item, by one thread.
__device__ inline float score_pair(Matrix<const float> queries, std::int64_t query, int heads,
                                   const PackedItems& items, std::int64_t row) {
  const float* item = items.data + row / kPanel * kPanel * items.dim + row % kPanel;
  float best = 0.0f;
  for (int h = 0; h < heads; ++h) {
    const float* q = queries.row(query * heads + h);
    float s = 0.0f;
    for (std::int64_t k = 0; k < items.dim; ++k) s = fmaf(q[k], item[k * kPanel], s);
    if (h == 0 || s > best || s != s) best = s;
  }
  return best + 0.0f;
}

}  // namespace belfry::cuda::topk
