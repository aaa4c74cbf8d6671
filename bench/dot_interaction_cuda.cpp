// SPDX-License-Identifier: Apache-2.0
// Products of all pairs of a row's features, and the gradient. Bytes: the features and the products, once a
// direction; flops: those of the pairs that are wanted.
#include "bench/cuda_support.hpp"
#include "kernels/dot_interaction/dot_interaction.hpp"

namespace belfry::bench {
namespace {

struct Result {
  std::vector<float> y, d_x;
};
Result on(const Context& ctx, const DotInteraction& shape, std::int64_t width) {
  const std::int64_t rows = 300, cols = shape.features * width;
  Buffer<float> x = normal_floats(ctx, rows * cols, 1), d_x(ctx.backend(), rows * cols);
  Buffer<float> d_y = normal_floats(ctx, rows * shape.width(), 2);
  Buffer<float> y(ctx.backend(), rows * shape.width());
  dot_interaction(ctx, x.matrix(rows, cols), shape, y.matrix(rows, shape.width()));
  dot_interaction_grad(ctx, x.matrix(rows, cols), shape, d_y.matrix(rows, shape.width()),
                       d_x.matrix(rows, cols));
  return {host_of(ctx, y), host_of(ctx, d_x)};
}

struct Sizes {
  std::int64_t rows, features, width;
};

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const Sizes& s : {Sizes{0, 5, 16}, {0, 27, 128}, {0, 100, 130}}) {
    for (const bool square : {false, true}) {
      const DotInteraction shape{s.features, true, square};
      const Result a = on(ctx, shape, s.width), b = on(bench.cpu(), shape, s.width);
      const std::string what = text(s.features, s.width) + (square ? " square" : "");
      bench.verify("y of " + what, near(a.y, b.y, 2e-6, 1e-4));
      bench.verify("d_x of " + what, near(a.d_x, b.d_x, 2e-6, 1e-4));
    }
  }
  for (const Sizes& s : {Sizes{8192, 8, 16},
                         {8192, 27, 64},
                         {8192, 27, 128},
                         {bench.size(1 << 16, 1 << 12), 27, 128},
                         {2048, 100, 128}}) {
    const DotInteraction shape{s.features};
    const std::int64_t cols = s.features * s.width, pairs = shape.width();
    Buffer<float> x = normal_floats(ctx, s.rows * cols, 1), d_x(Backend::cuda, s.rows * cols);
    Buffer<float> y = normal_floats(ctx, s.rows * pairs, 2);
    const double rows = static_cast<double>(s.rows), flops = 2.0 * rows * pairs * s.width;
    const std::string name = text(s.rows) + " of " + text(s.features, s.width);
    bench.run(name + ", gradient", {.bytes = 4.0 * rows * (2 * cols + pairs), .fp32 = 2 * flops},
              [&](int) {
                dot_interaction_grad(ctx, x.matrix(s.rows, cols), shape, y.matrix(s.rows, pairs),
                                     d_x.matrix(s.rows, cols));
              });
    bench.run(name, {.bytes = 4.0 * rows * (cols + pairs), .fp32 = flops}, [&](int) {
      dot_interaction(ctx, x.matrix(s.rows, cols), shape, y.matrix(s.rows, pairs));
    });
  }
}

const CudaBenchmark kBenchmark("dot_interaction", run);

}  // namespace
}  // namespace belfry::bench
