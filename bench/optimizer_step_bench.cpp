// SPDX-License-Identifier: Apache-2.0
// Updates, dense and of listed rows. Bytes: parameter and slots read and written, the gradient read.
#include "kernels/optimizer_step/optimizer_step.hpp"

#include <cmath>
#include <vector>

#include "bench/bandwidth.hpp"
#include "bench/bench.hpp"
#include "tests/support/generate.hpp"

namespace belfry::bench {
namespace {

constexpr double kFloat = sizeof(float);

OptimizerOptions options_of(OptimizerKind kind) {
  OptimizerOptions o;
  o.kind = kind;
  o.sparse = SparseUpdate::lazy;
  return o;
}

/// A parameter with slots and a gradient for all rows.
struct Problem {
  OptimizerOptions options;
  std::int64_t rows, width;
  Buffer<float> w, slot[3], g;

  Problem(const OptimizerOptions& o, std::int64_t r, std::int64_t d)
      : options(o), rows(r), width(d), w(Backend::cpu, r * d), g(Backend::cpu, r * d) {
    for (int s = 0; s < slot_count(o); ++s) {
      slot[s] = Buffer<float>(Backend::cpu, r * slot_width(o, d));
      std::fill_n(slot[s].data(), slot[s].size(), 0.125f);
    }
    test::Random random(1);
    for (std::int64_t i = 0; i < r * d; ++i)
      g.data()[i] = static_cast<float>(random.uniform(-1, 1));
  }
  OptimizerSlots slots() {
    OptimizerSlots out;
    Matrix<float>* views[3] = {&out.first, &out.second, &out.third};
    for (int s = 0; s < slot_count(options); ++s) {
      *views[s] = slot[s].matrix(rows, slot_width(options, width));
    }
    return out;
  }
  /// Bytes moved by an update of `n` rows.
  double bytes(std::int64_t n) const {
    double floats = 3.0 * static_cast<double>(width);  // w twice, g
    floats += 2.0 * slot_count(options) * static_cast<double>(slot_width(options, width));
    return floats * static_cast<double>(n) * kFloat;
  }
  double footprint(std::int64_t n) const {
    double floats = 2.0 * static_cast<double>(width);
    floats += slot_count(options) * static_cast<double>(slot_width(options, width));
    return floats * static_cast<double>(n) * kFloat;
  }
};

/// One step from w = 0 and slots of 1/8, by hand in float64, at a few elements.
void verify_first_step(Problem& p) {
  Context ctx(Backend::cpu, 1);
  ctx.state()->learning_rate[0] = 0.5f;
  optimizer_step(ctx, p.options, p.w.matrix(p.rows, p.width),
                 Matrix<const float>(p.g.matrix(p.rows, p.width)), p.slots());
  bool ok = true;
  for (const std::int64_t i : {std::int64_t{0}, p.rows * p.width / 2, p.rows * p.width - 1}) {
    const double g = p.g.data()[i], eps = p.options.epsilon;
    const std::int64_t row = i / p.width;
    double mean = 0, want = 0;
    for (std::int64_t d = 0; d < p.width; ++d) {
      mean += std::pow(p.g.data()[row * p.width + d], 2.0) / static_cast<double>(p.width);
    }
    switch (p.options.kind) {
      case OptimizerKind::sgd:
        want = -0.5 * g + (p.options.momentum > 0 ? p.options.momentum * 0.125 : 0.0);
        break;
      case OptimizerKind::adagrad:
        want = -0.5 * g / std::sqrt(0.125 + g * g + eps);
        break;
      case OptimizerKind::rowwise_adagrad:
        want = -0.5 * g / std::sqrt(0.125 + mean + eps);
        break;
      case OptimizerKind::adam: {
        const double m = 0.9 * 0.125 + 0.1 * g;
        const double v = std::max(0.999 * 0.125 + 0.001 * g * g, p.options.amsgrad ? 0.125 : 0.0);
        want = -0.5 * std::sqrt(0.001) / 0.1 * m / (std::sqrt(v) + eps);
        break;
      }
      case OptimizerKind::rmsprop:
        want = -0.5 * g / std::sqrt(0.9 * 0.125 + 0.1 * g * g + eps);
        break;
      case OptimizerKind::ftrl:
        want = -(0.125 + g) / (std::sqrt(0.125 + g * g) / 0.5);  // 1/8 in the linear term, too
        break;
      case OptimizerKind::clippy_adagrad:  // not clipped: the threshold is high
        want = -0.5 * g / std::sqrt(0.125 + eps);
        break;
    }
    ok = ok && std::abs(p.w.data()[i] - want) < 1e-4;
  }
  verify(ok, "optimizer_step");
}

void dense(benchmark::State& state, const OptimizerOptions& options) {
  Problem p(options, state.range(0), state.range(1));
  verify_first_step(p);
  Context ctx(Backend::cpu, 1);
  ctx.state()->learning_rate[0] = 1e-3f;
  double spent = 0;
  for (auto _ : state) {
    const double start = cpu_seconds();
    optimizer_step(ctx, p.options, p.w.matrix(p.rows, p.width),
                   Matrix<const float>(p.g.matrix(p.rows, p.width)), p.slots());
    spent += cpu_seconds() - start;
  }
  report_bytes(state, p.bytes(p.rows), static_cast<std::int64_t>(p.footprint(p.rows)), spent);
}

/// n distinct rows, spread over a table of V.
void listed(benchmark::State& state, const OptimizerOptions& options) {
  const std::int64_t n = state.range(0), width = state.range(1), table_rows = state.range(2);
  Problem p(options, table_rows, width);
  verify_first_step(p);
  std::vector<std::int32_t> rows;
  for (std::int64_t i = 0; i < n; ++i) {
    rows.push_back(static_cast<std::int32_t>(i * table_rows / n));
  }
  std::int64_t count = n;
  const RowGradient gradient{rows.data(), p.g.matrix(n, width), &count, n};
  Context ctx(Backend::cpu, 1);
  ctx.state()->learning_rate[0] = 1e-3f;
  double spent = 0;
  for (auto _ : state) {
    const double start = cpu_seconds();
    optimizer_step(ctx, p.options, p.w.matrix(table_rows, width), gradient, p.slots());
    spent += cpu_seconds() - start;
  }
  report_bytes(state, p.bytes(n), static_cast<std::int64_t>(p.footprint(n)), spent);
}

void register_all() {
  OptimizerOptions momentum = options_of(OptimizerKind::sgd);
  momentum.momentum = 0.9f;
  OptimizerOptions amsgrad = options_of(OptimizerKind::adam);
  amsgrad.amsgrad = true;
  OptimizerOptions clippy = options_of(OptimizerKind::clippy_adagrad);
  clippy.absolute_threshold = 100;
  const std::pair<const char*, OptimizerOptions> all[] = {
      {"sgd", options_of(OptimizerKind::sgd)},
      {"momentum", momentum},
      {"adagrad", options_of(OptimizerKind::adagrad)},
      {"rowwise_adagrad", options_of(OptimizerKind::rowwise_adagrad)},
      {"adam", options_of(OptimizerKind::adam)},
      {"amsgrad", amsgrad},
      {"rmsprop", options_of(OptimizerKind::rmsprop)},
      {"ftrl", options_of(OptimizerKind::ftrl)},
      {"clippy", clippy}};
  for (const auto& [name, options] : all) {
    const std::string label(name);
    benchmark::RegisterBenchmark((label + "_dense").c_str(), dense, options)
        ->Args({2000, 64})
        ->Args({400'000, 64})
        ->ArgNames({"V", "D"});
    benchmark::RegisterBenchmark((label + "_rows").c_str(), listed, options)
        ->Args({8192, 64, 62'423})
        ->Args({200'000, 64, 1'000'000})
        ->ArgNames({"n", "D", "V"});
  }
}

[[maybe_unused]] const bool registered = (register_all(), true);

}  // namespace
}  // namespace belfry::bench
