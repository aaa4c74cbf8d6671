// SPDX-License-Identifier: Apache-2.0
// Rows to unit length (one read, one write) and the gradient (two reads, one write).
#include "bench/cuda_support.hpp"
#include "kernels/l2_normalize/l2_normalize.hpp"

namespace belfry::bench {
namespace {

struct Result {
  std::vector<float> y, d_x;
};
Result on(const Context& ctx, std::int64_t cols) {
  const std::int64_t rows = 300;
  Buffer<float> x = normal_floats(ctx, rows * cols, 1), d_y = normal_floats(ctx, rows * cols, 2);
  Buffer<float> y(ctx.backend(), rows * cols), d_x(ctx.backend(), rows * cols);
  Buffer<float> r(ctx.backend(), rows);
  l2_normalize(ctx, x.matrix(rows, cols), y.matrix(rows, cols), r.view());
  l2_normalize_grad(ctx, y.matrix(rows, cols), r.view(), d_y.matrix(rows, cols),
                    d_x.matrix(rows, cols));
  return {host_of(ctx, y), host_of(ctx, d_x)};
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const std::int64_t cols : {32, 64, 128, 256, 700}) {
    const Result a = on(ctx, cols), b = on(bench.cpu(), cols);
    bench.verify("y of " + text(cols) + " columns", near(a.y, b.y, 1e-6, 1e-9));
    bench.verify("d_x of " + text(cols) + " columns", near(a.d_x, b.d_x, 1e-5, 1e-6));
  }
  for (const std::int64_t cols : {64, 128}) {
    for (const std::int64_t rows : {std::int64_t{8192}, bench.size(1 << 21, 1 << 14)}) {
      const std::int64_t n = rows * cols;
      Buffer<float> x = normal_floats(ctx, n, 1), y(Backend::cuda, n), d_x(Backend::cuda, n);
      Buffer<float> r(Backend::cuda, rows);
      const double one = 4.0 * static_cast<double>(n);
      bench.run(text(rows, cols), {.bytes = 2 * one}, [&](int) {
        l2_normalize(ctx, x.matrix(rows, cols), y.matrix(rows, cols), r.view());
      });
      bench.run(text(rows, cols) + ", gradient", {.bytes = 3 * one}, [&](int) {
        l2_normalize_grad(ctx, y.matrix(rows, cols), r.view(), x.matrix(rows, cols),
                          d_x.matrix(rows, cols));
      });
    }
  }
}

const CudaBenchmark kBenchmark("l2_normalize", run);

}  // namespace
}  // namespace belfry::bench
