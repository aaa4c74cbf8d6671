// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout/dropout.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/targets.hpp"
#include "tests/support/tested_dropout.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

constexpr std::uint64_t kSeed = 0x123456789abcdefull;

/// A context in the midst of a training.
class InStep {
 public:
  explicit InStep(int threads, std::int64_t step = 3, std::uint64_t seed = kSeed)
      : ctx_(backend_under_test(), on_device() ? 1 : threads, seed) {
    edit_state(ctx_, [&](StepState& s) { s.step = step; });
  }
  operator const Context&() const { return ctx_; }

 private:
  Context ctx_;
};

HostMatrix run(const Context& ctx, const HostMatrix& x, const Dropout& options,
               std::int64_t padding = 0) {
  HostMatrix y(x.rows(), x.cols(), padding, -7.0f);
  tested::dropout(ctx, x.view(), options, y.view());
  EXPECT_TRUE(y.padding_intact());
  return y;
}

/// Which of n elements in a row are kept.
std::vector<bool> kept(const Context& ctx, std::int64_t n, const Dropout& options) {
  std::vector<bool> out;
  for (const float v : run(ctx, HostMatrix(1, n, 0, 1.0f), options).values()) {
    out.push_back(v != 0.0f);
  }
  return out;
}

/// The rule in other words: the words of Philox one after the other, four to a counter; the counter's
/// lower half is the group's number, the upper half step, layer and stream.
bool oracle_keeps(std::uint64_t seed, std::uint64_t step, std::uint64_t layer, std::int64_t element,
                  double rate) {
  const std::uint64_t upper = (step | layer << 40) ^ std::uint64_t{9} << 56;
  const Philox4 words = philox4x32(
      static_cast<std::uint32_t>(element / 4), static_cast<std::uint32_t>((element / 4) >> 32),
      static_cast<std::uint32_t>(upper), static_cast<std::uint32_t>(upper >> 32),
      static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  return static_cast<double>(words.v[element % 4] >> 8) / 16777216.0 >= rate;
}

TEST(Dropout, MatchesFloat64OnEveryTarget) {
  for_each_target([] {
    const InStep step(2);
    const Context& ctx = step;
    Random random(1);
    std::int64_t padding = 0;
    for (const Shape& s : nasty_shapes()) {
      for (const float rate : {0.0f, 0.1f, 0.5f, 0.9f}) {
        const HostMatrix x = HostMatrix::normal(random, s.rows, s.cols, 1, padding % 3);
        const Dropout options{rate, 5};
        std::vector<double> want;
        for (std::int64_t e = 0; e < s.rows * s.cols; ++e) {
          const bool keeps = oracle_keeps(kSeed, 3, 5, e, rate);
          want.push_back(keeps ? x(e / s.cols, e % s.cols) / (1.0 - double{rate}) : 0.0);
        }
        const std::string what = std::to_string(s.rows) + "x" + std::to_string(s.cols);
        expect_near(run(ctx, x, options, padding % 2).values(), want, 3e-7, 0, what);
        HostMatrix d_x(s.rows, s.cols, 1);
        tested::dropout_grad(ctx, x.view(), options, d_x.view());
        expect_near(d_x.values(), want, 3e-7, 0, what + " gradient");
        EXPECT_TRUE(d_x.padding_intact());
        ++padding;
      }
    }
  });
}

TEST(Dropout, RateZeroChangesNothing) {
  const InStep step(1);
  const Context& ctx = step;
  Random random(2);
  const HostMatrix x = HostMatrix::normal(random, 9, 13);
  expect_equal_bits(run(ctx, x, {0.0f, 0}).values(), x.values(), "y");
}

TEST(Dropout, KeepsTheShareAndTheExpectedValue) {
  const InStep step(2);
  const Context& ctx = step;
  const std::int64_t n = 40000;
  for (const double rate : {0.1, 0.25, 0.5, 0.8}) {
    const HostMatrix y = run(ctx, HostMatrix(100, n / 100, 0, 1.0f), {static_cast<float>(rate), 0});
    double kept_share = 0, sum = 0;
    for (const float v : y.values()) {
      kept_share += v != 0.0f;
      sum += v;
    }
    const double deviation = std::sqrt(rate * (1 - rate) / static_cast<double>(n));
    EXPECT_NEAR(kept_share / static_cast<double>(n), 1 - rate, 4 * deviation);
    EXPECT_NEAR(sum / static_cast<double>(n), 1, 4 * deviation / (1 - rate));
  }
}

TEST(Dropout, StepsSeedsAndLayersDropDifferently) {
  const std::int64_t n = 4000;
  const Dropout half{0.5f, 0};
  const std::vector<bool> base = kept(InStep(1), n, half);
  EXPECT_EQ(kept(InStep(2), n, half), base);
  const auto differs = [&](const std::vector<bool>& other) {
    std::int64_t different = 0;
    for (std::int64_t i = 0; i < n; ++i) different += base[i] != other[i];
    EXPECT_NEAR(different, n / 2, 4 * std::sqrt(n) / 2);
  };
  differs(kept(InStep(1, 4), n, half));
  differs(kept(InStep(1, 3, kSeed + 1), n, half));
  differs(kept(InStep(1, 3, kSeed + (std::uint64_t{1} << 32)), n, half));
  differs(kept(InStep(1), n, {0.5f, 1}));
  differs(kept(InStep(1), n, {0.5f, kMostDropoutStreams - 1}));
}

TEST(Dropout, TheGradientDropsWhatForwardDropped) {
  const InStep step(2);
  const Context& ctx = step;
  Random random(3);
  const HostMatrix x = HostMatrix::normal(random, 50, 21), d_y = HostMatrix::normal(random, 50, 21);
  const Dropout options{0.4f, 2};
  const HostMatrix y = run(ctx, x, options);
  HostMatrix d_x(50, 21);
  tested::dropout_grad(ctx, d_y.view(), options, d_x.view());
  // The op is linear: y_i / x_i is the derivative.
  for (std::int64_t i = 0; i < 50; ++i) {
    for (std::int64_t j = 0; j < 21; ++j) {
      EXPECT_NEAR(d_x(i, j), d_y(i, j) * (double{y(i, j)} / x(i, j)), 1e-5);
    }
  }
}

TEST(Dropout, DroppedNanAndInfinityAreZero) {
  for_each_target([] {
    const InStep step(1);
    const Context& ctx = step;
    const float inf = std::numeric_limits<float>::infinity();
    for (const float bad : {kPadding, inf}) {
      for (const std::int64_t cols : {41, 40}) {
        const std::vector<bool> keeps = kept(ctx, cols, {0.5f, 0});
        const HostMatrix y = run(ctx, HostMatrix(1, cols, 0, bad), {0.5f, 0});
        for (std::int64_t j = 0; j < cols; ++j) {
          EXPECT_EQ(y(0, j) == 0.0f, !keeps[j]);
          EXPECT_EQ(std::isfinite(y(0, j)), !keeps[j]);
        }
      }
    }
  });
}

TEST(Dropout, WorksInPlace) {
  const InStep step(2);
  const Context& ctx = step;
  Random random(4);
  for (const std::int64_t cols : {33, 36}) {
    HostMatrix x = HostMatrix::normal(random, 70, cols);
    const HostMatrix y = run(ctx, x, {0.3f, 0});
    tested::dropout(ctx, x.view(), {0.3f, 0}, x.view());
    expect_equal_bits(x.values(), y.values(), "y is x");
  }
}

TEST(Dropout, EveryTargetBackendAndScheduleGivesTheSameBits) {
  Random random(5);
  for (const std::int64_t cols : {37, 40}) {
    for (const std::int64_t padding : {0, 3, 4}) {
      const std::int64_t rows = by_backend(2500, 200);
      const HostMatrix x = HostMatrix::normal(random, rows, cols, 1, padding);
      const Context cpu(Backend::cpu, 1, kSeed);
      const HostMatrix y = run(cpu, x, {0.3f, 7}, padding);
      for_each_target([&] {
        for_each_variant(
            [&](const Context& ctx) {
              expect_equal_bits(run(ctx, x, {0.3f, 7}, padding).values(), y.values(), "y");
            },
            kSeed);
      });
    }
  }
}

TEST(Dropout, CanBeReplayed) {
  Random random(6);
  const std::int64_t rows = 30, cols = 20;
  const InStep step(1);
  const Context& ctx = step;
  Held<float> x(ctx, random.normals(rows * cols)), y(ctx, random.normals(rows * cols));
  Replay replay(ctx, [&] {
    belfry::dropout(ctx, x.matrix(rows, cols), {0.5f, 1}, y.matrix(rows, cols));
  });
  std::vector<float> before;
  for (int round = 0; round < 2; ++round) {
    const HostMatrix xs = HostMatrix::normal(random, rows, cols);
    x.set(xs.values());
    edit_state(ctx, [&](StepState& s) { s.step = 10 + round; });  // as the step op does
    replay.run();
    expect_equal_bits(y.get(), run(ctx, xs, {0.5f, 1}).values(), "y");
    std::vector<float> zeros;
    for (const float v : y.get()) zeros.push_back(v == 0.0f);
    EXPECT_NE(zeros, before) << "a new step drops others";
    before = zeros;
  }
}

TEST(Dropout, RefusesWrongShapesRatesAndStreams) {
  const InStep step(1);
  const Context& ctx = step;
  HostMatrix x(2, 3), y(2, 3), rows(3, 3), cols(2, 4);
  const auto call = [&](HostMatrix& out, float rate, std::uint32_t stream) {
    belfry::dropout(ctx, x.view(), {rate, stream}, out.view());
  };
  EXPECT_NO_THROW(run(ctx, x, {0.0f, kMostDropoutStreams - 1}));
  EXPECT_THROW(call(rows, 0.5f, 0), ContractError);
  EXPECT_THROW(call(cols, 0.5f, 0), ContractError);
  EXPECT_THROW(call(y, 1.0f, 0), ContractError);
  EXPECT_THROW(call(y, -0.1f, 0), ContractError);
  EXPECT_THROW(call(y, std::numeric_limits<float>::quiet_NaN(), 0), ContractError);
  EXPECT_THROW(call(y, 0.5f, kMostDropoutStreams), ContractError);
  EXPECT_THROW(belfry::dropout(ctx, x.view(), {0.5f, 0}, Matrix<float>(x.view().data, 2, 3, 4)),
               ContractError);
  EXPECT_THROW(belfry::dropout_grad(ctx, x.view(), {0.5f, 0}, rows.view()), ContractError);
}

}  // namespace
}  // namespace belfry::test
