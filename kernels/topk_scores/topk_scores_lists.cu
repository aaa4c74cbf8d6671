// SPDX-License-Identifier: Apache-2.0
// top-K by lists, in fp32.
#include "kernels/topk_scores/topk_scores_call.cuh"

namespace belfry::cuda::topk_scores_kernels {

namespace {

template <class Shape>
void run(const Call& call) {
  const std::int64_t by_queries = call.limits.query_bytes /
                                  (4 * call.heads * (call.items.dim + Shape::kDepth)) /
                                  Shape::kRows * Shape::kRows;
  const std::int64_t chunk =
      std::min(chunk_rows(call.count(), Shape::kRows, Shape::kItems, call.k, call.limits),
               std::max<std::int64_t>(by_queries, Shape::kRows));
  ChunkScratch scratch(call, chunk);
  ListScan<Shape> scan(call, chunk, scratch);
  ListScan<ManyQueries> again(call, chunk, scratch);
  scratch.take();
  for_each_chunk(call.count(), chunk, [&](std::int64_t first, std::int64_t m) {
    const Sample sample = scan.sample(m);
    scan.run(route(call, scratch, first, m), sample);
    if (sample.tiles > 0) {
      again.run(left_over(call, scratch, first, m), {});
    }
    answer_listed(call, scratch, first, m);
  });
}

}  // namespace

void topk_by_lists(const Call& call, bool few) {
  ArenaScope scope(call.ctx);
  if (few) {
    run<FewQueries>(call);
  } else {
    run<ManyQueries>(call);
  }
}

}  // namespace belfry::cuda::topk_scores_kernels
