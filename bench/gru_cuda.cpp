// SPDX-License-Identifier: Apache-2.0
// A GRU over padded lists: large products at first, then a chain of small ones, each followed by a pass over the
// gates, so that short batches are bound by launches. As a share of cuBLASLt's rate for a large product. Backward
// works on the gates in place, and is timed with the forward pass that it follows.
#include <array>

#include "bench/cuda_support.hpp"
#include "kernels/gru/gru.hpp"

namespace belfry::bench {
namespace {

struct Layer {
  std::int64_t lists, steps, inputs, units;
  Buffer<float> x, kernel, recurrent, bias, gates, states, d_states, d_kernel, d_recurrent, d_bias,
      d_x;
  Buffer<std::int32_t> lengths;

  Layer(const Context& ctx, std::int64_t b, std::int64_t t, std::int64_t d, std::int64_t u)
      : lists(b),
        steps(t),
        inputs(d),
        units(u),
        x(normal_floats(ctx, b * t * d, 1)),
        kernel(small(ctx, d * 3 * u, 2)),
        recurrent(small(ctx, u * 3 * u, 3)),
        bias(small(ctx, 2 * 3 * u, 4)),
        gates(ctx.backend(), b * t * 4 * u),
        states(ctx.backend(), b * t * u),
        d_states(normal_floats(ctx, b * t * u, 5)),
        d_kernel(ctx.backend(), d * 3 * u),
        d_recurrent(ctx.backend(), u * 3 * u),
        d_bias(ctx.backend(), 2 * 3 * u),
        d_x(ctx.backend(), b * t * d),
        lengths(copy_of(ctx, some_lengths(b, t))) {}

  /// Weights that leave the gates in their steep part.
  static Buffer<float> small(const Context& ctx, std::int64_t n, std::uint64_t seed) {
    std::vector<float> values = host_of(ctx, normal_floats(ctx, n, seed));
    for (float& v : values) v *= 0.1f;
    return copy_of(ctx, values);
  }
  static std::vector<std::int32_t> some_lengths(std::int64_t lists, std::int64_t steps) {
    return uniform_ids(lists, steps + 1, 6);
  }
  GruParameters parameters() {
    return {kernel.matrix(inputs, 3 * units), recurrent.matrix(units, 3 * units),
            bias.matrix(2, 3 * units)};
  }
  StepMask mask() { return {nullptr, lengths.data()}; }
  void forward(const Context& ctx) {
    const std::int64_t rows = lists * steps;
    gru(ctx, {x.matrix(rows, inputs), steps, mask(), parameters(), gates.matrix(rows, 4 * units),
              states.matrix(rows, units)});
  }
  void backward(const Context& ctx) {
    const std::int64_t rows = lists * steps;
    GruGradCall c;
    c.x = x.matrix(rows, inputs);
    c.steps = steps;
    c.mask = mask();
    c.parameters = parameters();
    c.states = states.matrix(rows, units);
    c.gates = gates.matrix(rows, 4 * units);
    c.d_states = d_states.matrix(rows, units);
    c.d_kernel = d_kernel.matrix(inputs, 3 * units);
    c.d_recurrent = d_recurrent.matrix(units, 3 * units);
    c.d_bias = d_bias.matrix(2, 3 * units);
    c.d_x = d_x.matrix(rows, inputs);
    gru_grad(ctx, c);
  }
  /// Of the products alone.
  double flops() const {
    return 6.0 * static_cast<double>(lists * units) *
           static_cast<double>(steps * inputs + (steps - 1) * units);
  }
};

struct Result {
  std::vector<float> states, d_kernel, d_recurrent, d_bias, d_x;
};
Result on(const Context& ctx) {
  Layer l(ctx, 40, 7, 24, 33);
  l.forward(ctx);
  l.backward(ctx);
  return {host_of(ctx, l.states), host_of(ctx, l.d_kernel), host_of(ctx, l.d_recurrent),
          host_of(ctx, l.d_bias), host_of(ctx, l.d_x)};
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  const Result a = on(ctx), b = on(bench.cpu());
  bench.verify("states", near(a.states, b.states, 1e-5, 1e-5));
  bench.verify("d_kernel", near(a.d_kernel, b.d_kernel, 1e-4, 1e-3));
  bench.verify("d_recurrent", near(a.d_recurrent, b.d_recurrent, 1e-4, 1e-3));
  bench.verify("d_bias", near(a.d_bias, b.d_bias, 1e-4, 1e-3));
  bench.verify("d_x", near(a.d_x, b.d_x, 1e-4, 1e-4));
  for (const auto& [lists, steps, units] :
       {std::array<std::int64_t, 3>{bench.size(512, 64), bench.size(10, 5), 32},
        {bench.size(8192, 128), bench.size(10, 5), 64},
        {bench.size(8192, 128), bench.size(50, 8), 128}}) {
    Layer l(ctx, lists, steps, units, units);
    const std::string name =
        "B = " + text(lists) + ", T = " + text(steps) + ", D = U = " + text(units);
    bench.run(name, {.fp32 = l.flops()}, [&](int) { l.forward(ctx); });
    bench.run(name + ", with gradient", {.fp32 = 3 * l.flops()}, [&](int) {
      l.forward(ctx);
      l.backward(ctx);
    });
  }
}

const CudaBenchmark kBenchmark("gru", run);

}  // namespace
}  // namespace belfry::bench
