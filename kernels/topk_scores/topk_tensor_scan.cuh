// SPDX-License-Identifier: Apache-2.0
// The scan of the tensor path. Each warp owns rows: their bf16 copies stay in its registers, items stream through
// shared memory. Accumulators start from (bound - threshold), so the sign of a sum says whether the item may
// belong to the list; the few that may are appended, and lists are kept as in the fp32 scan, but by lower bounds.
#pragma once

#include <cstdint>

#include "kernels/topk_scores/topk_scan_lists.cuh"
#include "kernels/topk_scores/topk_tensor.cuh"

namespace belfry::cuda::topk_scores_kernels {

/// Rows for the tensor path, [rows, padded to whole tiles]: row = position * heads + head.
struct TensorRows {
  const std::uint16_t* values = nullptr;  ///< bf16 [row][kDepth]
  const RowBound* bounds = nullptr;
  int heads = 1;
};

template <class Shape>
struct TensorState {
  RowBound bounds[Shape::kRows];
  Key edges[Shape::kRows];
  int counts[Shape::kRows];
  int settled[Shape::kRows];
  unsigned bins[Shape::kWarps][kRadixBins];
};

inline constexpr Key kDeadList =
    ~Key{0};  ///< edge of a list that was given up: its query is scanned in fp32

/// The lists of one warp's rows. All lanes call together.
template <class Shape>
class BoundLists {
 public:
  __device__ BoundLists(TensorState<Shape>& state, const TensorItems& items, const Lists& lists,
                        const ItemMask& mask, const Work& work, int heads, std::int64_t first_row,
                        Key* proven)
      : state_(state),
        items_(items),
        lists_(lists),
        mask_(mask),
        work_(work),
        heads_(heads),
        first_row_(first_row),
        proven_(proven) {}

  __device__ int fullest() const { return lists_.capacity - Shape::kItems; }
  __device__ Key* keys_of(int row) const {
    return lists_.keys + (std::int64_t{blockIdx.x} * Shape::kRows + row) * lists_.capacity;
  }

  /// Settles the warp's full lists, or all of them.
  __device__ void settle(bool all, int k, bool prove) {
    const int first = static_cast<int>(threadIdx.x) / kWarp * Shape::kWarpRows;
    __syncwarp();  // appended keys and counts
    for (int part = 0; part < Shape::kWarpRows; part += kWarp) {
      const int count = state_.counts[first + part + static_cast<int>(threadIdx.x) % kWarp];
      unsigned full = __ballot_sync(kAllLanes, all || count > fullest());
      for (; full != 0; full &= full - 1) {
        const int row = first + part + __ffs(static_cast<int>(full)) - 1;
        if (first_row_ + row < work_.size() * heads_) settle_row(row, k, prove);
      }
    }
    __syncwarp();
  }

 private:
  __device__ void settle_row(int r, int k, bool prove) {
    if (state_.edges[r] == kDeadList) return;
    const RowBound bound = state_.bounds[r];
    const int count = state_.counts[r];
    Key* keys = keys_of(r);
    const int live = bound_new_keys(r, keys, bound, count);
    Key edge = state_.edges[r];
    if (live >= k) {
      constexpr int kResolution =
          40;  // scores apart by less than 2^-15 of themselves may count as one
      const Key kth =
          warp_edge(keys, count, k, kResolution, state_.bins[threadIdx.x / kWarp]) >> 32 << 32;
      edge = edge > kth ? edge : kth;
    }
    if (prove && proven_ != nullptr) {
      Key seen = kNoKey;
      if (threadIdx.x % kWarp == 0) seen = atomicMax(&proven_[first_row_ + r], edge);
      seen = __shfl_sync(kAllLanes, seen, 0);
      edge = edge > seen ? edge : seen;
    }
    const float threshold = threshold_of(edge);
    const int kept = warp_compact(keys, count, [&](Key key) {
      const float error = error_of(bound, items_.heads[row_of(key) / Shape::kItems].norms);
      return !(fmaf(2.25f, error, score_of(key)) < threshold);
    });
    store(r, edge, threshold, kept);
  }

  /// Appended (accumulator, item) pairs become keys of lower bounds, or 0 where the masks say so; the number of
  /// live keys.
  __device__ int bound_new_keys(int r, Key* keys, const RowBound& bound, int count) {
    const std::int64_t query = work_.query((first_row_ + r) / heads_);
    int live = count;
    for (int base = state_.settled[r]; base < count; base += kWarp) {
      const int i = base + static_cast<int>(threadIdx.x) % kWarp;
      bool out = false;
      if (i < count) {
        const Key pushed = keys[i];
        const auto item = static_cast<std::int32_t>(pushed);
        const TileNorms tile = items_.heads[item / Shape::kItems].norms;
        const float error = error_of(bound, tile);
        const float sum = __uint_as_float(static_cast<unsigned>(pushed >> 32));
        const float least = error < __uint_as_float(0x7f800000u)
                                ? (sum + threshold_in(bound, tile)) - 2.0f * error
                                : __uint_as_float(0xff800000u);
        out = has_lists(mask_) && !eligible(mask_, query, item);
        keys[i] = out ? kNoKey : make_key(least, item);
      }
      live -= __popc(__ballot_sync(kAllLanes, out));
    }
    __syncwarp();
    return live;
  }

  __device__ void store(int r, Key edge, float threshold, int kept) {
    if (threadIdx.x % kWarp == 0) {
      const bool dead = kept > fullest();
      if (dead) state_.bounds[r] = {0.0f, 0.0f, 0.0f, kNever};
      if (!dead) state_.bounds[r].threshold = threshold;
      state_.edges[r] = dead ? kDeadList : edge;
      state_.counts[r] = state_.settled[r] = dead ? 0 : kept;
    }
  }

  TensorState<Shape>& state_;
  const TensorItems& items_;
  const Lists& lists_;
  const ItemMask& mask_;
  const Work& work_;
  const int heads_;
  const std::int64_t first_row_;
  Key* const proven_;
};

/// The warp's rows as A fragments.
template <class Shape>
__device__ __forceinline__ void load_rows(const TensorRows& rows, std::int64_t first_row,
                                          std::uint32_t (&a)[Shape::kRowTiles][Shape::kSteps][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t row = first_row + threadIdx.x / kWarp * Shape::kWarpRows + lane / 4;
  const auto* words =
      reinterpret_cast<const std::uint32_t*>(rows.values) + row * (Shape::kDepth / 2) + lane % 4;
#pragma unroll
  for (int m = 0; m < Shape::kRowTiles; ++m) {
#pragma unroll
    for (int s = 0; s < Shape::kSteps; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        a[m][s][i] = words[(16 * m + 8 * (i % 2)) * (Shape::kDepth / 2) + 8 * s + 4 * (i / 2)];
      }
    }
  }
}

template <class Shape>
__device__ __forceinline__ void load_tile(const TensorItems& items, std::int64_t tile,
                                          std::uint16_t* stage) {
  constexpr int kPieces = Shape::kItems * Shape::kDepth / 8;
  const std::uint16_t* from = items.tiles + tile * (Shape::kItems * Shape::kDepth);
#pragma unroll
  for (int i = 0; i < kPieces / Shape::kThreads; ++i) {
    const int piece = i * Shape::kThreads + static_cast<int>(threadIdx.x);
    simt::cp_async<16>(stage + 8 * piece, from + 8 * piece);
  }
}

/// Sums of the warp's rows with kGroups x 8 items, from `start` on.
template <class Shape>
__device__ __forceinline__ void multiply(
    const std::uint32_t (&a)[Shape::kRowTiles][Shape::kSteps][4], const std::uint16_t* items,
    const float (&start)[Shape::kRowTiles][4], float (&sums)[Shape::kGroups][Shape::kRowTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
#pragma unroll
    for (int s = 0; s < Shape::kSteps; s += 2) {
      std::uint32_t b[4];
      simt::ldmatrix_x4(b, items + g * 8 * Shape::kDepth + s * 128 + lane * 8);
      const std::uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
#pragma unroll
      for (int m = 0; m < Shape::kRowTiles; ++m) {
        if (s == 0) {
          simt::mma_m16n8k16_bf16(sums[g][m], a[m][s], low, start[m]);
        } else {
          simt::mma_m16n8k16_bf16(sums[g][m], a[m][s], low, sums[g][m]);
        }
      }
#pragma unroll
      for (int m = 0; m < Shape::kRowTiles; ++m) {
        simt::mma_m16n8k16_bf16(sums[g][m], a[m][s + 1], high, sums[g][m]);
      }
    }
  }
}

/// Bit 31 - i is set where sum number i has no sign; order of [group][row tile][element].
template <class Shape>
__device__ __forceinline__ unsigned without_sign(
    const float (&sums)[Shape::kGroups][Shape::kRowTiles][4]) {
  unsigned signs = 0;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const float sum = sums[i / (4 * Shape::kRowTiles)][i / 4 % Shape::kRowTiles][i % 4];
    signs = __funnelshift_l(__float_as_uint(sum), signs, 1);
  }
  return ~signs;
}

/// The bits of those sums whose items are candidates; `bits` starts at the first of the items.
template <class Shape>
__device__ __forceinline__ unsigned spread_candidates(unsigned bits) {
  constexpr unsigned kEven = Shape::kRowTiles == 4 ? 0xaaaa0000u : 0xaa000000u;  // of group 0
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
  unsigned spread = 0;
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
    const unsigned two = bits >> (8 * g + column);
    spread |= ((0u - (two & 1u)) & kEven) >> (g * 4 * Shape::kRowTiles);
    spread |= ((0u - (two >> 1 & 1u)) & (kEven >> 1)) >> (g * 4 * Shape::kRowTiles);
  }
  return spread;
}

/// sums[i] by selection: an array that is indexed would leave its registers. Of `Count` sums from `First` on.
template <class Shape, int First = 0, int Count = 32>
__device__ __forceinline__ float pick(const float (&sums)[Shape::kGroups][Shape::kRowTiles][4],
                                      int i) {
  if constexpr (Count == 1) {
    return sums[First / (4 * Shape::kRowTiles)][First / 4 % Shape::kRowTiles][First % 4];
  } else {
    constexpr int kHalf = Count / 2;
    const float low = pick<Shape, First, kHalf>(sums, i);
    const float high = pick<Shape, First + kHalf, kHalf>(sums, i);
    return (i & kHalf) != 0 ? high : low;
  }
}

/// Appends this lane's sums of set bits to the lists of their rows.
template <class Shape>
__device__ __forceinline__ void append(unsigned hits,
                                       const float (&sums)[Shape::kGroups][Shape::kRowTiles][4],
                                       int first_item, const Lists& lists,
                                       TensorState<Shape>& state) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first_row = static_cast<int>(threadIdx.x) / kWarp * Shape::kWarpRows + lane / 4;
  for (; hits != 0; hits &= ~(0x80000000u >> __clz(static_cast<int>(hits)))) {
    const int i = __clz(static_cast<int>(hits));
    const int row = first_row + i / 4 % Shape::kRowTiles * 16 + i % 4 / 2 * 8;
    const int item = first_item + i / (4 * Shape::kRowTiles) * 8 + lane % 4 * 2 + i % 2;
    const int slot = atomicAdd(&state.counts[row], 1);
    lists.keys[(std::int64_t{blockIdx.x} * Shape::kRows + row) * lists.capacity + slot] =
        Key{__float_as_uint(pick<Shape>(sums, i))} << 32 | static_cast<unsigned>(item);
  }
}

template <class Shape>
__device__ __forceinline__ void load_starts(const TensorState<Shape>& state, const TileNorms& tile,
                                            float (&start)[Shape::kRowTiles][4]) {
  const int row = static_cast<int>(threadIdx.x) / kWarp * Shape::kWarpRows +
                  static_cast<int>(threadIdx.x) % kWarp / 4;
#pragma unroll
  for (int m = 0; m < Shape::kRowTiles; ++m) {
    start[m][0] = start[m][1] = start_of(state.bounds[row + 16 * m], tile);
    start[m][2] = start[m][3] = start_of(state.bounds[row + 16 * m + 8], tile);
  }
}

/// `proven`: as scan_lists, per row.
template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    scan_tensor(TensorRows rows, TensorItems items, TileOrder order, ItemMask mask, Work work,
                Lists lists, Sample sample, Key* proven) {
  SIMT_DYN_SHARED(std::uint16_t, stages);
  SIMT_SHARED(TensorState<Shape>, state);
  constexpr int kStage = Shape::kItems * Shape::kDepth;
  const Unit unit = unit_of_block(work.size() * rows.heads, Shape::kRows, lists, order.tiles);
  if (unit.row_tile < 0) return;
  const std::int64_t first_row = unit.row_tile * Shape::kRows;
  for (int r = static_cast<int>(threadIdx.x); r < Shape::kRows; r += Shape::kThreads) {
    state.bounds[r] = rows.bounds[first_row + r];
    state.edges[r] = kNoKey;
    state.counts[r] = state.settled[r] = 0;
  }
  BoundLists<Shape> upkeep(state, items, lists, mask, work, rows.heads, first_row,
                           unit.ranges > 1 ? proven : nullptr);
  std::int64_t sampled = unit.ranges == 1 ? sample.tiles : 0;
  std::uint32_t a[Shape::kRowTiles][Shape::kSteps][4];
  load_rows<Shape>(rows, first_row, a);

  for (int s = 0; s < Shape::kStages - 1; ++s) {
    if (unit.first + s < unit.last) {
      load_tile<Shape>(items, order.tile(unit.first + s), stages + s * kStage);
    }
    simt::cp_async_commit();
  }
  std::int64_t next_tile = order.tile(unit.first);
  TileHead next_head = items.heads[next_tile];
  int stage = 0;
  for (std::int64_t visit = unit.first; visit < unit.last; ++visit) {
    const std::int64_t tile = next_tile;
    const TileHead head = next_head;
    if (visit + 1 < unit.last) {
      next_tile = order.tile(visit + 1);
      next_head = items.heads[next_tile];
    }
    simt::cp_async_wait<Shape::kStages - 2>();
    __syncthreads();  // the stage is there, and the one before is free
    if (visit + Shape::kStages - 1 < unit.last) {
      load_tile<Shape>(items, order.tile(visit + Shape::kStages - 1),
                       stages + (stage + Shape::kStages - 1) % Shape::kStages * kStage);
    }
    simt::cp_async_commit();
    float start[Shape::kRowTiles][4];
    load_starts<Shape>(state, head.norms, start);
    const unsigned* candidates = items.candidates + tile * (Shape::kItems / 32);
#pragma unroll 1
    for (int first = 0; first < Shape::kItems; first += 8 * Shape::kGroups) {
      float sums[Shape::kGroups][Shape::kRowTiles][4];
      multiply<Shape>(a, stages + stage * kStage + first * Shape::kDepth, start, sums);
      unsigned hits = without_sign<Shape>(sums);
      if (hits != 0) {
        if (head.whole == 0) {
          hits &= spread_candidates<Shape>(candidates[first / 32] >> first % 32);
        }
        append<Shape>(hits, sums, static_cast<int>(tile) * Shape::kItems + first, lists, state);
      }
      simt::converge();  // before the next product
    }
    const bool sampling = sampled > 0, last_sample = sampled == 1;
    upkeep.settle(last_sample, sampling ? sample.k : lists.k, !sampling);
    sampled -= sampling ? 1 : 0;
    stage = (stage + 1) % Shape::kStages;
  }
  simt::cp_async_wait<0>();
  upkeep.settle(true, lists.k, true);
  __syncthreads();
  for (int r = static_cast<int>(threadIdx.x); r < Shape::kRows; r += Shape::kThreads) {
    const std::int64_t list = std::int64_t{blockIdx.x} * Shape::kRows + r;
    lists.counts[list] = state.counts[r];
    lists.edges[list] = state.edges[r];
  }
}

}  // namespace belfry::cuda::topk_scores_kernels
