// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3" (SC'11). A draw is a pure function of (seed, stream, index): same bits on every backend,
// for any thread count, and after a resume.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define BELFRY_HD __host__ __device__
#else
#define BELFRY_HD
#endif

namespace belfry {

struct Philox4 {
  std::uint32_t v[4];
};

/// Ten rounds over the counter (c0..c3) with the key (k0, k1).
BELFRY_HD inline Philox4 philox4x32(std::uint32_t c0, std::uint32_t c1, std::uint32_t c2,
                                    std::uint32_t c3, std::uint32_t k0, std::uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const std::uint32_t n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// What a draw is for: keeps the streams of one seed apart.
enum class RandomStream : std::uint32_t {
  initialise = 1,
  shuffle = 2,
  negatives = 3,
  split = 4,
  synthesise = 5,
  baseline = 6,
  validation = 7,
  rounding = 8,
  dropout = 9,
  lists = 10,
};

/// Four 32-bit words number `index` of `stream`, sub-stream `sub` (a table, a step, an epoch).
BELFRY_HD inline Philox4 random_words(std::uint64_t seed, RandomStream stream, std::uint64_t sub,
                                      std::uint64_t index) {
  const std::uint32_t c2 = static_cast<std::uint32_t>(sub);
  const std::uint32_t c3 =
      static_cast<std::uint32_t>(sub >> 32) ^ (static_cast<std::uint32_t>(stream) << 24);
  return philox4x32(static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), c2,
                    c3, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
}

/// A float in [0, 1) with 24 bits.
BELFRY_HD inline float uniform_float(std::uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

/// An integer in [0, n), n > 0, from 64 random bits: the high word of a 64 x 64 product (bias below
/// n / 2^64; Lemire, "Fast random integer generation in an interval", 2019).
BELFRY_HD inline std::uint64_t uniform_below(std::uint32_t hi, std::uint32_t lo, std::uint64_t n) {
  const std::uint64_t x = (std::uint64_t{hi} << 32) | lo;
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(x) * n) >> 64);
}

}  // namespace belfry
