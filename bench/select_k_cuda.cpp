// SPDX-License-Identifier: Apache-2.0
// The k best of each row of a score matrix. Bytes: one read of the scores.
#include "kernels/select_k/select_k.hpp"

#include "bench/cuda_support.hpp"

namespace belfry::bench {
namespace {

struct Problem {
  std::int64_t rows, cols, k;
  Buffer<float> scores, best;
  Buffer<std::int32_t> columns;
  Problem(const Context& ctx, std::int64_t r, std::int64_t c, std::int64_t n)
      : rows(r),
        cols(c),
        k(n),
        scores(normal_floats(ctx, r * c, 1)),
        best(ctx.backend(), r * n),
        columns(ctx.backend(), r * n) {}
  void run(const Context& ctx) {
    select_k(ctx, scores.matrix(rows, cols), {best.matrix(rows, k), columns.matrix(rows, k)});
  }
};

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const std::int64_t k : {1, 100, 1000, 2000}) {
    Problem a(ctx, 20, 7001, k), b(bench.cpu(), 20, 7001, k);
    a.run(ctx);
    b.run(bench.cpu());
    bench.verify("top " + text(k), host_of(ctx, a.columns) == host_of(bench.cpu(), b.columns) &&
                                       host_of(ctx, a.best) == host_of(bench.cpu(), b.best));
  }
  for (const auto& [rows, cols] :
       {std::pair<std::int64_t, std::int64_t>{bench.size(4096, 64), 62423},
        {1, bench.size(16'000'000, 500'000)}}) {
    for (const std::int64_t k : {10, 100, 1000, 4000}) {
      Problem p(ctx, rows, cols, k);
      bench.run(text(rows, cols) + ", top " + text(k),
                {.bytes = 4.0 * static_cast<double>(rows) * static_cast<double>(cols)},
                [&](int) { p.run(ctx); });
    }
  }
}

const CudaBenchmark kBenchmark("select_k", run);

}  // namespace
}  // namespace belfry::bench
