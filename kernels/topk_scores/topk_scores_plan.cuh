// SPDX-License-Identifier: Apache-2.0
// How topk_scores cuts its work on the device. By shapes alone, and by constants instead of the device's size:
// so scratch is known and graphs stay valid.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "kernels/topk_scores/topk_scan_lists.cuh"
#include "kernels/topk_scores/topk_scores_paths.hpp"

namespace belfry::cuda::topk_scores_kernels {

inline constexpr std::int64_t kUnits = 1024;        // blocks that fill a large device
inline constexpr std::int64_t kRangeItems = 3072;   // a range of items is no shorter
inline constexpr std::int64_t kMergedKeys = 65536;  // of all ranges of one query

inline std::int64_t rounded_up(std::int64_t n, std::int64_t to) {
  return ceil_div(n, to) * to;
}

/// Keys that a list may hold: k, as many that may replace them, and a tile's worth.
inline int list_capacity(std::int64_t k, std::int64_t tile_items) {
  return static_cast<int>(rounded_up(k + std::max<std::int64_t>(k, 128) + tile_items, 32));
}

inline TileOrder tile_order(std::int64_t n, std::int64_t tile_items) {
  TileOrder order;
  order.tiles = ceil_div(n, tile_items);
  order.stride = static_cast<std::int64_t>(0.6180339887 * static_cast<double>(order.tiles));
  while (order.stride > 1 && std::gcd(order.stride, order.tiles) != 1) --order.stride;
  order.stride = std::max<std::int64_t>(order.stride, 1);
  return order;
}

/// Lists for at most `rows` rows; `list_tiles` of them in all, and more where few rows leave room.
inline Lists plan_lists(std::int64_t rows, std::int64_t tile_rows, std::int64_t tile_items,
                        std::int64_t n, int k, const TopKLimits& limits) {
  Lists lists;
  lists.k = k;
  lists.capacity = list_capacity(k, tile_items);
  const std::int64_t most_ranges =
      std::max<std::int64_t>(1, std::min(n / kRangeItems, kMergedKeys / k));
  const std::int64_t tiles = ceil_div(rows, tile_rows);
  const std::int64_t ranges = std::min(ceil_div(kUnits, tiles), most_ranges);
  lists.most_ranges = static_cast<unsigned>(most_ranges);
  const std::int64_t by_bytes = limits.list_bytes / (tile_rows * lists.capacity * 8);
  lists.list_tiles = std::max(tiles, std::min(tiles * ranges, by_bytes));
  return lists;
}

/// Rows of a chunk: whole tiles whose lists fit.
inline std::int64_t chunk_rows(std::int64_t rows, std::int64_t tile_rows, std::int64_t tile_items,
                               int k, const TopKLimits& limits) {
  const std::int64_t bytes = tile_rows * list_capacity(k, tile_items) * 8;
  return std::min(rows, std::max<std::int64_t>(1, limits.list_bytes / bytes) * tile_rows);
}

/// A sample of one tile in 16. The keys above its r-th best are about 16 r +- 16 sqrt(r) of all; r is chosen so
/// that k lies three deviations below.
inline Sample plan_sample(int k, const TileOrder& order, std::int64_t tile_items, int capacity) {
  constexpr std::int64_t kSampled = 16;
  const std::int64_t tiles = order.tiles / kSampled;
  const double expected = static_cast<double>(k) / kSampled;
  const double root = (3.0 + std::sqrt(9.0 + 4.0 * expected)) / 2;
  const auto r = static_cast<int>(std::ceil(root * root));
  if (tiles == 0 || 2 * r > tiles * tile_items || 2 * r > capacity || r >= k) return {};
  return {tiles, r};
}

}  // namespace belfry::cuda::topk_scores_kernels
