// SPDX-License-Identifier: Apache-2.0
// Selection of more keys than a block's shared memory holds: radix passes over the rows find the k-th key, one
// more collects the winners, which are sorted by runs of shared memory and then merged by ranks.
#pragma once

#include <cstdint>

#include "kernels/core/block.cuh"
#include "kernels/core/view.hpp"
#include "kernels/select_k/select_k.hpp"
#include "kernels/select_k/topk_key.cuh"

namespace belfry::cuda::select_k_kernels {

using topk::Key;

inline constexpr int kThreads = 256;
inline constexpr int kBins = 2048;
inline constexpr int kSortedRun = 2048;  // keys that one block sorts
/// Pass p looks at the bits from kDigitBegin[p + 1] up to kDigitBegin[p]. Few rows get to the passes
/// over the column: those where equal scores lie across the k-th place.
inline constexpr int kPasses = 6;
inline constexpr int kDigitBegin[kPasses + 1] = {64, 53, 42, 32, 21, 10, 0};

/// Where the search of one row stands: of the keys that share `prefix` above the bits looked at so far, the
/// `remaining` greatest are wanted. Once done, the winners are the keys of at least `prefix`.
struct RowState {
  Key prefix;
  int remaining;
  int done;
};

struct Split {
  std::int64_t row, begin, end;
};
/// Block b's part of the columns of its row.
__device__ inline Split split_of_block(std::int64_t columns, int splits) {
  const std::int64_t row = blockIdx.x / splits, s = blockIdx.x % splits;
  return {row, columns * s / splits, columns * (s + 1) / splits};
}

__global__ void start_rows(RowState* states, int* found, unsigned* bins, std::int64_t rows, int k) {
  for (std::int64_t i = grid_thread(); i < rows * kBins; i += grid_threads()) {
    bins[i] = 0;
    if (i >= rows) continue;
    states[i] = {0, k, 0};
    found[i] = 0;
  }
}

/// Adds the digits of this pass to the row's bins.
__global__ void __launch_bounds__(kThreads)
    count_digits(Matrix<const float> scores, const RowState* states, int begin, int end, int splits,
                 unsigned* bins) {
  SIMT_SHARED_ARRAY(unsigned, mine, [kBins]);
  const Split split = split_of_block(scores.cols, splits);
  const RowState state = states[split.row];
  if (state.done != 0) return;
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kThreads) mine[b] = 0;
  __syncthreads();
  const float* row = scores.row(split.row);
  for (std::int64_t i = split.begin + threadIdx.x; i < split.end; i += kThreads) {
    const float score = row[i];
    if (score != score) continue;
    const Key key = topk::make_key(score, static_cast<std::int32_t>(i));
    if (end < 64 && (key ^ state.prefix) >> end != 0) continue;
    atomicAdd(&mine[key >> begin & ((1u << (end - begin)) - 1)], 1u);
  }
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kThreads) {
    if (mine[b] != 0) atomicAdd(&bins[split.row * kBins + b], mine[b]);
  }
}

/// One block a row: finds the bin of the k-th key, and empties the bins for the next pass.
__global__ void __launch_bounds__(kThreads)
    pick_digit(RowState* states, int begin, bool first_pass, unsigned* bins) {
  constexpr int kEach = kBins / kThreads;
  SIMT_SHARED_ARRAY(unsigned, sums, [kThreads / kWarp]);
  const RowState state = states[blockIdx.x];
  if (state.done != 0) return;
  unsigned* row_bins = bins + std::int64_t{blockIdx.x} * kBins;
  // Thread t owns kEach neighbouring bins; thread 0 the greatest ones.
  const int first = kBins - 1 - static_cast<int>(threadIdx.x) * kEach;
  unsigned mine[kEach], sum = 0, all = 0;
  for (int i = 0; i < kEach; ++i) {
    mine[i] = row_bins[first - i];
    row_bins[first - i] = 0;
    sum += mine[i];
  }
  unsigned above = block_exclusive_sum<kThreads>(sum, &all, sums);
  const auto wanted = static_cast<unsigned>(state.remaining);
  if (first_pass && all <= wanted) {  // no more scores than slots: all of them win
    if (threadIdx.x == 0) states[blockIdx.x] = {1, 0, 1};
    return;
  }
  if (above >= wanted || above + sum < wanted) return;
  int i = 0;
  while (above + mine[i] < wanted) above += mine[i++];
  const Key prefix = state.prefix | static_cast<Key>(first - i) << begin;
  const unsigned left = wanted - above;
  states[blockIdx.x] = {prefix, static_cast<int>(left), left == mine[i] ? 1 : 0};
}

/// Puts the keys of at least the row's edge into winners [rows][k], in any order.
__global__ void __launch_bounds__(kThreads)
    collect_winners(Matrix<const float> scores, const RowState* states, int splits, int k,
                    Key* winners, int* found) {
  const Split split = split_of_block(scores.cols, splits);
  const Key edge = states[split.row].prefix;
  const float* row = scores.row(split.row);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t base = split.begin; base < split.end; base += kThreads) {
    const std::int64_t i = base + threadIdx.x;
    const float score = i < split.end ? row[i] : __uint_as_float(0x7fffffffu);
    const Key key = topk::make_key(score, static_cast<std::int32_t>(i));
    const bool wins = score == score && key >= edge;
    const unsigned winning = __ballot_sync(kAllLanes, wins);
    if (winning == 0) continue;
    int slot = 0;
    if (lane == 0) slot = atomicAdd(&found[split.row], __popc(winning));
    slot = __shfl_sync(kAllLanes, slot, 0) + __popc(winning & ((1u << lane) - 1));
    if (wins) winners[split.row * k + slot] = key;
  }
}

/// Sorts runs of kSortedRun keys; block b: run b % runs of row b / runs.
__global__ void __launch_bounds__(kThreads)
    sort_runs(Key* winners, const int* found, int k, int runs) {
  SIMT_SHARED_ARRAY(Key, keys, [kSortedRun]);
  const std::int64_t row = blockIdx.x / runs;
  const int first = static_cast<int>(blockIdx.x % runs) * kSortedRun;
  const int count = min(found[row] - first, kSortedRun);
  if (count <= 0) return;
  Key* list = winners + row * k + first;
  for (int i = static_cast<int>(threadIdx.x); i < kSortedRun; i += kThreads) {
    keys[i] = i < count ? list[i] : topk::kNoKey;
  }
  topk::sort_keys_down(keys, kSortedRun);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) list[i] = keys[i];
}

/// Merges pairs of sorted runs of `run` keys: a key's place is its own rank and the number of greater keys in
/// the other run. Keys are distinct, so places are.
__global__ void merge_runs(const Key* from, Key* to, const int* found, std::int64_t rows,
                           std::int64_t k, std::int64_t run) {
  for (std::int64_t t = grid_thread(); t < rows * k; t += grid_threads()) {
    const std::int64_t row = t / k, i = t % k, count = found[row];
    if (i >= count) continue;
    const Key* list = from + row * k;
    const std::int64_t own = i / run * run, pair = own / (2 * run) * (2 * run);
    std::int64_t low = own == pair ? pair + run : pair, high = low + run;
    low = low < count ? low : count;
    high = high < count ? high : count;
    const std::int64_t other = low;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (list[middle] > list[i]) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    to[row * k + pair + (i - own) + (low - other)] = list[i];
  }
}

__global__ void write_winners(const Key* winners, const int* found, std::int64_t k, TopK out) {
  for (std::int64_t t = grid_thread(); t < out.scores.rows * out.scores.cols; t += grid_threads()) {
    const std::int64_t row = t / out.scores.cols, i = t % out.scores.cols;
    const bool there = i < found[row];
    const Key key = there ? winners[row * k + i] : topk::kNoKey;
    out.scores(row, i) = there ? topk::score_of(key) : __uint_as_float(0x7fc00000u);
    out.rows(row, i) = there ? topk::row_of(key) : -1;
  }
}

}  // namespace belfry::cuda::select_k_kernels
