// SPDX-License-Identifier: Apache-2.0
#include "kernels/core/philox.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <tuple>
#include <vector>

namespace belfry::test {
namespace {

void expect_words(const Philox4& actual, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                  std::uint32_t d) {
  EXPECT_EQ(actual.v[0], a);
  EXPECT_EQ(actual.v[1], b);
  EXPECT_EQ(actual.v[2], c);
  EXPECT_EQ(actual.v[3], d);
}

// The known-answer vectors of Random123 (the paper's own library) for philox4x32 with ten rounds.
TEST(Philox, KnownAnswers) {
  constexpr std::uint32_t kOnes = 0xFFFFFFFFu;
  expect_words(philox4x32(0, 0, 0, 0, 0, 0), 0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8);
  expect_words(philox4x32(kOnes, kOnes, kOnes, kOnes, kOnes, kOnes), 0x408F276D, 0x41C83B0E,
               0xA20BC7C6, 0x6D5451FD);
  expect_words(philox4x32(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0),
               0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1);
}

TEST(Philox, WordsLieWhereTheCounterSays) {
  const std::uint64_t seed = 0x0123456789ABCDEFu, sub = 0x00AABBCC11223344u, index = 0x5566778899u;
  const Philox4 direct = philox4x32(0x66778899u, 0x55u, 0x11223344u, 0x00AABBCCu ^ (3u << 24),
                                    0x89ABCDEFu, 0x01234567u);
  const Philox4 words = random_words(seed, RandomStream::negatives, sub, index);
  expect_words(words, direct.v[0], direct.v[1], direct.v[2], direct.v[3]);
}

TEST(Philox, SeedStreamSubStreamAndIndexKeepDrawsApart) {
  using Words = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>;
  std::set<Words> seen;
  int draws = 0;
  for (const std::uint64_t seed : {0ull, 1ull, 1ull << 32}) {
    for (const RandomStream stream :
         {RandomStream::initialise, RandomStream::shuffle, RandomStream::negatives,
          RandomStream::split, RandomStream::synthesise, RandomStream::baseline,
          RandomStream::validation}) {
      for (const std::uint64_t sub : {0ull, 1ull, 1ull << 32}) {
        for (const std::uint64_t index : {0ull, 1ull, 1ull << 32}) {
          const Philox4 w = random_words(seed, stream, sub, index);
          seen.insert({w.v[0], w.v[1], w.v[2], w.v[3]});
          ++draws;
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(draws));
}

TEST(Philox, UniformFloatIsBelowOne) {
  EXPECT_EQ(uniform_float(0), 0.0f);
  EXPECT_EQ(uniform_float(0xFFu), 0.0f) << "the low eight bits are dropped";
  EXPECT_EQ(uniform_float(0x80000000u), 0.5f);
  EXPECT_EQ(uniform_float(0xFFFFFFFFu), 1.0f - 0x1p-24f);
  EXPECT_LT(uniform_float(0xFFFFFFFFu), 1.0f);
}

TEST(Philox, UniformFloatHasTheMomentsOfTheUniform) {
  constexpr int kDraws = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws / 4; ++i) {
    const Philox4 w = random_words(7, RandomStream::initialise, 0, static_cast<std::uint64_t>(i));
    for (const std::uint32_t v : w.v) {
      const double u = uniform_float(v);
      sum += u;
      squares += u * u;
    }
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.004);  // 4.4 standard errors
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 0.004);
}

TEST(Philox, UniformBelowCoversItsRange) {
  constexpr std::uint32_t kOnes = 0xFFFFFFFFu;
  EXPECT_EQ(uniform_below(0, 0, 10), 0u);
  EXPECT_EQ(uniform_below(kOnes, kOnes, 10), 9u);
  EXPECT_EQ(uniform_below(kOnes, kOnes, 1), 0u);
  EXPECT_EQ(uniform_below(0x80000000u, 0, 10), 5u);
  EXPECT_EQ(uniform_below(kOnes, kOnes, std::uint64_t{1} << 40), (std::uint64_t{1} << 40) - 1);
  EXPECT_EQ(uniform_below(0x12345678u, 0x9ABCDEF0u, UINT64_MAX), 0x123456789ABCDEEFu);
}

TEST(Philox, UniformBelowIsUniform) {
  constexpr std::uint64_t kRange = 7;
  constexpr int kDraws = 70000;
  std::vector<int> count(kRange);
  for (int i = 0; i < kDraws; ++i) {
    const Philox4 w = random_words(9, RandomStream::negatives, 0, static_cast<std::uint64_t>(i));
    const std::uint64_t n = uniform_below(w.v[0], w.v[1], kRange);
    ASSERT_LT(n, kRange);
    ++count[n];
  }
  double chi_square = 0;
  for (const int n : count) chi_square += std::pow(n - kDraws / 7.0, 2) / (kDraws / 7.0);
  EXPECT_LT(chi_square, 22.5);  // 6 degrees of freedom: P = 0.001
}

}  // namespace
}  // namespace belfry::test
