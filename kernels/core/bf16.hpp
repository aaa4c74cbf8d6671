// SPDX-License-Identifier: Apache-2.0
// bf16: the upper half of a float32, a type to store tables in; arithmetic is in float32. Plain bits, so that
// host and device round alike. A table that is updated in bf16 rounds stochastically: with a probability that
// makes the expected value right, else updates smaller than half a step would be lost. The random bits are a
// pure function of (seed, step, table, row, column): the same on every backend, and after a resume.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/core/philox.hpp"

namespace belfry {

struct bf16 {
  std::uint16_t bits;
};

BELFRY_HD inline std::uint32_t float_bits(float x) {
  std::uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
BELFRY_HD inline float float_of_bits(std::uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

BELFRY_HD inline float to_float(float x) {
  return x;
}
BELFRY_HD inline float to_float(bf16 x) {
  return float_of_bits(static_cast<std::uint32_t>(x.bits) << 16);
}

BELFRY_HD inline bf16 bf16_of_bits(std::uint32_t upper) {
  return {static_cast<std::uint16_t>(upper)};
}

/// Infinite or NaN: the upper half, a NaN made quiet so that it cannot become an infinity.
BELFRY_HD inline bf16 bf16_of_non_finite(std::uint32_t bits) {
  const bool nan = (bits & 0x007FFFFFu) != 0;
  return bf16_of_bits((bits >> 16) | (nan ? 0x40u : 0u));
}

/// To the nearest, ties to even.
BELFRY_HD inline bf16 round_to_nearest(float x) {
  const std::uint32_t bits = float_bits(x);
  if ((bits & 0x7F800000u) == 0x7F800000u) return bf16_of_non_finite(bits);
  return bf16_of_bits((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

/// Away from zero where the lower half plus `noise` (16 random bits) passes 2^16, else towards zero. A finite
/// value stays finite.
BELFRY_HD inline bf16 round_stochastic(float x, std::uint32_t noise) {
  const std::uint32_t bits = float_bits(x);
  if ((bits & 0x7F800000u) == 0x7F800000u) return bf16_of_non_finite(bits);
  const std::uint32_t rounded = bits + (noise & 0xFFFFu);
  return bf16_of_bits(((rounded & 0x7F800000u) == 0x7F800000u ? bits : rounded) >> 16);
}

/// Columns that share one call of the generator: eight times 16 bits.
inline constexpr std::int64_t kRoundingColumns = 8;

/// Where the random bits of a table's roundings in one step come from.
struct RoundingKey {
  std::uint64_t seed = 0;
  std::uint64_t sub = 0;  ///< step and table
};

/// Tables of a model are numbered apart (below 2^16), so that they do not round alike.
BELFRY_HD inline RoundingKey rounding_key(std::uint64_t seed, std::int64_t step,
                                          std::uint32_t table) {
  return {seed, static_cast<std::uint64_t>(step) | (static_cast<std::uint64_t>(table) << 40)};
}

/// The words of columns 8 g .. 8 g + 7 of a row.
BELFRY_HD inline Philox4 rounding_words(const RoundingKey& key, std::int64_t row,
                                        std::int64_t column, std::int64_t width) {
  const std::int64_t groups = (width + kRoundingColumns - 1) / kRoundingColumns;
  return random_words(key.seed, RandomStream::rounding, key.sub,
                      static_cast<std::uint64_t>(row * groups + column / kRoundingColumns));
}
/// The 16 bits of one column out of its group's words.
BELFRY_HD inline std::uint32_t rounding_noise(const Philox4& words, std::int64_t column) {
  const int i = static_cast<int>(column % kRoundingColumns);
  // Not words.v[i / 2]: that would put the words into memory where i is no constant.
  const std::uint32_t low = i < 2 ? words.v[0] : words.v[1];
  const std::uint32_t high = i < 6 ? words.v[2] : words.v[3];
  const std::uint32_t word = i < 4 ? low : high;
  return i % 2 == 0 ? word & 0xFFFFu : word >> 16;
}

}  // namespace belfry
