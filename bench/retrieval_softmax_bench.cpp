// SPDX-License-Identifier: Apache-2.0
// In-batch softmax with both gradients: flops counted as 6 B C D, so exps and recomputation are overhead.
#include "kernels/retrieval_softmax/retrieval_softmax.hpp"

#include <cmath>

#include "bench/bench.hpp"
#include "tests/support/retrieval_oracle.hpp"

namespace belfry::bench {
namespace {

using test::RetrievalAnswer;
using test::RetrievalOutput;
using test::RetrievalParts;
using test::RetrievalProblem;

bool close(double actual, double expected) {
  return std::abs(actual - expected) <= 2e-5 * (1 + std::abs(expected));
}

/// A smaller problem in full, and of the timed one the losses and gradients of three rows.
void verify_against_oracle(const Context& ctx, RetrievalProblem& p, const RetrievalParts& parts) {
  RetrievalProblem small = test::random_problem(300, 300, p.d, p.heads, parts, 5);
  const RetrievalAnswer expected = test::oracle(small);
  const RetrievalOutput actual = test::run_retrieval(ctx, small);
  bool ok = close(actual.loss, expected.loss);
  for (std::size_t k = 0; k < expected.d_queries.size(); ++k) {
    ok = ok && close(actual.d_queries[k], expected.d_queries[k]);
  }
  for (std::size_t k = 0; k < expected.d_candidates.size(); ++k) {
    ok = ok && close(actual.d_candidates[k], expected.d_candidates[k]);
  }
  const RetrievalOutput timed = test::run_retrieval(ctx, p);
  RetrievalAnswer rows = test::empty_answer(p);
  for (const std::int64_t i : {std::int64_t{0}, p.b / 2, p.b - 1}) {
    test::oracle_row(p, i, rows);
    ok = ok && close(timed.row_loss[i], rows.row_loss[i]);
    for (std::int64_t k = i * p.heads * p.d; k < (i + 1) * p.heads * p.d; ++k) {
      ok = ok && close(timed.d_queries[k], rows.d_queries[k]);
    }
  }
  verify(ok, "retrieval_softmax");
}

void run(benchmark::State& state, const RetrievalParts& parts, std::int64_t heads = 1,
         bool gradients = true) {
  const std::int64_t b = state.range(0), d = state.range(1);
  const Context ctx(Backend::cpu, 1);
  RetrievalProblem p = test::random_problem(b, b, d, heads, parts, 1, /*lattice=*/true);
  verify_against_oracle(ctx, p, parts);
  const RetrievalSoftmaxOptions options = p.options();
  std::vector<float> d_queries(p.queries.size()), d_candidates(p.candidates.size());
  double loss = 0, spent = 0;
  for (auto _ : state) {
    const double start = cpu_seconds();
    retrieval_softmax(ctx, p.query_view(), heads, p.candidate_view(), options, &loss, {},
                      gradients ? Matrix<float>(d_queries.data(), b * heads, d) : Matrix<float>(),
                      gradients ? Matrix<float>(d_candidates.data(), b, d) : Matrix<float>());
    spent += cpu_seconds() - start;
  }
  const double products = gradients ? 6.0 : 2.0;
  report_flops(state, products * static_cast<double>(b * b * d * heads), spent);
  state.counters["arena_MiB"] = static_cast<double>(ctx.arena().peak_bytes()) / (1 << 20);
}

void plain(benchmark::State& s) {
  run(s, {});
}
void loss_only(benchmark::State& s) {
  run(s, {}, 1, false);
}
void log_q(benchmark::State& s) {
  run(s, {.temperature = true, .log_probability = true});
}
void accidental_hits(benchmark::State& s) {
  run(s, {.ids = true});
}
void hard_negatives(benchmark::State& s) {
  run(s, {.hard = true});
}
void four_heads(benchmark::State& s) {
  run(s, {}, 4);
}

BENCHMARK(plain)->ArgsProduct({{1024, 4096, 8192}, {32, 64, 128}})->ArgNames({"B", "D"});
BENCHMARK(loss_only)->Args({4096, 64})->ArgNames({"B", "D"});
BENCHMARK(log_q)->Args({4096, 64})->ArgNames({"B", "D"});
BENCHMARK(accidental_hits)->Args({4096, 64})->ArgNames({"B", "D"});
BENCHMARK(hard_negatives)->Args({4096, 64})->ArgNames({"B", "D"});
BENCHMARK(four_heads)->Args({1024, 64})->ArgNames({"B", "D"});

}  // namespace
}  // namespace belfry::bench
