// SPDX-License-Identifier: Apache-2.0
// From lists to answers, and the queries that need no scan.
#include "kernels/topk_scores/topk_scores_call.cuh"

namespace belfry::cuda::topk_scores_kernels {

/// One block a position.
__global__ void __launch_bounds__(kFinishThreads)
    merge_lists(Lists lists, Work work, int tile_rows, Appended failed, TopK out) {
  SIMT_DYN_SHARED(Key, keys);
  SIMT_SHARED(BlockState, state);
  SIMT_SHARED(Key, edge_cell);
  const std::int64_t position = blockIdx.x;
  if (position >= work.size()) return;
  BlockTopK best(keys, &state, lists.k);
  const ListsOfQuery mine(lists, position, work.size(), tile_rows);
  const Key edge = edge_of_lists(mine, &edge_cell);
  const std::int64_t slots = std::int64_t{mine.ranges} * lists.k;
  for (std::int64_t base = 0; base < slots; base += kFinishThreads * kFinishEach) {
    Key offered[kFinishEach];
    unsigned offers = 0;
#pragma unroll
    for (int i = 0; i < kFinishEach; ++i) {
      const std::int64_t slot = base + i * kFinishThreads + threadIdx.x;
      offered[i] = kNoKey;
      if (slot >= slots) continue;
      const std::int64_t list = mine.list(static_cast<int>(slot / lists.k));
      const int place = static_cast<int>(slot % lists.k);
      if (place < lists.counts[list]) offered[i] = lists.keys[list * lists.capacity + place];
      if (offered[i] != kNoKey && offered[i] >= edge) offers |= 1u << i;
    }
    best.offer(offers, [&](int i) {
      Key key = offered[0];
#pragma unroll
      for (int j = 1; j < kFinishEach; ++j) key = i == j ? offered[j] : key;
      return key;
    });
  }
  finish_query(best, best.finish(), lists.k, edge, work, position, failed, out);
}

/// Queries whose `only` list is so short that its rows are scored one by one.
__device__ __forceinline__ bool is_short(const ItemMask& mask, std::int64_t query, std::int64_t n) {
  constexpr std::int64_t kDirectCost = 32;
  return mask.only.offsets[query + 1] - mask.only.offsets[query] <= n / kDirectCost;
}

__device__ inline bool list_lies_inside(const RowLists& only, std::int64_t query, std::int64_t n) {
  const std::int64_t begin = only.offsets[query], end = only.offsets[query + 1];
  return begin == end || (only.rows[begin] >= 0 && only.rows[end - 1] < n);
}

/// Sorts the queries of a chunk by how they are scored. Results do not depend on the order.
__global__ void route_queries(ItemMask mask, std::int64_t first, std::int64_t queries,
                              std::int64_t n, Appended scanned, Appended listed,
                              StepState* status) {
  for (std::int64_t q = grid_thread(); q < queries; q += grid_threads()) {
    if (!list_lies_inside(mask.only, first + q, n)) raise_status(status, kStatusIdOutOfRange);
    (is_short(mask, first + q, n) ? listed : scanned).add(q);
  }
}

/// One block a query: scores the rows of its `only` list.
__global__ void __launch_bounds__(kFinishThreads)
    score_listed(Matrix<const float> queries, int heads, PackedItems items, ItemMask mask,
                 Work work, int k, TopK out) {
  SIMT_DYN_SHARED(Key, keys);
  SIMT_SHARED(BlockState, state);
  if (blockIdx.x >= work.size()) return;
  const std::int64_t query = work.query(blockIdx.x);
  BlockTopK best(keys, &state, k);
  const std::int64_t end = mask.only.offsets[query + 1];
  for (std::int64_t base = mask.only.offsets[query]; base < end; base += kFinishThreads) {
    const std::int64_t i = base + threadIdx.x;
    const std::int32_t row = i < end ? mask.only.rows[i] : -1;
    const bool candidate = row >= 0 && row < items.n && allowed(mask, row) &&
                           (mask.exclude.offsets == nullptr || !in_list(mask.exclude, query, row));
    const float score = candidate ? score_pair(queries, query, heads, items, row) : 0.0f;
    best.offer(candidate && score == score ? 1u : 0u, [&](int) { return make_key(score, row); });
  }
  write_answer(best, best.finish(), out, query);
}

Work route(const Call& call, const ChunkScratch& scratch, std::int64_t first, std::int64_t m) {
  simt::device_memset(scratch.counters, 0, ChunkScratch::kCounters * std::int64_t{sizeof(int)},
                      call.ctx.stream());
  if (call.mask.only.offsets == nullptr) return {first, m};
  simt::launch(call.dims(grid_for(m, 256), 256), route_queries, call.mask, first, m, call.items.n,
               scratch.scanned, scratch.listed, call.ctx.state());
  return {first, m, scratch.scanned.queries, scratch.scanned.count};
}

void answer_listed(const Call& call, const ChunkScratch& scratch, std::int64_t first,
                   std::int64_t m) {
  if (call.mask.only.offsets == nullptr) return;
  const Work work{first, m, scratch.listed.queries, scratch.listed.count};
  simt::launch(call.dims(m, kFinishThreads, block_capacity(call.k) * std::int64_t{sizeof(Key)}),
               score_listed, call.queries, call.heads, call.items, call.mask, work, call.k,
               call.out);
}

void merge(const Call& call, const ChunkScratch& scratch, const Lists& lists, const Work& work,
           int tile_rows) {
  simt::launch(
      call.dims(work.most, kFinishThreads, block_capacity(call.k) * std::int64_t{sizeof(Key)}),
      merge_lists, lists, work, tile_rows, scratch.failed, call.out);
}

}  // namespace belfry::cuda::topk_scores_kernels
