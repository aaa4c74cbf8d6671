// SPDX-License-Identifier: Apache-2.0
// L1 and L2 of a whole parameter: reads it and its gradient, writes the gradient.
#include "bench/cuda_support.hpp"
#include "kernels/penalty/penalty.hpp"

namespace belfry::bench {
namespace {

constexpr Penalty kFactors{1e-3f, 1e-2f};

std::vector<float> on(const Context& ctx, bool told) {
  const std::int64_t rows = 300, cols = 70, n = rows * cols;
  Buffer<float> w = normal_floats(ctx, n, 1), d_w = normal_floats(ctx, n, 2);
  Buffer<double> loss(ctx.backend(), 1);
  penalty(ctx, kFactors, w.matrix(rows, cols), d_w.matrix(rows, cols),
          told ? loss.data() : nullptr);
  std::vector<float> out = host_of(ctx, d_w);
  for (const double x : host_of(ctx, loss)) out.push_back(static_cast<float>(x));
  return out;
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  bench.verify("gradient and loss", near(on(ctx, true), on(bench.cpu(), true), 1e-6, 1e-12));
  bench.verify("gradient", on(ctx, false) == on(bench.cpu(), false));
  for (const std::int64_t rows : {std::int64_t{4096}, bench.size(1 << 21, 1 << 14)}) {
    const std::int64_t n = rows * 64;
    Buffer<float> w = normal_floats(ctx, n, 1), d_w = normal_floats(ctx, n, 2);
    Buffer<double> loss(Backend::cuda, 1);
    const double bytes = 12.0 * static_cast<double>(n);
    bench.run(text(rows, 64), {.bytes = bytes}, [&](int) {
      penalty(ctx, kFactors, w.matrix(rows, 64), d_w.matrix(rows, 64), loss.data());
    });
    bench.run(text(rows, 64) + ", gradient alone", {.bytes = bytes}, [&](int) {
      penalty(ctx, kFactors, w.matrix(rows, 64), d_w.matrix(rows, 64), nullptr);
    });
  }
}

const CudaBenchmark kBenchmark("penalty", run);

}  // namespace
}  // namespace belfry::bench
