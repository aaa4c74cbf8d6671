// SPDX-License-Identifier: Apache-2.0
// How a block of a pass sees its rows: its own ones in shared memory, the other side's streaming by.
#pragma once

#include "kernels/retrieval_softmax/softmax_unit.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

/// How a grid is cut: block = split * tiles + tile; grid.y goes over the output's columns. The splits have
/// `share` streamed tiles each, the first `longer` of them one more.
struct Cut {
  int tiles, splits;
  int first, share, longer;

  __device__ __forceinline__ int tile() const { return static_cast<int>(blockIdx.x) % tiles; }
  __device__ __forceinline__ int split() const { return static_cast<int>(blockIdx.x) / tiles; }
  __device__ __forceinline__ int begin(int split) const {
    return first + split * share + (split < longer ? split : longer);
  }
};

/// A thread's part in copying rows of kDepth elements to shared memory, 16 bytes a piece.
template <class Tile>
struct Copier {
  using Element = typename Tile::Element;
  static constexpr int kPer = 16 / static_cast<int>(sizeof(Element)), kPieces = Tile::kDepth / kPer;
  static constexpr int kStep = Tile::kThreads / kPieces;  // rows from one piece to the next
  static_assert(Tile::kThreads % kPieces == 0);
  int row = static_cast<int>(threadIdx.x) / kPieces;
  int column = static_cast<int>(threadIdx.x) % kPieces * kPer;

  /// kCount rows `pitch` apart go to a tile of pitch Tile::kPitch, asynchronously.
  template <int kCount>
  __device__ __forceinline__ void copy(Element* to, const Element* from, std::int64_t pitch) const {
    static_assert(kCount % kStep == 0);
    Element* first_to = to + row * Tile::kPitch + column;
    const Element* first = from + row * pitch + column;
#pragma unroll
    for (int i = 0; i < kCount; i += kStep) {
      simt::cp_async<16>(first_to + i * Tile::kPitch, first + i * pitch);
    }
  }
};

/// Of two vectors, the floats that belong to a streamed tile; nullptr: none.
struct SideVectors {
  const float* first;
  const float* second;

  __device__ __forceinline__ SideVectors from(std::int64_t element) const {
    return {first == nullptr ? nullptr : first + element,
            second == nullptr ? nullptr : second + element};
  }
};

template <class Tile>
struct Stage {
  typename Tile::Element rows[Tile::kStreamed * Tile::kPitch];
  float side[2][Tile::kStreamed];

  /// Both pointers are those of the tile.
  __device__ __forceinline__ void load(const Copier<Tile>& copier,
                                       const typename Tile::Element* from, SideVectors vectors) {
    constexpr int kPieces = Tile::kStreamed / 4;
    static_assert(2 * kPieces <= Tile::kThreads);
    copier.template copy<Tile::kStreamed>(rows, from, Tile::kDepth);
    const int thread = static_cast<int>(threadIdx.x);
    if (vectors.first != nullptr && thread < kPieces) {
      simt::cp_async<16>(&side[0][thread * 4], vectors.first + thread * 4);
    }
    if (vectors.second != nullptr && thread >= kPieces && thread < 2 * kPieces) {
      simt::cp_async<16>(&side[1][thread * 4 - Tile::kStreamed],
                         vectors.second + thread * 4 - Tile::kStreamed);
    }
    simt::converge();  // before the next product
  }
};

template <class Tile>
struct PassMemory {
  typename Tile::Element own[Tile::kRows * Tile::kPitch];
  Stage<Tile> stages[Tile::kStages];
  float exchange[Tile::kWarps * Tile::kExchange + 4];  // + 4: never an empty array

  __device__ __forceinline__ typename Tile::Element* rows_of_warp() {
    return own + static_cast<int>(threadIdx.x) / kWarp * kUnit * Tile::kPitch;
  }
  __device__ __forceinline__ float* exchange_of_warp() {
    return exchange + static_cast<int>(threadIdx.x) / kWarp * Tile::kExchange;
  }
};

/// Streams tiles through a ring of stages and calls each(rows, first, second, unit) for their units; one
/// barrier a tile. The block's own rows come with the first group: begin() runs once they are there.
template <class Tile, class Begin, class Each>
__device__ __forceinline__ void stream_units(PassMemory<Tile>& m, const typename Tile::Element* own,
                                             const typename Tile::Element* streamed,
                                             const SideVectors& vectors, int first, int end,
                                             Begin&& begin, Each&& each) {
  constexpr int kStages = Tile::kStages, kUnits = Tile::kStreamed / kUnit;
  const Copier<Tile> copier;
  copier.template copy<Tile::kRows>(m.own, own, Tile::kDepth);
  const auto load = [&](int stage, int tile) {
    if (tile < end) {
      m.stages[stage].load(copier, streamed + tile * std::int64_t{Tile::kStreamed * Tile::kDepth},
                           vectors.from(tile * std::int64_t{Tile::kStreamed}));
    }
    simt::cp_async_commit();
  };
#pragma unroll
  for (int i = 0; i < kStages - 1; ++i) load(i, first + i);
  simt::cp_async_wait<kStages - 2>();
  __syncthreads();
  begin();
  int now = 0;
#pragma unroll 1
  for (int tile = first; tile < end; ++tile) {
    if (tile > first) {
      simt::cp_async_wait<kStages - 2>();
      __syncthreads();  // the tile is there, and all are done with the one before
    }
    load(now == 0 ? kStages - 1 : now - 1, tile + kStages - 1);
    const Stage<Tile>& stage = m.stages[now];
#pragma unroll 1
    for (int u = 0; u < kUnits; ++u) {
      each(stage.rows + u * kUnit * Tile::kPitch, stage.side[0] + u * kUnit,
           stage.side[1] + u * kUnit, tile * kUnits + u);
    }
    now = now + 1 == kStages ? 0 : now + 1;
  }
}

/// The same for any depth, in pieces of kDepth, for kernels that have several heads or too wide rows: each
/// unit of candidates or slots is scored piece by piece, then the output's piece is fetched again.
template <class Tile>
struct WideMemory {
  typename Tile::Element own[Tile::kRows * Tile::kPitch];
  typename Tile::Element streamed[kUnit * Tile::kPitch];
  float exchange[Tile::kWarps * Tile::kExchange + 4];
};

template <class Tile>
struct WideStream {
  WideMemory<Tile>& m;
  const typename Tile::Element* own;
  const typename Tile::Element* streamed;
  int depth;

  __device__ __forceinline__ void fetch(std::int64_t unit, int column, bool own_too) const {
    const Copier<Tile> copier;
    __syncthreads();  // all are done with what lies there
    if (own_too) copier.template copy<Tile::kRows>(m.own, own + column, depth);
    copier.template copy<kUnit>(m.streamed, streamed + unit * kUnit * depth + column, depth);
    simt::cp_async_commit();
    simt::cp_async_wait<0>();
    __syncthreads();
  }

  /// Calls each(scores, rows, unit) for units first .. end-1, rows being columns output .. of the unit.
  template <class Each>
  __device__ __forceinline__ void operator()(int first, int end, int output, Each&& each) const {
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    typename Tile::Stationary rows(m.own + warp * kUnit * Tile::kPitch);
#pragma unroll 1
    for (int unit = first; unit < end; ++unit) {
      Unit s;
#pragma unroll 1
      for (int column = 0; column < depth; column += Tile::kDepth) {
        fetch(unit, column, depth > Tile::kDepth || unit == first);
        rows.load();
        Tile::score(s, rows, m.streamed);
      }
      if (depth > Tile::kDepth && output >= 0) fetch(unit, output, false);
      each(s, m.streamed, unit);
    }
  }
};

}  // namespace belfry::cuda::retrieval_softmax_kernels
