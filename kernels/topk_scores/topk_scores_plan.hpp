// SPDX-License-Identifier: Apache-2.0
// How topk_scores cuts its work on the CPU. By shapes alone: results never depend on thread counts, and
// memory is known before the scan.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "kernels/topk_scores/topk_scores_lists.hpp"

namespace belfry::cpu::topk {

inline constexpr std::int64_t kLargestTile = 128;                   // queries
inline constexpr std::int64_t kListBytes = std::int64_t{16} << 20;  // of one worker's lists
inline constexpr std::int64_t kQueryBytes = std::int64_t{256}
                                            << 10;  // packed queries of a tile: L2
inline constexpr std::int64_t kUnits = 16;          // enough for the threads of a big machine
inline constexpr std::int64_t kPanelsPerUnit = 64;
/// A row scored on its own costs about as much as 32 items of a scan (its D values lie in D lines).
inline constexpr std::int64_t kDirectCost = 32;

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

inline std::int64_t rounded(std::int64_t slots) {
  return ceil_div(slots, kGroup) * kGroup;
}

struct Plan {
  std::int64_t capacity, tile, tiles, splits;
  Visits visits;
  std::int64_t sample_visits, sample_k, sample_capacity;  // see TopKScan; 0 without a sample
};

/// Few queries are bound by memory, which likes long runs; the more there are, the more a push costs.
inline Visits plan_visits(std::int64_t panels, std::int64_t tile) {
  Visits v;
  v.panels = panels;
  v.block = tile <= 32 && panels >= 1024 ? 16 : 1;
  v.blocks = ceil_div(panels, v.block);
  v.stride =
      static_cast<std::int64_t>(0.6180339887 * static_cast<double>(v.blocks));  // golden section
  while (v.stride > 1 && std::gcd(v.stride, v.blocks) != 1) --v.stride;
  v.stride = std::max<std::int64_t>(v.stride, 1);
  return v;
}

/// Keys that a list may hold before it is cut back to k.
inline std::int64_t list_capacity(std::int64_t k) {
  return k + std::max<std::int64_t>(k, 96);
}

/// A sample of one panel in kSampled. The keys above its r-th best are about kSampled r +- kSampled
/// sqrt(r) of all; r is chosen so that k lies three deviations below.
inline void plan_sample(std::int64_t k, Plan* plan) {
  constexpr std::int64_t kSampled = 16;
  if (plan->splits > 1 || plan->visits.panels < 3 * kSampled) return;
  const std::int64_t visits = plan->visits.count() / kSampled;
  const double expected = static_cast<double>(k) / kSampled;
  const double root = (3.0 + std::sqrt(9.0 + 4.0 * expected)) / 2;
  const auto r = static_cast<std::int64_t>(std::ceil(root * root));
  if (2 * r > visits * kPanelItems || list_capacity(r) > plan->capacity) return;
  plan->sample_visits = visits;
  plan->sample_k = r;
  plan->sample_capacity = list_capacity(r);
}

inline Plan plan_scan(std::int64_t queries, std::int64_t heads, std::int64_t k,
                      const PackedItems& items) {
  Plan plan{};
  const std::int64_t panels = ceil_div(items.n, kPanelItems);
  const std::int64_t most = panels * kPanelItems;  // keys that can be pushed at all
  k = std::min(k, items.n);
  plan.capacity = std::min(most, list_capacity(k));
  const std::int64_t by_lists =
      kListBytes / (plan.capacity * static_cast<std::int64_t>(sizeof(Key)) + 1);
  const std::int64_t query_bytes = heads * items.dim * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t by_queries = std::max(kGroup, kQueryBytes / (query_bytes + 1));
  std::int64_t tile = std::clamp<std::int64_t>(std::min(by_lists, by_queries), 1, kLargestTile);
  if (tile > kGroup) tile = tile / kGroup * kGroup;
  tile = ceil_div(queries, ceil_div(queries, tile));  // even tiles
  if (tile > kGroup) tile = rounded(tile);
  plan.tile = tile;
  plan.tiles = ceil_div(queries, tile);
  if (plan.tiles < kUnits) {
    const std::int64_t most_splits = std::min(panels / kPanelsPerUnit, items.n / (2 * k));
    plan.splits = std::min(ceil_div(2 * kUnits, plan.tiles), most_splits);
  }
  plan.splits = std::max<std::int64_t>(plan.splits, 1);
  plan.visits = plan_visits(panels, tile);
  plan_sample(k, &plan);
  return plan;
}

inline void pack_queries(Matrix<const float> queries, std::int64_t heads,
                         const std::int64_t* query_of, std::int64_t slots, float* out) {
  for (std::int64_t group = 0; group < slots; group += kGroup) {
    for (std::int64_t h = 0; h < heads; ++h, out += kGroup * queries.cols) {
      for (std::int64_t r = 0; r < kGroup; ++r) {
        const std::int64_t slot = group + r;
        const float* q = slot < slots ? queries.row(query_of[slot] * heads + h) : nullptr;
        for (std::int64_t j = 0; j < queries.cols; ++j) {
          out[j * kGroup + r] = q == nullptr ? 0.0f : q[j];
        }
      }
    }
  }
}

}  // namespace belfry::cpu::topk
