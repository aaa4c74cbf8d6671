// SPDX-License-Identifier: Apache-2.0
// Exact top-K of a catalogue: flops counted as 2 Q heads n D, so thresholds, lists and sorting are overhead.
// Verified against the fma chain and a full sort before it is timed.
#include "kernels/topk_scores/topk_scores.hpp"

#include <algorithm>
#include <memory>

#include "bench/bench.hpp"
#include "tests/support/topk_oracle.hpp"

namespace belfry::bench {
namespace {

using test::Listed;
using test::Random;
using test::Retrieval;

struct Shape {
  std::int64_t queries, items, dim, k, heads = 1, excluded = 0;
};

/// What every iteration needs; the largest shape has 256 MB of items.
struct Problem {
  Problem(const Context& ctx, const Shape& s) : shape(s), data(make(s)) {
    packed = Buffer<float>(Backend::cpu, PackedItems::size(s.items, s.dim));
    pack_items(ctx, data.items.view(), 0, packed.data(), s.items);
    scores.resize(static_cast<std::size_t>(s.queries * s.k));
    rows.resize(scores.size());
  }
  static Retrieval make(const Shape& s) {
    Random random(1);
    auto r = Retrieval::normal(random, s.queries, s.heads, s.items, s.dim);
    if (s.excluded == 0) return r;
    r.exclude.emplace();
    for (std::int64_t q = 0; q < s.queries; ++q) r.exclude->add(random.ids(s.excluded, s.items));
    return r;
  }
  PackedItems items() const { return {packed.data(), shape.items, shape.dim}; }
  void top(const Context& ctx) {
    topk_scores(ctx, data.queries.view(), shape.heads, items(), data.mask(),
                {{scores.data(), shape.queries, shape.k}, {rows.data(), shape.queries, shape.k}});
  }
  double flops() const {
    return 2.0 * static_cast<double>(shape.queries * shape.heads) *
           static_cast<double>(shape.items * shape.dim);
  }

  Shape shape;
  Retrieval data;
  Buffer<float> packed;
  std::vector<float> scores;
  std::vector<std::int32_t> rows;
};

/// The lists of a few queries of the timed problem, item by item.
void verify_lists(const Context& ctx, Problem& p) {
  p.top(ctx);
  bool ok = true;
  for (const std::int64_t q : {std::int64_t{0}, p.shape.queries / 2, p.shape.queries - 1}) {
    const auto all = p.data.ranking(q);
    for (std::int64_t i = 0; i < p.shape.k; ++i) {
      const auto at = static_cast<std::size_t>(q * p.shape.k + i);
      ok = ok && all[i].first == p.scores[at] && all[i].second == p.rows[at];
    }
  }
  verify(ok, "topk_scores");
}

void top_k(benchmark::State& state, std::int64_t heads = 1, std::int64_t excluded = 0) {
  const Context ctx(Backend::cpu, 1);
  const Shape shape{state.range(0), state.range(1), state.range(2),
                    state.range(3), heads,          excluded};
  Problem p(ctx, shape);
  verify_lists(ctx, p);
  double spent = 0;
  for (auto _ : state) {
    const double start = cpu_seconds();
    p.top(ctx);
    spent += cpu_seconds() - start;
  }
  report_flops(state, p.flops(), spent);
  state.counters["queries_per_s"] =
      static_cast<double>(shape.queries * state.iterations()) / std::max(spent, 1e-9);
  state.counters["arena_MiB"] = static_cast<double>(ctx.arena().peak_bytes()) / (1 << 20);
}

void plain(benchmark::State& state) {
  top_k(state);
}
void four_heads(benchmark::State& state) {
  top_k(state, 4);
}
void seen_excluded(benchmark::State& state) {
  top_k(state, 1, 150);
}

/// The scan of evaluation: the ranks of one item a query.
void ranks(benchmark::State& state) {
  const Context ctx(Backend::cpu, 1);
  const std::int64_t n = state.range(0);
  Problem p(ctx, {n, state.range(1), state.range(2), 10});
  verify_lists(ctx, p);
  std::vector<float> threshold;
  std::vector<std::int32_t> row;
  for (std::int64_t q = 0; q < n; ++q) {
    threshold.push_back(p.scores[static_cast<std::size_t>(q * 10 + 7)]);
    row.push_back(p.rows[static_cast<std::size_t>(q * 10 + 7)]);
  }
  std::vector<std::int64_t> above(static_cast<std::size_t>(n));
  double spent = 0;
  for (auto _ : state) {
    const double start = cpu_seconds();
    count_above(ctx, p.data.queries.view(), 1, p.items(), {}, {threshold.data(), n},
                {row.data(), n}, {above.data(), n});
    spent += cpu_seconds() - start;
  }
  verify(std::all_of(above.begin(), above.end(), [](std::int64_t c) { return c == 7; }),
         "count_above");
  report_flops(state, p.flops(), spent);
}

const std::vector<std::string> kNames = {"Q", "N", "D", "K"};

BENCHMARK(plain)
    ->Args({4096, 62423, 64, 100})  // ML-25M's catalogue
    ->Args({4096, 62423, 64, 10})
    ->Args({4096, 62423, 128, 100})
    ->Args({4096, 62423, 32, 100})
    ->Args({4096, 62423, 64, 1000})
    ->Args({6040, 3706, 64, 100})    // ML-1M
    ->Args({29858, 40981, 64, 100})  // Gowalla
    ->Args({1024, 1000000, 64, 100})
    ->Args({1, 1000000, 64, 100})
    ->Args({32, 1000000, 64, 100})
    ->ArgNames(kNames)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(seen_excluded)
    ->Args({4096, 62423, 64, 100})
    ->ArgNames(kNames)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(four_heads)
    ->Args({1024, 62423, 64, 100})
    ->ArgNames(kNames)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(ranks)->Args({4096, 62423, 64})->ArgNames({"Q", "N", "D"})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace belfry::bench
