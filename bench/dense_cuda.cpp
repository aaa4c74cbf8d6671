// SPDX-License-Identifier: Apache-2.0
// Products alone, and the dense layers of both towers, forward and backward, as a share of
// cuBLASLt's rate for a large product (small ones are bound by launches and memory).
#include "bench/cuda_support.hpp"
#include "kernels/dense/dense.hpp"
#include "kernels/gemm/gemm.hpp"

namespace belfry::bench {
namespace {

/// One layer of two towers: B rows, K inputs, N units each.
struct Layers {
  std::int64_t rows, inputs, units;
  Buffer<float> x, kernel, bias, z, y, d_y, d_kernel, d_bias, d_x;

  Layers(const Context& ctx, std::int64_t b, std::int64_t k, std::int64_t n)
      : rows(b),
        inputs(k),
        units(n),
        x(normal_floats(ctx, 2 * b * k, 1)),
        kernel(normal_floats(ctx, 2 * k * n, 2)),
        bias(normal_floats(ctx, 2 * n, 3)),
        z(ctx.backend(), 2 * b * n),
        y(ctx.backend(), 2 * b * n),
        d_y(normal_floats(ctx, 2 * b * n, 4)),
        d_kernel(ctx.backend(), 2 * k * n),
        d_bias(ctx.backend(), 2 * n),
        d_x(ctx.backend(), 2 * b * k) {}

  template <class T>
  static Matrix<T> part(T* data, int tower, std::int64_t r, std::int64_t c) {
    return {data + tower * r * c, r, c};
  }
  void forward(const Context& ctx) {
    DenseCall calls[2];
    for (int t = 0; t < 2; ++t) {
      calls[t].x = part<float>(x.data(), t, rows, inputs);
      calls[t].kernel = part<float>(kernel.data(), t, inputs, units);
      calls[t].bias = {bias.data() + t * units, units};
      calls[t].activation = Activation::relu;
      calls[t].z = part(z.data(), t, rows, units);
      calls[t].y = part(y.data(), t, rows, units);
    }
    dense(ctx, calls);
  }
  void backward(const Context& ctx) {
    DenseGradCall calls[2];
    for (int t = 0; t < 2; ++t) {
      calls[t].x = part<float>(x.data(), t, rows, inputs);
      calls[t].kernel = part<float>(kernel.data(), t, inputs, units);
      calls[t].activation = Activation::relu;
      calls[t].z = part<float>(z.data(), t, rows, units);
      calls[t].y = part<float>(y.data(), t, rows, units);
      calls[t].d_y = part(d_y.data(), t, rows, units);
      calls[t].d_kernel = part(d_kernel.data(), t, inputs, units);
      calls[t].d_bias = {d_bias.data() + t * units, units};
      calls[t].d_x = part(d_x.data(), t, rows, inputs);
    }
    dense_grad(ctx, calls);
  }
};

struct Result {
  std::vector<float> y, d_kernel, d_bias, d_x;
};
Result on(const Context& ctx) {
  Layers l(ctx, 200, 48, 72);
  l.forward(ctx);
  l.backward(ctx);
  return {host_of(ctx, l.y), host_of(ctx, l.d_kernel), host_of(ctx, l.d_bias), host_of(ctx, l.d_x)};
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  const Result a = on(ctx), b = on(bench.cpu());
  bench.verify("y", near(a.y, b.y, 1e-4, 1e-4));
  bench.verify("d_kernel", near(a.d_kernel, b.d_kernel, 1e-4, 1e-3));
  bench.verify("d_bias", near(a.d_bias, b.d_bias, 1e-4, 1e-3));
  bench.verify("d_x", near(a.d_x, b.d_x, 1e-4, 1e-4));
  for (const std::int64_t n : {1024, 4096}) {
    if (bench.quick() && n > 1024) continue;
    Buffer<float> x = normal_floats(ctx, n * n, 1), y = normal_floats(ctx, n * n, 2);
    Buffer<float> c(Backend::cuda, n * n);
    bench.run("gemm " + text(n) + "^3", {.fp32 = 2.0 * static_cast<double>(n * n * n)},
              [&](int) { gemm(ctx, x.matrix(n, n), y.matrix(n, n), c.matrix(n, n)); });
  }
  for (const std::int64_t batch : {1024, 8192, 65536}) {
    for (const auto& [k, n] :
         {std::pair<std::int64_t, std::int64_t>{64, 128}, {128, 64}, {256, 256}}) {
      Layers l(ctx, batch, k, n);
      const double flops = 2.0 * 2.0 * static_cast<double>(batch * k * n);
      const std::string shape = "both towers, B " + text(batch) + ", " + text(k) + " to " + text(n);
      bench.run(shape, {.fp32 = flops}, [&](int) { l.forward(ctx); });
      bench.run(shape + ", gradients", {.fp32 = 2 * flops}, [&](int) { l.backward(ctx); });
    }
  }
}

const CudaBenchmark kBenchmark("dense", run);

}  // namespace
}  // namespace belfry::bench
