// SPDX-License-Identifier: Apache-2.0
#include "kernels/row_plan/row_plan.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_row_plan.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

/// Ids of one use, with the vectors they point into.
struct Use {
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> offsets;  // empty: one id a bag
  std::vector<float> weights;         // empty: 1 each
  Pooling pooling = Pooling::sum;
  TableIds get() const {
    const auto nnz = static_cast<std::int64_t>(ids.size());
    return {{ids.data(), offsets.empty() ? nullptr : offsets.data(),
             weights.empty() ? nullptr : weights.data(),
             offsets.empty() ? nnz : static_cast<std::int64_t>(offsets.size()) - 1, nnz},
            pooling};
  }
};

Use plain(std::vector<std::int32_t> ids) {
  return {std::move(ids), {}, {}};
}

/// A plan by a map from row to its places, in order.
struct Expected {
  std::vector<std::int32_t> rows;
  std::vector<std::uint32_t> begin, bags, chunk_rows;
  std::vector<float> scales;

  Expected(const std::vector<Use>& uses, std::int64_t table_rows) {
    std::map<std::int32_t, std::vector<std::pair<std::uint32_t, float>>> places;
    std::int64_t base = 0, nnz = 0;
    for (const Use& use : uses) {
      const Ragged ids = use.get().ids;
      for (std::int64_t b = 0; b < ids.bags; ++b) {
        const float scale = bag_scale(ids, use.pooling, b);
        const std::int64_t first = ids.offsets != nullptr ? ids.offsets[b] : b;
        const std::int64_t end = ids.offsets != nullptr ? ids.offsets[b + 1] : b + 1;
        for (std::int64_t j = first; j < end; ++j) {
          const std::int32_t row = use.ids[static_cast<std::size_t>(j)];
          if (row < 0 || row >= table_rows) continue;
          const float weight = use.weights.empty() ? 1.0f : use.weights[j];
          places[row].push_back({static_cast<std::uint32_t>(base + b), scale * weight});
        }
      }
      base += ids.bags;
      nnz += ids.nnz;
    }
    chunk_rows.assign(nnz / kEmbeddingGradChunk + 1, kNoChunk);
    begin.push_back(0);
    for (const auto& [row, list] : places) {
      const std::size_t first = bags.size();
      for (const auto& [bag, scale] : list) {
        const std::size_t i = bags.size() - first;
        if (i > 0 && i % kEmbeddingGradChunk == 0) {
          chunk_rows[bags.size() / kEmbeddingGradChunk] = static_cast<std::uint32_t>(rows.size());
        }
        bags.push_back(bag);
        scales.push_back(scale);
      }
      rows.push_back(row);
      begin.push_back(static_cast<std::uint32_t>(bags.size()));
    }
  }
};

using Steps = std::vector<std::vector<Use>>;

std::int64_t ids_of(const std::vector<Use>& uses) {
  std::int64_t n = 0;
  for (const Use& use : uses) n += use.get().ids.nnz;
  return n;
}

std::deque<HeldPlan> plan(const Context& ctx, const Steps& steps, std::int64_t table_rows,
                          bool scales) {
  std::deque<HeldPlan> held;
  std::vector<RowPlan> plans;
  std::vector<TableIds> uses;
  for (const std::vector<Use>& step : steps) {
    plans.push_back(held.emplace_back(ctx, ids_of(step), table_rows, scales).get());
    for (const Use& use : step) uses.push_back(use.get());
  }
  tested::row_plan(ctx, uses, table_rows, plans);
  return held;
}

void expect_plan(const HeldPlan& actual, const Expected& want, bool scales,
                 const std::string& what) {
  ASSERT_EQ(actual.n(), static_cast<std::int64_t>(want.rows.size())) << what;
  EXPECT_EQ(actual.rows(), want.rows) << what;
  EXPECT_EQ(actual.begin(), want.begin) << what;
  EXPECT_EQ(actual.bags(), want.bags) << what;
  EXPECT_EQ(actual.chunk_rows(), want.chunk_rows) << what;
  if (scales) expect_equal_bits(actual.scales(), want.scales, what);
}

void expect_plans(const Context& ctx, const Steps& steps, std::int64_t table_rows, bool scales,
                  const std::string& what) {
  const std::deque<HeldPlan> plans = plan(ctx, steps, table_rows, scales);
  for (std::size_t t = 0; t < steps.size(); ++t) {
    expect_plan(plans[t], Expected(steps[t], table_rows), scales,
                what + " step " + std::to_string(t));
  }
}

Use random_use(Random& random, std::int64_t bags, std::int64_t rows, int form) {
  Use use;
  use.pooling = static_cast<Pooling>(random.below(3));
  if (form & 1) use.offsets = random.offsets(bags, 9);
  const std::int64_t nnz = form & 1 ? use.offsets.back() : bags;
  use.ids = random.below(2) == 1 ? random.zipf_ids(nnz, std::min<std::int64_t>(rows, 1000), 1.3)
                                 : random.ids(nnz, rows);
  if (form & 2) use.weights = random.uniforms(nnz, 0.25, 2.0);
  return use;
}

TEST(RowPlan, ByHand) {
  const Context ctx = make_context(1);
  const Steps steps = {{plain({3, 1, 3}), plain({1})}, {plain({2, 9, -1}), plain({0})}};
  const std::deque<HeldPlan> plans = plan(ctx, steps, 4, false);
  EXPECT_EQ(plans[0].rows(), (std::vector<std::int32_t>{1, 3}));
  EXPECT_EQ(plans[0].begin(), (std::vector<std::uint32_t>{0, 2, 4}));
  EXPECT_EQ(plans[0].bags(), (std::vector<std::uint32_t>{1, 3, 0, 2}));
  EXPECT_EQ(plans[1].rows(), (std::vector<std::int32_t>{0, 2}));
  EXPECT_EQ(plans[1].begin(), (std::vector<std::uint32_t>{0, 1, 2}));
  EXPECT_EQ(plans[1].bags(), (std::vector<std::uint32_t>{3, 0}));
  EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
}

TEST(RowPlan, MatchesAMapOnManyShapes) {
  const Context ctx = make_context(2);
  Random random(3);
  for (const std::int64_t bags : kNastySizes) {
    for (const std::int64_t rows : {1, 2, 255, 256, 257, 100'000, INT32_MAX}) {
      for (const int form : {0, 1, 2, 3}) {
        Steps steps(1 + random.below(3));
        for (auto& step : steps) {
          step.push_back(random_use(random, bags, rows, form));
          step.push_back(random_use(random, 1 + random.below(40), rows, 0));
        }
        expect_plans(ctx, steps, rows, form != 0,
                     "bags " + std::to_string(bags) + " rows " + std::to_string(rows));
      }
    }
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(RowPlan, RowsOfManyChunks) {
  // Runs that begin anywhere in a block and end at its borders, or one place off.
  const Context ctx = make_context(1);
  for (const int before : {0, 1, 5, 63, 64}) {
    for (const int places : {1, 63, 64, 65, 127, 128, 129, 200, 320}) {
      for (const int behind : {0, 1, 64}) {
        std::vector<std::int32_t> ids(before, 0);
        ids.resize(ids.size() + places, 1);
        ids.resize(ids.size() + behind, 2);
        expect_plans(ctx, {{plain(ids)}}, 3, false,
                     std::to_string(before) + " " + std::to_string(places));
      }
    }
  }
}

TEST(RowPlan, ManyStepsAtOnce) {
  // More plans and uses than one launch takes; steps of all sizes, none included.
  Random random(4);
  for (const std::int64_t rows : {50, INT32_MAX}) {  // keys of 32 and of 64 bits
    for_each_variant([&](const Context& ctx) {
      Steps steps;
      for (int t = 0; t < 70; ++t) {
        const Use empty = plain({});
        steps.push_back({random_use(random, random.below(30), rows, t % 4), empty,
                         plain(random.ids(t % 7 == 0 ? 0 : 20, rows))});
      }
      expect_plans(ctx, steps, rows, true, std::to_string(rows) + " rows");
    });
  }
}

TEST(RowPlan, OneStepIsTheSameAsItsPlaceAmongMany) {
  const Context ctx = make_context(1);
  Random random(5);
  Steps steps;
  for (int t = 0; t < 5; ++t) steps.push_back({random_use(random, 90, 12, 3)});
  const std::deque<HeldPlan> together = plan(ctx, steps, 12, true);
  for (std::size_t t = 0; t < steps.size(); ++t) {
    const std::deque<HeldPlan> alone = plan(ctx, {steps[t]}, 12, true);
    EXPECT_EQ(alone[0].bags(), together[t].bags());
    EXPECT_EQ(alone[0].rows(), together[t].rows());
  }
}

TEST(RowPlan, IdsOutsideAreLeftOutAndReported) {
  for (const std::int32_t rows : {1, 3, 4, 256, 257}) {
    for (const std::int32_t bad : {rows, -1, INT32_MIN, INT32_MAX}) {
      const Context ctx = make_context(1);
      const Steps steps = {{plain({rows - 1, bad, 0})}, {plain({0})}, {plain({bad, bad, bad})}};
      expect_plans(ctx, steps, rows, false, "bad " + std::to_string(bad));
      EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
    }
  }
  const Context ctx = make_context(1);
  expect_plans(ctx, {{plain({0, 1})}}, 0, false, "a table without rows");
}

TEST(RowPlan, IdsOutsideOfAllBagsAreNotThere) {
  const Context ctx = make_context(1);
  Use use{{99, 1, 2, 1, 99, -5}, {1, 2, 2, 4}, {}};  // bags of places 1 .. 3
  for (const int tail : {0, 100}) {
    use.ids.resize(use.ids.size() + tail, 77);
    expect_plans(ctx, {{plain({2}), use, plain({1})}}, 3, true, "a part of the ids");
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(RowPlan, NothingToDo) {
  const Context ctx = make_context(1);
  EXPECT_NO_THROW(tested::row_plan(ctx, {}, 5, {}));
  expect_plans(ctx, {{}, {}}, 5, false, "no uses");
  expect_plans(ctx, {{plain({})}, {plain({4})}, {plain({})}}, 5, false, "a step without ids");
  expect_plans(ctx, {{Use{{}, {0, 0, 0}, {}}}}, 5, true, "empty bags");
}

TEST(RowPlan, CanBeReplayed) {
  const Context ctx = make_context(1);
  Random random(6);
  const std::int64_t n = 130, rows = 9, steps = 3;
  Held<std::int32_t> ids(ctx, random.ids(n * steps, rows));
  std::deque<HeldPlan> held;
  std::vector<RowPlan> plans;
  std::vector<TableIds> uses;
  for (std::int64_t t = 0; t < steps; ++t) {
    plans.push_back(held.emplace_back(ctx, n, rows, false).get());
    uses.push_back({{ids.data() + t * n, nullptr, nullptr, n, n}});
  }
  Replay replay(ctx, [&] { belfry::row_plan(ctx, uses, rows, plans); });
  for (int round = 0; round < 2; ++round) {
    const std::vector<std::int32_t> next = random.ids(n * steps, round == 0 ? 2 : rows);
    ids.set(next);
    replay.run();
    for (std::int64_t t = 0; t < steps; ++t) {
      const Use use = plain({next.begin() + t * n, next.begin() + (t + 1) * n});
      expect_plan(held[t], Expected({use}, rows), false, "step");
    }
  }
}

TEST(RowPlan, MemoryFromAnArena) {
  const Context ctx = make_context(1);
  const ArenaScope scope(ctx);
  const RowPlan few = take_row_plan(ctx.arena(), 100, 7, true);
  EXPECT_EQ(few.capacity, 7);
  EXPECT_EQ(few.nnz, 100);
  EXPECT_NE(few.scales, nullptr);
  const RowPlan many = take_row_plan(ctx.arena(), 100, 1000, false);
  EXPECT_EQ(many.capacity, 100);
  EXPECT_EQ(many.scales, nullptr);
}

TEST(RowPlan, RefusesBadArguments) {
  const Context ctx = make_context(1);
  const Use two = plain({0, 1});
  const auto call = [&](const std::vector<TableIds>& uses, std::int64_t rows, HeldPlan& plan,
                        std::int64_t steps = 1) {
    const std::vector<RowPlan> plans(steps, plan.get());
    tested::row_plan(ctx, uses, rows, plans);
  };
  HeldPlan fits(ctx, 2, 4, false), small(ctx, 1, 4, false), low(ctx, 2, 1, false);
  EXPECT_NO_THROW(call({two.get()}, 4, fits));
  EXPECT_THROW(call({two.get()}, 4, small), ContractError);
  EXPECT_THROW(call({two.get()}, 4, low), ContractError);
  EXPECT_THROW(call({two.get()}, -1, fits), ContractError);
  EXPECT_THROW(call({two.get()}, std::int64_t{1} << 31, fits), ContractError);
  EXPECT_THROW(call({two.get()}, 4, fits, 2), ContractError);
  EXPECT_THROW(call({two.get()}, 4, fits, 0), ContractError);
  TableIds unequal = two.get();
  unequal.ids.bags = 1;
  EXPECT_THROW(call({unequal}, 4, fits), ContractError);
  const Use weighted{{0, 1}, {}, {1, 2}};
  EXPECT_THROW(call({weighted.get()}, 4, fits), ContractError);
  HeldPlan none(ctx, 0, 4, false);
  EXPECT_THROW(call(std::vector<TableIds>(kMaxTableUses + 1, plain({}).get()), 4, none),
               ContractError);
}

}  // namespace
}  // namespace belfry::test
