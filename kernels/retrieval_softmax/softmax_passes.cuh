// SPDX-License-Identifier: Apache-2.0
// Step 7: the row pass (loss and d_queries) and the column pass (d_candidates). Both are attention with the
// values equal to the keys: scores, weights, and the weights times the same streamed rows; nothing of the
// scores is stored. A block keeps kRows rows and streams a share of the other side ("split"); partial
// results of the splits are merged in order (softmax_finish.cuh).
#pragma once

#include "kernels/retrieval_softmax/softmax_steps.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

/// Queries as the row pass leaves them: by split, then by slot.
struct RowPartials {
  const float* positive;  // [slots] scores of the positives
  float* maximum;         // in exponents; what the sums refer to
  double* total;          // exps of the other columns
  std::int32_t* better;   // columns above the positive, or nullptr
  float* sums;            // [depth] each: exps times candidates, or nullptr
  std::int64_t slots;     // whole tiles of them
};

/// What the column pass needs of a slot, and what it leaves: by split, then by candidate.
struct ColumnPartials {
  const float* shift;   // [slots] subtracted from scores in exponents; infinite where there is no query
  const float* factor;  // [slots] of the row's weights, or nullptr
  float* sums;          // [depth] each
  std::int64_t rows;    // whole tiles of candidates
};

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

// ---- shared memory ----

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
__device__ __forceinline__ void stream_units(PassMemory<Tile>& m,
                                             const typename Tile::Element* own,
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

// ---- rows ----

/// A warp's rows while columns pass.
template <class Tile, bool kHeads>
struct RowState {
  using Element = typename Tile::Element;
  const Scores<Element>& job;
  const RowPartials& out;
  int query_unit;
  Watch<true> watch;
  float maximum[4];
  typename Tile::Total total[4] = {};
  std::int32_t better[4] = {};
  typename Tile::Sums sums;

  __device__ __forceinline__ RowState(const Scores<Element>& scores, const RowPartials& partials,
                                      int unit)
      : job(scores), out(partials), query_unit(unit), watch(scores, unit) {
#pragma unroll
    for (int s = 0; s < 4; ++s) maximum[s] = positive(s) * job.in_exponent;
  }
  __device__ __forceinline__ std::int64_t slot(int s) const {
    return query_unit * std::int64_t{kUnit} + first_row() + 8 * s;
  }
  __device__ __forceinline__ float positive(int s) const { return out.positive[slot(s)]; }

  __device__ __forceinline__ void count_better(const Unit& s) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const float p = positive(r);
#pragma unroll
      for (int n = 0; n < 4; ++n) better[r] += (s.at(r, n, 0) > p) + (s.at(r, n, 1) > p);
    }
  }

  /// Brings the rows' maxima up, and what was summed with them.
  __device__ __forceinline__ void move_maximum(const float (&highest)[4], float multiplier) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      float top = highest[r] * multiplier;
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
      if (!(top > maximum[r])) continue;
      const float step = Tile::exponential(maximum[r], 1.0f, top);
      maximum[r] = top;
      total[r] *= step;
#pragma unroll
      for (int n = 0; n < Tile::kOut / 8; ++n) {
        sums.v[r / 2][n][r % 2 * 2] *= step;
        sums.v[r / 2][n][r % 2 * 2 + 1] *= step;
      }
    }
  }

  /// Step 7: scores become exps, and go into the rows' sums.
  __device__ __forceinline__ void weigh(Unit& s) {
    const float multiplier = job.in_exponent;
    float highest[4];
    bool moves = false;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      highest[r] = fmaxf(s.at(r, 0, 0), s.at(r, 0, 1));
#pragma unroll
      for (int n = 1; n < 4; ++n) highest[r] = fmaxf(highest[r], fmaxf(s.at(r, n, 0), s.at(r, n, 1)));
      moves = moves || highest[r] * multiplier > maximum[r] + Tile::kSlack;
    }
    if (__any_sync(kAllLanes, moves)) move_maximum(highest, multiplier);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = s.at(r, n, e);
          x = Tile::exponential(x, multiplier, maximum[r]);
          sum += x;
        }
      }
      total[r] += sum;
    }
  }

  __device__ __forceinline__ void take(Unit& s, const float* bias, int unit, const Element* rows,
                                       float* exchange) {
    Unit share;
    finish_scores<Tile, kHeads>(job, s, share, bias, query_unit, unit, watch(unit));
    if (out.better != nullptr) count_better(s);
    weigh(s);
    if (out.sums == nullptr) return;
    if constexpr (kHeads) {
      if (job.slots.bits > 0) {
        for_elements([&](int r, int n, int e) { s.at(r, n, e) *= share.at(r, n, e); });
      }
    }
    Tile::accumulate(sums, s, rows, exchange);
  }

  __device__ __forceinline__ void store(int split, int column) const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const std::int64_t to = split * out.slots + slot(r);
      typename Tile::Total sum = total[r];
      sum += __shfl_xor_sync(kAllLanes, sum, 1);
      sum += __shfl_xor_sync(kAllLanes, sum, 2);
      std::int32_t above = better[r];
      above += __shfl_xor_sync(kAllLanes, above, 1);
      above += __shfl_xor_sync(kAllLanes, above, 2);
      if (first_column() == 0 && column == 0) {
        out.maximum[to] = maximum[r];
        out.total[to] = sum;
        if (out.better != nullptr) out.better[to] = above;
      }
      if (out.sums == nullptr) continue;
      float* row = out.sums + to * job.depth + column + first_column();
#pragma unroll
      for (int n = 0; n < Tile::kOut / 8; ++n) {
        *reinterpret_cast<float2*>(row + 8 * n) =
            make_float2(sums.v[r / 2][n][r % 2 * 2], sums.v[r / 2][n][r % 2 * 2 + 1]);
      }
    }
  }
};

/// One head, rows of at most kDepth.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    row_pass(Scores<typename Tile::Element> job, RowPartials out, Cut cut) {
  SIMT_DYN_SHARED(PassMemory<Tile>, memory);
  const int split = cut.split(), warp = static_cast<int>(threadIdx.x) / kWarp;
  const int query_unit = cut.tile() * Tile::kWarps + warp;
  const int column = static_cast<int>(blockIdx.y) * Tile::kOut;
  const bool active = query_unit < job.query_units;
  RowState<Tile, false> state(job, out, query_unit);
  typename Tile::Stationary rows(memory->rows_of_warp());
  stream_units<Tile>(
      *memory, job.queries + cut.tile() * std::int64_t{Tile::kRows} * Tile::kDepth, job.candidates,
      {job.bias, nullptr}, cut.begin(split), cut.begin(split + 1), [&] { rows.load(); },
      [&](const typename Tile::Element* streamed, const float* bias, const float*, int unit) {
        if (!active || unit >= job.candidate_units) return;
        Unit s;
        Tile::score(s, rows, streamed);
        state.take(s, bias, unit, streamed + column, memory->exchange_of_warp());
      });
  if (active) state.store(split, column);
}

/// Any number of heads, any depth; the cut's streamed tiles are units.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads)
    row_pass_wide(Scores<typename Tile::Element> job, RowPartials out, Cut cut) {
  SIMT_DYN_SHARED(WideMemory<Tile>, memory);
  const int split = cut.split(), warp = static_cast<int>(threadIdx.x) / kWarp;
  const int query_unit = cut.tile() * Tile::kWarps + warp;
  const int column = static_cast<int>(blockIdx.y) * Tile::kOut;
  const bool active = query_unit < job.query_units;
  RowState<Tile, true> state(job, out, query_unit);
  const WideStream<Tile> stream{
      *memory, job.queries + cut.tile() * std::int64_t{Tile::kRows} * job.depth, job.candidates,
      job.depth};
  stream(cut.begin(split), cut.begin(split + 1), out.sums != nullptr ? column : -1,
         [&](Unit& s, const typename Tile::Element* streamed, int unit) {
           if (!active) return;
           state.take(s, job.bias_of(unit), unit, streamed,
                      memory->exchange + warp * Tile::kExchange);
         });
  if (active) state.store(split, column);
}

// ---- columns ----

/// A warp's candidates while query slots pass.
template <class Tile, bool kHeads>
struct ColumnState {
  using Element = typename Tile::Element;
  const Scores<Element>& job;
  const ColumnPartials& out;
  int unit;
  Watch<false> watch;
  float bias[4] = {};
  typename Tile::Sums sums;

  __device__ __forceinline__ ColumnState(const Scores<Element>& scores,
                                         const ColumnPartials& partials, int candidate_unit)
      : job(scores), out(partials), unit(candidate_unit), watch(scores, candidate_unit) {
    if (job.bias == nullptr) return;
#pragma unroll
    for (int r = 0; r < 4; ++r) bias[r] = job.bias[row(r)];
  }
  __device__ __forceinline__ std::int64_t row(int r) const {
    return unit * std::int64_t{kUnit} + first_row() + 8 * r;
  }

  __device__ __forceinline__ void take(Unit& s, const float* shift, const float* factor,
                                       int query_unit, const Element* rows, float* exchange) {
    if (job.bias != nullptr) {
      for_elements([&](int r, int n, int e) {
        s.at(r, n, e) = with_bias<Tile>(s.at(r, n, e), job.multiplier, bias[r]);
      });
    }
    Unit share;
    if constexpr (kHeads) {
      if (job.slots.bits > 0) HeadExchange<false>{job.slots}(s, share);
    }
    const unsigned why = watch(query_unit);
    if (why != 0) drop_columns<false>(s, job, query_unit, unit, why);
    const float multiplier = job.in_exponent;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float2 of = *reinterpret_cast<const float2*>(shift + first_column() + 8 * n);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        s.at(r, n, 0) = Tile::exponential(s.at(r, n, 0), multiplier, of.x);
        s.at(r, n, 1) = Tile::exponential(s.at(r, n, 1), multiplier, of.y);
      }
    }
    if (out.factor != nullptr) scale(s, factor);
    if constexpr (kHeads) {
      if (job.slots.bits > 0) {
        for_elements([&](int r, int n, int e) { s.at(r, n, e) *= share.at(r, n, e); });
      }
    }
    Tile::accumulate(sums, s, rows, exchange);
  }

  __device__ __forceinline__ void scale(Unit& s, const float* factor) const {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float2 of = *reinterpret_cast<const float2*>(factor + first_column() + 8 * n);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        s.at(r, n, 0) *= of.x;
        s.at(r, n, 1) *= of.y;
      }
    }
  }

  __device__ __forceinline__ void store(int split, int column) const {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      float* to = out.sums + (split * out.rows + row(r)) * job.depth + column + first_column();
#pragma unroll
      for (int n = 0; n < Tile::kOut / 8; ++n) {
        *reinterpret_cast<float2*>(to + 8 * n) =
            make_float2(sums.v[r / 2][n][r % 2 * 2], sums.v[r / 2][n][r % 2 * 2 + 1]);
      }
    }
  }
};

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    column_pass(Scores<typename Tile::Element> job, ColumnPartials out, Cut cut) {
  SIMT_DYN_SHARED(PassMemory<Tile>, memory);
  const int split = cut.split(), warp = static_cast<int>(threadIdx.x) / kWarp;
  const int unit = cut.tile() * Tile::kWarps + warp;
  const int column = static_cast<int>(blockIdx.y) * Tile::kOut;
  const bool exists = unit < job.candidate_units;
  // Columns that left every row have no gradient but their own positive's.
  const bool active = exists && (unit + 1) * std::int64_t{kUnit} > job.first_column;
  ColumnState<Tile, false> state(job, out, unit);
  typename Tile::Stationary rows(memory->rows_of_warp());
  stream_units<Tile>(
      *memory, job.candidates + cut.tile() * std::int64_t{Tile::kRows} * Tile::kDepth, job.queries,
      {out.shift, out.factor}, cut.begin(split), cut.begin(split + 1), [&] { rows.load(); },
      [&](const typename Tile::Element* streamed, const float* shift, const float* factor,
          int query_unit) {
        if (!active || query_unit >= job.query_units) return;
        Unit s;
        Tile::score(s, rows, streamed);
        state.take(s, shift, factor, query_unit, streamed + column, memory->exchange_of_warp());
      });
  if (exists) state.store(split, column);
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads)
    column_pass_wide(Scores<typename Tile::Element> job, ColumnPartials out, Cut cut) {
  SIMT_DYN_SHARED(WideMemory<Tile>, memory);
  const int split = cut.split(), warp = static_cast<int>(threadIdx.x) / kWarp;
  const int unit = cut.tile() * Tile::kWarps + warp;
  const int column = static_cast<int>(blockIdx.y) * Tile::kOut;
  const bool exists = unit < job.candidate_units;
  const bool active = exists && (unit + 1) * std::int64_t{kUnit} > job.first_column;
  ColumnState<Tile, true> state(job, out, unit);
  const WideStream<Tile> stream{
      *memory, job.candidates + cut.tile() * std::int64_t{Tile::kRows} * job.depth, job.queries,
      job.depth};
  stream(cut.begin(split), cut.begin(split + 1), column,
         [&](Unit& s, const typename Tile::Element* streamed, int query_unit) {
           if (!active) return;
           const std::int64_t first = query_unit * std::int64_t{kUnit};
           state.take(s, out.shift + first, out.factor == nullptr ? nullptr : out.factor + first,
                      query_unit, streamed, memory->exchange + warp * Tile::kExchange);
         });
  if (exists) state.store(split, column);
}

}  // namespace belfry::cuda::retrieval_softmax_kernels
