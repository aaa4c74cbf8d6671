// SPDX-License-Identifier: Apache-2.0
// Dropout: one read, one write, and a call of the generator for four elements. Columns that no multiple
// of four divides take the path that is not packed.
#include "bench/cuda_support.hpp"
#include "kernels/dropout/dropout.hpp"

namespace belfry::bench {
namespace {

std::vector<float> on(const Context& ctx, std::int64_t cols) {
  const std::int64_t rows = 300;
  Buffer<float> x = normal_floats(ctx, rows * cols, 1), y(ctx.backend(), rows * cols);
  dropout(ctx, x.matrix(rows, cols), {0.2f, 3}, y.matrix(rows, cols));
  return host_of(ctx, y);
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const std::int64_t cols : {127, 128}) {
    bench.verify("y of " + text(cols) + " columns", on(ctx, cols) == on(bench.cpu(), cols));
  }
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{8192, 256},
                                   {8192, 255},
                                   {bench.size(1 << 20, 1 << 14), 128}}) {
    const std::int64_t n = rows * cols;
    Buffer<float> x = normal_floats(ctx, n, 1), y(Backend::cuda, n);
    bench.run(text(rows, cols), {.bytes = 8.0 * static_cast<double>(n)}, [&](int) {
      dropout(ctx, x.matrix(rows, cols), {0.2f, 3}, y.matrix(rows, cols));
    });
  }
}

const CudaBenchmark kBenchmark("dropout", run);

}  // namespace
}  // namespace belfry::bench
