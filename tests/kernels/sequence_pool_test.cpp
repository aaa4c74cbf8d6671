// SPDX-License-Identifier: Apache-2.0
#include "kernels/sequence_pool/sequence_pool.hpp"

#include <gtest/gtest.h>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_sequence_pool.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

constexpr SequencePooling kBoth[] = {SequencePooling::mean, SequencePooling::last};

std::vector<std::int64_t> covered(const StepMask& mask, std::int64_t list, std::int64_t steps) {
  std::vector<std::int64_t> out;
  for (std::int64_t t = 0; t < steps; ++t) {
    const bool early = mask.lengths == nullptr || t < mask.lengths[list];
    if (early && (mask.valid == nullptr || mask.valid[list * steps + t] != 0)) out.push_back(t);
  }
  return out;
}

/// The weight of each step in its list's row.
std::vector<double> weights(const SequencePoolOptions& o, std::int64_t list) {
  std::vector<double> w(static_cast<std::size_t>(o.steps));
  const std::vector<std::int64_t> steps = covered(o.mask, list, o.steps);
  for (const std::int64_t t : steps) {
    const bool last = o.pooling == SequencePooling::last;
    w[static_cast<std::size_t>(t)] =
        last ? t == steps.back() : 1.0 / static_cast<double>(steps.size());
  }
  return w;
}

/// Steps left out hold NaN, which must not be read.
HostMatrix steps_with_gaps(Random& random, const SequencePoolOptions& o, std::int64_t lists,
                           std::int64_t cols) {
  HostMatrix x = HostMatrix::normal(random, lists * o.steps, cols, 1, 2);
  for (std::int64_t b = 0; b < lists; ++b) {
    const std::vector<double> w = weights({o.steps, o.mask, SequencePooling::mean}, b);
    for (std::int64_t t = 0; t < o.steps; ++t) {
      if (w[static_cast<std::size_t>(t)] != 0) continue;
      for (std::int64_t j = 0; j < cols; ++j) x(b * o.steps + t, j) = kPadding;
    }
  }
  return x;
}

TEST(SequencePool, ByHand) {
  const Context ctx = make_context(1);
  const HostMatrix x(6, 2, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  const std::vector<std::int32_t> lengths = {2, 0};
  const std::vector<std::uint8_t> holes = {1, 0, 0, 1, 0, 1};
  HostMatrix y(2, 2), d_x(6, 2);
  tested::sequence_pool(ctx, x.view(), {3, {nullptr, lengths.data()}, SequencePooling::mean},
                        y.view());
  EXPECT_EQ(y.values(), (std::vector<float>{2, 3, 0, 0}));
  tested::sequence_pool(ctx, x.view(), {3, {nullptr, lengths.data()}, SequencePooling::last},
                        y.view());
  EXPECT_EQ(y.values(), (std::vector<float>{3, 4, 0, 0}));
  const HostMatrix d_y(2, 2, {6, 8, 2, 4});
  tested::sequence_pool_grad(ctx, d_y.view(), {3, {holes.data(), nullptr}, SequencePooling::mean},
                             d_x.view());
  EXPECT_EQ(d_x.values(), (std::vector<float>{6, 8, 0, 0, 0, 0, 1, 2, 0, 0, 1, 2}));
  tested::sequence_pool_grad(ctx, d_y.view(), {3, {holes.data(), nullptr}, SequencePooling::last},
                             d_x.view());
  EXPECT_EQ(d_x.values(), (std::vector<float>{6, 8, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4}));
}

TEST(SequencePool, MatchesFloat64) {
  Random random(11);
  const Context ctx = make_context(2);
  for (const std::int64_t lists : {0, 1, 5, 33}) {
    for (const std::int64_t steps : {1, 2, 31, 33}) {
      for (const std::int64_t cols : {0, 1, 3, 32, 65}) {
        for (int kind = 0; kind < kMaskKinds; ++kind) {
          if (on_device() && lists == 33 && cols == 65 && kind != 3) continue;
          const HostMask mask = make_mask(random, kind, lists, steps);
          for (const SequencePooling pooling : kBoth) {
            const SequencePoolOptions o{steps, mask.view(), pooling};
            const HostMatrix x = steps_with_gaps(random, o, lists, cols);
            const HostMatrix d_y = HostMatrix::normal(random, lists, cols, 1, 1);
            HostMatrix y(lists, cols, 3), d_x(lists * steps, cols, 1);
            tested::sequence_pool(ctx, x.view(), o, y.view());
            tested::sequence_pool_grad(ctx, d_y.view(), o, d_x.view());
            std::vector<double> expected_y(static_cast<std::size_t>(lists * cols)), expected_d;
            for (std::int64_t b = 0; b < lists; ++b) {
              const std::vector<double> w = weights(o, b);
              for (std::int64_t t = 0; t < steps; ++t) {
                const double weight = w[static_cast<std::size_t>(t)];
                for (std::int64_t j = 0; j < cols; ++j) {
                  expected_d.push_back(weight * d_y(b, j));
                  if (weight == 0) continue;
                  expected_y[static_cast<std::size_t>(b * cols + j)] +=
                      weight * x(b * steps + t, j);
                }
              }
            }
            const std::string what = mask_name(kind) + " " + std::to_string(lists) + "x" +
                                     std::to_string(steps) + "x" + std::to_string(cols);
            expect_near(y.values(), expected_y, 1e-6, 1e-6, what);
            expect_near(d_x.values(), expected_d, 2e-7, 0, what + " gradient");
            EXPECT_TRUE(y.padding_intact() && d_x.padding_intact()) << what;
          }
        }
      }
    }
  }
}

TEST(SequencePool, SameBitsWhateverTheScheduleAndOnBothBackends) {
  Random random(12);
  const std::int64_t lists = by_backend(700, 37), steps = 9, cols = 37;
  const HostMask mask = make_mask(random, 3, lists, steps);
  const Context cpu(Backend::cpu, 1);
  for (const SequencePooling pooling : kBoth) {
    const SequencePoolOptions o{steps, mask.view(), pooling};
    const HostMatrix x = steps_with_gaps(random, o, lists, cols);
    const HostMatrix d_y = HostMatrix::normal(random, lists, cols);
    HostMatrix first_y(lists, cols), first_d(lists * steps, cols);
    tested::sequence_pool(cpu, x.view(), o, first_y.view());
    tested::sequence_pool_grad(cpu, d_y.view(), o, first_d.view());
    for_each_variant([&](const Context& ctx) {
      HostMatrix y(lists, cols), d_x(lists * steps, cols);
      tested::sequence_pool(ctx, x.view(), o, y.view());
      tested::sequence_pool_grad(ctx, d_y.view(), o, d_x.view());
      expect_equal_bits(y.values(), first_y.values(), "y");
      expect_equal_bits(d_x.values(), first_d.values(), "d_x");
    });
  }
}

TEST(SequencePool, CanBeReplayed) {
  Random random(13);
  const std::int64_t lists = 6, steps = 4, cols = 5;
  const Context ctx = make_context(1);
  Held<float> x(ctx, random.normals(lists * steps * cols)), y(ctx, random.normals(lists * cols));
  Held<float> d_x(ctx, random.normals(lists * steps * cols));
  Held<std::int32_t> lengths(ctx, std::vector<std::int32_t>(lists, 1));
  const SequencePoolOptions o{steps, {nullptr, lengths.data()}, SequencePooling::mean};
  Replay replay(ctx, [&] {
    belfry::sequence_pool(ctx, x.matrix(lists * steps, cols), o, y.matrix(lists, cols));
    belfry::sequence_pool_grad(ctx, y.matrix(lists, cols), o, d_x.matrix(lists * steps, cols));
  });
  for (int round = 0; round < 2; ++round) {
    const HostMatrix xs = HostMatrix::normal(random, lists * steps, cols);
    HostMask mask = make_mask(random, 1, lists, steps);
    HostMatrix ys(lists, cols), d_xs(lists * steps, cols);
    x.set(xs.values());
    lengths.set(mask.lengths);
    replay.run();
    const SequencePoolOptions again{steps, mask.view(), SequencePooling::mean};
    tested::sequence_pool(ctx, xs.view(), again, ys.view());
    tested::sequence_pool_grad(ctx, ys.view(), again, d_xs.view());
    expect_equal_bits(y.get(), ys.values(), "y");
    expect_equal_bits(d_x.get(), d_xs.values(), "d_x");
  }
}

TEST(SequencePool, RefusesWrongShapes) {
  const Context ctx = make_context(1);
  HostMatrix x(6, 2), y(3, 2), rows(2, 2), cols(3, 1);
  const auto pool = [&](std::int64_t steps, HostMatrix& out) {
    tested::sequence_pool(ctx, x.view(), {steps, {}, SequencePooling::mean}, out.view());
  };
  const auto pool_grad = [&](std::int64_t steps, HostMatrix& in) {
    tested::sequence_pool_grad(ctx, in.view(), {steps, {}, SequencePooling::mean}, x.view());
  };
  EXPECT_NO_THROW(pool(2, y));
  EXPECT_NO_THROW(pool_grad(2, y));
  for (const std::int64_t steps : {0, -1, 4}) {
    EXPECT_THROW(pool(steps, y), ContractError);
    EXPECT_THROW(pool_grad(steps, y), ContractError);
  }
  EXPECT_THROW(pool(2, rows), ContractError);
  EXPECT_THROW(pool(2, cols), ContractError);
  EXPECT_THROW(pool_grad(2, rows), ContractError);
  EXPECT_THROW(pool_grad(2, cols), ContractError);
}

}  // namespace
}  // namespace belfry::test
