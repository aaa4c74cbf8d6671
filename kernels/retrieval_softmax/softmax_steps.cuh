// SPDX-License-Identifier: Apache-2.0
// Steps 1 to 6 of retrieval_softmax on a warp's unit of scores. kQueryRows: rows of the unit are query slots
// and columns candidates (row pass), or the other way round (column pass).
#pragma once

#include "kernels/retrieval_softmax/softmax_unit.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

inline constexpr std::uint32_t kNoId =
    0xffffffffu;  // in Leaving::same, of rows and columns that there are not

/// Which columns leave which rows. Marks are one bit a pair of units in which something leaves: only those
/// pairs are looked at element by element.
struct Leaving {
  const std::uint32_t* by_query = nullptr;  // [query units][marks_of_query], bit = candidate unit
  const std::uint32_t* by_candidate =
      nullptr;  // [candidate units][marks_of_candidate], bit = query unit
  std::int64_t marks_of_query = 0, marks_of_candidate = 0;
  const std::uint32_t* same = nullptr;  // [whole units] equal where the ids are equal
  RowLists masked;
  const float* threshold = nullptr;        // [B] with hard negatives: below it leaves,
  const std::int32_t* last_tie = nullptr;  // [B] and at it after this column
};

/// One call's scores, as the passes see them. Rows of queries and candidates are copies: padded with zeros
/// to whole tiles, `depth` elements apart.
template <class Element>
struct Scores {
  const Element* queries;     // by slot
  const Element* candidates;  // [C]
  int depth;
  SlotMap slots;
  std::int32_t columns;       // C
  std::int32_t first_column;  // columns before it leave every row
  int query_units, candidate_units;
  const float* bias;  // [C] or nullptr: subtracted from scores
  float multiplier;   // of a score before the bias, if there is one
  float in_exponent;  // of a score as it is then, or without bias
  Leaving leaving;

  __device__ __forceinline__ const float* bias_of(std::int64_t unit) const {
    return bias == nullptr ? nullptr : bias + unit * kUnit;
  }
  /// The unit of candidates that has the query unit's positives.
  __device__ __forceinline__ int diagonal(int query_unit) const {
    return static_cast<int>(slots.query(query_unit, 0) / kUnit);
  }
};

/// Why columns of a candidate unit may leave rows of a query unit, as bits.
inline constexpr unsigned kOnEdge = 1, kMarked = 2, kMined = 4;

/// Tells it of one unit beside the units that pass, in order: one comparison each, and the marks are read
/// 32 units at a time.
template <bool kQueryRows>
class Watch {
 public:
  template <class Element>
  __device__ __forceinline__ Watch(const Scores<Element>& job, int own)
      : mined_(job.leaving.threshold != nullptr ? kMined : 0) {
    const Leaving& l = job.leaving;
    if (l.by_query != nullptr) {
      marks_ = kQueryRows ? l.by_query + own * l.marks_of_query
                          : l.by_candidate + own * l.marks_of_candidate;
    }
    const int first_whole = (job.first_column + kUnit - 1) / kUnit, end_whole = job.columns / kUnit;
    if constexpr (kQueryRows) {
      edge_ = job.diagonal(own);
      first_whole_ = first_whole;
      end_whole_ = end_whole;
    } else {  // query units whose positives are here; all, where columns here are missing
      const bool whole = own >= first_whole && own < end_whole;
      edge_ = own << job.slots.bits;
      first_whole_ = whole ? 0 : 0x7fffffff;
      end_whole_ = 0x7fffffff;
      bits_ = job.slots.bits;
    }
  }

  __device__ __forceinline__ unsigned operator()(int unit) {
    unsigned why = mined_;
    const bool diagonal = kQueryRows ? unit == edge_ : unit >> bits_ == edge_ >> bits_;
    if (diagonal || unit < first_whole_ || unit >= end_whole_) why |= kOnEdge;
    if (marks_ != nullptr) {
      if (unit / 32 != at_) {
        at_ = unit / 32;
        word_ = marks_[at_];
      }
      if (word_ >> (unit % 32) & 1) why |= kMarked;
    }
    return why;
  }

 private:
  unsigned mined_;
  const std::uint32_t* marks_ = nullptr;
  int edge_, first_whole_, end_whole_;
  int bits_ = 0;
  int at_ = -1;
  std::uint32_t word_ = 0;
};

/// The columns first .. first+31 that an ascending list holds, as bits.
__device__ inline std::uint32_t listed_columns(const std::int32_t* list, std::int64_t size,
                                               std::int64_t first) {
  std::int64_t low = 0, high = size;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (list[middle] < first) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  std::uint32_t bits = 0;
  for (; low < size && list[low] < first + kUnit; ++low) bits |= 1u << (list[low] - first);
  return bits;
}

/// Step 5. Lane x looks up the list of query slot x; bits go to the lanes that hold the slot's scores.
template <bool kQueryRows, class Element>
__device__ __forceinline__ void drop_masked(Unit& s, const Scores<Element>& job, int query_unit,
                                            int unit) {
  const RowLists& lists = job.leaving.masked;
  const std::int64_t i = job.slots.query(query_unit, lane_of_warp());
  std::uint32_t bits = 0;
  if (i < job.slots.batch) {
    const std::int64_t begin = lists.offsets[i];
    bits = listed_columns(lists.rows + begin, lists.offsets[i + 1] - begin,
                          unit * std::int64_t{kUnit});
  }
  if constexpr (kQueryRows) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const std::uint32_t of_row =
          __shfl_sync(kAllLanes, bits, first_row() + 8 * r) >> first_column();
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        if (of_row >> (8 * n) & 1) s.at(r, n, 0) = kLeft;
        if (of_row >> (8 * n + 1) & 1) s.at(r, n, 1) = kLeft;
      }
    }
  } else {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const std::uint32_t of_slot =
            __shfl_sync(kAllLanes, bits, 8 * n + first_column() + e) >> first_row();
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          if (of_slot >> (8 * r) & 1) s.at(r, n, e) = kLeft;
        }
      }
    }
  }
}

/// A query's property f(i) for each slot that this lane has scores of; `none` for slots without a query.
template <bool kQueryRows, class T>
struct OfSlots {
  T v[kQueryRows ? 4 : 8];

  template <class F>
  __device__ __forceinline__ OfSlots(const SlotMap& slots, int query_unit, T none, F&& f) {
#pragma unroll
    for (int k = 0; k < (kQueryRows ? 4 : 8); ++k) {
      const int slot = kQueryRows ? first_row() + 8 * k : first_column() + k / 2 * 8 + k % 2;
      const std::int64_t i = slots.query(query_unit, slot);
      v[k] = i < slots.batch ? f(i) : none;
    }
  }
  __device__ __forceinline__ T at(int s, int n, int e) const {
    return v[kQueryRows ? s : 2 * n + e];
  }
};

/// The candidate of an element.
template <bool kQueryRows>
__device__ __forceinline__ std::int32_t candidate_of(int unit, int s, int n, int e) {
  return unit * kUnit + (kQueryRows ? first_column() + 8 * n + e : first_row() + 8 * s);
}

/// What the shapes say: the positive (it is handled apart, where p - 1 is no difference of nearly equal
/// numbers), the other rows' positives without in_batch, and columns that there are not.
template <bool kQueryRows, class Element>
__device__ __forceinline__ void drop_on_edge(Unit& s, const Scores<Element>& job, int query_unit,
                                             int unit) {
  const OfSlots<kQueryRows, std::int32_t> positive(
      job.slots, query_unit, -1, [](std::int64_t i) { return static_cast<std::int32_t>(i); });
  for_elements([&](int r, int n, int e) {
    const std::int32_t j = candidate_of<kQueryRows>(unit, r, n, e);
    if (j == positive.at(r, n, e) || j < job.first_column || j >= job.columns)
      s.at(r, n, e) = kLeft;
  });
}

/// Step 4.
template <bool kQueryRows, class Element>
__device__ __forceinline__ void drop_hits(Unit& s, const Scores<Element>& job, int query_unit,
                                          int unit) {
  const OfSlots<kQueryRows, std::uint32_t> own(job.slots, query_unit, kNoId,
                                               [&](std::int64_t i) { return job.leaving.same[i]; });
  for_elements([&](int r, int n, int e) {
    const std::int32_t j = candidate_of<kQueryRows>(unit, r, n, e);
    if (job.leaving.same[j] == own.at(r, n, e)) s.at(r, n, e) = kLeft;
  });
}

/// Step 6, once the thresholds are known. NaN stays, so that it is noticed.
template <bool kQueryRows, class Element>
__device__ __forceinline__ void drop_easy(Unit& s, const Scores<Element>& job, int query_unit,
                                          int unit) {
  const Leaving& l = job.leaving;
  const OfSlots<kQueryRows, float> threshold(job.slots, query_unit, 0.0f,
                                             [&](std::int64_t i) { return l.threshold[i]; });
  const OfSlots<kQueryRows, std::int32_t> last(job.slots, query_unit, 0,
                                               [&](std::int64_t i) { return l.last_tie[i]; });
  for_elements([&](int r, int n, int e) {
    const float t = threshold.at(r, n, e);
    float& x = s.at(r, n, e);
    const bool late = candidate_of<kQueryRows>(unit, r, n, e) > last.at(r, n, e);
    if (x < t || (x == t && late)) x = kLeft;
  });
}

template <bool kQueryRows, class Element>
__device__ __forceinline__ void drop_columns(Unit& s, const Scores<Element>& job, int query_unit,
                                             int unit, unsigned why) {
  if (why & kOnEdge) drop_on_edge<kQueryRows>(s, job, query_unit, unit);
  if (why & kMarked) {
    if (job.leaving.same != nullptr) drop_hits<kQueryRows>(s, job, query_unit, unit);
    if (job.leaving.masked.offsets != nullptr) drop_masked<kQueryRows>(s, job, query_unit, unit);
  }
  if (why & kMined) drop_easy<kQueryRows>(s, job, query_unit, unit);
  simt::converge();  // before the next product
}

/// The maximum that lets a NaN through.
struct MaxOrNan {
  __device__ __forceinline__ float operator()(float a, float b) const {
    return a > b || a != a ? a : b;
  }
};

/// Step 1 with several heads: scores become the maximum over the heads of their query, and `share` what a
/// head has of the gradient: equal parts among those at the maximum. Partners differ in the bits of the
/// slot's order: first s or n, then lanes (and e).
template <bool kQueryRows>
struct HeadExchange {
  const SlotMap& slots;

  /// Each element with op over its partner in the lane: `distance` further in s or n, or the other e.
  template <int distance, class Op>
  __device__ __forceinline__ void combine_in_lane(Unit& u, Op op) const {
    const Unit before = u;
    for_elements([&](int s, int n, int e) {
      const float other = distance == 0 ? before.at(s, n, 1 - e)
                          : kQueryRows  ? before.at(s ^ distance, n, e)
                                        : before.at(s, n ^ distance, e);
      u.at(s, n, e) = op(before.at(s, n, e), other);
    });
  }
  template <class Op>
  __device__ __forceinline__ void combine_over_lanes(Unit& u, int distance, Op op) const {
    for_elements([&](int s, int n, int e) {
      u.at(s, n, e) = op(u.at(s, n, e), __shfl_xor_sync(kAllLanes, u.at(s, n, e), distance));
    });
  }
  /// Each element with op over those of all heads.
  template <class Op>
  __device__ __forceinline__ void combine(Unit& u, Op op) const {
    combine_in_lane<1>(u, op);
    if (slots.bits > 1) combine_in_lane<2>(u, op);
    int bit = 2;
    if (!kQueryRows && bit < slots.bits) {
      combine_in_lane<0>(u, op);
      ++bit;
    }
    for (; bit < slots.bits; ++bit) {
      combine_over_lanes(u, kQueryRows ? 4 << (bit - 2) : 1 << (bit - 3), op);
    }
  }

  __device__ __forceinline__ void operator()(Unit& s, Unit& share) const {
    const auto is_head = [&](int r, int n, int e) {
      return slots.head(kQueryRows ? first_row() + 8 * r : first_column() + 8 * n + e) <
             slots.heads;
    };
    const Unit own = s;
    for_elements([&](int r, int n, int e) {
      if (!is_head(r, n, e)) s.at(r, n, e) = kLeft;
    });
    combine(s, MaxOrNan{});
    for_elements([&](int r, int n, int e) {
      share.at(r, n, e) = is_head(r, n, e) && own.at(r, n, e) == s.at(r, n, e) ? 1.0f : 0.0f;
    });
    Unit ties = share;
    combine(ties, Sum{});
    for_elements([&](int r, int n, int e) {
      share.at(r, n, e) = share.at(r, n, e) == 0.0f ? 0.0f : 1.0f / ties.at(r, n, e);
    });
  }
};

/// Step 3: fp32 subtracts as the CPU does; with tensor cores the temperature comes in at the same time.
template <class Tile>
__device__ __forceinline__ float with_bias(float score, float multiplier, float bias) {
  return Tile::kLog2 ? fmaf(score, multiplier, -bias) : score - bias;
}

/// Steps 3, 1 (the maximum over heads) and 4 to 6 on raw scores of candidates, with their bias.
template <class Tile, bool kHeads>
__device__ __forceinline__ void finish_scores(const Scores<typename Tile::Element>& job, Unit& s,
                                              Unit& share, const float* bias, int query_unit,
                                              int unit, unsigned why) {
  if (job.bias != nullptr) {
    for_elements([&](int r, int n, int e) {
      s.at(r, n, e) =
          with_bias<Tile>(s.at(r, n, e), job.multiplier, bias[first_column() + 8 * n + e]);
    });
  }
  if constexpr (kHeads) {
    if (job.slots.bits > 0) HeadExchange<true>{job.slots}(s, share);
  }
  if (why != 0) drop_columns<true>(s, job, query_unit, unit, why);
}

}  // namespace belfry::cuda::retrieval_softmax_kernels
