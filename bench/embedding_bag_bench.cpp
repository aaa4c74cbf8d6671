// SPDX-License-Identifier: Apache-2.0
// Lookup and its gradient as distinct rows. Bytes: rows read and written (ids are the sort's overhead);
// rows that repeat are counted each time they are read.
#include "kernels/embedding_bag/embedding_bag.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "bench/bandwidth.hpp"
#include "bench/bench.hpp"
#include "kernels/optimizer_step/optimizer_step.hpp"
#include "tests/support/generate.hpp"

namespace belfry::bench {
namespace {

constexpr double kFloat = sizeof(float);

enum class Ids { uniform, zipf };

struct Problem {
  std::int64_t n, width, table_rows, distinct = 0;
  std::vector<std::int32_t> ids, rows;
  Buffer<float> table, d_y, y, values;

  Problem(std::int64_t nnz, std::int64_t d, std::int64_t v, Ids kind)
      : n(nnz),
        width(d),
        table_rows(v),
        rows(static_cast<std::size_t>(nnz)),
        table(Backend::cpu, v * d),
        d_y(Backend::cpu, nnz * d),
        y(Backend::cpu, nnz * d),
        values(Backend::cpu, nnz * d) {
    test::Random random(1);
    ids = kind == Ids::zipf ? random.zipf_ids(n, v) : random.ids(n, v);
    for (std::int64_t i = 0; i < v * d; ++i) table.data()[i] = static_cast<float>(i % 1000);
    for (std::int64_t i = 0; i < n * d; ++i) {
      d_y.data()[i] = static_cast<float>(random.below(17) - 8);  // sums are exact
    }
  }
  Ragged ragged() const { return {ids.data(), nullptr, nullptr, n, n}; }
  TableUse use() const { return {ragged(), Pooling::sum, d_y.matrix(n, width)}; }
  RowGradient out() { return {rows.data(), values.matrix(n, width), &distinct, n}; }
};

void lookup(const Context& ctx, Problem& p) {
  embedding_bag(ctx, Matrix<const float>(p.table.matrix(p.table_rows, p.width)), p.ragged(),
                Pooling::sum, p.y.matrix(p.n, p.width));
}
void gradient(const Context& ctx, Problem& p) {
  const TableUse use = p.use();
  embedding_bag_grad(ctx, {&use, 1}, p.table_rows, p.out());
}

void verify_lookup(const Problem& p) {
  bool ok = true;
  for (std::int64_t b = 0; b < p.n; ++b) {
    for (std::int64_t d = 0; d < p.width; ++d) {
      ok = ok && p.y.data()[b * p.width + d] == p.table.data()[p.ids[b] * p.width + d];
    }
  }
  verify(ok, "embedding_bag");
}

void verify_gradient(const Problem& p) {
  std::vector<double> sums(static_cast<std::size_t>(p.table_rows * p.width));
  std::vector<bool> used(static_cast<std::size_t>(p.table_rows));
  for (std::int64_t b = 0; b < p.n; ++b) {
    used[p.ids[b]] = true;
    for (std::int64_t d = 0; d < p.width; ++d) {
      sums[p.ids[b] * p.width + d] += p.d_y.data()[b * p.width + d];
    }
  }
  std::int64_t i = 0;
  bool ok = true;
  for (std::int64_t r = 0; r < p.table_rows && ok; ++r) {
    if (!used[r]) continue;
    ok = i < p.distinct && p.rows[i] == r;
    for (std::int64_t d = 0; d < p.width && ok; ++d) {
      ok = p.values.data()[i * p.width + d] == sums[r * p.width + d];
    }
    ++i;
  }
  verify(ok && i == p.distinct, "embedding_bag_grad");
}

void gather(benchmark::State& state, Ids kind) {
  Problem p(state.range(0), state.range(1), state.range(2), kind);
  const Context ctx(Backend::cpu, 1);
  lookup(ctx, p);
  verify_lookup(p);
  double spent = 0;
  for (auto _ : state) {
    const double start = cpu_seconds();
    lookup(ctx, p);
    spent += cpu_seconds() - start;
  }
  const double bytes = 2.0 * static_cast<double>(p.n * p.width) * kFloat;
  report_bytes(state, bytes, static_cast<std::int64_t>(bytes), spent);
}

void sum_rows(benchmark::State& state, Ids kind) {
  Problem p(state.range(0), state.range(1), state.range(2), kind);
  const Context ctx(Backend::cpu, 1);
  gradient(ctx, p);
  verify_gradient(p);
  double spent = 0;
  for (auto _ : state) {
    const double start = cpu_seconds();
    gradient(ctx, p);
    spent += cpu_seconds() - start;
  }
  const double bytes = static_cast<double>((p.n + p.distinct) * p.width) * kFloat;
  report_bytes(state, bytes, static_cast<std::int64_t>(bytes), spent);
  state.counters["distinct"] = static_cast<double>(p.distinct);
}

/// Sort, sum and row-wise Adagrad: what a step does with a table. Bytes: d_y, then each distinct row
/// read and written.
void update(benchmark::State& state, Ids kind) {
  Problem p(state.range(0), state.range(1), state.range(2), kind);
  Context ctx(Backend::cpu, 1);
  ctx.state()->learning_rate[0] = 1e-3f;
  gradient(ctx, p);
  verify_gradient(p);
  OptimizerOptions options;
  options.kind = OptimizerKind::rowwise_adagrad;
  Buffer<float> accumulator(Backend::cpu, p.table_rows);
  std::fill_n(accumulator.data(), p.table_rows, 0.1f);
  const OptimizerSlots slots{accumulator.matrix(p.table_rows, 1), {}, {}};
  double spent = 0;
  for (auto _ : state) {
    const double start = cpu_seconds();
    gradient(ctx, p);
    optimizer_step(ctx, options, p.table.matrix(p.table_rows, p.width), p.out(), slots);
    spent += cpu_seconds() - start;
  }
  const double bytes = static_cast<double>((p.n + 2 * p.distinct) * p.width) * kFloat;
  report_bytes(state, bytes, static_cast<std::int64_t>(bytes), spent);
  state.counters["distinct"] = static_cast<double>(p.distinct);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->Args({8192, 64, 62'423})->Args({8192, 64, 1'000'000})->Args({200'000, 64, 1'000'000});
  b->Args({200'000, 32, 1'000'000})->ArgNames({"nnz", "D", "V"});
}

BENCHMARK_CAPTURE(gather, uniform, Ids::uniform)->Apply(shapes);
BENCHMARK_CAPTURE(gather, zipf, Ids::zipf)->Apply(shapes);
BENCHMARK_CAPTURE(sum_rows, uniform, Ids::uniform)->Apply(shapes);
BENCHMARK_CAPTURE(sum_rows, zipf, Ids::zipf)->Apply(shapes);
BENCHMARK_CAPTURE(update, uniform, Ids::uniform)->Apply(shapes);
BENCHMARK_CAPTURE(update, zipf, Ids::zipf)->Apply(shapes);

}  // namespace
}  // namespace belfry::bench
