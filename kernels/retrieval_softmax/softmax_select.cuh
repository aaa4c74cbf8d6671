// SPDX-License-Identifier: Apache-2.0
// What is needed of single scores before the passes: the positives' own, and, with hard negatives, each row's
// threshold by radix select: digits of 6 bits, the scores computed again for each, then digits of the column
// where more scores tie at the threshold than may stay. Counts are integers: their order does not matter.
#pragma once

#include "kernels/core/context.hpp"
#include "kernels/retrieval_softmax/softmax_passes.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

/// Scores of the positives, by the arithmetic of the passes, so that an equal candidate in another column gets
/// equal bits; and each head's share of the positive's gradient. One warp a unit of query slots.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads)
    score_positives(Scores<typename Tile::Element> job, float* positive, float* share) {
  static_assert(Tile::kWarps == 1);
  SIMT_DYN_SHARED(WideMemory<Tile>, memory);
  const int query_unit = static_cast<int>(blockIdx.x);
  const std::int64_t first = job.slots.query(query_unit, 0),
                     slot = query_unit * std::int64_t{kUnit};
  if (first >= job.slots.batch) {  // of the padding
    positive[slot + threadIdx.x] = 0.0f;
    share[slot + threadIdx.x] = 0.0f;
    return;
  }
  const WideStream<Tile> stream{*memory, job.queries + slot * job.depth,
                                job.candidates + first * job.depth, job.depth};
  stream(0, 1, -1, [&](Unit& s, const typename Tile::Element*, int) {
    if (job.bias != nullptr) {
      for_elements([&](int r, int n, int e) {
        s.at(r, n, e) = with_bias<Tile>(s.at(r, n, e), job.multiplier,
                                        job.bias[first + first_column() + 8 * n + e]);
      });
    }
    Unit shares;
    for_elements([&](int r, int n, int e) { shares.at(r, n, e) = 1.0f; });
    if (job.slots.bits > 0) HeadExchange<true>{job.slots}(s, shares);
    for_elements([&](int r, int n, int e) {
      const int row = first_row() + 8 * r;
      if (job.slots.order(row) >> job.slots.bits != first_column() + 8 * n + e) return;
      positive[slot + row] = s.at(r, n, e);
      share[slot + row] = shares.at(r, n, e);
    });
  });
}

inline constexpr int kDigitBits = 6, kDigits = 1 << kDigitBits;

/// A query's search. Phases: the score's digits, the column's digits, done.
enum class Search : std::int32_t { score, column, done };
struct Searches {
  std::uint32_t* key;      // [B] of the threshold, as far as known
  std::int32_t* last_tie;  // [B]
  std::int32_t* wanted;    // [B] columns still to be found below what is known
  Search* phase;           // [B]
  std::uint32_t* counts;   // [B][kDigits], zero between passes
  float* threshold;        // [B]
};
struct Digit {
  Search of;
  int shift, bits;
  bool last;  // of its phase
};

/// Bits of a float made monotone; both zeros are one.
__device__ __forceinline__ std::uint32_t key_of(float x) {
  const std::uint32_t bits = __float_as_uint(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float float_of_key(std::uint32_t key) {
  return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

template <class Tile>
struct CountMemory {
  WideMemory<Tile> stream;
  std::uint32_t counts[Tile::kWarps][kUnit][kDigits];
};

/// counts[i][x] += columns of row i whose digit is x, among those that agree with what is known.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads)
    count_digit(Scores<typename Tile::Element> job, Searches searches, Digit digit, Cut cut) {
  static_assert(Tile::kThreads == Tile::kRows);
  SIMT_DYN_SHARED(CountMemory<Tile>, memory);
  const int split = cut.split(), warp = static_cast<int>(threadIdx.x) / kWarp;
  const int query_unit = cut.tile() * Tile::kWarps + warp;
  const std::int64_t i = job.slots.query(query_unit, lane_of_warp());
  const bool searching =
      i < job.slots.batch && searches.phase[i] == digit.of && job.slots.head(lane_of_warp()) == 0;
  if (!__syncthreads_or(searching)) return;
  auto& counts = memory->counts[warp];
  for (int row = 0; row < kUnit; ++row) {
    for (int x = lane_of_warp(); x < kDigits; x += kWarp) counts[row][x] = 0;
  }
  const std::uint32_t rows = __ballot_sync(kAllLanes, searching);
  const std::uint32_t known = searching ? searches.key[i] : 0;
  const std::int32_t known_tie = searching ? searches.last_tie[i] : 0;
  __syncwarp();
  const WideStream<Tile> stream{memory->stream,
                                job.queries + cut.tile() * std::int64_t{Tile::kRows} * job.depth,
                                job.candidates, job.depth};
  Watch<true> watch(job, query_unit);
  stream(cut.begin(split), cut.begin(split + 1), -1,
         [&](Unit& s, const typename Tile::Element*, int unit) {
           Unit share;
           finish_scores<Tile, true>(job, s, share, job.bias_of(unit), query_unit, unit,
                                     watch(unit));
#pragma unroll
           for (int r = 0; r < 4; ++r) {
             const int row = first_row() + 8 * r;
             const std::uint32_t key = __shfl_sync(kAllLanes, known, row);
             const std::int32_t tie = __shfl_sync(kAllLanes, known_tie, row);
             if ((rows >> row & 1) == 0) continue;
#pragma unroll
             for (int c = 0; c < 8; ++c) {
               const float x = s.at(r, c / 2, c % 2);
               if (!(x > kLeft)) continue;  // left, or NaN, which stays anyway
               const std::uint32_t own = key_of(x);
               const auto j = static_cast<std::uint32_t>(candidate_of<true>(unit, r, c / 2, c % 2));
               if (digit.of == Search::column && own != key) continue;
               const std::uint32_t value = digit.of == Search::score ? own : j;
               const std::uint32_t agreed =
                   digit.of == Search::score ? key : static_cast<std::uint32_t>(tie);
               if ((value ^ agreed) >> digit.shift >> digit.bits != 0) continue;
               atomicAdd(&counts[row][value >> digit.shift & ((1u << digit.bits) - 1)], 1u);
             }
           }
         });
  __syncwarp();
  for (int row = 0; row < kUnit; ++row) {
    if ((rows >> row & 1) == 0) continue;
    const std::int64_t query = job.slots.query(query_unit, row);
    for (int x = lane_of_warp(); x < kDigits; x += kWarp) {
      if (counts[row][x] != 0) atomicAdd(&searches.counts[query * kDigits + x], counts[row][x]);
    }
  }
}

/// Starts every row's search for its `wanted` best columns.
void begin_searches(const Context& ctx, const Searches& searches, std::int64_t batch,
                    std::int64_t wanted);
/// Takes the digit that the counts decide.
void take_digit(const Context& ctx, const Searches& searches, std::int64_t batch, Digit digit);

}  // namespace belfry::cuda::retrieval_softmax_kernels
