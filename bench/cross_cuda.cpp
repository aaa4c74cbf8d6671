// SPDX-License-Identifier: Apache-2.0
// The element-wise half of a feature cross: three reads and a write; its gradient four reads and three
// writes, and one read more where it adds to what other layers left.
#include "bench/cuda_support.hpp"
#include "kernels/cross/cross.hpp"

namespace belfry::bench {
namespace {

struct Matrices {
  Buffer<float> x0, x, p, d_y, y, d_p, d_x0, d_x;
  std::int64_t rows, cols;
  Matrices(const Context& ctx, std::int64_t r, std::int64_t c)
      : x0(normal_floats(ctx, r * c, 1)),
        x(normal_floats(ctx, r * c, 2)),
        p(normal_floats(ctx, r * c, 3)),
        d_y(normal_floats(ctx, r * c, 4)),
        y(ctx.backend(), r * c),
        d_p(ctx.backend(), r * c),
        d_x0(ctx.backend(), r * c),
        d_x(ctx.backend(), r * c),
        rows(r),
        cols(c) {}
  Matrix<float> view(Buffer<float>& b) { return b.matrix(rows, cols); }
  void forward(const Context& ctx) { cross(ctx, {view(x0), view(x), view(p), 0.5f, view(y)}); }
  void backward(const Context& ctx, bool add) {
    cross_grad(
        ctx, {view(x0), view(x), view(p), 0.5f, view(d_y), view(d_p), view(d_x0), view(d_x), add});
  }
};

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const std::int64_t cols : {127, 128}) {
    Matrices a(ctx, 300, cols), b(bench.cpu(), 300, cols);
    a.forward(ctx);
    b.forward(bench.cpu());
    a.backward(ctx, false);
    b.backward(bench.cpu(), false);
    const auto same = [&](const Buffer<float>& x, const Buffer<float>& y) {
      return host_of(ctx, x) == host_of(bench.cpu(), y);
    };
    bench.verify("y of " + text(cols) + " columns", same(a.y, b.y));
    bench.verify("d_p of " + text(cols) + " columns", same(a.d_p, b.d_p));
    bench.verify("d_x0 of " + text(cols) + " columns", same(a.d_x0, b.d_x0));
    bench.verify("d_x of " + text(cols) + " columns", same(a.d_x, b.d_x));
  }
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{8192, 192},
                                   {8192, 1024},
                                   {bench.size(1 << 18, 1 << 13), 512}}) {
    Matrices m(ctx, rows, cols);
    const double one = 4.0 * static_cast<double>(rows * cols);
    bench.run(text(rows, cols), {.bytes = 4 * one}, [&](int) { m.forward(ctx); });
    bench.run(text(rows, cols) + ", gradient", {.bytes = 7 * one},
              [&](int) { m.backward(ctx, false); });
    bench.run(text(rows, cols) + ", gradient added", {.bytes = 8 * one},
              [&](int) { m.backward(ctx, true); });
  }
}

const CudaBenchmark kBenchmark("cross", run);

}  // namespace
}  // namespace belfry::bench
