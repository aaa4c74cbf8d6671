// SPDX-License-Identifier: Apache-2.0
// What the plain and the per-instruction-set half of topk_scores share: keys, lists, units of work.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "kernels/select_k/score_key.hpp"
#include "kernels/topk_scores/topk_scores.hpp"

namespace belfry::cpu::topk {

/// Queries that one microkernel call serves; packed queries are [group][head][D][kGroup].
inline constexpr std::int64_t kGroup = 8;
/// Slack, in elements, behind every array that vector stores may run over.
inline constexpr std::int64_t kPad = 16;
/// Bits of the per-query filter in front of an exclusion list.
inline constexpr std::int64_t kFilterWords = 16;

inline bool in_list(const RowLists& lists, std::int64_t query, std::int32_t row) {
  return std::binary_search(lists.rows + lists.offsets[query],
                            lists.rows + lists.offsets[query + 1], row);
}

/// Bit of `row` in a query's filter: one multiply, the top ten bits.
inline std::uint32_t filter_bit(std::int32_t row) {
  return (static_cast<std::uint32_t>(row) * 2654435761u) >> 22;
}

inline bool allowed(const ItemMask& mask, std::int32_t row) {
  return mask.allowed_bits.empty() || ((mask.allowed_bits[row / 64] >> (row % 64)) & 1) != 0;
}

/// Lanes of panel p that hold an item which the shared bitmap allows.
inline std::uint64_t panel_lanes(const PackedItems& items, const ItemMask& mask, std::int64_t p) {
  const std::int64_t first = p * kPanelItems;
  const std::int64_t live = std::min(kPanelItems, items.n - first);
  std::uint64_t lanes = (std::uint64_t{1} << live) - 1;
  if (!mask.allowed_bits.empty()) {
    const std::int64_t shift = first % 64;
    std::uint64_t bits = mask.allowed_bits[first / 64] >> shift;
    if (shift + live > 64) bits |= mask.allowed_bits[first / 64 + 1] << (64 - shift);
    lanes &= bits;
  }
  return lanes;
}

/// The order in which panels are visited: blocks of neighbours, scattered by a stride that is coprime
/// with their number.
struct Visits {
  std::int64_t panels = 0, block = 1, blocks = 0, stride = 1;

  std::int64_t count() const { return blocks * block; }
  /// The panel of a visit, or -1 where the last block is short.
  std::int64_t panel(std::int64_t visit) const {
    const std::int64_t p = visit / block * stride % blocks * block + visit % block;
    return p < panels ? p : -1;
  }
};

/// Packed queries against a range of panels: what every scan needs.
struct Scan {
  const float* queries = nullptr;  ///< packed, see kGroup
  std::int64_t slots = 0;          ///< live queries; the last group may be partial
  std::int64_t heads = 1;
  PackedItems items;
  const ItemMask* mask = nullptr;
  const std::int64_t* query_of = nullptr;  ///< slot -> query, for the masks
  std::int64_t first = 0, last = 0;        ///< visits (topk_scores) or panels
  float* tile = nullptr;                   ///< [kGroup][kPanelItems] scores of one group and panel
};

/// One unit of topk_scores: the lists of its queries grow while the panels are visited.
struct TopKScan : Scan {
  Visits visits;
  std::int64_t k = 1;
  std::int64_t capacity = 0;       ///< keys a list holds before it is cut back to k
  std::int64_t sample_visits = 0;  ///< visits whose `sample_k` best set the first threshold; or 0
  std::int64_t sample_k = 0, sample_capacity = 0;
  std::int64_t pitch = 0;  ///< keys between lists
  Key* keys = nullptr;
  Key* scratch = nullptr;                    ///< [pitch]
  std::int64_t* counts = nullptr;            ///< [slots rounded up to kGroup], as the next two
  Key* worst = nullptr;                      ///< a key must be greater to enter
  float* thresholds = nullptr;               ///< score of `worst`; +inf in unused slots
  const std::uint64_t* filters = nullptr;    ///< [slots][kFilterWords], null without exclusions
  std::atomic<Key>* shared_worst = nullptr;  ///< per slot, over all units of the query; may be null
};

/// One unit of count_above.
struct CountScan : Scan {
  const float* thresholds = nullptr;  ///< [slots rounded up]
  const std::int32_t* rows = nullptr;
  std::int64_t* exclude_at = nullptr;  ///< cursors into the lists, null without lists
  std::int64_t* only_at = nullptr;
  std::int64_t* counts = nullptr;  ///< [slots rounded up], added to
};

}  // namespace belfry::cpu::topk
