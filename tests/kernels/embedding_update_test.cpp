// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding_update/embedding_update.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/optimizer_cases.hpp"
#include "tests/support/tested_embedding_update.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

/// A table of T, its slots, and what happens to it in a step. Rows 0 and 1 get many places.
template <class T>
struct Problem {
  std::int64_t rows, width, pitch;
  std::vector<T> table;
  HostMatrix slot[3];
  std::vector<std::int32_t> plain, hot, ids;
  std::vector<std::int64_t> offsets;
  std::vector<float> weights;
  HostMatrix d_plain, d_hot, d_bags;
  bool ragged;

  Problem(Random& random, const OptimizerOptions& o, std::int64_t r, std::int64_t d,
          std::int64_t padding, bool with_bags, std::int64_t hot_places = 200)
      : rows(r), width(d), pitch(d + padding), ragged(with_bags) {
    for (std::int64_t i = 0; i < rows * pitch; ++i) {
      const float x = static_cast<float>(random.normal());
      if constexpr (std::is_same_v<T, bf16>) {
        table.push_back(round_to_nearest(x));
      } else {
        table.push_back(x);
      }
    }
    for (int s = 0; s < slot_count(o); ++s) {
      slot[s] = HostMatrix(rows, slot_width(o, width), padding, 0.125f);
    }
    plain = random.ids(40, rows);
    hot = random.ids(hot_places, 2);
    offsets = random.offsets(15, 5);
    ids = random.ids(offsets.back(), rows);
    weights = random.uniforms(offsets.back(), 0.5, 2);
    d_plain = HostMatrix::normal(random, 40, width, 1, padding);
    d_hot = HostMatrix::normal(random, hot_places, width, 1, padding);
    d_bags = HostMatrix::normal(random, 15, width, 1, padding);
  }
  std::vector<TableUse> uses() const {
    const auto n = static_cast<std::int64_t>(plain.size()),
               m = static_cast<std::int64_t>(hot.size());
    std::vector<TableUse> out = {
        {{plain.data(), nullptr, nullptr, n, n}, Pooling::sum, d_plain.view()},
        {{hot.data(), nullptr, nullptr, m, m}, Pooling::sum, d_hot.view()}};
    if (ragged) {
      out.push_back({{ids.data(), offsets.data(), weights.data(), 15, offsets.back()},
                     Pooling::mean,
                     d_bags.view()});
    }
    return out;
  }
  Matrix<T> view() { return {table.data(), rows, width, pitch}; }
  OptimizerSlots slots() { return {slot[0].view(), slot[1].view(), slot[2].view()}; }
  std::vector<float> values() const {
    std::vector<float> out;
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t d = 0; d < width; ++d) out.push_back(to_float(table[r * pitch + d]));
    }
    return out;
  }
};

template <class T>
void expect_same(const Problem<T>& a, const Problem<T>& b, const std::string& what) {
  expect_equal_bits(a.values(), b.values(), what);
  for (int s = 0; s < 3; ++s) {
    expect_equal_bits(a.slot[s].values(), b.slot[s].values(), what + " slot");
    EXPECT_TRUE(a.slot[s].padding_intact()) << what;
  }
}

/// The gradient as a list of rows, then the optimizer: what embedding_update must equal.
template <class T>
void two_ops(const Context& ctx, const OptimizerOptions& o, Problem<T>& p) {
  const std::vector<TableUse> uses = p.uses();
  std::vector<std::int32_t> listed(p.rows);
  HostMatrix values(p.rows, p.width);
  std::int64_t n = 0;
  const RowGradient gradient{listed.data(), values.view(), &n, p.rows};
  tested::embedding_bag_grad(ctx, uses, p.rows, gradient);
  tested::optimizer_step(ctx, o, p.view(), gradient, p.slots());
}

template <class T>
void expect_both_ways_equal() {
  const Context ctx = make_context(1, 77), cpu(Backend::cpu, 1, 77);
  for (const NamedOptions& named : all_options()) {
    for (const SparseUpdate sparse : {SparseUpdate::exact, SparseUpdate::lazy}) {
      for (const std::int64_t width : {1, 5, 8, 16, 40, 64, 136, 264, 520}) {
        for (const std::int64_t padding : {0, 1, 8}) {
          if (width > 100 && (padding == 1 || sparse == SparseUpdate::exact)) continue;
          OptimizerOptions o = named.options;
          o.sparse = sparse;
          o.table = 3;
          Random random(static_cast<std::uint64_t>(width));
          Problem<T> fused(random, o, 30, width, padding, random.below(2) == 1);
          Problem<T> apart = fused, both = fused;
          for (const Context* c : {&ctx, &cpu}) set_step(*c, 4, 0.1f);
          tested::embedding_update(ctx, o, fused.uses(), fused.view(), fused.slots());
          two_ops(cpu, o, apart);
          expect_same(fused, apart, named.name + " width " + std::to_string(width));
          two_ops(ctx, o, both);
          expect_same(both, apart, named.name + " by two ops, width " + std::to_string(width));
        }
      }
    }
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(EmbeddingUpdate, EqualsTheTwoOpsToTheBit) {
  expect_both_ways_equal<float>();
}
TEST(EmbeddingUpdate, EqualsTheTwoOpsToTheBitInBf16) {
  expect_both_ways_equal<bf16>();
}

OptimizerOptions lazy(OptimizerKind kind) {
  OptimizerOptions o;
  o.kind = kind;
  o.sparse = SparseUpdate::lazy;
  return o;
}

TEST(EmbeddingUpdate, SameBitsWhateverTheSchedule) {
  for (const OptimizerKind kind : {OptimizerKind::adam, OptimizerKind::rowwise_adagrad,
                                   OptimizerKind::ftrl, OptimizerKind::clippy_adagrad}) {
    std::vector<Problem<bf16>> seen;
    for_each_variant(
        [&](const Context& ctx) {
          Random random(5);
          Problem<bf16> p(random, lazy(kind), 20, 24, 0, true, by_backend(5000, 700));
          for (int step = 0; step < 2; ++step) {
            set_step(ctx, step, 0.1f);
            tested::embedding_update(ctx, lazy(kind), p.uses(), p.view(), p.slots());
          }
          seen.push_back(p);
          expect_same(p, seen[0], "variant");
        },
        9);
  }
}

TEST(EmbeddingUpdate, RowsWithWholeChunks) {
  // 63, 64, 65, 128, 129 places of one row: chunks that end where the row ends, and one behind.
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (const std::int64_t places : {63, 64, 65, 127, 128, 129, 192, 1024, 1025, 2100}) {
    for (const OptimizerKind kind : {OptimizerKind::sgd, OptimizerKind::rowwise_adagrad}) {
      Random random(6);
      Problem<float> p(random, lazy(kind), 3, 16, 0, false, places);
      p.hot.assign(places, 2);
      p.plain.assign(1, 0);
      p.d_plain = HostMatrix::normal(random, 1, 16);
      Problem<float> want = p;
      for (const Context* c : {&ctx, &cpu}) set_step(*c, 0, 0.1f);
      tested::embedding_update(ctx, lazy(kind), p.uses(), p.view(), p.slots());
      two_ops(cpu, lazy(kind), want);
      expect_same(p, want, std::to_string(places) + " places");
    }
  }
}

TEST(EmbeddingUpdate, NothingToDo) {
  for (const OptimizerKind kind :
       {OptimizerKind::adam, OptimizerKind::rowwise_adagrad, OptimizerKind::clippy_adagrad}) {
    const Context ctx = make_context(1);
    set_step(ctx, 0, 0.1f);
    Random random(7);
    Problem<float> p(random, lazy(kind), 4, 8, 0, false);
    const Problem<float> before = p;
    tested::embedding_update<float>(ctx, lazy(kind), {}, p.view(), p.slots());
    expect_same(p, before, "no uses");
    std::fill(p.plain.begin(), p.plain.end(), 4);
    std::fill(p.hot.begin(), p.hot.end(), -1);
    tested::embedding_update(ctx, lazy(kind), p.uses(), p.view(), p.slots());
    EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
    expect_same(p, before, "no id in the table");
    Problem<float> empty(random, lazy(kind), 1, 0, 0, false);
    EXPECT_NO_THROW(
        tested::embedding_update(ctx, lazy(kind), empty.uses(), empty.view(), empty.slots()));
  }
}

TEST(EmbeddingUpdate, AnEmptyGradientStillMovesRowsWithMomentum) {
  const Context ctx = make_context(1);
  set_step(ctx, 0, 0.1f);
  Random random(8);
  OptimizerOptions o;
  Problem<float> p(random, o, 4, 8, 0, false), want = p;
  tested::embedding_update<float>(ctx, o, {}, p.view(), p.slots());
  const HostMatrix zeros(4, 8);
  tested::optimizer_step(ctx, o, want.view(), zeros.view(), want.slots());
  expect_same(p, want, "zeros");
}

TEST(EmbeddingUpdate, RowsBehindTheTableAreReportedAndNothingMoves) {
  for (const OptimizerKind kind :
       {OptimizerKind::adam, OptimizerKind::rowwise_adagrad, OptimizerKind::sgd,
        OptimizerKind::rmsprop, OptimizerKind::clippy_adagrad}) {
    for (const SparseUpdate sparse : {SparseUpdate::exact, SparseUpdate::lazy}) {
      const Context ctx = make_context(1);
      set_step(ctx, 0, 0.1f);
      Random random(9);
      OptimizerOptions o = lazy(kind);
      o.sparse = sparse;
      Problem<float> p(random, o, 4, 8, 0, false);
      p.plain[3] = 4;  // the plan's table has a row more
      const Problem<float> before = p;
      tested::embedding_update(ctx, o, p.uses(), p.view(), p.slots(), 5);
      EXPECT_EQ(ctx.read_state().status, kStatusIdOutOfRange);
      expect_same(p, before, "nothing moves");
    }
  }
}

TEST(EmbeddingUpdate, NonFiniteValuesAreReported) {
  for (const NamedOptions& named : all_options()) {
    for (const bool hot : {false, true}) {  // a row of one chunk, of several
      const Context ctx = make_context(1);
      set_step(ctx, 0, 0.1f);
      Random random(10);
      OptimizerOptions o = named.options;
      o.sparse = SparseUpdate::lazy;
      Problem<float> p(random, o, 30, 20, 0, false);
      (hot ? p.d_hot(199, 18) : p.d_plain(7, 18)) = std::numeric_limits<float>::infinity();
      tested::embedding_update(ctx, o, p.uses(), p.view(), p.slots());
      EXPECT_EQ(ctx.read_state().status, kStatusNonFinite) << named.name;
    }
  }
}

TEST(EmbeddingUpdate, CanBeReplayed) {
  const std::int64_t n = 300, rows = 9, width = 12;
  for (const OptimizerKind kind :
       {OptimizerKind::sgd, OptimizerKind::adam, OptimizerKind::rowwise_adagrad,
        OptimizerKind::rmsprop, OptimizerKind::ftrl, OptimizerKind::clippy_adagrad}) {
    const Context ctx = make_context(1), cpu(Backend::cpu, 1);
    set_step(ctx, 0, 0.1f);
    Random random(11);
    const OptimizerOptions o = lazy(kind);
    Held<float> table(ctx, random.normals(rows * width)), d_y(ctx, random.normals(n * width));
    Held<float> first(ctx, std::vector<float>(rows * width, 0.5f)), second(ctx, first.get());
    Held<std::int32_t> ids(ctx, random.ids(n, rows));
    HeldPlan plan(ctx, n, rows, false);
    const std::int64_t slot = slot_width(o, width);
    const int slots = slot_count(o);
    const RowPlan view = plan.get();
    const TableIds uses_ids{{ids.data(), nullptr, nullptr, n, n}};
    const TableUse use{uses_ids.ids, Pooling::sum, d_y.matrix(n, width)};
    Replay replay(ctx, [&] {
      belfry::row_plan(ctx, {&uses_ids, 1}, rows, {&view, 1});
      belfry::embedding_update(ctx, o, {&use, 1}, view, table.matrix(rows, width),
                               {slots > 0 ? first.matrix(rows, slot) : Matrix<float>(),
                                slots > 1 ? second.matrix(rows, slot) : Matrix<float>(),
                                {}});
    });
    for (int round = 0; round < 2; ++round) {
      for (const Context* c : {&ctx, &cpu}) set_step(*c, round, 0.2f);
      const std::vector<std::int32_t> next = random.ids(n, round == 0 ? 2 : rows);
      HostMatrix w(rows, width, table.get()), d(n, width, d_y.get());
      std::vector<float> a = first.get(), b = second.get();
      ids.set(next);
      replay.run();
      const TableUse host{{next.data(), nullptr, nullptr, n, n}, Pooling::sum, d.view()};
      tested::embedding_update(cpu, o, {&host, 1}, w.view(),
                               {slots > 0 ? Matrix<float>(a.data(), rows, slot) : Matrix<float>(),
                                slots > 1 ? Matrix<float>(b.data(), rows, slot) : Matrix<float>(),
                                {}});
      expect_equal_bits(table.get(), w.values(), "table");
      expect_equal_bits(first.get(), a, "slot");
    }
  }
}

TEST(EmbeddingUpdate, RefusesBadArguments) {
  const Context ctx = make_context(1);
  Random random(12);
  const OptimizerOptions o = lazy(OptimizerKind::adagrad);
  Problem<float> p(random, o, 4, 8, 0, false);
  const std::vector<TableUse> uses = p.uses();
  EXPECT_NO_THROW(tested::embedding_update(ctx, o, uses, p.view(), p.slots()));
  EXPECT_THROW(tested::embedding_update(ctx, o, uses, p.view(), {}), ContractError);
  EXPECT_THROW(tested::embedding_update(ctx, o, uses, p.view().columns(0, 4), p.slots()),
               ContractError);
  HeldPlan small(ctx, 3, 4, false);
  EXPECT_THROW(belfry::embedding_update(ctx, o, uses, small.get(), p.view(), p.slots()),
               ContractError);
}

}  // namespace
}  // namespace belfry::test
