// SPDX-License-Identifier: Apache-2.0
// The fused loss with both gradients. Flops: 8 B^2 D, the two products of each of the two passes.
#include "kernels/retrieval_softmax/retrieval_softmax.hpp"

#include "bench/cuda_support.hpp"

namespace belfry::bench {
namespace {

struct Problem {
  std::int64_t rows, width;
  Buffer<float> queries, candidates, d_queries, d_candidates, log_q, row_loss;
  Buffer<std::int64_t> ids;
  Buffer<double> loss;
  RetrievalSoftmaxOptions options;

  Problem(const Context& ctx, std::int64_t b, std::int64_t d, Precision precision, bool all)
      : rows(b),
        width(d),
        queries(normal_floats(ctx, b * d, 1)),
        candidates(normal_floats(ctx, b * d, 2)),
        d_queries(ctx.backend(), b * d),
        d_candidates(ctx.backend(), b * d),
        log_q(ctx.backend(), b),
        row_loss(ctx.backend(), b),
        loss(ctx.backend(), 1) {
    options.precision = precision;
    options.temperature = static_cast<float>(d) / 8.0f;  // scores of a trained model's size
    if (!all) return;
    std::vector<std::int64_t> items;
    for (const std::int32_t i : zipf_ids(b, 62423, 0.8, 3)) items.push_back(i);
    ids = copy_of(ctx, items);
    options.candidate_ids = ids.view();
    options.log_probability = log_q.view();
  }
  void run(const Context& ctx) {
    retrieval_softmax(ctx, queries.matrix(rows, width), 1, candidates.matrix(rows, width), options,
                      loss.data(), row_loss.view(), d_queries.matrix(rows, width),
                      d_candidates.matrix(rows, width));
  }
};

void verify(CudaBench& bench, Precision precision, const char* name, double tolerance) {
  const Context& ctx = bench.device();
  Problem a(ctx, 300, 64, precision, true), b(bench.cpu(), 300, 64, precision, true);
  a.run(ctx);
  b.run(bench.cpu());
  bench.verify(
      std::string(name) + " loss",
      near(host_of(ctx, a.row_loss), host_of(bench.cpu(), b.row_loss), tolerance, tolerance));
  bench.verify(
      std::string(name) + " d_queries",
      near(host_of(ctx, a.d_queries), host_of(bench.cpu(), b.d_queries), 0, 0.5 * tolerance));
  bench.verify(
      std::string(name) + " d_candidates",
      near(host_of(ctx, a.d_candidates), host_of(bench.cpu(), b.d_candidates), 0, 0.5 * tolerance));
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  verify(bench, Precision::fp32, "fp32", 1e-4);
  verify(bench, Precision::bf16, "bf16", 4e-2);
  for (const Precision precision : {Precision::bf16, Precision::fp32}) {
    const bool fp32 = precision == Precision::fp32;
    for (const std::int64_t width : {64, 128}) {
      for (const std::int64_t b : {1024, 4096, 8192, 16384, 65536}) {
        if (b > (fp32 ? 16384 : 65536) || (bench.quick() && b > 4096)) continue;
        for (const bool all : {false, true}) {
          const std::string name = std::string(fp32 ? "fp32" : "bf16") + ", B " + text(b) + ", D " +
                                   text(width) + (all ? ", logQ and accidental hits" : "");
          if (!bench.wanted(name)) continue;
          const double flops = 8.0 * static_cast<double>(b) * static_cast<double>(b * width);
          Problem p(ctx, b, width, precision, all);
          bench.run(name, {.fp32 = fp32 ? flops : 0, .bf16 = fp32 ? 0 : flops},
                    [&](int) { p.run(ctx); });
        }
      }
    }
  }
}

const CudaBenchmark kBenchmark("retrieval_softmax", run);

}  // namespace
}  // namespace belfry::bench
