// SPDX-License-Identifier: Apache-2.0
// Clipping. Bytes: one pass to read, and one more to read and write where values change.
#include "bench/cuda_support.hpp"
#include "kernels/clip_gradient/clip_gradient.hpp"

namespace belfry::bench {
namespace {

std::vector<float> on(const Context& ctx, ClipKind kind) {
  Buffer<float> g = normal_floats(ctx, 50000, 1);
  const Matrix<float> parts[] = {g.matrix(100, 300), Matrix<float>(g.data() + 30000, 400, 50)};
  clip_gradient(ctx, kind, 0.5f, parts);
  return host_of(ctx, g);
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  bench.verify("value", on(ctx, ClipKind::value) == on(bench.cpu(), ClipKind::value));
  bench.verify("norm",
               near(on(ctx, ClipKind::norm), on(bench.cpu(), ClipKind::norm), 1.2e-7, 1e-38));

  const std::int64_t rows = bench.size(1 << 21, 1 << 14), cols = 64;
  Buffer<float> g = normal_floats(ctx, rows * cols, 1);
  const double pass = 4.0 * static_cast<double>(rows * cols);
  const Matrix<float> large[] = {g.matrix(rows, cols)};
  std::vector<Matrix<float>> layers;
  for (std::int64_t i = 0; i < 20; ++i) layers.emplace_back(g.data() + i * 128 * 128, 128, 128);
  struct Case {
    const char* name;
    ClipKind kind;
    float limit;
    double passes;
  };
  // Over the limit once is under it ever after: what scales is seen by the two passes of `value`
  // already.
  for (const Case& c : {Case{"value", ClipKind::value, 3.0f, 2},
                        Case{"norm, under the limit", ClipKind::norm, 1e9f, 1}}) {
    bench.run(std::string(c.name) + ", " + text(rows, cols), {.bytes = c.passes * pass},
              [&](int) { clip_gradient(ctx, c.kind, c.limit, large); });
    bench.run(std::string(c.name) + ", 20 parts of 128 x 128",
              {.bytes = c.passes * 4.0 * 20 * 128 * 128},
              [&](int) { clip_gradient(ctx, c.kind, c.limit, layers); });
  }
}

const CudaBenchmark kBenchmark("clip_gradient", run);

}  // namespace
}  // namespace belfry::bench
