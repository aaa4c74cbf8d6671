// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

inline constexpr int kFeistelRounds = 6;

/// A keyed bijection of [0, n): position -> row. A balanced Feistel network of 6 rounds over the
/// smallest even-bit power of two >= n, walked until it lands below n (cycle walking; Black and
/// Rogaway 2002), so that no shuffle buffer and no sort is needed and any position can be resumed.
/// The round keys come from Philox; a round itself is a cheap mix (Philox in every round would cost
/// ten times as much and be no better a shuffle).
struct Permutation {
  std::uint64_t seed = 0;
  std::uint64_t epoch = 0;
  std::int64_t n = 0;
  int half_bits = 1;                        ///< bits of each Feistel half
  std::uint64_t keys[kFeistelRounds] = {};  ///< of the rounds
};

/// n in [0, 2^62].
BELFRY_HD inline Permutation make_permutation(std::uint64_t seed, std::uint64_t epoch,
                                              std::int64_t n) {
  Permutation p;
  p.seed = seed;
  p.epoch = epoch;
  p.n = n;
  while (p.half_bits < 31 && (std::int64_t{1} << (2 * p.half_bits)) < n) ++p.half_bits;
  for (int round = 0; round < kFeistelRounds; ++round) {
    const Philox4 words =
        random_words(seed, RandomStream::shuffle, epoch, static_cast<std::uint64_t>(round));
    p.keys[round] = (std::uint64_t{words.v[0]} << 32) | words.v[1];
  }
  return p;
}

/// All 64 bits of x depend on all bits of x afterwards (the finaliser of Steele, Lea and Flood's
/// SplitMix, 2014).
BELFRY_HD inline std::uint64_t mix_bits(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// The row at `position` in [0, n).
BELFRY_HD inline std::int64_t permuted(const Permutation& p, std::int64_t position) {
  const std::uint64_t mask = (std::uint64_t{1} << p.half_bits) - 1;
  std::uint64_t x = static_cast<std::uint64_t>(position);
  do {
    std::uint64_t left = x >> p.half_bits, right = x & mask;
    for (int round = 0; round < kFeistelRounds; ++round) {
      const std::uint64_t next = left ^ (mix_bits(right + p.keys[round]) & mask);
      left = right;
      right = next;
    }
    x = (left << p.half_bits) | right;
  } while (x >= static_cast<std::uint64_t>(p.n));
  return static_cast<std::int64_t>(x);
}

namespace cpu {
void shuffle(const Context& ctx, const Permutation& p, std::int64_t first,
             Vector<std::int64_t> out);
}
namespace cuda {
void shuffle(const Context& ctx, const Permutation& p, std::int64_t first,
             Vector<std::int64_t> out);
}

/// Rows at positions first .. first + out.size - 1:  out_i = permuted(p, first + i)
/// Shapes       out [m] i64, first + m <= n
/// Empty        m = 0: no-op
/// Cost         fewer than 4 expected walks of 6 rounds a row
/// Scratch      none
/// Determinism  bitwise_cpu_cuda: a pure function of (seed, epoch, n, position)
inline void shuffle(const Context& ctx, const Permutation& p, std::int64_t first,
                    Vector<std::int64_t> out) {
  require(p.n >= 0 && p.n <= (std::int64_t{1} << 62), "shuffle: n must lie in [0, 2^62]");
  require(first >= 0 && out.size <= p.n - first, "shuffle: positions lie outside the permutation");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::shuffle(ctx, p, first, out);
    case Backend::cuda:
      if constexpr (kHasCuda::shuffle) return cuda::shuffle(ctx, p, first, out);
  }
  throw_no_backend("shuffle");
}

}  // namespace belfry
