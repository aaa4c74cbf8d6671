// SPDX-License-Identifier: Apache-2.0
#include "kernels/retrieval_softmax/retrieval_softmax.hpp"

#include <gtest/gtest.h>

#include <hwy/targets.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/support/golden.hpp"
#include "tests/support/retrieval_oracle.hpp"

namespace belfry::test {
namespace {

std::vector<double> doubles(const std::vector<float>& v) {
  return {v.begin(), v.end()};
}

void expect_oracle(const Context& ctx, RetrievalProblem& p, double tolerance = 1e-5) {
  const RetrievalAnswer expected = oracle(p);
  const RetrievalOutput actual = run_retrieval(ctx, p);
  EXPECT_NEAR(actual.loss, expected.loss, tolerance * (1 + std::abs(expected.loss)));
  expect_close(doubles(actual.row_loss), expected.row_loss, tolerance, tolerance, "row_loss");
  expect_close(doubles(actual.d_queries), expected.d_queries, tolerance, tolerance, "d_queries");
  expect_close(doubles(actual.d_candidates), expected.d_candidates, tolerance, tolerance,
               "d_candidates");
  EXPECT_EQ(actual.rank, expected.rank);
  EXPECT_EQ(ctx.read_state().status, 0u);
}

RetrievalParts parts_of(unsigned bits) {
  return {(bits & 1) != 0,  (bits & 2) != 0,  (bits & 4) != 0, (bits & 8) != 0,
          (bits & 16) != 0, (bits & 32) != 0, (bits & 64) != 0};
}
constexpr RetrievalParts kAll = {true, true, true, true, true, true, true};

// q = [1,0], [0,2]; c = [1,0], [0,1]: scores 1 0 / 0 2; loss log(1+e^-1) + log(1+e^-2).
TEST(RetrievalSoftmax, ByHand) {
  const Context ctx = make_context(1);
  RetrievalProblem p;
  p.b = p.c = p.d = 2;
  p.queries = {1, 0, 0, 2};
  p.candidates = {1, 0, 0, 1};
  const RetrievalOutput out = run_retrieval(ctx, p);
  const double p01 = 1 / (1 + std::exp(1.0)), p10 = 1 / (1 + std::exp(2.0));
  EXPECT_NEAR(out.row_loss[0], 0.31326169, 1e-7);
  EXPECT_NEAR(out.row_loss[1], 0.12692801, 1e-7);
  EXPECT_NEAR(out.loss, 0.44018970, 1e-7);
  expect_close(doubles(out.d_queries), {-p01, p01, p10, -p10}, 1e-6, 0, "d_queries");
  expect_close(doubles(out.d_candidates), {-p01, 2 * p10, p01, -2 * p10}, 1e-6, 0, "d_candidates");
}

TEST(RetrievalSoftmax, MatchesTheOracleForEveryCombinationOfOptions) {
  const Context ctx = make_context(2);
  for (unsigned bits = 0; bits < 128; bits += on_device() ? 11 : 1) {
    for (const std::int64_t heads : {1, 3}) {
      SCOPED_TRACE(testing::Message() << "options " << bits << ", heads " << heads);
      RetrievalProblem p = random_problem(37, 45, 9, heads, parts_of(bits), bits + 1);
      expect_oracle(ctx, p);
    }
  }
}

// Sampled softmax: the positives of other rows are no negatives; a task's weight scales everything.
TEST(RetrievalSoftmax, WithoutInBatchNegativesAndScaled) {
  const Context ctx = make_context(2);
  for (unsigned bits = 0; bits < 128; bits += on_device() ? 31 : 3) {
    for (const std::int64_t extra : {0, 1, 60, 200}) {
      SCOPED_TRACE(testing::Message() << "options " << bits << ", extra " << extra);
      RetrievalProblem p =
          random_problem(70, 70 + extra, 9, 1 + bits % 2, parts_of(bits), bits + 1);
      p.in_batch = false;
      p.scale = 0.25f;
      expect_oracle(ctx, p);
    }
  }
}

TEST(RetrievalSoftmax, MatchesTheOracleForEveryShape) {
  const Context ctx = make_context(2);
  using Sizes = std::vector<std::int64_t>;
  const Sizes bs =
      on_device() ? Sizes{0, 1, 32, 65} : Sizes{0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 150};
  const Sizes extras = on_device() ? Sizes{0, 150} : Sizes{0, 1, 31, 97, 400};
  const Sizes ds = on_device() ? Sizes{0, 1, 33, 100} : Sizes{0, 1, 5, 31, 32, 33, 64, 100};
  for (const std::int64_t b : bs) {
    for (const std::int64_t extra : extras) {
      for (const std::int64_t d : ds) {
        if (b + extra == 0) continue;
        SCOPED_TRACE(testing::Message() << b << " x " << b + extra << " x " << d);
        RetrievalProblem p =
            random_problem(b, b + extra, d, 1, (b + d) % 2 == 0 ? RetrievalParts{} : kAll, 5);
        expect_oracle(ctx, p, 2e-5);
      }
    }
  }
}

TEST(RetrievalSoftmax, MatchesTheOracleOnEveryInstructionSet) {
  if (on_device()) return;
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
    const Context ctx = make_context(1);
    for (const std::int64_t d : {1, 17, 40, 64}) {
      RetrievalProblem p = random_problem(70, 210, d, 1, {}, 1);
      expect_oracle(ctx, p);
      p = random_problem(70, 210, d, 2, kAll, 2);
      expect_oracle(ctx, p);
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().DeInit();
}

TEST(RetrievalSoftmax, EmptyBatchIsZero) {
  const Context ctx = make_context(1);
  RetrievalProblem p = random_problem(0, 7, 5, 1, {}, 1);
  const RetrievalOutput out = run_retrieval(ctx, p);
  EXPECT_EQ(out.loss, 0.0);
  EXPECT_EQ(out.d_candidates, std::vector<float>(35, 0.0f));
  p = random_problem(0, 0, 5, 1, {.mean = true}, 1);
  EXPECT_EQ(run_retrieval(ctx, p).loss, 0.0);
}

TEST(RetrievalSoftmax, HugeCatalogueForFewQueries) {
  const Context ctx = make_context(2);
  const std::int64_t c = on_device() ? 2011 : 20011;
  RetrievalProblem p = random_problem(5, c, 12, 1, {.ids = true, .hard = true}, 8);
  expect_oracle(ctx, p);
  p = random_problem(5, c, 12, 1, {.log_probability = true}, 8);
  expect_oracle(ctx, p);
}

// Several groups of tiles with partial sums, in place and not, and one group for want of memory.
TEST(RetrievalSoftmax, SumsGroupsOfTiles) {
  if (on_device()) return;  // which cuts otherwise: retrieval_softmax_device_test.cpp
  const Context ctx = make_context(2);
  for (const std::int64_t d : {6, 16}) {
    RetrievalProblem p = random_problem(1300, 1300, d, 1, {.weight = true}, 4);
    expect_oracle(ctx, p, 3e-5);
  }
  RetrievalProblem p = random_problem(18, 140000, 80, 1, {}, 4);
  expect_oracle(ctx, p, 3e-5);
}

TEST(RetrievalSoftmax, FiniteDifferences) {
  const Context ctx = make_context(1);
  for (const std::int64_t heads : {1, 2}) {
    RetrievalParts parts = kAll;
    parts.hard = heads == 1;
    RetrievalProblem p = random_problem(6, 9, 4, heads, parts, 11, /*lattice=*/false);
    const RetrievalAnswer exact = oracle(p);
    const RetrievalOutput given = run_retrieval(ctx, p);
    const auto check = [&](std::vector<float>& values, const std::vector<double>& gradient,
                           const std::vector<float>& op_gradient) {
      for (std::size_t k = 0; k < values.size(); k += on_device() ? 3 : 1) {
        const float x = values[k], step = 1.0f / 512;
        values[k] = x + step;
        const double up = oracle(p).loss, op_up = run_retrieval(ctx, p).loss;
        values[k] = x - step;
        const double down = oracle(p).loss, op_down = run_retrieval(ctx, p).loss;
        values[k] = x;
        const double width = static_cast<double>(x + step) - static_cast<double>(x - step);
        EXPECT_NEAR((up - down) / width, gradient[k], 1e-4) << "element " << k;
        EXPECT_NEAR((op_up - op_down) / width, op_gradient[k], 1e-3) << "element " << k;
      }
    };
    check(p.queries, exact.d_queries, given.d_queries);
    check(p.candidates, exact.d_candidates, given.d_candidates);
  }
}

TEST(RetrievalSoftmax, PermutedPairsGivePermutedRows) {
  const Context ctx = make_context(1);
  RetrievalProblem p = random_problem(100, 100, 8, 1, {.ids = true, .weight = true}, 21);
  RetrievalProblem q = p;
  std::vector<std::int64_t> at(100);
  std::iota(at.begin(), at.end(), 0);
  std::shuffle(at.begin(), at.end(), std::mt19937(1));
  for (std::int64_t i = 0; i < 100; ++i) {
    std::copy_n(&p.queries[i * 8], 8, &q.queries[at[i] * 8]);
    std::copy_n(&p.candidates[i * 8], 8, &q.candidates[at[i] * 8]);
    q.ids[at[i]] = p.ids[i];
    q.weight[at[i]] = p.weight[i];
  }
  const RetrievalOutput a = run_retrieval(ctx, p), b = run_retrieval(ctx, q);
  EXPECT_NEAR(a.loss, b.loss, 1e-5 * a.loss);
  for (std::int64_t i = 0; i < 100; ++i) {
    EXPECT_NEAR(a.row_loss[i], b.row_loss[at[i]], 1e-5);
    for (std::int64_t k = 0; k < 8; ++k) {
      EXPECT_NEAR(a.d_queries[i * 8 + k], b.d_queries[at[i] * 8 + k], 1e-5);
      EXPECT_NEAR(a.d_candidates[i * 8 + k], b.d_candidates[at[i] * 8 + k], 1e-5);
    }
  }
}

TEST(RetrievalSoftmax, ThreadCountsGiveEqualBits) {
  if (on_device()) return;  // which has schedules instead
  for (const bool all : {false, true}) {
    RetrievalProblem p = random_problem(700, 900, 24, all ? 2 : 1, all ? kAll : RetrievalParts{}, 6,
                                        /*lattice=*/false);
    const RetrievalOutput one = run_retrieval(make_context(1), p);
    for (const int threads : {2, 4}) {
      EXPECT_TRUE(run_retrieval(make_context(threads), p) == one) << threads << " threads";
    }
  }
}

TEST(RetrievalSoftmax, LossAloneHasTheSameBits) {
  const Context ctx = make_context(2);
  for (const unsigned bits : {0u, 15u, 16u, 127u}) {
    for (const std::int64_t heads : {1, 2}) {
      const std::int64_t b = on_device() ? 40 : 130, c = on_device() ? 90 : 300;
      RetrievalProblem p = random_problem(b, c, 20, heads, parts_of(bits), 9, false);
      const RetrievalOutput with = run_retrieval(ctx, p), without = run_retrieval(ctx, p, false);
      EXPECT_EQ(with.loss, without.loss);
      EXPECT_EQ(with.row_loss, without.row_loss);
      EXPECT_EQ(with.rank, without.rank);
    }
  }
}

TEST(RetrievalSoftmax, HardNegativesBelowOneOrAboveAllKeepAll) {
  const Context ctx = make_context(1);
  RetrievalProblem p = random_problem(40, 50, 8, 1, {.ids = true, .mask = true}, 2);
  const RetrievalOutput all = run_retrieval(ctx, p);
  for (const std::int64_t n : {std::int64_t{-7}, std::int64_t{49}, std::int64_t{50}, INT64_MAX}) {
    p.hard_negatives = n;
    EXPECT_TRUE(run_retrieval(ctx, p) == all) << n;
  }
  p.hard_negatives = 1;
  EXPECT_FALSE(run_retrieval(ctx, p) == all);
}

TEST(RetrievalSoftmax, RowsWithoutNegativesHaveNoLossAndNoGradient) {
  const Context ctx = make_context(1);
  RetrievalProblem p = random_problem(20, 150, 8, 1, {}, 2);
  p.has_mask = true;
  p.masked.resize(20);
  for (std::int32_t j = 0; j < 150; ++j) p.masked[3].insert(j);  // its positive too
  const RetrievalOutput out = run_retrieval(ctx, p);
  EXPECT_EQ(out.row_loss[3], 0.0f);
  EXPECT_EQ(std::vector<float>(&out.d_queries[24], &out.d_queries[32]),
            std::vector<float>(8, 0.0f));
  expect_oracle(ctx, p);
  for (const std::int64_t hard : {0, 2}) {
    p.hard_negatives = hard;
    p.ids.assign(150, 4);  // one id for all: nothing is left anywhere
    const RetrievalOutput none = run_retrieval(ctx, p);
    EXPECT_EQ(none.loss, 0.0);
    EXPECT_EQ(none.d_queries, std::vector<float>(160, 0.0f));
    EXPECT_EQ(none.d_candidates, std::vector<float>(1200, 0.0f));
  }
}

// A candidate equal to the positive ties with it exactly, whatever the rounding of its score.
TEST(RetrievalSoftmax, EqualCandidatesTie) {
  const Context ctx = make_context(1);
  RetrievalProblem p = random_problem(65, 195, 61, 1, {}, 3, /*lattice=*/false);
  for (std::int64_t j = 1; j < 195; ++j) std::copy_n(&p.candidates[0], 61, &p.candidates[j * 61]);
  const RetrievalOutput out = run_retrieval(ctx, p);
  EXPECT_EQ(out.rank, std::vector<std::int32_t>(65, 0));
  for (const float loss : out.row_loss) EXPECT_FLOAT_EQ(loss, std::log(195.0f));
}

TEST(RetrievalSoftmax, WideScoresStayFinite) {
  const Context ctx = make_context(1);
  for (const float scale : {8.0f, 64.0f, 1024.0f}) {
    RetrievalProblem p = random_problem(70, 140, 16, 1, {}, 13);
    for (float& x : p.queries) x *= scale;
    expect_oracle(ctx, p, 1e-5 * scale);
  }
}

// Where the positive has nearly all the probability, p - 1 must not be rounding noise.
TEST(RetrievalSoftmax, SmallGradientsKeepTheirDigits) {
  const Context ctx = make_context(1);
  RetrievalProblem p;
  p.b = p.c = 2, p.d = 1;
  p.queries = {1, -1};
  p.candidates = {10, -10};
  const RetrievalOutput out = run_retrieval(ctx, p);
  const double left = 1 / (1 + std::exp(20.0));
  EXPECT_NEAR(out.row_loss[0] / left, 1, 1e-5);
  EXPECT_NEAR(out.d_queries[0] / (-20 * left), 1, 1e-5);
  EXPECT_NEAR(out.d_candidates[0] / (-2 * left), 1, 1e-5);
}

// One query x, candidates 0 (its own) and 1: loss log(1 + e^x), by one float32 exp and a float64 log.
TEST(RetrievalSoftmax, LossIsAsGoodAsOneExp) {
  const Context ctx = make_context(1);
  RetrievalProblem p;
  p.b = p.d = 1, p.c = 2;
  p.candidates = {0, 1};
  for (float x = -87; x < 0; x += on_device() ? 1.37f : 0.0137f) {
    p.queries = {x};
    const double expected = std::log1p(std::exp(static_cast<double>(x)));
    EXPECT_NEAR(run_retrieval(ctx, p, false).loss / expected, 1, 1.5e-7) << x;
  }
}

TEST(RetrievalSoftmax, PitchedRowsAreReadAndWrittenInPlace) {
  const Context ctx = make_context(1);
  for (const std::int64_t d : {7, 16}) {
    RetrievalProblem p = random_problem(20, 30, d, 1, {}, 17);
    const RetrievalOutput plain = run_retrieval(ctx, p);
    const std::int64_t pitch = d + 5;
    std::vector<float> q(20 * pitch, 99), c(30 * pitch, 99), dq(20 * pitch, 7), dc(30 * pitch, 7);
    for (std::int64_t i = 0; i < 20; ++i) std::copy_n(&p.queries[i * d], d, &q[i * pitch]);
    for (std::int64_t j = 0; j < 30; ++j) std::copy_n(&p.candidates[j * d], d, &c[j * pitch]);
    double loss = 0;
    tested::retrieval_softmax(ctx, {q.data(), 20, d, pitch}, 1, {c.data(), 30, d, pitch}, {}, &loss,
                              {}, {dq.data(), 20, d, pitch}, {dc.data(), 30, d, pitch});
    EXPECT_EQ(loss, plain.loss);
    for (std::int64_t j = 0; j < 30; ++j) {
      for (std::int64_t k = 0; k < pitch; ++k) {
        if (j < 20) {
          EXPECT_EQ(dq[j * pitch + k], k < d ? plain.d_queries[j * d + k] : 7.0f);
        }
        EXPECT_EQ(dc[j * pitch + k], k < d ? plain.d_candidates[j * d + k] : 7.0f);
      }
    }
  }
}

TEST(RetrievalSoftmax, NonFiniteInputRaisesTheStatusBit) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  float odd_nan;  // a payload in the low bits
  const std::uint32_t bits = 0x7fc00001;
  std::memcpy(&odd_nan, &bits, 4);
  for (const float bad : {nan, odd_nan, -nan, std::numeric_limits<float>::infinity()}) {
    for (const std::int64_t heads : {1, 2}) {
      for (const std::int64_t hard : {0, 2}) {
        for (int where = 0; where < 5; ++where) {
          if (on_device() && (where + hard / 2 + heads) % 4 != 0) continue;
          SCOPED_TRACE(testing::Message() << bad << " " << heads << " " << hard << " " << where);
          const Context ctx = make_context(1);
          RetrievalProblem p = random_problem(20, 120, 4, heads, {.weight = true}, 1);
          p.hard_negatives = hard;
          run_retrieval(ctx, p);
          ASSERT_EQ(ctx.read_state().status, 0u);
          if (where == 0) p.queries[1] = bad;  // of the first head alone
          if (where == 1) p.queries[5] = bad;
          if (where == 2) p.candidates[5] = bad;
          if (where == 3) p.candidates[97 * 4] = bad;  // an extra negative, inside a block
          if (where == 3) p.queries[0] = 1;
          if (where == 4) p.weight[7] = bad;
          EXPECT_FALSE(std::isfinite(run_retrieval(ctx, p).loss));
          EXPECT_EQ(ctx.read_state().status, kStatusNonFinite);
        }
      }
    }
  }
}

TEST(RetrievalSoftmax, MemoryStaysFarBelowTheScores) {
  if (on_device()) return;  // retrieval_softmax_device_test.cpp
  const Context ctx = make_context(2);
  RetrievalProblem p = random_problem(4096, 4096, 8, 1, {}, 1);
  run_retrieval(ctx, p);
  EXPECT_LT(ctx.arena().peak_bytes(), 4096 * 4096 * 4 / 8);
  const std::int64_t allocations = ctx.arena().allocations();
  run_retrieval(ctx, p);
  EXPECT_LE(ctx.arena().allocations(), allocations + 1);  // the blocks become one
  run_retrieval(ctx, p);
  EXPECT_LE(ctx.arena().allocations(), allocations + 1);
  const Context loss_only = make_context(2);
  run_retrieval(loss_only, p, false);
  EXPECT_LT(loss_only.arena().peak_bytes(), 1 << 20);
}

class RetrievalSoftmaxContract : public testing::Test {
 protected:
  void reject(const char* text) {
    try {
      retrieval_softmax(ctx, q, heads, c, options, loss_at, row_loss, dq, dc);
      ADD_FAILURE() << "accepted; expected: " << text;
    } catch (const ContractError& e) {
      EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
    }
  }
  const Context ctx = make_context(1);
  std::vector<float> memory = std::vector<float>(64, 0.5f);
  std::vector<std::int64_t> ids = std::vector<std::int64_t>(64, 1);
  std::vector<std::int32_t> ranks = std::vector<std::int32_t>(64);
  std::vector<float> out = std::vector<float>(64);
  Matrix<const float> q{memory.data(), 4, 3}, c{memory.data(), 5, 3};
  Matrix<float> dq{out.data(), 4, 3}, dc{out.data() + 16, 5, 3};
  std::int64_t heads = 1;
  RetrievalSoftmaxOptions options;
  double loss = 0;
  double* loss_at = &loss;
  Vector<float> row_loss;
};

TEST_F(RetrievalSoftmaxContract, Shapes) {
  heads = 3, reject("heads rows each");
  heads = 0, reject("heads rows each");
  heads = 1;
  c.rows = 3, reject("C >= B");
  c.rows = 5, c.cols = 2, reject("differ in width");
  c.cols = 3, loss_at = nullptr, reject("loss must be given");
}

TEST_F(RetrievalSoftmaxContract, Options) {
  for (const float t : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN()}) {
    options.temperature = t, reject("temperature must be greater than 0");
  }
  options = {}, options.log_probability = {memory.data(), 4}, reject("log_probability");
  options = {}, options.candidate_ids = {ids.data(), 4}, reject("candidate_ids");
  options = {}, options.weight = {memory.data(), 5}, reject("weight must have");
  options = {}, options.positive_rank = {ranks.data(), 5}, reject("positive_rank");
  options = {}, row_loss = {out.data(), 5}, reject("row_loss");
}

TEST_F(RetrievalSoftmaxContract, Gradients) {
  Matrix<float> kept = dq;
  dq = {}, reject("both gradients or for none");
  dq = kept, dc = {}, reject("both gradients or for none");
  dc = {out.data() + 16, 4, 3}, reject("shapes of their inputs");
  dc.rows = 5, dq.cols = 2, reject("shapes of their inputs");
}

}  // namespace
}  // namespace belfry::test
