// SPDX-License-Identifier: Apache-2.0
// The CPU side of topk_scores. Queries are cut into tiles and, where there are few of them, items into
// ranges of panels; a unit (tile, range) streams its panels past the queries, which stay in L2. Scores
// live in registers; one that reaches its query's threshold is pushed to the query's list, which is cut
// back to k when full and then raises the threshold. Panels are visited in a scattered order, so that a
// catalogue sorted by score (worst last) costs no more than a shuffled one.
#include "kernels/topk_scores/topk_scores.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/topk_scores/topk_scores_simd.hpp"
// Targets that differ from a kept one in nothing that helps here, and those whose vectors have no fixed size.
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/topk_scores/topk_scores_simd.hpp"

#if HWY_ONCE

#include <numeric>

#include "kernels/core/parallel.hpp"
#include "kernels/topk_scores/topk_scores_lists.hpp"
#include "kernels/topk_scores/topk_scores_plan.hpp"

namespace belfry {

std::int64_t PackedItems::size(std::int64_t n, std::int64_t dim) {
  const std::int64_t panels = n / kPanelItems + (n % kPanelItems != 0);
  return checked_product(checked_product(panels, kPanelItems, "PackedItems"), dim, "PackedItems");
}

namespace cpu {
namespace topk {
HWY_EXPORT(scan_top_k);
HWY_EXPORT(scan_counts);
HWY_EXPORT(finish_list);
HWY_EXPORT(select_keys);
HWY_EXPORT(score_rows);

namespace {

void require_lists_in_range(const RowLists& only, std::int64_t queries, std::int64_t n,
                            const char* text) {
  for (std::int64_t q = 0; only.offsets != nullptr && q < queries; ++q) {
    const std::int64_t begin = only.offsets[q], end = only.offsets[q + 1];
    require(begin == end || (only.rows[begin] >= 0 && only.rows[end - 1] < n), text);
  }
}

/// Queries that are scanned (first `scanned` of the result), then those whose `only` list is so short
/// that scoring its rows one by one is cheaper.
std::int64_t order_queries(const ItemMask& mask, std::int64_t queries, std::int64_t n,
                           std::int64_t* order) {
  const auto direct = [&](std::int64_t q) {
    const auto* o = mask.only.offsets;
    return o != nullptr && o[q + 1] - o[q] <= n / kDirectCost;
  };
  std::int64_t scanned = 0, end = queries;
  for (std::int64_t q = 0; q < queries; ++q) order[direct(q) ? --end : scanned++] = q;
  return scanned;
}

/// Scratch of one worker, cut from one block.
struct Workspace {
  float* queries;
  float* tile;
  float* thresholds;
  Key* keys;
  Key* scratch;
  Key* worst;
  std::int64_t* counts;
  std::uint64_t* filters;
};

Workspace take_workspace(const Context& ctx, std::int64_t slots, std::int64_t query_floats,
                         std::int64_t lists, std::int64_t pitch, bool filters) {
  Arena& arena = ctx.arena();
  const std::int64_t padded = rounded(slots);
  Workspace w{};
  w.queries = arena.take<float>(padded * query_floats);
  w.tile = arena.take<float>(kGroup * kPanelItems);
  w.thresholds = arena.take<float>(padded);
  w.keys = arena.take<Key>(checked_product(lists, pitch, "topk_scores: lists"));
  w.scratch = arena.take<Key>(pitch);
  w.worst = arena.take<Key>(padded);
  w.counts = arena.take<std::int64_t>(padded);
  w.filters = filters ? arena.take<std::uint64_t>(slots * kFilterWords) : nullptr;
  return w;
}

void fill_filters(const RowLists& exclude, const std::int64_t* query_of, std::int64_t slots,
                  std::uint64_t* filters) {
  std::fill_n(filters, slots * kFilterWords, 0);
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    const std::int64_t q = query_of[slot];
    for (std::int64_t i = exclude.offsets[q]; i < exclude.offsets[q + 1]; ++i) {
      const std::uint32_t bit = filter_bit(exclude.rows[i]);
      filters[slot * kFilterWords + bit / 64] |= std::uint64_t{1} << (bit % 64);
    }
  }
}

/// Everything of one call; the members below are its steps.
class TopKCall {
 public:
  TopKCall(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
           const PackedItems& items, const ItemMask& mask, TopK out)
      : ctx_(ctx), queries_(queries), heads_(heads), items_(items), mask_(mask), out_(out) {}

  void run() {
    const std::int64_t n_queries = out_.scores.rows;
    auto* order = ctx_.arena().take<std::int64_t>(n_queries);
    const std::int64_t scanned = order_queries(mask_, n_queries, items_.n, order);
    if (scanned > 0) scan({order, scanned}, true);
    if (scanned < n_queries) score_short_lists({order + scanned, n_queries - scanned});
  }

 private:
  std::int64_t k() const { return out_.scores.cols; }

  void scan(Vector<const std::int64_t> order, bool sampled) {
    ArenaScope scope(ctx_);
    order_ = order;
    plan_ = plan_scan(order.size, heads_, k(), items_);
    if (!sampled) plan_.sample_visits = 0;
    part_ = std::min(k(), ceil_div(plan_.visits.count(), plan_.splits) * kPanelItems);
    pitch_ = std::max(plan_.capacity, plan_.splits > 1 ? plan_.splits * part_ : 0) + kPad;
    failed_ = ctx_.arena().take<std::uint8_t>(order.size);
    std::fill_n(failed_, order.size, 0);
    shared_ = nullptr;
    if (plan_.splits > 1) take_parts();
    Workspace* spaces = take_workspaces(plan_.tile, plan_.tile);
    parallel_for(ctx_, plan_.tiles * plan_.splits, [&](std::int64_t unit, int worker) {
      scan_unit(unit / plan_.splits, unit % plan_.splits, spaces[worker]);
    });
    if (plan_.splits > 1) merge_parts(spaces);
    scan_failed_again();
  }

  void take_parts() {
    const std::int64_t lists = plan_.splits * order_.size;
    parts_ = ctx_.arena().take<Key>(checked_product(lists, part_, "topk_scores: partial lists"));
    part_counts_ = ctx_.arena().take<std::int64_t>(lists);
    shared_ = ctx_.arena().take<std::atomic<Key>>(order_.size);
    for (std::int64_t i = 0; i < order_.size; ++i) new (shared_ + i) std::atomic<Key>(kNoKey);
  }

  void scan_failed_again() {
    auto* again = ctx_.arena().take<std::int64_t>(order_.size);
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < order_.size; ++i) {
      if (failed_[i] != 0) again[count++] = order_[i];
    }
    if (count > 0) scan({again, count}, false);
  }

  Workspace* take_workspaces(std::int64_t slots, std::int64_t lists) {
    auto* spaces = ctx_.arena().take<Workspace>(ctx_.threads());
    for (int i = 0; i < ctx_.threads(); ++i) {
      spaces[i] = take_workspace(ctx_, slots, heads_ * items_.dim, lists, pitch_,
                                 mask_.exclude.offsets != nullptr);
    }
    return spaces;
  }

  void scan_unit(std::int64_t tile, std::int64_t split, const Workspace& w) {
    const std::int64_t first = tile * plan_.tile;
    TopKScan s;
    s.slots = std::min(plan_.tile, order_.size - first);
    s.query_of = order_.data + first;
    pack_queries(queries_, heads_, s.query_of, s.slots, w.queries);
    s.queries = w.queries;
    s.heads = heads_;
    s.items = items_;
    s.mask = &mask_;
    s.visits = plan_.visits;
    s.first = plan_.visits.count() * split / plan_.splits;
    s.last = plan_.visits.count() * (split + 1) / plan_.splits;
    s.tile = w.tile;
    s.k = k();
    s.capacity = plan_.capacity;
    s.sample_visits = plan_.sample_visits;
    s.sample_k = plan_.sample_k;
    s.sample_capacity = plan_.sample_capacity;
    s.pitch = pitch_;
    s.keys = w.keys;
    s.scratch = w.scratch;
    s.counts = w.counts;
    s.worst = w.worst;
    s.thresholds = w.thresholds;
    s.shared_worst = shared_ == nullptr ? nullptr : shared_ + first;
    if (w.filters != nullptr) {
      fill_filters(mask_.exclude, s.query_of, s.slots, w.filters);
      s.filters = w.filters;
    }
    std::fill_n(w.counts, rounded(s.slots), 0);
    std::fill_n(w.thresholds, rounded(s.slots), std::numeric_limits<float>::infinity());
    HWY_DYNAMIC_DISPATCH(scan_top_k)(s);
    for (std::int64_t slot = 0; slot < s.slots; ++slot) {
      Key* keys = s.keys + slot * pitch_;
      if (plan_.splits > 1) {
        keep_part(keys, s.counts[slot], (first + slot) * plan_.splits + split, w.scratch);
      } else if (s.counts[slot] < k() && s.worst[slot] != kNoKey) {
        failed_[first + slot] = 1;  // the sample promised more than there is
      } else {
        finish(keys, s.counts[slot], order_[first + slot], w.scratch);
      }
    }
  }

  void keep_part(Key* keys, std::int64_t count, std::int64_t part, Key* scratch) {
    HWY_DYNAMIC_DISPATCH(select_keys)(keys, count, k(), scratch);
    part_counts_[part] = std::min(count, k());
    std::copy_n(keys, part_counts_[part], parts_ + part * part_);
  }

  void merge_parts(const Workspace* spaces) {
    parallel_for(ctx_, order_.size, [&](std::int64_t position, int worker) {
      Key* keys = spaces[worker].keys;
      std::int64_t count = 0;
      for (std::int64_t split = 0; split < plan_.splits; ++split) {
        const std::int64_t list = position * plan_.splits + split;
        std::copy_n(parts_ + list * part_, part_counts_[list], keys + count);
        count += part_counts_[list];
      }
      finish(keys, count, order_[position], spaces[worker].scratch);
    });
  }

  void score_short_lists(Vector<const std::int64_t> order) {
    ArenaScope scope(ctx_);
    const std::int64_t longest = items_.n / kDirectCost;
    pitch_ = longest + kPad;
    Workspace* spaces = take_workspaces(0, 1);
    float* scores = ctx_.arena().take<float>(longest * ctx_.threads());
    constexpr std::int64_t kQueriesPerUnit = 16;
    parallel_for(ctx_, ceil_div(order.size, kQueriesPerUnit), [&](std::int64_t unit, int worker) {
      const std::int64_t last = std::min(order.size, (unit + 1) * kQueriesPerUnit);
      for (std::int64_t i = unit * kQueriesPerUnit; i < last; ++i) {
        score_short_list(order[i], spaces[worker], scores + worker * longest);
      }
    });
  }

  void score_short_list(std::int64_t q, const Workspace& w, float* scores) {
    const std::int32_t* rows = mask_.only.rows + mask_.only.offsets[q];
    const std::int64_t m = mask_.only.offsets[q + 1] - mask_.only.offsets[q];
    HWY_DYNAMIC_DISPATCH(score_rows)(queries_.slice(q * heads_, heads_), items_, rows, m, scores);
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < m; ++i) {
      const std::int32_t row = rows[i];
      if (scores[i] != scores[i]) continue;
      if (!allowed(mask_, row)) continue;
      if (mask_.exclude.offsets != nullptr && in_list(mask_.exclude, q, row)) continue;
      w.keys[count++] = make_key(scores[i], row);
    }
    finish(w.keys, count, q, w.scratch);
  }

  void finish(Key* keys, std::int64_t count, std::int64_t q, Key* scratch) {
    HWY_DYNAMIC_DISPATCH(finish_list)
    (keys, count, k(), scratch, out_.scores.row(q), out_.rows.row(q));
  }

  const Context& ctx_;
  Matrix<const float> queries_;
  std::int64_t heads_;
  const PackedItems& items_;
  const ItemMask& mask_;
  TopK out_;
  Vector<const std::int64_t> order_;  // the queries of this scan
  Plan plan_{};
  std::int64_t part_ = 0;           // most keys of a partial list
  std::int64_t pitch_ = 0;          // keys between lists
  std::uint8_t* failed_ = nullptr;  // per query of this scan
  Key* parts_ = nullptr;            // [query of this scan][splits][part]
  std::int64_t* part_counts_ = nullptr;
  std::atomic<Key>* shared_ =
      nullptr;  // best proven `worst` of each query: only moves upwards, and
                // never changes what the merged list holds
};

/// count_above: the same units, panels in order, so that cursors walk the lists.
class CountCall {
 public:
  CountCall(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
            const PackedItems& items, const ItemMask& mask, Vector<const float> threshold,
            Vector<const std::int32_t> row, Vector<std::int64_t> out)
      : ctx_(ctx),
        queries_(queries),
        heads_(heads),
        items_(items),
        mask_(mask),
        threshold_(threshold),
        row_(row),
        out_(out) {}

  void run() {
    const std::int64_t n_queries = out_.size;
    plan_ = plan_scan(n_queries, heads_, 1, items_);
    order_ = ctx_.arena().take<std::int64_t>(n_queries);
    std::iota(order_, order_ + n_queries, std::int64_t{0});
    parts_ = ctx_.arena().take<std::int64_t>(plan_.splits * n_queries);
    auto* spaces = ctx_.arena().take<Space>(ctx_.threads());
    for (int i = 0; i < ctx_.threads(); ++i) spaces[i] = take_space();
    parallel_for(ctx_, plan_.tiles * plan_.splits, [&](std::int64_t unit, int worker) {
      count_unit(unit / plan_.splits, unit % plan_.splits, spaces[worker]);
    });
    std::fill(out_.begin(), out_.end(), 0);
    for (std::int64_t split = 0; split < plan_.splits; ++split) {
      for (std::int64_t q = 0; q < n_queries; ++q) out_[q] += parts_[split * n_queries + q];
    }
  }

 private:
  struct Space {
    float *queries, *tile, *thresholds;
    std::int64_t *counts, *exclude_at, *only_at;
  };

  Space take_space() {
    Arena& arena = ctx_.arena();
    const std::int64_t slots = rounded(plan_.tile);
    return {arena.take<float>(slots * heads_ * items_.dim),
            arena.take<float>(kGroup * kPanelItems),
            arena.take<float>(slots),
            arena.take<std::int64_t>(slots),
            arena.take<std::int64_t>(slots),
            arena.take<std::int64_t>(slots)};
  }

  std::int64_t* cursors(const RowLists& lists, const CountScan& s, std::int64_t* at) {
    if (lists.offsets == nullptr) return nullptr;
    const std::int64_t first_item = s.first * kPanelItems;
    for (std::int64_t slot = 0; slot < s.slots; ++slot) {
      const std::int64_t q = s.query_of[slot];
      at[slot] = std::lower_bound(lists.rows + lists.offsets[q], lists.rows + lists.offsets[q + 1],
                                  first_item) -
                 lists.rows;
    }
    return at;
  }

  void count_unit(std::int64_t tile, std::int64_t split, const Space& w) {
    const std::int64_t first = tile * plan_.tile;
    CountScan s;
    s.slots = std::min(plan_.tile, out_.size - first);
    s.query_of = order_ + first;
    pack_queries(queries_, heads_, s.query_of, s.slots, w.queries);
    s.queries = w.queries;
    s.heads = heads_;
    s.items = items_;
    s.mask = &mask_;
    s.first = plan_.visits.panels * split / plan_.splits;
    s.last = plan_.visits.panels * (split + 1) / plan_.splits;
    s.tile = w.tile;
    std::copy_n(threshold_.data + first, s.slots, w.thresholds);
    s.thresholds = w.thresholds;
    s.rows = row_.data + first;
    s.exclude_at = cursors(mask_.exclude, s, w.exclude_at);
    s.only_at = cursors(mask_.only, s, w.only_at);
    s.counts = w.counts;
    std::fill_n(w.counts, s.slots, 0);
    HWY_DYNAMIC_DISPATCH(scan_counts)(s);
    std::copy_n(w.counts, s.slots, parts_ + split * out_.size + first);
  }

  const Context& ctx_;
  Matrix<const float> queries_;
  std::int64_t heads_;
  const PackedItems& items_;
  const ItemMask& mask_;
  Vector<const float> threshold_;
  Vector<const std::int32_t> row_;
  Vector<std::int64_t> out_;
  Plan plan_{};
  std::int64_t* order_ = nullptr;
  std::int64_t* parts_ = nullptr;  // [splits][Q]
};

void score_pair(Matrix<const float> query_heads, const PackedItems& items, std::int32_t row,
                float* out) {
  HWY_DYNAMIC_DISPATCH(score_rows)(query_heads, items, &row, 1, out);
}

}  // namespace
}  // namespace topk

void pack_items(const Context& ctx, Matrix<const float> items, std::int64_t first, float* packed,
                std::int64_t n) {
  require(items.rows == 0 || items.cols == 0 || packed != nullptr, "pack_items: no packing");
  static_cast<void>(n);
  constexpr std::int64_t kLine = 16;  // floats of a source row that one pass moves
  const std::int64_t dim = items.cols, last = first + items.rows;
  const std::int64_t first_panel = first / kPanelItems;
  parallel_for(ctx, topk::ceil_div(last, kPanelItems) - first_panel, [&](std::int64_t t, int) {
    const std::int64_t base = (first_panel + t) * kPanelItems;
    const std::int64_t begin = std::max(first, base), end = std::min(last, base + kPanelItems);
    float* panel = packed + base * dim;
    for (std::int64_t j0 = 0; j0 < dim; j0 += kLine) {
      const std::int64_t j1 = std::min(dim, j0 + kLine);
      for (std::int64_t i = begin; i < end; ++i) {
        const float* v = items.row(i - first);
        for (std::int64_t j = j0; j < j1; ++j) panel[j * kPanelItems + (i - base)] = v[j];
      }
    }
  });
}

void topk_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, const ItemMask& mask, TopK out) {
  topk::require_lists_in_range(mask.only, out.scores.rows, items.n,
                               "topk_scores: a row of an `only` list lies outside the items");
  ArenaScope scope(ctx);
  if (items.n > 0) return topk::TopKCall(ctx, queries, heads, items, mask, out).run();
  for (std::int64_t q = 0; q < out.scores.rows; ++q) {
    std::fill_n(out.scores.row(q), out.scores.cols, std::numeric_limits<float>::quiet_NaN());
    std::fill_n(out.rows.row(q), out.rows.cols, -1);
  }
}

void pair_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, Vector<const std::int32_t> rows, Vector<float> out) {
  for (const std::int32_t row : rows) {
    require(row >= -1 && row < items.n, "pair_scores: a row lies outside the items");
  }
  constexpr std::int64_t kPairs = 64;
  parallel_for(ctx, topk::ceil_div(out.size, kPairs), [&](std::int64_t unit, int) {
    for (std::int64_t i = unit * kPairs; i < std::min(out.size, (unit + 1) * kPairs); ++i) {
      out[i] = std::numeric_limits<float>::quiet_NaN();
      if (rows[i] < 0) continue;
      topk::score_pair(queries.slice(i * heads, heads), items, rows[i], &out[i]);
    }
  });
}

void count_above(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, const ItemMask& mask, Vector<const float> threshold,
                 Vector<const std::int32_t> row, Vector<std::int64_t> out) {
  topk::require_lists_in_range(mask.only, out.size, items.n,
                               "count_above: a row of an `only` list lies outside the items");
  if (items.n == 0) std::fill(out.begin(), out.end(), 0);
  if (items.n == 0 || out.size == 0) return;
  ArenaScope scope(ctx);
  topk::CountCall(ctx, queries, heads, items, mask, threshold, row, out).run();
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
