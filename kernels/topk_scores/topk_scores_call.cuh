// SPDX-License-Identifier: Apache-2.0
// Host side of the list paths: what one chunk of queries needs, and its launches.
#pragma once

#include "kernels/topk_scores/topk_scores_paths.hpp"
#include "kernels/topk_scores/topk_scores_plan.cuh"

namespace belfry::cuda::topk_scores_kernels {

/// The arguments of a call.
struct Call {
  const Context& ctx;
  Matrix<const float> queries;
  int heads;
  PackedItems items;
  ItemMask mask;
  TopK out;
  int k;  ///< at most n
  TopKLimits limits;

  std::int64_t count() const { return out.scores.rows; }
  simt::Dims dims(std::int64_t grid, int block, std::int64_t smem = 0) const {
    return {.grid = static_cast<unsigned>(grid),
            .block = static_cast<unsigned>(block),
            .smem = smem,
            .stream = &ctx.stream()};
  }
};

/// Memory that the scans of a chunk share, one after the other.
class ChunkScratch {
 public:
  ChunkScratch(const Call& call, std::int64_t chunk) : call_(call), chunk_(chunk) {}

  /// A scan with these lists, each tile of `tile_rows` rows, will run.
  void reserve(const Lists& lists, std::int64_t tile_rows) {
    keys_ = std::max(keys_, lists.list_tiles * tile_rows * lists.capacity);
    lists_ = std::max(lists_, lists.list_tiles * tile_rows);
  }
  void reserve_queries(std::int64_t floats) { query_floats_ = std::max(query_floats_, floats); }

  void take() {
    Arena& arena = call_.ctx.arena();
    keys = arena.take<Key>(keys_);
    counts = arena.take<int>(lists_);
    edges = arena.take<Key>(lists_);
    proven = arena.take<Key>(chunk_);
    packed_queries = arena.take<float>(query_floats_);
    counters = arena.take<int>(kCounters);
    failed = {arena.take<std::int32_t>(chunk_), counters};
    if (call_.mask.only.offsets == nullptr) return;
    scanned = {arena.take<std::int32_t>(chunk_), counters + 1};
    listed = {arena.take<std::int32_t>(chunk_), counters + 2};
  }
  void place(Lists& lists) const {
    lists.keys = keys;
    lists.counts = counts;
    lists.edges = edges;
  }

  static constexpr int kCounters = 3;
  Key* keys = nullptr;
  int* counts = nullptr;
  Key* edges = nullptr;
  Key* proven = nullptr;
  float* packed_queries = nullptr;
  int* counters = nullptr;
  Appended failed, scanned, listed;

 private:
  const Call& call_;
  std::int64_t chunk_, keys_ = 0, lists_ = 0, query_floats_ = 0;
};

/// Sorts a chunk's queries by how they are scored; what is to be scanned.
Work route(const Call& call, const ChunkScratch& scratch, std::int64_t first, std::int64_t m);
/// The queries that were routed to their short `only` lists.
void answer_listed(const Call& call, const ChunkScratch& scratch, std::int64_t first,
                   std::int64_t m);
/// Answers from the lists of a scan, but for queries that are appended to scratch.failed.
void merge(const Call& call, const ChunkScratch& scratch, const Lists& lists, const Work& work,
           int tile_rows);

/// The launches of one fp32 scan, for chunks of at most `chunk` queries.
template <class Shape>
class ListScan {
 public:
  ListScan(const Call& call, std::int64_t chunk, ChunkScratch& scratch)
      : call_(call),
        scratch_(scratch),
        order_(tile_order(call.items.n, Shape::kItems)),
        lists_(plan_lists(chunk, Shape::kRows, Shape::kItems, call.items.n, call.k, call.limits)) {
    scratch.reserve(lists_, Shape::kRows);
    scratch.reserve_queries(packed_floats(chunk));
  }

  Sample sample(std::int64_t queries) const {
    if (lists_.ranges(ceil_div(queries, Shape::kRows)) > 1) return {};
    return plan_sample(call_.k, order_, Shape::kItems, lists_.capacity);
  }

  /// Scans and writes answers. With a sample, some queries may be left to scratch.failed.
  void run(const Work& work, const Sample& sample) {
    scratch_.place(lists_);
    const PackedQueries packed = pack(work);
    simt::device_memset(scratch_.proven, 0, work.most * std::int64_t{sizeof(Key)},
                        call_.ctx.stream());
    simt::launch(call_.dims(lists_.list_tiles, Shape::kThreads,
                            Shape::shared_bytes(call_.items.dim, call_.heads)),
                 scan_lists<Shape>, packed, call_.items, order_, call_.mask, work, lists_, sample,
                 scratch_.proven);
    merge(call_, scratch_, lists_, work, Shape::kRows);
  }

 private:
  std::int64_t packed_floats(std::int64_t queries) const {
    return rounded_up(queries, Shape::kRows) * call_.heads * Shape::chunks(call_.items.dim) *
           Shape::kDepth;
  }
  PackedQueries pack(const Work& work) const {
    PackedQueries packed;
    packed.data = scratch_.packed_queries;
    packed.heads = call_.heads;
    packed.chunks = static_cast<int>(Shape::chunks(call_.items.dim));
    packed.resident = Shape::resident(call_.items.dim, call_.heads);
    simt::launch(call_.dims(grid_for(packed_floats(work.most), 256), 256), pack_queries<Shape>,
                 call_.queries, call_.heads, packed.chunks, work, scratch_.packed_queries);
    return packed;
  }

  const Call& call_;
  ChunkScratch& scratch_;
  TileOrder order_;
  Lists lists_;
};

/// Work that a scan has left to an fp32 scan without a sample.
inline Work left_over(const Call& call, const ChunkScratch& scratch, std::int64_t first,
                      std::int64_t m) {
  if (call.limits.rescanned != nullptr) {
    simt::device_copy(call.limits.rescanned, scratch.failed.count, sizeof(int), call.ctx.stream());
  }
  return {first, m, scratch.failed.queries, scratch.failed.count};
}

/// f(first, queries) for each chunk.
template <class F>
void for_each_chunk(std::int64_t queries, std::int64_t chunk, F&& f) {
  for (std::int64_t first = 0; first < queries; first += chunk) {
    f(first, std::min(chunk, queries - first));
  }
}

// One per path, each in its own file.
void topk_by_lists(const Call& call, bool few);
void topk_by_tensor(const Call& call);
void topk_by_matrix(const Call& call);

}  // namespace belfry::cuda::topk_scores_kernels
