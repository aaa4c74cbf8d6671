// SPDX-License-Identifier: Apache-2.0
#include "kernels/step/step.hpp"

#include <gtest/gtest.h>

#include "kernels/shuffle/shuffle.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_step.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

StepState state_of(std::uint64_t seed, std::uint64_t epoch, std::int64_t row_offset) {
  StepState s;
  s.step = 11;
  s.seed = seed;
  s.epoch = epoch;
  s.row_offset = row_offset;
  s.batch_rows = 5;
  for (int g = 0; g < kMaxParameterGroups; ++g) s.learning_rate[g] = 0.5f + static_cast<float>(g);
  return s;
}

TEST(BeginStep, TakesTheStateOverButForTheStatus) {
  const Context ctx = make_context(1, 3);
  edit_state(ctx, [](StepState& s) { s.status = kStatusOverflow; });
  StepState next = state_of(std::uint64_t{1} << 40, 9, std::int64_t{1} << 35);
  next.status = kStatusNonFinite;
  tested::begin_step(ctx, &next);
  const StepState got = ctx.read_state();
  EXPECT_EQ(got.step, next.step);
  EXPECT_EQ(got.seed, next.seed);
  EXPECT_EQ(got.epoch, next.epoch);
  EXPECT_EQ(got.row_offset, next.row_offset);
  EXPECT_EQ(got.batch_rows, next.batch_rows);
  for (int g = 0; g < kMaxParameterGroups; ++g) {
    EXPECT_EQ(got.learning_rate[g], next.learning_rate[g]) << g;
  }
  EXPECT_EQ(got.status, kStatusOverflow);
}

TEST(BeginStep, RefusesNothingAndItself) {
  const Context ctx = make_context(1);
  EXPECT_THROW(tested::begin_step(ctx, nullptr), ContractError);
  EXPECT_THROW(belfry::begin_step(ctx, ctx.state()), ContractError);
}

/// By the definition, position by position.
std::vector<std::int64_t> expected_rows(const StepState& s, std::int64_t n, ShuffleOrder order,
                                        std::int64_t m) {
  std::vector<std::int64_t> rows;
  const Permutation p = make_permutation(s.seed, order == ShuffleOrder::once ? 0 : s.epoch, n);
  for (std::int64_t i = 0; i < m; ++i) {
    const std::int64_t position = s.row_offset + i;
    const bool inside = position >= 0 && position < n;
    rows.push_back(!inside ? 0 : order == ShuffleOrder::none ? position : permuted(p, position));
  }
  return rows;
}

constexpr ShuffleOrder kOrders[] = {ShuffleOrder::none, ShuffleOrder::once,
                                    ShuffleOrder::every_epoch};

TEST(ShuffleBatch, IsTheShuffleAtTheStatesPosition) {
  const Context ctx = make_context(2);
  for (const ShuffleOrder order : kOrders) {
    for (const std::int64_t n : {0, 1, 2, 300, 1000}) {
      for (const std::int64_t first : {-2, 0, 1, 299, 700, 5000}) {
        const StepState s = state_of(42, 3, first);
        ctx.write_state(s);
        std::vector<std::int64_t> rows(301, -1);
        tested::shuffle_batch(ctx, n, order, view(rows));
        expect_equal_bits(rows, expected_rows(s, n, order, 301),
                          "n " + std::to_string(n) + " from " + std::to_string(first));
      }
    }
  }
  EXPECT_EQ(ctx.read_state().status, 0u) << "padding is no fault";
}

TEST(ShuffleBatch, BatchesOfAnEpochAreABijection) {
  const Context ctx = make_context(1);
  const std::int64_t n = 333, batch = 50;
  std::vector<int> seen(n);
  for (std::int64_t first = 0; first < n; first += batch) {
    ctx.write_state(state_of(7, 1, first));
    std::vector<std::int64_t> rows(batch);
    tested::shuffle_batch(ctx, n, ShuffleOrder::every_epoch, view(rows));
    for (std::int64_t i = 0; i < std::min(batch, n - first); ++i) ++seen[rows[i]];
  }
  EXPECT_EQ(seen, std::vector<int>(n, 1));
}

TEST(ShuffleBatch, EpochsDifferUnlessOnce) {
  const Context ctx = make_context(1);
  const auto rows = [&](ShuffleOrder order, std::uint64_t epoch) {
    ctx.write_state(state_of(7, epoch, 0));
    std::vector<std::int64_t> out(100);
    tested::shuffle_batch(ctx, 1000, order, view(out));
    return out;
  };
  EXPECT_NE(rows(ShuffleOrder::every_epoch, 1), rows(ShuffleOrder::every_epoch, 2));
  EXPECT_EQ(rows(ShuffleOrder::once, 1), rows(ShuffleOrder::once, 2));
}

TEST(ShuffleBatch, SameRowsEverywhere) {
  for (const ShuffleOrder order : kOrders) {
    const StepState s = state_of(1, 2, 100);
    for_each_variant([&](const Context& ctx) {
      ctx.write_state(s);
      std::vector<std::int64_t> rows(by_backend(9000, 700));
      tested::shuffle_batch(ctx, 1'000'000'007, order, view(rows));
      expect_equal_bits(rows, expected_rows(s, 1'000'000'007, order, rows.size()), "rows");
    });
  }
}

TEST(ShuffleBatch, EmptyBatch) {
  const Context ctx = make_context(1);
  EXPECT_NO_THROW(tested::shuffle_batch(ctx, 5, ShuffleOrder::once, {}));
  EXPECT_THROW(tested::shuffle_batch(ctx, -1, ShuffleOrder::once, {}), ContractError);
}

TEST(Step, AGraphOfSeveralStepsReadsTheirStates) {
  const Context ctx = make_context(1);
  const std::int64_t n = 500, batch = 60;
  const auto states = [](std::uint64_t epoch) {
    return std::vector<StepState>{state_of(5, epoch, 0), state_of(5, epoch, 60)};
  };
  Held<StepState> next(ctx, states(1));
  Held<std::int64_t> rows(ctx, std::vector<std::int64_t>(2 * batch));
  Replay replay(ctx, [&] {
    for (int k = 0; k < 2; ++k) {
      belfry::begin_step(ctx, next.data() + k);
      belfry::shuffle_batch(ctx, n, ShuffleOrder::every_epoch, {rows.data() + k * batch, batch});
    }
  });
  for (const std::uint64_t epoch : {1, 8}) {
    next.set(states(epoch));
    replay.run();
    std::vector<std::int64_t> expected;
    for (const StepState& s : states(epoch)) {
      const auto part = expected_rows(s, n, ShuffleOrder::every_epoch, batch);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    expect_equal_bits(rows.get(), expected, "rows");
    EXPECT_EQ(ctx.read_state().row_offset, 60);
  }
}

}  // namespace
}  // namespace belfry::test
