// SPDX-License-Identifier: Apache-2.0
// What retrieval_softmax has on a GPU alone: the bf16 path, splits, any depth and number of heads, equal bits
// under all schedules, graphs, scratch; and CUDA against CPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/core/device.hpp"
#include "tests/simt/device_array.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/retrieval_oracle.hpp"

namespace belfry::test {
namespace {

std::vector<double> doubles(const std::vector<float>& v) {
  return {v.begin(), v.end()};
}
RetrievalParts parts_of(unsigned bits) {
  return {(bits & 1) != 0,  (bits & 2) != 0,  (bits & 4) != 0, (bits & 8) != 0,
          (bits & 16) != 0, (bits & 32) != 0, (bits & 64) != 0};
}
constexpr RetrievalParts kAll = {true, true, true, true, true, true, true};

/// Each row of width d off by at most `tolerance` of its norm; `slack` for rows whose parts cancel.
void expect_rows(const std::vector<float>& actual, const std::vector<double>& expected,
                 std::int64_t d, double tolerance, const std::string& what, double slack = 1e-7) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t first = 0; first < actual.size(); first += static_cast<std::size_t>(d)) {
    double norm = 0, off = 0;
    for (std::size_t k = first; k < first + static_cast<std::size_t>(d); ++k) {
      const double x = actual[k];
      norm += expected[k] * expected[k];
      off += (x - expected[k]) * (x - expected[k]);
    }
    ASSERT_LE(std::sqrt(off), tolerance * std::sqrt(norm) + slack)
        << what << ", row " << first / static_cast<std::size_t>(d);
  }
}

/// The precision's tolerance; scores of lattice problems are exact in both precisions.
void expect_oracle(const Context& ctx, RetrievalProblem& p) {
  const bool bf16 = p.precision == Precision::bf16;
  const RetrievalAnswer expected = oracle(p);
  const RetrievalOutput actual = run_retrieval(ctx, p);
  const double tolerance = bf16 ? 1e-4 : 1e-5;
  EXPECT_NEAR(actual.loss, expected.loss, tolerance * (1 + std::abs(expected.loss)));
  expect_close(doubles(actual.row_loss), expected.row_loss, tolerance, tolerance, "row_loss");
  const double relative = bf16 ? 2e-2 : 1e-5, slack = bf16 ? 1e-4 : 1e-7;
  expect_rows(actual.d_queries, expected.d_queries, p.d, relative, "d_queries", slack);
  expect_rows(actual.d_candidates, expected.d_candidates, p.d, relative, "d_candidates", slack);
  EXPECT_EQ(actual.rank, expected.rank);
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(RetrievalSoftmaxDevice, Bf16MatchesTheOracleForCombinationsOfOptions) {
  const Context ctx = make_context();
  for (unsigned bits = 0; bits < 128; bits += 3) {
    SCOPED_TRACE(testing::Message() << "options " << bits);
    RetrievalProblem p = random_problem(37, 45, 9, 1 + bits % 2 * 2, parts_of(bits), bits + 1);
    p.precision = Precision::bf16;
    p.in_batch = bits % 5 != 0;
    p.scale = 0.5f;
    expect_oracle(ctx, p);
  }
}

// Every kernel by depth, and what is wider; whole units and tiles, and one more or less.
TEST(RetrievalSoftmaxDevice, EveryDepth) {
  const Context ctx = make_context();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    unsigned n = 0;
    for (const std::int64_t d : {1, 31, 32, 33, 64, 65, 128, 129, 256, 257, 321}) {
      const std::int64_t b = n % 3 == 0 ? 33 : n % 3 == 1 ? 64 : 7, extra = n % 4 * 33;
      const bool all = (n / 2 + (precision == Precision::bf16)) % 2 != 0;
      SCOPED_TRACE(testing::Message() << b << " x " << b + extra << " x " << d << " all " << all
                                      << " bf16 " << (precision == Precision::bf16));
      RetrievalProblem p = random_problem(b, b + extra, d, 1, all ? kAll : RetrievalParts{}, ++n);
      p.precision = precision;
      expect_oracle(ctx, p);
    }
  }
}

TEST(RetrievalSoftmaxDevice, EveryNumberOfHeads) {
  const Context ctx = make_context();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const std::int64_t heads : {2, 3, 4, 5, 8, 13, 16, 17, 32}) {
      for (const bool all : {false, true}) {
        SCOPED_TRACE(testing::Message() << heads << " heads, all " << all << " bf16 "
                                        << (precision == Precision::bf16));
        const std::int64_t b = heads < 8 ? 21 : 5;
        RetrievalProblem p =
            random_problem(b, 40, heads % 2 == 0 ? 3 : 2, heads, all ? kAll : RetrievalParts{}, 3);
        p.precision = precision;
        expect_oracle(ctx, p);
      }
    }
  }
  RetrievalProblem p = random_problem(2, 3, 2, 33, {}, 1);
  EXPECT_THROW(run_retrieval(ctx, p), ContractError);
}

// Many tiles on the streamed side: splits of the columns, and, with as many rows, of the queries.
TEST(RetrievalSoftmaxDevice, MergesSplits) {
  const Context ctx = make_context();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    RetrievalProblem p = random_problem(9, 1000, 5, 1, {}, 2);
    p.precision = precision;
    expect_oracle(ctx, p);
    p = random_problem(300, 301, 6, 1, {.weight = true, .mean = true}, 2);
    p.precision = precision;
    expect_oracle(ctx, p);
    p = random_problem(70, 500, 4, 2, {.hard = true}, 2);
    p.in_batch = false;
    p.precision = precision;
    expect_oracle(ctx, p);
  }
}

// The running maximum moves up in many steps and over a wide range.
TEST(RetrievalSoftmaxDevice, RisingScores) {
  const Context ctx = make_context();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const std::int64_t d : {2, 70}) {
      RetrievalProblem p = random_problem(5, 300, d, 1, {}, 2);
      p.precision = precision;
      for (std::int64_t i = 0; i < 5; ++i) p.queries[i * d] = static_cast<float>(i) - 1;
      for (std::int64_t j = 0; j < 300; ++j) p.candidates[j * d] = static_cast<float>(j / 2);
      const RetrievalAnswer expected = oracle(p);
      const RetrievalOutput actual = run_retrieval(ctx, p);
      EXPECT_NEAR(actual.loss, expected.loss, 1e-5 * expected.loss);
      EXPECT_EQ(actual.rank, expected.rank);
      expect_rows(actual.d_queries, expected.d_queries, d, 2e-2, "d_queries");
    }
  }
}

// Inputs that bf16 rounds.
TEST(RetrievalSoftmaxDevice, Bf16OfAnyValues) {
  const Context ctx = make_context();
  for (const std::int64_t d : {24, 64, 128}) {
    RetrievalProblem p = random_problem(130, 190, d, 1, {.log_probability = true}, 6, false);
    for (float& x : p.queries) x /= 4;  // losses of some nats
    const RetrievalAnswer expected = oracle(p);
    p.precision = Precision::bf16;
    const RetrievalOutput actual = run_retrieval(ctx, p);
    EXPECT_NEAR(actual.loss, expected.loss, 1e-4 * expected.loss) << d;
    expect_rows(actual.d_queries, expected.d_queries, d, 2e-2, "d_queries");
    expect_rows(actual.d_candidates, expected.d_candidates, d, 2e-2, "d_candidates");
  }
}

TEST(RetrievalSoftmaxDevice, Bf16EqualCandidatesTie) {
  const Context ctx = make_context();
  RetrievalProblem p = random_problem(35, 100, 61, 1, {}, 3, /*lattice=*/false);
  p.precision = Precision::bf16;
  for (std::int64_t j = 1; j < 100; ++j) std::copy_n(&p.candidates[0], 61, &p.candidates[j * 61]);
  const RetrievalOutput out = run_retrieval(ctx, p);
  EXPECT_EQ(out.rank, std::vector<std::int32_t>(35, 0));
  for (const float loss : out.row_loss) EXPECT_NEAR(loss, std::log(100.0f), 1e-5);
}

// Weights have either sign, and none.
TEST(RetrievalSoftmaxDevice, AnyWeight) {
  const Context ctx = make_context();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    RetrievalProblem p = random_problem(40, 40, 8, 1, {.weight = true}, 3);
    for (std::size_t i = 0; i < 40; i += 3) p.weight[i] = -1.5f;
    p.precision = precision;
    expect_oracle(ctx, p);
  }
}

TEST(RetrievalSoftmaxDevice, Bf16NonFiniteInputRaisesTheStatusBit) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (int where = 0; where < 3; ++where) {
      const Context ctx = make_context();
      RetrievalProblem p = random_problem(20, 120, 4, 1, {.weight = true}, 1);
      p.precision = Precision::bf16;
      (where == 0 ? p.queries[5] : where == 1 ? p.candidates[5] : p.weight[7]) = bad;
      EXPECT_FALSE(std::isfinite(run_retrieval(ctx, p).loss));
      EXPECT_EQ(ctx.read_state().status, kStatusNonFinite);
    }
  }
}

TEST(RetrievalSoftmaxDevice, Bf16LossAloneHasTheSameBits) {
  const Context ctx = make_context();
  for (const unsigned bits : {0u, 127u}) {
    for (const std::int64_t heads : {1, 2}) {
      RetrievalProblem p = random_problem(40, 150, 140, heads, parts_of(bits), 9, false);
      p.precision = Precision::bf16;
      const RetrievalOutput with = run_retrieval(ctx, p), without = run_retrieval(ctx, p, false);
      EXPECT_EQ(with.loss, without.loss);
      EXPECT_EQ(with.row_loss, without.row_loss);
      EXPECT_EQ(with.rank, without.rank);
    }
  }
}

TEST(RetrievalSoftmaxDevice, SchedulesGiveEqualBits) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const std::int64_t heads : {1, 2}) {
      RetrievalProblem p = random_problem(45, 100, heads == 1 ? 40 : 10, heads, kAll, 6, false);
      p.precision = precision;
      std::vector<RetrievalOutput> runs;
      for_each_schedule([&] { runs.push_back(run_retrieval(make_context(), p)); });
      runs.push_back(run_retrieval(make_context(), p));
      for (const RetrievalOutput& run : runs) EXPECT_TRUE(run == runs[0]);
    }
  }
}

// Scores are the CPU's to the bit: ranks and the choice of hard negatives are exact.
TEST(RetrievalSoftmaxDevice, EqualsTheCpu) {
  const Context ctx = make_context(), cpu(Backend::cpu, 1);
  for (const std::int64_t heads : {1, 3}) {
    for (const std::int64_t d : {20, 64}) {
      RetrievalParts parts = kAll;
      parts.hard = d == 20;
      RetrievalProblem p = random_problem(80, 130, d, heads, parts, 5, false);
      const RetrievalOutput a = run_retrieval(ctx, p), b = run_retrieval(cpu, p);
      EXPECT_EQ(a.rank, b.rank);
      EXPECT_NEAR(a.loss, b.loss, 1e-6 * b.loss);
      expect_close(doubles(a.row_loss), doubles(b.row_loss), 1e-6, 1e-6, "row_loss");
      expect_rows(a.d_queries, doubles(b.d_queries), d, 1e-5, "d_queries");
      expect_rows(a.d_candidates, doubles(b.d_candidates), d, 1e-5, "d_candidates");
    }
  }
}

/// Row i's negatives that stay, by a full sort: the n best, of equal ones the smaller column.
std::vector<bool> mined(const std::vector<float>& row, std::int64_t positive, std::int64_t n) {
  std::vector<std::int64_t> order;
  for (std::int64_t j = 0; j < static_cast<std::int64_t>(row.size()); ++j) {
    if (j != positive) order.push_back(j);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return row[a] > row[b]; });
  std::vector<bool> stays(row.size());
  for (std::int64_t k = 0; k < n; ++k) stays[order[k]] = true;
  return stays;
}

// Candidates are unit vectors, so that scores are the queries' elements, and d_queries is 0 where a column
// left. Ties, both zeros, negative numbers, and numbers that differ in their last bits alone.
TEST(RetrievalSoftmaxDevice, HardNegativesMatchASort) {
  const Context ctx = make_context();
  std::mt19937 gen(3);
  for (const std::int64_t c : {7, 33, 70}) {
    for (const std::int64_t n : {1, 4, 31}) {
      for (int kind = 0; kind < 3 && n < c - 1; ++kind) {
        SCOPED_TRACE(testing::Message() << c << " columns, n " << n << ", kind " << kind);
        RetrievalProblem p;
        p.b = 3, p.c = p.d = c;
        p.hard_negatives = n;
        p.candidates.resize(static_cast<std::size_t>(c * c));
        for (std::int64_t j = 0; j < c; ++j) p.candidates[j * c + j] = 1;
        for (std::int64_t k = 0; k < 3 * c; ++k) {
          const auto x = static_cast<float>(gen() % 9) - 4;
          p.queries.push_back(kind == 0   ? x
                              : kind == 1 ? 1 + x * 0x1p-23f
                                          : std::ldexp(x, static_cast<int>(gen() % 9) - 8));
        }
        const RetrievalOutput out = run_retrieval(ctx, p);
        for (std::int64_t i = 0; i < 3; ++i) {
          const std::vector<float> row(&p.queries[i * c], &p.queries[i * c] + c);
          const std::vector<bool> stays = mined(row, i, n);
          for (std::int64_t j = 0; j < c; ++j) {
            if (j != i) {
              ASSERT_EQ(out.d_queries[i * c + j] != 0, stays[j]) << i << ", " << j;
            }
          }
        }
      }
    }
  }
}

/// Device memory of one call, for replays.
struct DeviceCall {
  DeviceCall(const Context& context, RetrievalProblem& p)
      : ctx(context),
        q(ctx, p.query_view()),
        c(ctx, p.candidate_view()),
        ids(ctx, p.options().candidate_ids),
        weight(ctx, p.options().weight),
        options(p.options()),
        masked(ctx, options.masked, p.b),
        rank(ctx.backend(), p.b),
        row_loss(ctx.backend(), p.b),
        dq(ctx.backend(), p.b * p.d),
        dc(ctx.backend(), p.c * p.d),
        loss(ctx.backend(), 1) {
    options.candidate_ids = ids.vector();
    options.weight = weight.vector();
    options.masked = masked.view();
    options.positive_rank = rank.view();
  }
  void run() {
    retrieval_softmax(ctx, q.matrix(), 1, c.matrix(), options, loss.data(), row_loss.view(),
                      dq.matrix(q.matrix().rows, q.matrix().cols),
                      dc.matrix(c.matrix().rows, c.matrix().cols));
  }
  template <class T>
  std::vector<T> read(const Buffer<T>& from) const {
    std::vector<T> values(static_cast<std::size_t>(from.size()));
    download(ctx, from.data(), values.data(), from.size());
    return values;
  }
  RetrievalOutput output() const {
    return {read(loss)[0], read(row_loss), read(dq), read(dc), read(rank)};
  }

  const Context& ctx;
  Twin<const float> q, c;
  Twin<const std::int64_t> ids;
  Twin<const float> weight;
  RetrievalSoftmaxOptions options;
  RowListsTwin masked;
  Buffer<std::int32_t> rank;
  Buffer<float> row_loss, dq, dc;
  Buffer<double> loss;
};

TEST(RetrievalSoftmaxDevice, ReplaysInAGraph) {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const Context ctx = make_context();
    const RetrievalParts parts = {.ids = true, .mask = true, .hard = true, .weight = true};
    RetrievalProblem p = random_problem(40, 70, 12, 1, parts, 1);
    p.precision = precision;
    DeviceCall call(ctx, p);
    call.run();  // the arena grows here, a capture may not allocate
    call.run();
    ctx.synchronise();
    const simt::Counters before = simt::counters();
    const simt::Graph graph = simt::Graph::capture(ctx.stream(), [&] { call.run(); });
    EXPECT_EQ(simt::counters().allocations, before.allocations);
    for (const std::uint32_t seed : {1u, 2u}) {
      RetrievalProblem next = random_problem(40, 70, 12, 1, parts, seed);
      next.precision = precision;
      // The lists keep their place; their lengths are the first problem's.
      next.masked = p.masked;
      upload(ctx, next.queries.data(), const_cast<float*>(call.q.data()), 40 * 12);
      upload(ctx, next.candidates.data(), const_cast<float*>(call.c.data()), 70 * 12);
      upload(ctx, next.ids.data(), const_cast<std::int64_t*>(call.ids.data()), 70);
      upload(ctx, next.weight.data(), const_cast<float*>(call.weight.data()), 40);
      graph.launch(ctx.stream());
      ctx.synchronise();
      EXPECT_TRUE(call.output() == run_retrieval(make_context(), next));
    }
  }
}

// Copies, partial sums and a few numbers a row: nothing of the size of the scores but one bit a pair of units.
TEST(RetrievalSoftmaxDevice, ScratchGrowsWithTheRows) {
  const Context ctx = make_context();
  RetrievalProblem p = random_problem(700, 700, 8, 1, {.ids = true}, 1);
  run_retrieval(ctx, p, false);
  EXPECT_LT(ctx.arena().peak_bytes(), 700 * 700 * 4 / 2);
  run_retrieval(ctx, p, false);
  const std::int64_t allocations = ctx.arena().allocations();
  run_retrieval(ctx, p, false);
  EXPECT_EQ(ctx.arena().allocations(), allocations);
}

}  // namespace
}  // namespace belfry::test
