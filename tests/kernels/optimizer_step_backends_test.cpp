// SPDX-License-Identifier: Apache-2.0
// optimizer_step on the backend under test against the CPU, to the bit; under every schedule; replayed.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/optimizer_cases.hpp"
#include "tests/support/tested_optimizer_step.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

TEST(OptimizerStep, SameBitsWhateverTheSchedule) {
  const std::int64_t rows = by_backend(3000, 60);
  for (const NamedOptions& named : all_options()) {
    std::vector<std::vector<float>> results;
    for_each_variant([&](const Context& ctx) {
      Random random(7);
      set_step(ctx, 0, 0.1f);
      Parameter p(named.options, HostMatrix::normal(random, rows, 33));
      Rows list = random_rows(random, rows, 33, 0.3);
      tested::optimizer_step(ctx, p.options, p.w.view(), list.get(), p.slots());
      p.options.sparse = SparseUpdate::lazy;
      tested::optimizer_step(ctx, p.options, p.w.view(), list.get(), p.slots());
      results.push_back(p.w.values());
      expect_equal_bits(results.back(), results[0], named.name);
    });
  }
}

/// One dense, one listed exact and one listed lazy update.
void three_updates(const Context& ctx, Parameter& p, const HostMatrix& dense, Rows& list) {
  set_step(ctx, 5, 0.1f);
  tested::optimizer_step(ctx, p.options, p.w.view(), dense.view(), p.slots());
  p.options.sparse = SparseUpdate::exact;
  tested::optimizer_step(ctx, p.options, p.w.view(), list.get(), p.slots());
  p.options.sparse = SparseUpdate::lazy;
  tested::optimizer_step(ctx, p.options, p.w.view(), list.get(), p.slots());
}

TEST(OptimizerStep, BothBackendsGiveTheSameBits) {
  // Widths of every number of lanes, in packs of four or one by one; padding that allows packs or not.
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (const NamedOptions& named : all_options()) {
    for (const std::int64_t width : {1, 3, 4, 8, 16, 33, 64, 100, 128, 132, 260}) {
      for (const std::int64_t padding : {0, 1, 4}) {
        Random random(21);
        const std::int64_t rows = 1 + random.below(30);
        Parameter p(named.options, HostMatrix::normal(random, rows, width, 1, padding), padding);
        Parameter p_cpu = p;
        const HostMatrix dense = HostMatrix::normal(random, rows, width, 1, padding);
        Rows list = random_rows(random, rows, width, 0.4, padding);
        three_updates(ctx, p, dense, list);
        three_updates(cpu, p_cpu, dense, list);
        const std::string what = named.name + " width " + std::to_string(width);
        expect_equal_bits(p.w.values(), p_cpu.w.values(), what);
        for (int s = 0; s < slot_count(named.options); ++s) {
          expect_equal_bits(p.slot[s].values(), p_cpu.slot[s].values(), what + " slot");
        }
        EXPECT_TRUE(p.padding_intact());
      }
    }
  }
}

TEST(OptimizerStep, TablesWithManyRowsAUnit) {
  // On the device each group of lanes takes several rows here.
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  Random random(22);
  const std::int64_t rows = 16384 * 3 + 5;
  OptimizerOptions o;
  Parameter p(o, HostMatrix::normal(random, rows, 1)), p_cpu = p;
  Rows list = random_rows(random, rows, 1, 0.1);
  for (const Context* c : {&ctx, &cpu}) {
    set_step(*c, 0, 0.1f);
    Parameter& q = c == &ctx ? p : p_cpu;
    tested::optimizer_step(*c, o, q.w.view(), list.get(), q.slots());
    tested::optimizer_step(*c, o, q.w.view(), list.get(), q.slots());
  }
  expect_equal_bits(p.w.values(), p_cpu.w.values(), "w");
}

TEST(OptimizerStep, CanBeReplayed) {
  const std::int64_t rows = 9, width = 16;
  Random random(23);
  for (const NamedOptions& named : all_options()) {
    const Context ctx = make_context(1), cpu(Backend::cpu, 1);
    set_step(ctx, 0, 0.1f);
    Parameter p(named.options, HostMatrix::normal(random, rows, width));
    Held<float> w(ctx, p.w.values()), g(ctx, random.normals(rows * width));
    Held<float> slots[3] = {
        {ctx, p.slot[0].values()}, {ctx, p.slot[1].values()}, {ctx, p.slot[2].values()}};
    Held<std::int32_t> list(ctx, {0, 1, 2, 3, 4, 5, 6, 7, 8});
    Held<std::int64_t> n(ctx, {0});
    const auto slot = [&](int s) {
      return slot_count(named.options) > s ? slots[s].matrix(rows, slot_width(named.options, width))
                                           : Matrix<float>();
    };
    Replay replay(ctx, [&] {
      belfry::optimizer_step(ctx, named.options, w.matrix(rows, width),
                             {list.data(), g.matrix(rows, width), n.data(), rows},
                             {slot(0), slot(1), slot(2)});
    });
    p.w = HostMatrix(rows, width, w.get());  // the first run has moved it
    for (int s = 0; s < slot_count(named.options); ++s) {
      p.slot[s] = HostMatrix(rows, p.slot[s].cols(), slots[s].get());
    }
    for (int round = 0; round < 3; ++round) {
      Rows next = random_rows(random, rows, width, 0.5);
      next.rows.resize(rows);
      HostMatrix values(rows, width);
      for (std::int64_t i = 0; i < next.n; ++i) {
        std::copy_n(&next.values(i, 0), width, &values(i, 0));
      }
      list.set(next.rows);
      g.set(values.values());
      n.set({next.n});
      for (const Context* c : {&ctx, &cpu}) set_step(*c, round, 0.1f * (round + 1));
      replay.run();
      tested::optimizer_step(cpu, named.options, p.w.view(), next.get(), p.slots());
      expect_equal_bits(w.get(), p.w.values(), named.name);
    }
  }
}

}  // namespace
}  // namespace belfry::test
