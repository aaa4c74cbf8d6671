// SPDX-License-Identifier: Apache-2.0
#include "kernels/select_k/block_topk.cuh"
#include "kernels/select_k/select_k.hpp"
#include "kernels/select_k/select_k_large.cuh"

namespace belfry::cuda {

namespace select_k_kernels {

using topk::BlockState;
using topk::BlockTopK;

inline constexpr int kEach = 16;                     // scores that a thread looks at in one turn
inline constexpr std::int64_t kPartColumns = 16384;  // a part of a row is no shorter
inline constexpr std::int64_t kUnits = 1024;         // blocks that fill a large device
inline constexpr std::int64_t kTileBytes = std::int64_t{256} << 20;

/// The list of a block, best first, behind it empty slots.
__device__ inline void write_list(const BlockTopK& best, int found, TopK out, std::int64_t row) {
  for (std::int64_t i = threadIdx.x; i < out.scores.cols; i += kThreads) {
    const bool there = i < found;
    out.scores(row, i) = there ? topk::score_of(best.keys()[i]) : __uint_as_float(0x7fc00000u);
    out.rows(row, i) = there ? topk::row_of(best.keys()[i]) : -1;
  }
}

/// One block a part of a row. With one part it writes the answer, else its k keys to parts [rows][splits][k].
__global__ void __launch_bounds__(kThreads)
    select_parts(Matrix<const float> scores, int splits, int k, Key* parts, TopK out) {
  SIMT_DYN_SHARED(Key, keys);
  SIMT_SHARED(BlockState, state);
  BlockTopK best(keys, &state, k);
  const Split split = split_of_block(scores.cols, splits);
  const float* row = scores.row(split.row);
  for (std::int64_t base = split.begin; base < split.end; base += kEach * kThreads) {
    float mine[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const std::int64_t at = base + i * kThreads + threadIdx.x;
      mine[i] = at < split.end ? __ldcs(&row[at]) : __uint_as_float(0x7fffffffu);
    }
    const Key worst = best.worst();
    const float least =
        worst == topk::kNoKey ? __uint_as_float(0xff800000u) : topk::score_of(worst);
    unsigned offers = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) offers |= mine[i] >= least ? 1u << i : 0u;
    best.offer(offers, [&](int i) {
      float score = mine[0];  // by selection: an array that is indexed would leave its registers
#pragma unroll
      for (int j = 1; j < kEach; ++j) score = i == j ? mine[j] : score;
      return topk::make_key(score, static_cast<std::int32_t>(base + i * kThreads + threadIdx.x));
    });
  }
  const int found = best.finish();
  if (splits == 1) return write_list(best, found, out, split.row);
  Key* part = parts + std::int64_t{blockIdx.x} * k;
  for (int i = static_cast<int>(threadIdx.x); i < k; i += kThreads) {
    part[i] = i < found ? best.keys()[i] : topk::kNoKey;
  }
}

__global__ void __launch_bounds__(kThreads)
    merge_parts(const Key* parts, int splits, int k, TopK out) {
  SIMT_DYN_SHARED(Key, keys);
  SIMT_SHARED(BlockState, state);
  BlockTopK best(keys, &state, k);
  const Key* mine = parts + std::int64_t{blockIdx.x} * splits * k;
  for (int base = 0; base < splits * k; base += kThreads) {
    const int i = base + static_cast<int>(threadIdx.x);
    const Key key = i < splits * k ? mine[i] : topk::kNoKey;
    best.offer(key != topk::kNoKey ? 1u : 0u, [&](int) { return key; });
  }
  write_list(best, best.finish(), out, blockIdx.x);
}

int split_rows(std::int64_t rows, std::int64_t columns) {
  const std::int64_t by_columns = columns / kPartColumns, by_rows = ceil_div(kUnits, rows);
  const std::int64_t splits = by_columns < by_rows ? by_columns : by_rows;
  return static_cast<int>(splits < 1 ? 1 : splits);
}

void select_small(const Context& ctx, Matrix<const float> scores, int k, TopK out) {
  const int splits = split_rows(scores.rows, scores.cols);
  const std::int64_t smem = topk::block_capacity(k) * std::int64_t{sizeof(Key)};
  Key* parts = splits > 1 ? ctx.arena().take<Key>(scores.rows * splits * k) : nullptr;
  simt::launch({.grid = static_cast<unsigned>(scores.rows * splits),
                .block = kThreads,
                .smem = smem,
                .stream = &ctx.stream()},
               select_parts, scores, splits, k, parts, out);
  if (splits == 1) return;
  simt::launch({.grid = static_cast<unsigned>(scores.rows),
                .block = kThreads,
                .smem = smem,
                .stream = &ctx.stream()},
               merge_parts, parts, splits, k, out);
}

void sort_winners(const Context& ctx, Key* winners, Key* other, const int* found, std::int64_t rows,
                  int k, TopK out) {
  const int runs = static_cast<int>(ceil_div(k, kSortedRun));
  simt::launch(
      {.grid = static_cast<unsigned>(rows * runs), .block = kThreads, .stream = &ctx.stream()},
      sort_runs, winners, found, k, runs);
  const simt::Dims each = {
      .grid = grid_for(rows * k, kThreads), .block = kThreads, .stream = &ctx.stream()};
  for (std::int64_t run = kSortedRun; run < k; run *= 2) {
    simt::launch(each, merge_runs, winners, other, found, rows, k, run);
    std::swap(winners, other);
  }
  simt::launch({.grid = grid_for(rows * out.scores.cols, kThreads),
                .block = kThreads,
                .stream = &ctx.stream()},
               write_winners, winners, found, k, out);
}

void select_large(const Context& ctx, Matrix<const float> scores, int k, TopK out) {
  const std::int64_t row_bytes =
      2 * k * std::int64_t{sizeof(Key)} + kBins * 4 + std::int64_t{sizeof(RowState)} + 4;
  const std::int64_t most = kTileBytes / row_bytes;
  const std::int64_t tile = most < 1 ? 1 : (most < scores.rows ? most : scores.rows);
  Key* winners = ctx.arena().take<Key>(tile * k);
  Key* other = ctx.arena().take<Key>(tile * k);
  unsigned* bins = ctx.arena().take<unsigned>(tile * kBins);
  RowState* states = ctx.arena().take<RowState>(tile);
  int* found = ctx.arena().take<int>(tile);
  for (std::int64_t first = 0; first < scores.rows; first += tile) {
    const std::int64_t rows = tile < scores.rows - first ? tile : scores.rows - first;
    const auto part = scores.slice(first, rows);
    const int splits = split_rows(rows, scores.cols);
    const simt::Dims scan = {
        .grid = static_cast<unsigned>(rows * splits), .block = kThreads, .stream = &ctx.stream()};
    simt::launch(
        {.grid = grid_for(rows * kBins, kThreads), .block = kThreads, .stream = &ctx.stream()},
        start_rows, states, found, bins, rows, k);
    for (int pass = 0; pass < kPasses; ++pass) {
      simt::launch(scan, count_digits, part, states, kDigitBegin[pass + 1], kDigitBegin[pass],
                   splits, bins);
      simt::launch(
          {.grid = static_cast<unsigned>(rows), .block = kThreads, .stream = &ctx.stream()},
          pick_digit, states, kDigitBegin[pass + 1], pass == 0, bins);
    }
    simt::launch(scan, collect_winners, part, states, splits, k, winners, found);
    sort_winners(ctx, winners, other, found, rows, k,
                 {out.scores.slice(first, rows), out.rows.slice(first, rows)});
  }
}

__global__ void write_empty(TopK out) {
  for (std::int64_t t = grid_thread(); t < out.scores.rows * out.scores.cols; t += grid_threads()) {
    out.scores(t / out.scores.cols, t % out.scores.cols) = __uint_as_float(0x7fc00000u);
    out.rows(t / out.scores.cols, t % out.scores.cols) = -1;
  }
}

}  // namespace select_k_kernels

void select_k(const Context& ctx, Matrix<const float> scores, TopK out) {
  using namespace select_k_kernels;
  if (scores.rows == 0) return;
  if (scores.cols == 0) {
    simt::launch({.grid = grid_for(out.scores.rows * out.scores.cols, kThreads),
                  .block = kThreads,
                  .stream = &ctx.stream()},
                 write_empty, out);
    return;
  }
  ArenaScope scope(ctx);
  const auto k = static_cast<int>(out.scores.cols < scores.cols ? out.scores.cols : scores.cols);
  if (k <= topk::kBlockK) return select_small(ctx, scores, k, out);
  select_large(ctx, scores, k, out);
}

}  // namespace belfry::cuda
