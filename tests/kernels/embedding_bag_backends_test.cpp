// SPDX-License-Identifier: Apache-2.0
// embedding_bag on the backend under test against the CPU, to the bit; bf16 tables; captured and replayed.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/bags.hpp"
#include "tests/support/bf16_table.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

TEST(EmbeddingBag, BothBackendsGiveTheSameBits) {
  Random random(14);
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  // Widths of every number of lanes, in packs of four or one by one; padding that allows packs or not.
  for (const std::int64_t width : {1, 2, 4, 8, 12, 16, 33, 64, 100, 128, 132, 260}) {
    for (const std::int64_t padding : {0, 3, 4}) {
      const int form = static_cast<int>(random.below(4));
      const std::int64_t bags = 1 + random.below(70);
      const Bags in = random_bags(random, bags, 30, form & 1, form & 2, true);
      const Pooling pooling = kPoolings[random.below(3)];
      const std::string what = std::to_string(width) + " form " + std::to_string(form);
      const HostMatrix table = HostMatrix::normal(random, 30, width, 1, padding);
      HostMatrix y(bags, width, padding, -1.0f), y_cpu = y;
      tested::embedding_bag(ctx, table.view(), in.ragged(), pooling, y.view());
      tested::embedding_bag(cpu, table.view(), in.ragged(), pooling, y_cpu.view());
      expect_equal_bits(y.values(), y_cpu.values(), "lookup " + what);
      const HostMatrix d_y = HostMatrix::normal(random, bags, width, 1, padding);
      const Bags other{random.ids(140, 3), {}, {}};  // rows with several chunks
      const HostMatrix d_other = HostMatrix::normal(random, 140, width, 1, padding);
      const std::vector<TableUse> uses = {{in.ragged(), pooling, d_y.view()},
                                          {other.ragged(), Pooling::sum, d_other.view()}};
      const RowsOut out = grad(ctx, uses, 30, width, padding);
      const RowsOut out_cpu = grad(cpu, uses, 30, width, padding);
      expect_equal_bits(out.rows, out_cpu.rows, "rows " + what);
      expect_equal_bits(out.values.values(), out_cpu.values.values(), "gradient " + what);
    }
  }
}

TEST(EmbeddingBag, InBf16IsTheLookupOfTheWidenedTable) {
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (const std::int64_t width : {1, 3, 8, 16, 20, 33, 64, 128, 264, 300}) {
    for (const std::int64_t padding : {0, 3, 8}) {
      for (const int form : {0, 1, 2, 3}) {
        Random random(static_cast<std::uint64_t>(width));
        Bf16Table table(random, 25, width, padding);
        const std::vector<std::int64_t> offsets = random.offsets(40, 9);
        const std::int64_t nnz = form & 1 ? offsets.back() : 40;
        const std::vector<std::int32_t> ids = random.ids(nnz, 27);  // some lie outside
        const std::vector<float> weights = random.uniforms(nnz, 0.25, 2);
        const Ragged bags{ids.data(), form & 1 ? offsets.data() : nullptr,
                          form & 2 ? weights.data() : nullptr, 40, nnz};
        HostMatrix y(40, width, padding, -1.0f), want(40, width);
        tested::embedding_bag(ctx, table.view(), bags, Pooling::sqrtn, y.view());
        const HostMatrix wide = table.wide();
        tested::embedding_bag(cpu, wide.view(), bags, Pooling::sqrtn, want.view());
        expect_equal_bits(y.values(), want.values(), "width " + std::to_string(width));
        EXPECT_TRUE(y.padding_intact());
      }
    }
  }
}

TEST(EmbeddingBag, NegativeZeroStaysWhatItIs) {
  const Context ctx = make_context(1);
  const HostMatrix table(1, 4, {-0.0f, 0.0f, -0.0f, 1.0f});
  const Bags plain{{0}, {}, {}}, one{{0}, {0, 1}, {}}, bad{{-1, 0}, {0, 2}, {}};
  for (const Bags& in : {plain, one, bad}) {
    HostMatrix y(1, 4);
    tested::embedding_bag(ctx, table.view(), in.ragged(), Pooling::sum, y.view());
    expect_equal_bits(y.values(), table.values(), "y");
  }
  const RowsOut out = grad(ctx, {{plain.ragged(), Pooling::sum, table.view()}}, 1, 4);
  expect_equal_bits(out.values.values(), table.values(), "gradient");
}

/// One id a bag and ragged bags, in memory that stays.
struct HeldUses {
  Held<std::int32_t> plain, ids;
  Held<std::int64_t> offsets;
  Held<float> weights, d_plain, d_bags;
  std::int64_t width;

  std::vector<TableUse> get() {
    const std::int64_t bags = offsets.vector().size - 1, n = plain.vector().size;
    return {{{plain.data(), nullptr, nullptr, n, n}, Pooling::sum, d_plain.matrix(n, width)},
            {{ids.data(), offsets.data(), weights.data(), bags, ids.vector().size},
             Pooling::sqrtn,
             d_bags.matrix(bags, width)}};
  }
};

TEST(EmbeddingBag, CanBeReplayed) {
  Random random(15);
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  const std::int64_t n = 150, bags = 20, rows = 7, width = 12, nnz = 64;
  HeldUses held{{ctx, random.ids(n, rows)},
                {ctx, random.ids(nnz, rows)},
                {ctx, std::vector<std::int64_t>(bags + 1)},
                {ctx, random.uniforms(nnz, 0.5, 2)},
                {ctx, random.normals(n * width)},
                {ctx, random.normals(bags * width)},
                width};
  Held<float> table(ctx, random.normals(rows * width)), y(ctx, std::vector<float>(n * width));
  Held<std::int32_t> listed(ctx, std::vector<std::int32_t>(rows));
  Held<float> values(ctx, std::vector<float>(rows * width));
  Held<std::int64_t> distinct(ctx, {0});
  const std::vector<TableUse> uses = held.get();
  Replay replay(ctx, [&] {
    belfry::embedding_bag(ctx, Matrix<const float>(table.matrix(rows, width)), uses[0].ids,
                          Pooling::sum, y.matrix(n, width));
    belfry::embedding_bag_grad(ctx, uses, rows,
                               {listed.data(), values.matrix(rows, width), distinct.data(), rows});
  });
  for (int round = 0; round < 2; ++round) {
    Bags plain{random.ids(n, rows), {}, {}};
    Bags ragged{random.ids(nnz, rows), random.offsets(bags, 3), random.uniforms(nnz, 0.5, 2)};
    held.plain.set(plain.ids);
    held.ids.set(ragged.ids);
    held.offsets.set(ragged.offsets);  // fewer ids than there is room for: the rest is left out
    held.weights.set(ragged.weights);
    replay.run();
    ragged.ids.resize(ragged.offsets.back());
    const HostMatrix d_plain(n, width, held.d_plain.get()), d_bags(bags, width, held.d_bags.get());
    const HostMatrix host_table(rows, width, table.get());
    HostMatrix want(n, width);
    tested::embedding_bag(cpu, host_table.view(), plain.ragged(), Pooling::sum, want.view());
    expect_equal_bits(y.get(), want.values(), "lookup");
    const RowsOut out = grad(cpu,
                             {{plain.ragged(), Pooling::sum, d_plain.view()},
                              {ragged.ragged(), Pooling::sqrtn, d_bags.view()}},
                             rows, width);
    ASSERT_EQ(distinct.get()[0], static_cast<std::int64_t>(out.rows.size()));
    std::vector<float> sums = values.get();
    sums.resize(out.rows.size() * width);
    expect_equal_bits(sums, out.values.values(), "gradient");
    EXPECT_EQ(ctx.read_state().status, 0u);
  }
}

TEST(EmbeddingBagGrad, AllocatesNothingAfterTheFirstStep) {
  const Context ctx = make_context(2);
  Random random(13);
  const std::int64_t n = by_backend(20000, 70);
  std::int64_t planned = 0;
  for (int step = 0; step < 4; ++step) {
    const Bags in = random_bags(random, n, 3000, false, false, step % 2 == 1);
    const HostMatrix d_y = HostMatrix::normal(random, n, 64);
    grad(ctx, {{in.ragged(), Pooling::sum, d_y.view()}}, 3000, 64);
    if (step == 0) planned = ctx.arena().allocations();
  }
  EXPECT_EQ(ctx.arena().allocations(), planned);
}

}  // namespace
}  // namespace belfry::test
