// SPDX-License-Identifier: Apache-2.0
// Selecting and sorting the keys of one list; per instruction set, as topk_scores_simd.hpp.
#if defined(BELFRY_TOPK_KEYS_HPP_) == defined(HWY_TARGET_TOGGLE)  // Highway's toggled include guard
#ifdef BELFRY_TOPK_KEYS_HPP_
#undef BELFRY_TOPK_KEYS_HPP_
#else
#define BELFRY_TOPK_KEYS_HPP_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "kernels/topk_scores/topk_scores_lists.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::topk {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Keys = hn::CappedTag<Key, 8>;

/// dst[r] = the key with r greater ones before it, for r < limit. Counting costs n * n / lanes steps
/// without a branch to mispredict: the fastest sort of short lists. Writes a register past src's end.
inline void rank_keys(Key* HWY_RESTRICT src, std::int64_t n, std::int64_t limit,
                      Key* HWY_RESTRICT dst) {
  constexpr Keys d;
  constexpr auto lanes = static_cast<std::int64_t>(hn::MaxLanes(Keys()));
  for (std::int64_t i = n; i < n + 2 * lanes; ++i) src[i] = kNoKey;
  for (std::int64_t i = 0; i < n; i += 2 * lanes) {
    const auto a = hn::LoadU(d, src + i), b = hn::LoadU(d, src + i + lanes);
    auto above_a = hn::Zero(d), above_b = above_a;  // minus the numbers of greater keys
    for (std::int64_t j = 0; j < n; ++j) {
      const auto key = hn::Set(d, src[j]);
      above_a = hn::Add(above_a, hn::VecFromMask(d, hn::Gt(key, a)));
      above_b = hn::Add(above_b, hn::VecFromMask(d, hn::Gt(key, b)));
    }
    Key ranks[2 * lanes];
    hn::StoreU(above_a, d, ranks);
    hn::StoreU(above_b, d, ranks + lanes);
    for (std::int64_t l = 0; l < std::min(2 * lanes, n - i); ++l) {
      if (-ranks[l] < limit) dst[-ranks[l]] = src[i + l];
    }
  }
}

/// Moves the keys greater than `pivot` to the front, copies the others to `rest`; their number. Both
/// stores always happen, so there is no branch to mispredict.
inline std::int64_t partition(Key* keys, std::int64_t n, Key pivot, Key* HWY_RESTRICT rest) {
  std::int64_t greater = 0, i = 0;
#if HWY_TARGET == HWY_AVX3
  // By intrinsics: Highway 1.0.3's Compress of 64-bit lanes copies a table to the stack under GCC 12,
  // and compressing stores to memory are slow on some processors. A whole register is stored instead;
  // what it writes past the kept keys was read before.
  const __m512i p = _mm512_set1_epi64(pivot);
  for (; i + 8 <= n; i += 8) {
    const __m512i v = _mm512_loadu_si512(keys + i);
    const __mmask8 above = _mm512_cmpgt_epi64_mask(v, p);
    _mm512_storeu_si512(keys + greater, _mm512_maskz_compress_epi64(above, v));
    const auto others = static_cast<__mmask8>(~above);
    _mm512_storeu_si512(rest + (i - greater), _mm512_maskz_compress_epi64(others, v));
    greater += std::popcount(static_cast<unsigned>(above));
  }
#endif
  for (; i < n; ++i) {
    const Key key = keys[i];
    keys[greater] = key;
    rest[i - greater] = key;
    greater += key > pivot;
  }
  return greater;
}

inline Key median(Key a, Key b, Key c) {
  return std::max(std::min(a, b), std::min(std::max(a, b), c));
}

inline Key pivot_of(const Key* keys, std::int64_t n) {
  const std::int64_t e = n / 9;
  return median(median(keys[0], keys[e], keys[2 * e]),
                median(keys[3 * e], keys[4 * e], keys[5 * e]),
                median(keys[6 * e], keys[7 * e], keys[8 * e]));
}

/// Brings the k greatest of n keys to the front, in any order. Keys are distinct, so a median is never
/// the greatest and every round makes progress.
inline void select_keys(Key* keys, std::int64_t n, std::int64_t k, Key* scratch) {
  constexpr std::int64_t kSmall = 48;
  for (int round = 0; n > kSmall && k > 0 && k < n; ++round) {
    if (round == 64) return std::nth_element(keys, keys + (k - 1), keys + n, std::greater<Key>());
    const std::int64_t greater = partition(keys, n, pivot_of(keys, n), scratch);
    if (greater >= k) {
      n = greater;
    } else {  // all of these belong to the best; go on among the others
      keys += greater;
      n -= greater;
      k -= greater;
      std::copy_n(scratch, n, keys);
    }
  }
  if (k <= 0 || k >= n) return;
  rank_keys(keys, n, k, scratch);
  std::copy_n(scratch, k, keys);
}

/// Descending order, by partitions down to ranks.
inline void sort_keys(Key* keys, std::int64_t n, Key* scratch, int depth = 0) {
  constexpr std::int64_t kSmall = 64;
  if (n <= kSmall) {
    Key copy[kSmall + kPad];
    std::copy_n(keys, n, copy);
    return rank_keys(copy, n, n, keys);
  }
  if (depth == 64) return std::sort(keys, keys + n, std::greater<Key>());
  const std::int64_t greater = partition(keys, n, pivot_of(keys, n), scratch);
  std::copy_n(scratch, n - greater, keys + greater);
  sort_keys(keys, greater, scratch, depth + 1);
  sort_keys(keys + greater, n - greater, scratch, depth + 1);
}

inline Key least_key(const Key* keys, std::int64_t n) {
  return *std::min_element(keys, keys + n);
}

/// The k best of `count` keys in order, decoded; empty slots get NaN and -1.
inline void finish_list(Key* keys, std::int64_t count, std::int64_t k, Key* scratch, float* scores,
                        std::int32_t* rows) {
  select_keys(keys, count, k, scratch);
  count = std::min(count, k);
  sort_keys(keys, count, scratch);
  for (std::int64_t i = 0; i < count; ++i) {
    scores[i] = score_of(keys[i]);
    rows[i] = row_of(keys[i]);
  }
  std::fill(scores + count, scores + k, std::numeric_limits<float>::quiet_NaN());
  std::fill(rows + count, rows + k, -1);
}

}  // namespace HWY_NAMESPACE
}  // namespace belfry::cpu::topk
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
