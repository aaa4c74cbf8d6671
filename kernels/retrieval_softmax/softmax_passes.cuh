// SPDX-License-Identifier: Apache-2.0
// Step 7: the row pass (loss and d_queries) and the column pass (d_candidates). Both are attention with the
// values equal to the keys: scores, weights, and the weights times the same streamed rows; nothing of the
// scores is stored. A block keeps kRows rows and streams a share of the other side ("split"); partial
// results of the splits are merged in order (softmax_finish.cuh).
#pragma once

#include "kernels/retrieval_softmax/softmax_steps.cuh"
#include "kernels/retrieval_softmax/softmax_stream.cuh"

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
  const float*
      shift;  // [slots] subtracted from scores in exponents; infinite where there is no query
  const float* factor;  // [slots] of the row's weights, or nullptr
  float* sums;          // [depth] each
  std::int64_t rows;    // whole tiles of candidates
};

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
  __device__ __forceinline__ float positive(int s) const {
    return out.positive[slot(s)];
  }

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
    simt::converge();  // before the next product
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
      for (int n = 1; n < 4; ++n)
        highest[r] = fmaxf(highest[r], fmaxf(s.at(r, n, 0), s.at(r, n, 1)));
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
  const WideStream<Tile> stream{*memory,
                                job.queries + cut.tile() * std::int64_t{Tile::kRows} * job.depth,
                                job.candidates, job.depth};
  stream(cut.begin(split), cut.begin(split + 1), out.sums != nullptr ? column : -1,
         [&](Unit& s, const typename Tile::Element* streamed, int unit) {
           if (!active) return;
           state.take(s, job.bias_of(unit), unit, streamed,
                      memory->exchange + warp * Tile::kExchange);
         });
  if (active) state.store(split, column);
}

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
  const WideStream<Tile> stream{*memory,
                                job.candidates + cut.tile() * std::int64_t{Tile::kRows} * job.depth,
                                job.queries, job.depth};
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
