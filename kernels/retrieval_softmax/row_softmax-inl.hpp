// SPDX-License-Identifier: Apache-2.0
// Steps 3, 6 and 7 of retrieval_softmax on transposed tiles of scores (score_steps.hpp), vectorised
// across rows.
#if defined(BELFRY_RETRIEVAL_SOFTMAX_ROW_SOFTMAX_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef BELFRY_RETRIEVAL_SOFTMAX_ROW_SOFTMAX_INL
#undef BELFRY_RETRIEVAL_SOFTMAX_ROW_SOFTMAX_INL
#else
#define BELFRY_RETRIEVAL_SOFTMAX_ROW_SOFTMAX_INL
#endif

#include "kernels/retrieval_softmax/softmax_plan.hpp"
#include "kernels/retrieval_softmax/tile_gemm-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::HWY_NAMESPACE {

constexpr hn::RebindToSigned<DF> kInts;
constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(DF()));

/// The maximum that lets a NaN through, from either side.
HWY_INLINE VF max_or_nan(VF a, VF b) {
  return hn::IfThenElse(hn::IsNaN(a), a, hn::Max(a, b));
}

void subtract_log_probability_tile(float* scores, std::int64_t columns, std::int64_t width,
                                   const float* log_probability) {
  for (std::int64_t c = 0; c < columns; ++c) {
    const VF q = hn::Set(kFloats, log_probability[c]);
    for (float* s = scores + c * width; s != scores + (c + 1) * width; s += kLanes) {
      hn::StoreU(hn::Sub(hn::LoadU(kFloats, s), q), kFloats, s);
    }
  }
}

/// best = maximum over heads; planes are `plane` floats apart.
void max_over_heads(const float* scores, std::int64_t plane, std::int64_t heads, std::int64_t size,
                    float* best) {
  for (std::int64_t k = 0; k < size; k += kLanes) {
    VF m = hn::LoadU(kFloats, scores + k);
    for (std::int64_t h = 1; h < heads; ++h) {
      m = max_or_nan(m, hn::LoadU(kFloats, scores + h * plane + k));
    }
    hn::StoreU(m, kFloats, best + k);
  }
}

/// max over the columns of one register of rows, and not below `from`.
HWY_INLINE VF column_max(const float* s, std::int64_t columns, std::int64_t width, VF from) {
  VF m0 = from, m1 = from, m2 = from, m3 = from;
  std::int64_t c = 0;
  for (; c + 4 <= columns; c += 4, s += 4 * width) {
    m0 = hn::Max(m0, hn::LoadU(kFloats, s));
    m1 = hn::Max(m1, hn::LoadU(kFloats, s + width));
    m2 = hn::Max(m2, hn::LoadU(kFloats, s + 2 * width));
    m3 = hn::Max(m3, hn::LoadU(kFloats, s + 3 * width));
  }
  for (; c < columns; ++c, s += width) m0 = hn::Max(m0, hn::LoadU(kFloats, s));
  return hn::Max(hn::Max(m0, m1), hn::Max(m2, m3));
}

/// s = exp(s - m) in place; the sum over columns.
HWY_INLINE VF exp_columns(float* s, std::int64_t columns, std::int64_t width, VF m) {
  VF sum0 = hn::Zero(kFloats), sum1 = sum0;
  std::int64_t c = 0;
  for (; c + 2 <= columns; c += 2, s += 2 * width) {
    const VF e0 = exp_nonpositive(hn::Sub(hn::LoadU(kFloats, s), m));
    const VF e1 = exp_nonpositive(hn::Sub(hn::LoadU(kFloats, s + width), m));
    hn::StoreU(e0, kFloats, s);
    hn::StoreU(e1, kFloats, s + width);
    sum0 = hn::Add(sum0, e0);
    sum1 = hn::Add(sum1, e1);
  }
  if (c < columns) {
    const VF e = exp_nonpositive(hn::Sub(hn::LoadU(kFloats, s), m));
    hn::StoreU(e, kFloats, s);
    sum0 = hn::Add(sum0, e);
  }
  return hn::Add(sum0, sum1);
}

/// The same over the maximum plane; each head's plane gets its share of the exp: all of it where the
/// head is the maximum, equal parts where several are, else 0.
HWY_INLINE VF exp_columns_of_heads(float* best, float* scores, std::int64_t plane,
                                   std::int64_t heads, std::int64_t columns, std::int64_t width,
                                   VF m) {
  VF sum = hn::Zero(kFloats);
  const VF one = hn::Set(kFloats, 1.0f);
  for (std::int64_t c = 0; c < columns; ++c) {
    const VF s = hn::LoadU(kFloats, best + c * width);
    const VF e = exp_nonpositive(hn::Sub(s, m));
    sum = hn::Add(sum, e);
    VF ties = hn::Zero(kFloats);
    for (std::int64_t h = 0; h < heads; ++h) {
      const VF head = hn::LoadU(kFloats, scores + h * plane + c * width);
      ties = hn::Add(ties, hn::IfThenElseZero(hn::Eq(head, s), one));
    }
    const VF share = hn::Div(e, hn::Max(ties, one));
    for (std::int64_t h = 0; h < heads; ++h) {
      float* head = scores + h * plane + c * width;
      hn::StoreU(hn::IfThenElseZero(hn::Eq(hn::LoadU(kFloats, head), s), share), kFloats, head);
    }
  }
  return sum;
}

/// Step 7 on a block of columns, over the rows' running maximum: exps in place, running sums, and
/// what was accumulated so far (`d_queries`, `depth` rows of width) brought to the new maximum.
void softmax_block(const TileScratch& t, float* best, float* heads_scores, std::int64_t plane,
                   std::int64_t heads, std::int64_t columns, std::int64_t width, float* d_queries,
                   std::int64_t depth) {
  alignas(64) float rescale[kMaxWidth], sum[kMaxWidth];
  bool moved = false;
  for (std::int64_t v = 0; v < width; v += kLanes) {
    const VF old = hn::LoadU(kFloats, t.maximum + v);
    const VF m = column_max(best + v, columns, width, old);
    moved = moved || !hn::AllTrue(kFloats, hn::Eq(old, m));
    hn::StoreU(m, kFloats, t.maximum + v);
    hn::StoreU(exp_nonpositive(hn::Sub(old, m)), kFloats, rescale + v);
    const VF s = heads == 1 ? exp_columns(best + v, columns, width, m)
                            : exp_columns_of_heads(best + v, heads_scores + v, plane, heads,
                                                   columns, width, m);
    hn::StoreU(s, kFloats, sum + v);
  }
  for (std::int64_t r = 0; r < width; ++r) {
    t.total[r] = t.total[r] * static_cast<double>(rescale[r]) + static_cast<double>(sum[r]);
  }
  if (!moved || d_queries == nullptr) return;
  for (std::int64_t k = 0; k < depth; ++k) {
    for (std::int64_t v = 0; v < width; v += kLanes) {
      float* x = d_queries + k * width + v;
      hn::StoreU(hn::Mul(hn::LoadU(kFloats, x), hn::LoadU(kFloats, rescale + v)), kFloats, x);
    }
  }
}

/// -1 where score >= threshold (or > threshold), else 0.
template <bool kEqualToo>
HWY_INLINE hn::Vec<decltype(kInts)> is_above(const float* score, VF threshold) {
  const VF s = hn::LoadU(kFloats, score);
  const auto above = kEqualToo ? hn::Ge(s, threshold) : hn::Gt(s, threshold);
  return hn::BitCast(kInts, hn::VecFromMask(kFloats, above));
}

/// better[r] += columns whose score is above the row's positive.
void count_better(const float* scores, std::int64_t columns, std::int64_t width,
                  const float* positive, std::int32_t* better) {
  for (std::int64_t v = 0; v < width; v += kLanes) {
    const VF p = hn::LoadU(kFloats, positive + v);
    auto count = hn::LoadU(kInts, better + v);
    for (std::int64_t c = 0; c < columns; ++c) {
      count = hn::Sub(count, is_above<false>(scores + c * width + v, p));
    }
    hn::StoreU(count, kInts, better + v);
  }
}

/// Number of columns above the threshold, per row of one register.
template <bool kEqualToo>
HWY_INLINE hn::Vec<decltype(kInts)> count_above(const float* scores, std::int64_t columns,
                                                std::int64_t width, VF threshold) {
  auto count0 = hn::Zero(kInts), count1 = count0;
  std::int64_t c = 0;
  for (; c + 2 <= columns; c += 2) {
    count0 = hn::Sub(count0, is_above<kEqualToo>(scores + c * width, threshold));
    count1 = hn::Sub(count1, is_above<kEqualToo>(scores + (c + 1) * width, threshold));
  }
  if (c < columns) count0 = hn::Sub(count0, is_above<kEqualToo>(scores + c * width, threshold));
  return hn::Add(count0, count1);
}

/// The float whose bits, made monotone, are `key`: negative numbers below positive ones.
HWY_INLINE VF float_of_key(hn::Vec<decltype(kInts)> key) {
  const auto top = hn::Set(kInts, INT32_MIN);
  const auto was_positive = hn::Lt(key, hn::Zero(kInts));  // the key's top bit is set
  return hn::BitCast(kFloats, hn::IfThenElse(was_positive, hn::Xor(key, top), hn::Not(key)));
}

/// A threshold per row with exactly n columns at or above it, or else the n-th best score: built from
/// its top bit down, all rows of a register at once, without moving a score.
HWY_INLINE VF nth_best(const float* scores, std::int64_t columns, std::int64_t width,
                       std::int32_t n) {
  const auto wanted = hn::Set(kInts, n), one_fewer = hn::Set(kInts, n - 1);
  auto key = hn::Zero(kInts);
  auto exact = hn::Ne(key, key);
  for (int bit = 31; bit >= 0; --bit) {
    const auto candidate =
        hn::Or(key, hn::Set(kInts, static_cast<std::int32_t>(std::uint32_t{1} << bit)));
    const auto count = count_above<true>(scores, columns, width, float_of_key(candidate));
    const auto enough = hn::Gt(count, one_fewer);
    key = hn::IfThenElse(enough, candidate, key);
    exact = hn::Or(exact, hn::Eq(count, wanted));
    if (hn::AllTrue(kInts, exact)) break;
  }
  // With fewer than n columns left the key stays below that of -inf: a NaN, below which nothing is.
  return float_of_key(key);
}

void keep_hard_negatives_tile(float* scores, std::int64_t columns, std::int64_t width,
                              std::int64_t n) {
  if (n <= 0 || n >= columns) return;
  const VF left = hn::Set(kFloats, kLeftRow);
  const auto one = hn::Set(kInts, 1);
  for (std::int64_t v = 0; v < width; v += kLanes) {
    float* s = scores + v;
    const VF threshold = nth_best(s, columns, width, static_cast<std::int32_t>(n));
    auto equal_left = hn::Sub(hn::Set(kInts, static_cast<std::int32_t>(n)),
                              count_above<false>(s, columns, width, threshold));
    for (std::int64_t c = 0; c < columns; ++c, s += width) {
      const VF x = hn::LoadU(kFloats, s);
      const auto equal = hn::Eq(x, threshold);
      const auto over_quota = hn::RebindMask(kFloats, hn::Lt(equal_left, one));
      const auto drop = hn::Or(hn::Lt(x, threshold), hn::And(equal, over_quota));
      equal_left = hn::Add(equal_left, hn::BitCast(kInts, hn::VecFromMask(kFloats, equal)));
      hn::StoreU(hn::IfThenElse(drop, left, x), kFloats, s);
    }
  }
}

}  // namespace belfry::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard per target
