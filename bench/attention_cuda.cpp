// SPDX-License-Identifier: Apache-2.0
// Self-attention over padded lists, of all steps and of earlier ones alone, as a share of cuBLASLt's fp32 rate.
// Scores that the causal mask drops count as work: a block skips those in whole tiles only.
#include <array>

#include "bench/cuda_support.hpp"
#include "kernels/attention/attention.hpp"

namespace belfry::bench {
namespace {

struct Layer {
  std::int64_t rows, cols;
  AttentionOptions options;
  Buffer<float> q, k, v, out, log_sum, d_out, d_q, d_k, d_v;
  Buffer<std::int32_t> lengths;

  Layer(const Context& ctx, std::int64_t lists, std::int64_t steps, std::int64_t heads,
        std::int64_t keys, bool causal, bool masked)
      : rows(lists * steps),
        cols(heads * keys),
        q(normal_floats(ctx, rows * cols, 1)),
        k(normal_floats(ctx, rows * cols, 2)),
        v(normal_floats(ctx, rows * cols, 3)),
        out(ctx.backend(), rows * cols),
        log_sum(ctx.backend(), rows * heads),
        d_out(normal_floats(ctx, rows * cols, 4)),
        d_q(ctx.backend(), rows * cols),
        d_k(ctx.backend(), rows * cols),
        d_v(ctx.backend(), rows * cols),
        lengths(copy_of(ctx, uniform_ids(lists, steps + 1, 5))) {
    options = {steps, heads, {}, causal};
    if (masked) options.mask.lengths = lengths.data();
  }
  Matrix<float> view(Buffer<float>& b) { return b.matrix(rows, cols); }
  Matrix<float> sums() { return log_sum.matrix(rows, options.heads); }
  void forward(const Context& ctx) {
    attention(ctx, {view(q), view(k), view(v), options, view(out), sums()});
  }
  void backward(const Context& ctx) {
    attention_grad(ctx, {view(q), view(k), view(v), options, view(out), sums(), view(d_out),
                         view(d_q), view(d_k), view(d_v)});
  }
  /// Of one product of all pairs of steps.
  double product() const { return 2.0 * static_cast<double>(rows * options.steps * cols); }
};

struct Result {
  std::vector<float> out, d_q, d_k, d_v;
};
Result on(const Context& ctx, std::int64_t keys, bool causal) {
  Layer l(ctx, 6, 41, 2, keys, causal, true);
  l.forward(ctx);
  l.backward(ctx);
  return {host_of(ctx, l.out), host_of(ctx, l.d_q), host_of(ctx, l.d_k), host_of(ctx, l.d_v)};
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const bool causal : {false, true}) {
    for (const std::int64_t keys : {16, 64, 128}) {
      const Result a = on(ctx, keys, causal), b = on(bench.cpu(), keys, causal);
      const std::string of = " of K = " + text(keys) + (causal ? ", causal" : "");
      bench.verify("out" + of, near(a.out, b.out, 1e-5, 1e-5));
      bench.verify("d_q" + of, near(a.d_q, b.d_q, 1e-4, 1e-4));
      bench.verify("d_k" + of, near(a.d_k, b.d_k, 1e-4, 1e-4));
      bench.verify("d_v" + of, near(a.d_v, b.d_v, 1e-4, 1e-4));
    }
  }
  for (const auto& [lists, steps, heads, keys] :
       {std::array<std::int64_t, 4>{bench.size(8192, 16), bench.size(10, 10), 2, 32},
        {bench.size(1024, 4), bench.size(50, 20), 2, 32},
        {bench.size(1024, 2), bench.size(200, 40), 4, 32},
        {bench.size(1024, 2), bench.size(200, 40), 1, 128}}) {
    for (const bool causal : {false, true}) {
      Layer l(ctx, lists, steps, heads, keys, causal, false);
      const std::string name = "B = " + text(lists) + ", T = " + text(steps) +
                               ", H = " + text(heads) + ", K = " + text(keys) +
                               (causal ? ", causal" : "");
      bench.run(name, {.fp32 = 2 * l.product()}, [&](int) { l.forward(ctx); });
      bench.run(name + ", gradient", {.fp32 = 5 * l.product()}, [&](int) { l.backward(ctx); });
    }
  }
}

const CudaBenchmark kBenchmark("attention", run);

}  // namespace
}  // namespace belfry::bench
