// SPDX-License-Identifier: Apache-2.0
// The type and its roundings, against float64 and against all 65,536 values of the type.
#include "kernels/core/bf16.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// Floats of every size, halfway cases, the largest and the smallest.
std::vector<float> interesting() {
  std::vector<float> out = {0.0f,         -0.0f,  1.0f,       1.00390625f, 1.01171875f,
                            -1.00390625f, 3e38f,  3.3895e38f, 3.3961e38f,  3.4028e38f,
                            -3.4028e38f,  1e-45f, 1e-40f,     -1e-39f,     1.1755e-38f};
  Random random(1);
  for (int i = 0; i < 20'000; ++i) {
    out.push_back(static_cast<float>(random.normal() * std::exp2(random.uniform(-140, 127))));
  }
  return out;
}

/// The values of bf16 around |x|, in float64 with 2^128 behind the largest.
struct Neighbours {
  double below, above;
};
Neighbours neighbours(float x) {
  const double size = std::abs(static_cast<double>(x));
  const std::uint32_t bits = float_bits(std::abs(x)) >> 16;
  const auto value = [](std::uint32_t upper) {
    return upper >= 0x7F80u ? 0x1p128 : static_cast<double>(to_float(bf16_of_bits(upper)));
  };
  Neighbours n{value(bits), value(bits + 1)};
  EXPECT_LE(n.below, size);
  EXPECT_GT(n.above, size);
  return n;
}

TEST(Bf16, EveryValueComesBack) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float x = to_float(bf16_of_bits(bits));
    EXPECT_EQ(float_bits(x), bits << 16);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(to_float(round_to_nearest(x))));
      EXPECT_TRUE(std::isnan(to_float(round_stochastic(x, 0xFFFF))));
    } else {
      EXPECT_EQ(round_to_nearest(x).bits, bits);
      EXPECT_EQ(round_stochastic(x, 0).bits, bits);
      EXPECT_EQ(round_stochastic(x, 0xFFFF).bits, bits);
    }
  }
}

TEST(Bf16, NearestIsNearest) {
  for (const float x : interesting()) {
    const Neighbours n = neighbours(x);
    const double size = std::abs(static_cast<double>(x)), middle = (n.below + n.above) / 2;
    const double got = std::abs(static_cast<double>(to_float(round_to_nearest(x))));
    const bool even_below = (float_bits(static_cast<float>(n.below)) >> 16 & 1) == 0;
    const bool down = size < middle || (size == middle && even_below);
    const double want = down ? n.below : n.above == 0x1p128 ? kInf : n.above;
    EXPECT_EQ(got, want) << x;
    EXPECT_EQ(std::signbit(to_float(round_to_nearest(x))), std::signbit(x)) << x;
  }
}

TEST(Bf16, StochasticRoundsUpAsOftenAsTheRestSays) {
  std::vector<float> some = {1.0f, -1.001f, 1.0039f, 3.38e38f, 1e-40f, -7.7f, 0.0f, -0.0f};
  for (const float x : some) {
    const Neighbours n = neighbours(x);
    const double size = std::abs(static_cast<double>(x));
    double sum = 0;
    for (std::uint32_t noise = 0; noise < 65536; ++noise) {
      const float got = to_float(round_stochastic(x, noise));
      EXPECT_EQ(std::signbit(got), std::signbit(x));
      const double magnitude = std::abs(static_cast<double>(got));
      ASSERT_TRUE(magnitude == n.below || magnitude == n.above) << x << " " << got;
      sum += magnitude;
    }
    EXPECT_NEAR(sum / 65536, size, 1e-12 * size) << x;  // the mean is the value itself
  }
}

TEST(Bf16, FiniteStaysFiniteAndTheRestStaysWhatItIs) {
  for (const float x : interesting()) {
    EXPECT_TRUE(std::isfinite(to_float(round_stochastic(x, 0xFFFF)))) << x;
  }
  for (const std::uint32_t noise : {0u, 1u, 0xFFFFu}) {
    EXPECT_EQ(to_float(round_stochastic(kInf, noise)), kInf);
    EXPECT_EQ(to_float(round_stochastic(-kInf, noise)), -kInf);
    EXPECT_TRUE(std::isnan(to_float(round_stochastic(float_of_bits(0x7F800001u), noise))));
    EXPECT_TRUE(std::isnan(to_float(round_stochastic(float_of_bits(0xFFFFFFFFu), noise))));
  }
  EXPECT_EQ(to_float(round_to_nearest(kInf)), kInf);
  EXPECT_TRUE(std::isnan(to_float(round_to_nearest(float_of_bits(0x7F800001u)))));
}

TEST(Bf16, NoiseIsFreshForEveryColumnRowStepAndTable) {
  std::set<std::vector<std::uint32_t>> seen;
  const auto words_of = [&](std::uint64_t seed, std::int64_t step, std::uint32_t table,
                            std::int64_t row, std::int64_t column) {
    const Philox4 w = rounding_words(rounding_key(seed, step, table), row, column, 20);
    return std::vector<std::uint32_t>(w.v, w.v + 4);
  };
  for (const std::int64_t row : {0, 1, 1'000'000'000}) {
    for (const std::int64_t column : {0, 8, 16}) {
      for (const std::int64_t step : {std::int64_t{0}, std::int64_t{1}, std::int64_t{1} << 39}) {
        for (const std::uint32_t table : {0u, 1u, 65535u}) {
          for (const std::uint64_t seed : {0u, 1u}) {
            EXPECT_TRUE(seen.insert(words_of(seed, step, table, row, column)).second);
          }
        }
      }
    }
  }
  EXPECT_EQ(words_of(1, 2, 3, 4, 8), words_of(1, 2, 3, 4, 15)) << "one call for eight columns";
  const Philox4 words{{0x22221111u, 0x44443333u, 0x66665555u, 0x88887777u}};
  for (std::uint32_t c = 0; c < 8; ++c) {
    EXPECT_EQ(rounding_noise(words, c), 0x1111u * (c + 1));
    EXPECT_EQ(rounding_noise(words, 8 + c), 0x1111u * (c + 1));
  }
}

}  // namespace
}  // namespace belfry::test
