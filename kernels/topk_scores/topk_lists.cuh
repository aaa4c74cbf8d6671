// SPDX-License-Identifier: Apache-2.0
// Lists of candidates in global memory, one a scanned row and range of items, and their upkeep by one warp: new
// candidates are appended, and when a list is full it is tested against the masks and cut back to k.
#pragma once

#include <cstdint>

#include "kernels/core/block.cuh"
#include "kernels/select_k/topk_key.cuh"
#include "kernels/topk_scores/topk_scores.hpp"

namespace belfry::cuda::topk {

inline constexpr int kRadixBins = 256;

/// Which queries of a chunk a launch works on: position -> query. The host knows a bound of their number; the
/// number itself may lie on the device, and so may the queries.
struct Work {
  std::int64_t first = 0, most = 0;
  const std::int32_t* queries = nullptr;  ///< of the chunk; null: all of them
  const int* count = nullptr;             ///< null: `most`

  __device__ std::int64_t size() const { return count == nullptr ? most : *count; }
  __device__ std::int64_t query(std::int64_t position) const {
    return first + (queries == nullptr ? position : queries[position]);
  }
};

/// How lists lie in memory: [tile of rows][range of items][row], each of `capacity` keys. The fewer tiles there
/// are, the more ranges the items are cut into; `list_tiles` bounds their product.
struct Lists {
  Key* keys = nullptr;
  int* counts = nullptr;
  Key* edges = nullptr;  ///< what a list has dropped lies below its edge
  std::int64_t list_tiles = 1;
  unsigned most_ranges = 1;
  int capacity = 0;
  int k = 1;

  __host__ __device__ int ranges(std::int64_t tiles) const {
    const unsigned fit =
        tiles == 0 ? 1 : static_cast<unsigned>(list_tiles) / static_cast<unsigned>(tiles);
    return static_cast<int>(fit < 1 ? 1 : (fit < most_ranges ? fit : most_ranges));
  }
};

__device__ inline bool in_list(const RowLists& lists, std::int64_t query, std::int32_t row) {
  std::int64_t low = lists.offsets[query], high = lists.offsets[query + 1];
  const std::int64_t end = high;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (lists.rows[middle] < row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < end && lists.rows[low] == row;
}

__device__ __forceinline__ bool allowed(const ItemMask& mask, std::int64_t row) {
  return mask.allowed_bits.data == nullptr ||
         (mask.allowed_bits.data[row / 64] >> (row % 64) & 1) != 0;
}

/// The per-query part of the mask.
__device__ inline bool eligible(const ItemMask& mask, std::int64_t query, std::int32_t row) {
  if (mask.exclude.offsets != nullptr && in_list(mask.exclude, query, row)) return false;
  return mask.only.offsets == nullptr || in_list(mask.only, query, row);
}
__device__ __forceinline__ bool has_lists(const ItemMask& mask) {
  return mask.exclude.offsets != nullptr || mask.only.offsets != nullptr;
}

struct BitAnd {
  __device__ Key operator()(Key a, Key b) const { return a & b; }
};
struct BitOr {
  __device__ Key operator()(Key a, Key b) const { return a | b; }
};

/// The bin of the wanted-th greatest digit, counted from 1.
struct Bin {
  int number, above, inside;  ///< keys in higher bins, keys in this one
};
__device__ inline Bin find_bin(const unsigned* bins, int wanted) {
  constexpr int kEach = kRadixBins / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first = kRadixBins - 1 - lane * kEach;
  int sum = 0;
  for (int i = 0; i < kEach; ++i) sum += static_cast<int>(bins[first - i]);
  Bin bin{first, warp_inclusive_scan(sum, Sum{}) - sum, 0};
  const bool mine = bin.above < wanted && bin.above + sum >= wanted;
  if (mine) {
    bin.inside = static_cast<int>(bins[bin.number]);
    while (bin.above + bin.inside < wanted) {
      bin.above += bin.inside;
      bin.inside = static_cast<int>(bins[--bin.number]);
    }
  }
  const int from = __ffs(static_cast<int>(__ballot_sync(kAllLanes, mine))) - 1;
  return {__shfl_sync(kAllLanes, bin.number, from), __shfl_sync(kAllLanes, bin.above, from),
          __shfl_sync(kAllLanes, bin.inside, from)};
}

/// An edge that the k greatest keys reach, by one warp. With last_bit = 0 no other key does; else digits below
/// that bit are not looked at, and the edge may lie a little low. Dead keys (0) do not count; at least k live
/// ones must be there. `bins` is the warp's own.
__device__ inline Key warp_edge(const Key* keys, int count, int k, int last_bit, unsigned* bins) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  Key all = ~Key{0}, any = 0;
  for (int i = lane; i < count; i += kWarp) {
    const Key key = keys[i];
    if (key == kNoKey) continue;
    all &= key;
    any |= key;
  }
  all = warp_reduce(all, BitAnd{});
  any = warp_reduce(any, BitOr{});
  int end =
      64 - __clzll(static_cast<long long>(all ^ any));  // the bits above are those of all keys
  Key prefix = end == 64 ? 0 : all >> end << end;
  while (end > last_bit) {
    const int begin = end > 8 ? end - 8 : 0;
    for (int b = lane; b < kRadixBins; b += kWarp) bins[b] = 0;
    __syncwarp();
    for (int i = lane; i < count; i += kWarp) {
      const Key key = keys[i];
      if (key == kNoKey || (end < 64 && (key ^ prefix) >> end != 0)) continue;
      atomicAdd(&bins[key >> begin & ((1u << (end - begin)) - 1)], 1u);
    }
    __syncwarp();
    const Bin bin = find_bin(bins, k);
    __syncwarp();
    prefix |= static_cast<Key>(bin.number) << begin;
    k -= bin.above;
    if (bin.inside == k) break;
    end = begin;
  }
  return prefix;
}

/// Moves the keys that `keep` to the front, by one warp; their number.
template <class F>
__device__ int warp_compact(Key* keys, int count, F&& keep) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  int kept = 0;
  for (int base = 0; base < count; base += kWarp) {
    const int i = base + lane;
    const Key key = i < count ? keys[i] : kNoKey;
    const bool stays = key != kNoKey && keep(key);
    const unsigned staying = __ballot_sync(kAllLanes, stays);
    __syncwarp();  // all have read
    if (stays) keys[kept + __popc(staying & ((1u << lane) - 1))] = key;
    kept += __popc(staying);
  }
  __syncwarp();
  return kept;
}

/// The least score of a key at or above the edge.
__device__ __forceinline__ float threshold_of(Key edge) {
  constexpr unsigned kMinusInfinity = 0x007fffffu;  // ordered(-inf)
  const auto place = static_cast<unsigned>(edge >> 32);
  return unordered(place > kMinusInfinity ? place : kMinusInfinity);
}

}  // namespace belfry::cuda::topk
