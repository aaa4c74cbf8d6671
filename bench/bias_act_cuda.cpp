// SPDX-License-Identifier: Apache-2.0
// The second half of a dense layer and its gradient with that of the bias. Bytes: forward z read
// and written, y written; backward d_y and one of z and y read, d_z written.
#include "bench/cuda_support.hpp"
#include "kernels/bias_act/bias_act.hpp"

namespace belfry::bench {
namespace {

struct Kind {
  Activation activation;
  const char* name;
};
constexpr Kind kKinds[] = {{Activation::relu, "relu"}, {Activation::gelu, "gelu"}};

struct Result {
  std::vector<float> y, d_z, d_bias;
};
Result on(const Context& ctx, Activation activation) {
  const std::int64_t rows = 300, cols = 72;
  Buffer<float> z = normal_floats(ctx, rows * cols, 1), bias = normal_floats(ctx, cols, 2);
  Buffer<float> d_y = normal_floats(ctx, rows * cols, 3);
  Buffer<float> y(ctx.backend(), rows * cols), d_z(ctx.backend(), rows * cols);
  Buffer<float> d_bias(ctx.backend(), cols);
  bias_act(ctx, z.matrix(rows, cols), bias.view(), activation, y.matrix(rows, cols));
  bias_act_grad(ctx, z.matrix(rows, cols), y.matrix(rows, cols), d_y.matrix(rows, cols), activation,
                d_z.matrix(rows, cols), d_bias.view());
  return {host_of(ctx, y), host_of(ctx, d_z), host_of(ctx, d_bias)};
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const Kind& kind : kKinds) {
    const Result a = on(ctx, kind.activation), b = on(bench.cpu(), kind.activation);
    bench.verify(std::string(kind.name) + " y", near(a.y, b.y, 2e-6, 1e-7));
    bench.verify(std::string(kind.name) + " d_z", near(a.d_z, b.d_z, 2e-6, 1e-6));
    bench.verify(std::string(kind.name) + " d_bias", near(a.d_bias, b.d_bias, 1e-5, 1e-4));
  }
  for (const auto& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{8192, 128},
                                   {8192, 256},
                                   {65536, 128},
                                   {bench.size(1 << 20, 1 << 14), 128}}) {
    const std::int64_t n = rows * cols;
    Buffer<float> z = normal_floats(ctx, n, 1), y = normal_floats(ctx, n, 2);
    Buffer<float> d_y = normal_floats(ctx, n, 3), d_z(Backend::cuda, n), bias(Backend::cuda, cols);
    const double bytes = 3.0 * 4.0 * static_cast<double>(n);
    for (const Kind& kind : kKinds) {
      const std::string shape = std::string(kind.name) + " " + text(rows, cols);
      bench.run(shape, {.bytes = bytes}, [&](int) {
        bias_act(ctx, z.matrix(rows, cols), bias.view(), kind.activation, y.matrix(rows, cols));
      });
      bench.run(shape + ", gradient", {.bytes = bytes}, [&](int) {
        bias_act_grad(ctx, z.matrix(rows, cols), y.matrix(rows, cols), d_y.matrix(rows, cols),
                      kind.activation, d_z.matrix(rows, cols), bias.view());
      });
    }
  }
}

const CudaBenchmark kBenchmark("bias_act", run);

}  // namespace
}  // namespace belfry::bench
