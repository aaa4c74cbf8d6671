// SPDX-License-Identifier: Apache-2.0
// Exact top-K of all pairs, fused, at MovieLens's size and a million items; few queries (bound by
// reading the items); rank counts. Flops: 2 Q N D, as a share of the bf16 product that filters.
#include "kernels/topk_scores/topk_scores.hpp"

#include "bench/cuda_support.hpp"

namespace belfry::bench {
namespace {

struct Problem {
  std::int64_t queries, items, width, k;
  Buffer<float> q, packed, scores, threshold;
  Buffer<std::int32_t> rows;
  Buffer<std::int64_t> counts;

  Problem(const Context& ctx, std::int64_t n_queries, std::int64_t n_items, std::int64_t d,
          std::int64_t best)
      : queries(n_queries),
        items(n_items),
        width(d),
        k(best),
        q(normal_floats(ctx, n_queries * d, 1)),
        packed(ctx.backend(), PackedItems::size(n_items, d)),
        scores(ctx.backend(), n_queries * best),
        threshold(ctx.backend(), n_queries),
        rows(ctx.backend(), n_queries * best),
        counts(ctx.backend(), n_queries) {
    const Buffer<float> table = normal_floats(ctx, n_items * d, 2);
    pack_items(ctx, table.matrix(n_items, d), 0, packed.data(), n_items);
    ctx.synchronise();
  }
  PackedItems all() const { return {packed.data(), items, width}; }
  void select(const Context& ctx) {
    topk_scores(ctx, q.matrix(queries, width), 1, all(), {},
                {scores.matrix(queries, k), rows.matrix(queries, k)});
  }
  void count(const Context& ctx) {
    count_above(ctx, q.matrix(queries, width), 1, all(), {}, threshold.view(),
                Vector<const std::int32_t>(rows.data(), queries), counts.view());
  }
  double flops() const {
    return 2.0 * static_cast<double>(queries) * static_cast<double>(items * width);
  }
};

void verify(CudaBench& bench, std::int64_t queries, std::int64_t items, std::int64_t width,
            std::int64_t k) {
  const Context& ctx = bench.device();
  Problem a(ctx, queries, items, width, k), b(bench.cpu(), queries, items, width, k);
  const std::string shape =
      text(queries) + " x " + text(items) + " x " + text(width) + ", top " + text(k);
  a.select(ctx);
  b.select(bench.cpu());
  bench.verify(shape + " rows", host_of(ctx, a.rows) == host_of(bench.cpu(), b.rows));
  bench.verify(shape + " scores", host_of(ctx, a.scores) == host_of(bench.cpu(), b.scores));
  a.count(ctx);
  b.count(bench.cpu());
  bench.verify(shape + " counts", host_of(ctx, a.counts) == host_of(bench.cpu(), b.counts));
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  verify(bench, 300, 5000, 64, 100);
  verify(bench, 5, 20000, 128, 10);
  verify(bench, 20, 3000, 48, 1500);
  struct Case {
    std::int64_t queries, items, width, k;
  };
  const std::int64_t users = bench.size(162541, 2048), million = bench.size(1'000'000, 20'000);
  for (const Case& c : {Case{users, 62423, 64, 100}, Case{users, 62423, 128, 100},
                        Case{users, 62423, 64, 10}, Case{bench.size(16384, 512), 62423, 64, 1000},
                        Case{bench.size(16384, 512), million, 64, 100},
                        Case{bench.size(16384, 512), million, 128, 100}}) {
    const std::string name =
        text(c.queries) + " x " + text(c.items) + " x " + text(c.width) + ", top " + text(c.k);
    if (!bench.wanted(name)) continue;
    Problem p(ctx, c.queries, c.items, c.width, c.k);
    bench.run(name, {.bf16 = p.flops()}, [&](int) { p.select(ctx); });
  }
  for (const std::int64_t queries : {1, 8, 32}) {
    Problem p(ctx, queries, million, 64, 100);
    bench.run(text(queries) + " x " + text(million) + " x 64, top 100",
              {.bytes = 4.0 * 64 * static_cast<double>(million)}, [&](int) { p.select(ctx); });
  }
  Problem p(ctx, bench.size(16384, 512), 62423, 64, 1);
  bench.run("count_above " + text(p.queries) + " x 62423 x 64", {.fp32 = p.flops()},
            [&](int) { p.count(ctx); });
}

const CudaBenchmark kBenchmark("topk_scores", run);

}  // namespace
}  // namespace belfry::bench
