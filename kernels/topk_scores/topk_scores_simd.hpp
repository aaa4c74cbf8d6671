// SPDX-License-Identifier: Apache-2.0
// The per-instruction-set half of topk_scores: Highway includes this file once per target.
// Every target computes the fma chain of the contract, so all of them give the same bits.
#if defined(BELFRY_TOPK_SIMD_HPP_) == defined(HWY_TARGET_TOGGLE)  // Highway's toggled include guard
#ifdef BELFRY_TOPK_SIMD_HPP_
#undef BELFRY_TOPK_SIMD_HPP_
#else
#define BELFRY_TOPK_SIMD_HPP_
#endif

#include <hwy/highway.h>

#include <bit>
#include <cmath>
#include <limits>

#include "kernels/topk_scores/topk_scores_keys.hpp"
#include "kernels/topk_scores/topk_scores_lists.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::topk {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;

/// What a kernel call does with its scores: keep them in the tile (filter = false), or keep them only
/// when one reaches its query's threshold. `later` heads are first merged with the tile's maximum.
template <bool kLater, bool kFilter>
struct Use {
  static constexpr bool later = kLater, filter = kFilter;
};

#if HWY_NATIVE_FMA

// Accumulators are three registers a query. 32 registers hold 8 queries, 16 hold 4.
inline constexpr std::int64_t kRows = HWY_TARGET == HWY_AVX2 ? 4 : 8;
inline constexpr std::int64_t kCols = 3 * static_cast<std::int64_t>(hn::MaxLanes(Floats()));

struct Row3 {
  hn::Vec<Floats> a, b, c;
};

HWY_INLINE void step(Row3& acc, const float* query, const Row3& items) {
  const auto q = hn::Set(Floats(), *query);
  acc.a = hn::MulAdd(q, items.a, acc.a);
  acc.b = hn::MulAdd(q, items.b, acc.b);
  acc.c = hn::MulAdd(q, items.c, acc.c);
}

/// The maximum over heads: the first of equal ones; a NaN of any head stays.
HWY_INLINE hn::Vec<Floats> later_head(hn::Vec<Floats> best, hn::Vec<Floats> score) {
  const auto take = hn::Or(hn::Gt(score, best), hn::IsNaN(score));
  return hn::IfThenElse(take, score, best);
}

template <class U>
HWY_INLINE void merge(Row3& acc, const float* tile) {
  constexpr Floats d;
  if constexpr (U::later) {
    acc.a = later_head(hn::LoadU(d, tile), acc.a);
    acc.b = later_head(hn::LoadU(d, tile + hn::Lanes(d)), acc.b);
    acc.c = later_head(hn::LoadU(d, tile + 2 * hn::Lanes(d)), acc.c);
  }
}

HWY_INLINE hn::Mask<Floats> reaches(const Row3& acc, const float* threshold) {
  const auto t = hn::Set(Floats(), *threshold);
  return hn::Or(hn::Or(hn::Ge(acc.a, t), hn::Ge(acc.b, t)), hn::Ge(acc.c, t));
}

HWY_INLINE void store(const Row3& acc, float* tile) {
  constexpr Floats d;
  hn::StoreU(acc.a, d, tile);
  hn::StoreU(acc.b, d, tile + hn::Lanes(d));
  hn::StoreU(acc.c, d, tile + 2 * hn::Lanes(d));
}

/// R queries against kCols items; true when the tile holds scores to look at. The accumulators have
/// names and the function is its own: GCC spills an array of them to the stack (five times slower).
template <int R, class U>
HWY_NOINLINE bool kernel(const float* HWY_RESTRICT queries, const float* HWY_RESTRICT items,
                         std::int64_t dim, const float* HWY_RESTRICT thresholds,
                         float* HWY_RESTRICT tile) {
  constexpr Floats d;
  const auto zero = hn::Zero(d);
  Row3 r0{zero, zero, zero}, r1 = r0, r2 = r0, r3 = r0, r4 = r0, r5 = r0, r6 = r0, r7 = r0;
  for (std::int64_t i = 0; i < dim; ++i, queries += kGroup, items += kPanelItems) {
    const Row3 v{hn::LoadU(d, items), hn::LoadU(d, items + hn::Lanes(d)),
                 hn::LoadU(d, items + 2 * hn::Lanes(d))};
    step(r0, queries, v);
    if constexpr (R > 1) step(r1, queries + 1, v);
    if constexpr (R > 2) step(r2, queries + 2, v), step(r3, queries + 3, v);
    if constexpr (R > 4) {
      step(r4, queries + 4, v), step(r5, queries + 5, v);
      step(r6, queries + 6, v), step(r7, queries + 7, v);
    }
  }
  constexpr std::int64_t p = kPanelItems;
  merge<U>(r0, tile);
  if constexpr (R > 1) merge<U>(r1, tile + p);
  if constexpr (R > 2) merge<U>(r2, tile + 2 * p), merge<U>(r3, tile + 3 * p);
  if constexpr (R > 4) {
    merge<U>(r4, tile + 4 * p), merge<U>(r5, tile + 5 * p);
    merge<U>(r6, tile + 6 * p), merge<U>(r7, tile + 7 * p);
  }
  if constexpr (U::filter) {
    auto any = reaches(r0, thresholds);
    if constexpr (R > 1) any = hn::Or(any, reaches(r1, thresholds + 1));
    if constexpr (R > 2) {
      any = hn::Or(any, hn::Or(reaches(r2, thresholds + 2), reaches(r3, thresholds + 3)));
    }
    if constexpr (R > 4) {
      any = hn::Or(any, hn::Or(reaches(r4, thresholds + 4), reaches(r5, thresholds + 5)));
      any = hn::Or(any, hn::Or(reaches(r6, thresholds + 6), reaches(r7, thresholds + 7)));
    }
    if (hn::AllFalse(d, any)) return false;
  }
  store(r0, tile);
  if constexpr (R > 1) store(r1, tile + p);
  if constexpr (R > 2) store(r2, tile + 2 * p), store(r3, tile + 3 * p);
  if constexpr (R > 4) {
    store(r4, tile + 4 * p), store(r5, tile + 5 * p);
    store(r6, tile + 6 * p), store(r7, tile + 7 * p);
  }
  return true;
}

#else  // no fused multiply-add: the library's correctly rounded fma, one score at a time

inline constexpr std::int64_t kRows = 8;
inline constexpr std::int64_t kCols = kPanelItems;

template <int R, class U>
HWY_NOINLINE bool kernel(const float* queries, const float* items, std::int64_t dim,
                         const float* thresholds, float* tile) {
  bool any = false;
  for (std::int64_t r = 0; r < R; ++r) {
    for (std::int64_t c = 0; c < kCols; ++c) {
      float score = 0;
      for (std::int64_t i = 0; i < dim; ++i) {
        score = std::fma(queries[i * kGroup + r], items[i * kPanelItems + c], score);
      }
      float& out = tile[r * kPanelItems + c];
      if (!U::later || score > out || std::isnan(score)) out = score;
      any = any || !U::filter || out >= thresholds[r];
    }
  }
  return any;
}

#endif  // HWY_NATIVE_FMA

template <class U>
HWY_INLINE bool kernel_for(std::int64_t rows, const float* queries, const float* items,
                           std::int64_t dim, const float* thresholds, float* tile) {
  if constexpr (kRows > 4) {
    if (rows > 4) return kernel<8, U>(queries, items, dim, thresholds, tile);
  }
  if (rows > 2) return kernel<4, U>(queries, items, dim, thresholds, tile);
  if (rows > 1) return kernel<2, U>(queries, items, dim, thresholds, tile);
  return kernel<1, U>(queries, items, dim, thresholds, tile);
}

/// Scores of slots first_slot .. of one group with columns col .. col + kCols - 1 of a panel, into
/// the tile; false when no score reaches its threshold.
template <bool kFilter>
HWY_INLINE bool score_block(const Scan& s, std::int64_t first_slot, std::int64_t rows,
                            const float* panel, std::int64_t col, const float* thresholds,
                            float* tile) {
  const std::int64_t dim = s.items.dim;
  const float* q = s.queries + first_slot / kGroup * kGroup * s.heads * dim + first_slot % kGroup;
  const float* v = panel + col;
  const float* t = thresholds + first_slot;
  if (s.heads == 1) return kernel_for<Use<false, kFilter>>(rows, q, v, dim, t, tile);
  kernel_for<Use<false, false>>(rows, q, v, dim, t, tile);
  for (std::int64_t h = 1; h + 1 < s.heads; ++h) {
    kernel_for<Use<true, false>>(rows, q + h * kGroup * dim, v, dim, t, tile);
  }
  return kernel_for<Use<true, kFilter>>(rows, q + (s.heads - 1) * kGroup * dim, v, dim, t, tile);
}

/// Asks for the next panel a few lines at a time, spread over the groups of the current one: without
/// this its first group waits for memory, a sixth of all time.
class PanelPrefetch {
 public:
  PanelPrefetch(const Scan& s)
      : lines_((kPanelItems * s.items.dim * 4 + 63) / 64),
        step_(lines_ / std::max<std::int64_t>(1, (s.slots + kRows - 1) / kRows) + 1) {}
  void start(const float* panel) {
    next_ = reinterpret_cast<const char*>(panel);
    end_ = next_ + lines_ * 64;
  }
  HWY_INLINE void step() {
    const char* stop = std::min(end_, next_ + step_ * 64);
    for (; next_ < stop; next_ += 64) __builtin_prefetch(next_, 0, 3);
  }

 private:
  std::int64_t lines_, step_;
  const char* next_ = nullptr;
  const char* end_ = nullptr;
};

/// One bit for each of `cols` scores for which `test` holds.
template <class Test>
HWY_INLINE std::uint64_t lanes_where(const float* scores, std::int64_t cols, const Test& test) {
  constexpr Floats d;
  const auto n = static_cast<std::int64_t>(hn::Lanes(d));
  std::uint64_t lanes = 0;
  for (std::int64_t j = 0; j < cols; j += n) {
    std::uint8_t bits[8] = {};
    hn::StoreMaskBits(d, test(hn::LoadU(d, scores + j)), bits);
    lanes |= static_cast<std::uint64_t>(bits[0] | (bits[1] << 8)) << j;
  }
  return lanes;
}

// ---- topk_scores ----

/// Takes over what other units of the same query have proven: k keys above theirs exist.
HWY_INLINE void raise_worst(const TopKScan& s, std::int64_t slot, Key worst) {
  if (s.shared_worst != nullptr) {
    std::atomic<Key>& shared = s.shared_worst[slot];
    Key seen = shared.load(std::memory_order_relaxed);
    while (seen < worst && !shared.compare_exchange_weak(seen, worst, std::memory_order_relaxed)) {
    }
    worst = std::max(worst, seen);
  }
  s.worst[slot] = worst;
  s.thresholds[slot] = worst == kNoKey ? -std::numeric_limits<float>::infinity() : score_of(worst);
}

HWY_NOINLINE void shrink_list(const TopKScan& s, std::int64_t slot) {
  Key* keys = s.keys + slot * s.pitch;
  select_keys(keys, s.counts[slot], s.k, s.scratch);
  s.counts[slot] = s.k;
  raise_worst(s, slot, std::max(s.worst[slot], least_key(keys, s.k)));
}

/// Whether `row` may enter the list of this slot's query (the shared bitmap was tested before).
HWY_INLINE bool eligible(const TopKScan& s, std::int64_t slot, std::int32_t row) {
  const ItemMask& mask = *s.mask;
  if (s.filters != nullptr) {
    const std::uint32_t bit = filter_bit(row);
    if ((s.filters[slot * kFilterWords + bit / 64] >> (bit % 64)) & 1) {
      if (in_list(mask.exclude, s.query_of[slot], row)) return false;
    }
  }
  return mask.only.offsets == nullptr || in_list(mask.only, s.query_of[slot], row);
}

/// Puts the scores of a tile that reach their query's threshold into the lists.
HWY_INLINE void push_block(const TopKScan& s, std::int64_t first_slot, std::int64_t rows,
                           const float* tile, std::uint64_t lanes, std::int64_t first_item) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t slot = first_slot + r;
    const auto t = hn::Set(Floats(), s.thresholds[slot]);
    const float* scores = tile + r * kPanelItems;
    std::uint64_t hits =
        lanes & lanes_where(scores, kCols, [&](hn::Vec<Floats> v) { return hn::Ge(v, t); });
    if (hits == 0) continue;
    if (s.counts[slot] + kCols > s.capacity) shrink_list(s, slot);
    const Key worst = s.worst[slot];
    Key* keys = s.keys + slot * s.pitch;
    std::int64_t count = s.counts[slot];
    for (; hits != 0; hits &= hits - 1) {
      const int lane = std::countr_zero(hits);
      const auto row = static_cast<std::int32_t>(first_item + lane);
      const Key key = make_key(scores[lane], row);
      if (key > worst && eligible(s, slot, row)) keys[count++] = key;
    }
    s.counts[slot] = count;
  }
}

void visit_panels(const TopKScan& s, std::int64_t first, std::int64_t last) {
  PanelPrefetch prefetch(s);
  const std::int64_t panel_size = kPanelItems * s.items.dim;
  for (std::int64_t visit = first; visit < last; ++visit) {
    const std::int64_t p = s.visits.panel(visit);
    const std::uint64_t lanes = p < 0 ? 0 : panel_lanes(s.items, *s.mask, p);
    if (lanes == 0) continue;
    const float* panel = s.items.data + p * panel_size;
    const std::int64_t next = s.visits.panel(visit + 1);
    if (next >= 0) prefetch.start(s.items.data + next * panel_size);
    for (std::int64_t slot = 0; slot < s.slots; slot += kRows) {
      prefetch.step();
      const std::int64_t rows = std::min(kRows, s.slots - slot);
      for (std::int64_t col = 0; col < kPanelItems; col += kCols) {
        if (score_block<true>(s, slot, rows, panel, col, s.thresholds, s.tile)) {
          push_block(s, slot, rows, s.tile, lanes >> col, p * kPanelItems + col);
        }
      }
    }
  }
}

/// Fills the lists. With a sample, its `sample_k` best set a first threshold that, most likely, k keys
/// of all panels reach: far fewer keys are pushed and dropped again. A list that ends with fewer than k
/// keys though something was cut (`worst` is set) has to be made again without a sample.
void scan_top_k(const TopKScan& s) {
  for (std::int64_t slot = 0; slot < s.slots; ++slot) raise_worst(s, slot, kNoKey);
  if (s.sample_visits > 0) {
    TopKScan sample = s;
    sample.k = s.sample_k;
    sample.capacity = s.sample_capacity;
    visit_panels(sample, s.first, s.first + s.sample_visits);
    for (std::int64_t slot = 0; slot < s.slots; ++slot) {
      if (s.counts[slot] >= s.sample_k) shrink_list(sample, slot);
    }
  }
  visit_panels(s, s.first + s.sample_visits, s.last);
}

// ---- count_above ----

/// Lanes of the panel at `first_item` that the ascending list names; moves its cursor past them.
HWY_INLINE std::uint64_t listed_lanes(const RowLists& lists, std::int64_t query, std::int64_t* at,
                                      std::int64_t first_item) {
  std::uint64_t lanes = 0;
  const std::int64_t end = lists.offsets[query + 1];
  for (; *at < end && lists.rows[*at] < first_item + kPanelItems; ++*at) {
    lanes |= std::uint64_t{1} << (lists.rows[*at] - first_item);
  }
  return lanes;
}

HWY_INLINE void count_block(const CountScan& s, std::int64_t slot, const float* scores,
                            std::uint64_t lanes, std::int64_t first_item) {
  const std::int64_t query = s.query_of[slot];
  if (s.exclude_at != nullptr) {
    lanes &= ~listed_lanes(s.mask->exclude, query, s.exclude_at + slot, first_item);
  }
  if (s.only_at != nullptr) {
    lanes &= listed_lanes(s.mask->only, query, s.only_at + slot, first_item);
  }
  const auto t = hn::Set(Floats(), s.thresholds[slot]);
  const auto gt = [&](hn::Vec<Floats> v) { return hn::Gt(v, t); };
  const auto eq = [&](hn::Vec<Floats> v) { return hn::Eq(v, t); };
  std::uint64_t above = lanes_where(scores, kPanelItems, gt);
  const std::int64_t smaller_rows = s.rows[slot] - first_item;
  if (smaller_rows > 0) {
    const std::uint64_t before =
        smaller_rows >= kPanelItems ? ~std::uint64_t{0} : (std::uint64_t{1} << smaller_rows) - 1;
    above |= lanes_where(scores, kPanelItems, eq) & before;
  }
  s.counts[slot] += std::popcount(above & lanes);
}

void scan_counts(const CountScan& s) {
  PanelPrefetch prefetch(s);
  for (std::int64_t p = s.first; p < s.last; ++p) {
    const std::uint64_t lanes = panel_lanes(s.items, *s.mask, p);
    const float* panel = s.items.data + p * kPanelItems * s.items.dim;
    if (p + 1 < s.last) prefetch.start(panel + kPanelItems * s.items.dim);
    for (std::int64_t slot = 0; slot < s.slots; slot += kRows) {
      prefetch.step();
      const std::int64_t rows = std::min(kRows, s.slots - slot);
      for (std::int64_t col = 0; col < kPanelItems; col += kCols) {
        score_block<false>(s, slot, rows, panel, col, s.thresholds, s.tile + col);
      }
      for (std::int64_t r = 0; r < rows; ++r) {
        count_block(s, slot + r, s.tile + r * kPanelItems, lanes, p * kPanelItems);
      }
    }
  }
}

// ---- single pairs ----

/// Scores of one query with m items named by row. Eight chains at a time hide the fma's latency.
void score_rows(Matrix<const float> query_heads, const PackedItems& items, const std::int32_t* rows,
                std::int64_t m, float* out) {
  constexpr std::int64_t kChains = 8;
  for (std::int64_t i = 0; i < m; i += kChains) {
    const std::int64_t chains = std::min(kChains, m - i);
    const float* v[kChains];
    for (std::int64_t c = 0; c < kChains; ++c) {
      const std::int64_t row = rows[i + std::min(c, chains - 1)];
      v[c] = items.data + row / kPanelItems * kPanelItems * items.dim + row % kPanelItems;
    }
    for (std::int64_t h = 0; h < query_heads.rows; ++h) {
      const float* q = query_heads.row(h);
      float s[kChains] = {};
      for (std::int64_t j = 0; j < items.dim; ++j) {
        for (std::int64_t c = 0; c < kChains; ++c)
          s[c] = std::fma(q[j], v[c][j * kPanelItems], s[c]);
      }
      for (std::int64_t c = 0; c < chains; ++c) {
        if (h == 0 || s[c] > out[i + c] || std::isnan(s[c])) out[i + c] = s[c];
      }
    }
    for (std::int64_t c = 0; c < chains; ++c) out[i + c] += 0.0f;  // -0 counts as +0, as in a key
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace belfry::cpu::topk
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard
