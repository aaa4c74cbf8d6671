// SPDX-License-Identifier: Apache-2.0
// Layer normalisation (one read, one write) and its gradient (two reads and a write; those of gamma and
// beta read both again).
#include "bench/cuda_support.hpp"
#include "kernels/layer_norm/layer_norm.hpp"

namespace belfry::bench {
namespace {

struct Vectors {
  Buffer<float> gamma, beta, mean, inverse, d_gamma, d_beta;
  Vectors(const Context& ctx, std::int64_t rows, std::int64_t cols)
      : gamma(normal_floats(ctx, cols, 3)),
        beta(normal_floats(ctx, cols, 4)),
        mean(ctx.backend(), rows),
        inverse(ctx.backend(), rows),
        d_gamma(ctx.backend(), cols),
        d_beta(ctx.backend(), cols) {}
  void forward(const Context& ctx, Matrix<const float> x, Matrix<float> y) {
    layer_norm(ctx,
               {x, gamma.view(), beta.view(), kLayerNormEpsilon, y, mean.view(), inverse.view()});
  }
  void backward(const Context& ctx, Matrix<const float> x, Matrix<const float> d_y,
                Matrix<float> d_x, bool parameters) {
    LayerNormGradCall call{x, gamma.view(), mean.view(), inverse.view(), d_y, d_x, {}, {}};
    if (parameters) call.d_gamma = d_gamma.view(), call.d_beta = d_beta.view();
    layer_norm_grad(ctx, call);
  }
};

struct Result {
  std::vector<float> y, d_x, d_gamma, d_beta;
};
Result on(const Context& ctx, std::int64_t cols) {
  const std::int64_t rows = 300, n = rows * cols;
  Buffer<float> x = normal_floats(ctx, n, 1), d_y = normal_floats(ctx, n, 2);
  Buffer<float> y(ctx.backend(), n), d_x(ctx.backend(), n);
  Vectors v(ctx, rows, cols);
  v.forward(ctx, x.matrix(rows, cols), y.matrix(rows, cols));
  v.backward(ctx, x.matrix(rows, cols), d_y.matrix(rows, cols), d_x.matrix(rows, cols), true);
  return {host_of(ctx, y), host_of(ctx, d_x), host_of(ctx, v.d_gamma), host_of(ctx, v.d_beta)};
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const std::int64_t cols : {32, 64, 128, 256, 700}) {
    const Result a = on(ctx, cols), b = on(bench.cpu(), cols);
    const std::string what = " of " + text(cols) + " columns";
    bench.verify("y" + what, near(a.y, b.y, 1e-5, 1e-5));
    bench.verify("d_x" + what, near(a.d_x, b.d_x, 1e-5, 1e-4));
    bench.verify("d_gamma" + what, near(a.d_gamma, b.d_gamma, 1e-5, 1e-3));
    bench.verify("d_beta" + what, near(a.d_beta, b.d_beta, 1e-5, 1e-3));
  }
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{8192, 64},
                                   {8192, 256},
                                   {8192, 1024},
                                   {bench.size(1 << 20, 1 << 14), 128}}) {
    const std::int64_t n = rows * cols;
    Buffer<float> x = normal_floats(ctx, n, 1), d_y = normal_floats(ctx, n, 2);
    Buffer<float> y(Backend::cuda, n);
    Vectors v(ctx, rows, cols);
    const double one = 4.0 * static_cast<double>(n);
    const auto m = [&](Buffer<float>& b) { return b.matrix(rows, cols); };
    bench.run(text(rows, cols), {.bytes = 2 * one}, [&](int) { v.forward(ctx, m(x), m(y)); });
    bench.run(text(rows, cols) + ", gradient of x", {.bytes = 3 * one},
              [&](int) { v.backward(ctx, m(x), m(d_y), m(y), false); });
    bench.run(text(rows, cols) + ", gradient", {.bytes = 5 * one},
              [&](int) { v.backward(ctx, m(x), m(d_y), m(y), true); });
  }
}

const CudaBenchmark kBenchmark("layer_norm", run);

}  // namespace
}  // namespace belfry::bench
