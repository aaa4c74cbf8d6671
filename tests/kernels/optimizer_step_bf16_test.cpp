// SPDX-License-Identifier: Apache-2.0
// Tables stored in bf16: updates, against the float32 op on the widened table.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/bf16_table.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/optimizer_cases.hpp"
#include "tests/support/tested_optimizer_step.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

const std::int64_t kWidths[] = {1, 3, 8, 16, 20, 33, 64, 128, 264, 300};

/// A list of rows with their gradient, and float slots.
struct Step {
  std::vector<std::int32_t> rows;
  HostMatrix values, slot[3];
  std::int64_t n;
  Step(Random& random, const OptimizerOptions& o, std::int64_t table_rows, std::int64_t width) {
    for (std::int64_t r = 0; r < table_rows; ++r) {
      if (random.below(3) == 0) rows.push_back(static_cast<std::int32_t>(r));
    }
    n = static_cast<std::int64_t>(rows.size());
    values = HostMatrix::normal(random, n, width);
    for (int s = 0; s < slot_count(o); ++s) {
      slot[s] = HostMatrix(table_rows, slot_width(o, width), 0, 0.125f);
    }
  }
  RowGradient gradient() { return {rows.data(), values.view(), &n, n}; }
  OptimizerSlots slots() { return {slot[0].view(), slot[1].view(), slot[2].view()}; }
};

TEST(OptimizerStepBf16, UpdateIsTheFloatUpdateRoundedByTheKey) {
  const std::uint64_t seed = 0x123456789abcdefu;
  const Context ctx = make_context(2, seed), cpu(Backend::cpu, 2, seed);
  for (const NamedOptions& named : all_options()) {
    for (const SparseUpdate sparse : {SparseUpdate::exact, SparseUpdate::lazy}) {
      for (const std::int64_t width : kWidths) {
        for (const std::int64_t padding : {0, 8}) {
          OptimizerOptions o = named.options;
          o.sparse = sparse;
          o.table = 5;
          Random random(static_cast<std::uint64_t>(width + padding));
          Bf16Table table(random, 40, width, padding);
          Step step(random, o, 40, width), wide_step = step;
          HostMatrix wide = table.wide();
          const std::string what = named.name + " width " + std::to_string(width);
          for (const Context* c : {&ctx, &cpu}) set_step(*c, 6, 0.1f);
          tested::optimizer_step(ctx, o, table.view(), step.gradient(), step.slots());
          tested::optimizer_step(cpu, o, wide.view(), wide_step.gradient(), wide_step.slots());
          const HostMatrix got = table.wide();
          for (std::int64_t r = 0; r < 40; ++r) {
            for (std::int64_t d = 0; d < width; ++d) {
              const std::uint64_t group = r * ((width + 7) / 8) + d / 8;
              const Philox4 words =
                  random_words(seed, RandomStream::rounding, 6 | std::uint64_t{5} << 40, group);
              const std::uint32_t word = words.v[d % 8 / 2];
              const std::uint32_t noise = d % 2 == 0 ? word & 0xFFFF : word >> 16;
              ASSERT_EQ(bits_of(got(r, d)), bits_of(to_float(round_stochastic(wide(r, d), noise))))
                  << what << " row " << r << " column " << d;
            }
          }
          for (int s = 0; s < slot_count(o); ++s) {
            expect_equal_bits(step.slot[s].values(), wide_step.slot[s].values(), what + " slot");
          }
        }
      }
    }
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(OptimizerStepBf16, SmallUpdatesAddUpInTheMean) {
  // Steps of a hundredth of the distance between two values: rounding to the nearest would never move.
  const Context ctx = make_context(1, 3);
  Random random(4);
  const std::int64_t rows = 40, width = 24;
  Bf16Table table(random, rows, width, 0);
  std::fill(table.data.begin(), table.data.end(), round_to_nearest(1.0f));
  OptimizerOptions o;
  o.kind = OptimizerKind::sgd;
  std::vector<std::int32_t> listed;
  for (std::int32_t r = 0; r < rows; ++r) listed.push_back(r);
  HostMatrix g(rows, width, 0, -1.0f);
  std::int64_t n = rows;
  for (int step = 0; step < 100; ++step) {
    set_step(ctx, step, 0x1p-7f / 100);
    tested::optimizer_step(ctx, o, table.view(), {listed.data(), g.view(), &n, n}, {});
  }
  double mean = 0;
  for (const float x : table.wide().values()) mean += x / static_cast<double>(rows * width);
  // 960 walks of 100 steps that are taken with probability 0.01: a deviation of 1 / sqrt(960) of a distance.
  EXPECT_NEAR((mean - 1) / 0x1p-7, 1.0, 4 / std::sqrt(960.0));
}

TEST(OptimizerStepBf16, RowsOutsideAndNonFiniteValuesAreReported) {
  OptimizerOptions o;
  o.kind = OptimizerKind::sgd;
  for (const std::int32_t row : {-1, 3, 1}) {
    const Context ctx = make_context(1);
    set_step(ctx, 0, 0.1f);
    Random random(5);
    Bf16Table table(random, 3, 8, 0);
    const std::vector<float> before = table.wide().values();
    std::vector<std::int32_t> listed{row};
    HostMatrix g(1, 8, 0, std::numeric_limits<float>::infinity());
    std::int64_t n = 1;
    tested::optimizer_step(ctx, o, table.view(), {listed.data(), g.view(), &n, n}, {});
    EXPECT_EQ(ctx.read_state().status, row == 1 ? kStatusNonFinite : kStatusIdOutOfRange);
    if (row != 1) expect_equal_bits(table.wide().values(), before, "nothing moves");
  }
}

}  // namespace
}  // namespace belfry::test
