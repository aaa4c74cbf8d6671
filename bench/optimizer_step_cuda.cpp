// SPDX-License-Identifier: Apache-2.0
// Dense updates. Bytes: the gradient read, parameter and slots read and written.
#include "kernels/optimizer_step/optimizer_step.hpp"

#include "bench/cuda_support.hpp"

namespace belfry::bench {
namespace {

struct Kind {
  OptimizerKind kind;
  const char* name;
};
constexpr Kind kKinds[] = {
    {OptimizerKind::sgd, "SGD"},   {OptimizerKind::adagrad, "Adagrad"},
    {OptimizerKind::adam, "Adam"}, {OptimizerKind::rmsprop, "RMSprop"},
    {OptimizerKind::ftrl, "FTRL"}, {OptimizerKind::clippy_adagrad, "ClippyAdagrad"}};

struct Problem {
  OptimizerOptions options;
  std::int64_t rows, width;
  Buffer<float> w, g, slot[2];
  OptimizerSlots slots;

  Problem(const Context& ctx, OptimizerKind kind, std::int64_t r, std::int64_t d)
      : rows(r), width(d), w(normal_floats(ctx, r * d, 1)), g(normal_floats(ctx, r * d, 2)) {
    options.kind = kind;
    Matrix<float>* targets[] = {&slots.first, &slots.second};
    for (int s = 0; s < slot_count(options); ++s) {
      slot[s] = Buffer<float>(ctx.backend(), r * slot_width(options, d));
      *targets[s] = slot[s].matrix(r, slot_width(options, d));
    }
    StepState state;
    state.learning_rate[0] = 1e-3f;
    ctx.write_state(state);
  }
  void update(const Context& ctx) {
    optimizer_step(ctx, options, w.matrix(rows, width), Matrix<const float>(g.matrix(rows, width)),
                   slots);
  }
  double bytes() const {
    return 4.0 * static_cast<double>(rows * width) * (3.0 + 2.0 * slot_count(options));
  }
};

std::vector<float> on(const Context& ctx, OptimizerKind kind) {
  Problem p(ctx, kind, 300, 50);
  p.update(ctx);
  return host_of(ctx, p.w);
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const Kind& k : kKinds) {
    bench.verify(k.name, near(on(ctx, k.kind), on(bench.cpu(), k.kind), 1e-6, 1e-7));
    for (const auto& [rows, width] : {std::pair<std::int64_t, std::int64_t>{128, 64},
                                      {162541, 64},
                                      {bench.size(4 << 20, 1 << 14), 64}}) {
      Problem p(ctx, k.kind, rows, width);
      bench.run(std::string(k.name) + " " + text(rows, width), {.bytes = p.bytes()},
                [&](int) { p.update(ctx); });
    }
  }
}

const CudaBenchmark kBenchmark("optimizer_step", run);

}  // namespace
}  // namespace belfry::bench
