// SPDX-License-Identifier: Apache-2.0
// The sum of a chunk of places of a row, by a group of lanes (row_lanes.cuh), in the order that the CPU has: what
// embedding_bag_grad stores and embedding_update uses at once.
#pragma once

#include "kernels/core/row_lanes.cuh"
#include "kernels/embedding_bag/embedding_bag.hpp"

namespace belfry::cuda {

/// d_y of one use; uses without bags are left out.
struct UseRows {
  const float* data;
  std::int64_t pitch;
  std::uint32_t bags;
};

/// What a kernel of sums knows; as its argument: the uses' numbers vary with the place, but stay in the
/// constant bank.
struct RowSumTask {
  UseRows uses[kMaxTableUses];
  RowPlan plan;
  std::int64_t width;
};

/// Work of the first pass: unit i < capacity is the first chunk of rows[i]; units behind them are the later
/// chunks, found by the block of 64 places in which they begin.
struct Chunk {
  std::int64_t row;    ///< number in plan.rows; -1: no such chunk
  std::int64_t begin;  ///< places
  std::int64_t end;
  std::int64_t row_end;  ///< of the row's places
};
inline std::int64_t chunk_blocks(const RowPlan& plan) {
  return plan.nnz / kEmbeddingGradChunk + 1;
}
inline std::int64_t chunk_units(const RowPlan& plan) {
  return plan.capacity + chunk_blocks(plan);
}

/// The later chunk that begins in a block.
__device__ __forceinline__ Chunk chunk_of_block(const RowPlan& plan, std::int64_t block) {
  const std::uint32_t row = plan.chunk_rows[block];
  if (row == kNoChunk) return {-1, 0, 0, 0};
  const std::int64_t row_end = plan.begin[row + 1];
  const std::int64_t begin = chunk_begin(plan.begin[row], block);
  const std::int64_t end = begin + kEmbeddingGradChunk;
  return {static_cast<std::int64_t>(row), begin, end < row_end ? end : row_end, row_end};
}
__device__ __forceinline__ Chunk chunk_of_unit(const RowPlan& plan, std::int64_t rows,
                                               std::int64_t unit) {
  if (unit >= plan.capacity) return chunk_of_block(plan, unit - plan.capacity);
  if (unit >= rows) return {-1, 0, 0, 0};
  const std::int64_t begin = plan.begin[unit], row_end = plan.begin[unit + 1];
  const std::int64_t end = begin + kEmbeddingGradChunk;
  return {unit, begin, end < row_end ? end : row_end, row_end};
}

__device__ __forceinline__ const float* row_of_bag(const RowSumTask& task, std::uint32_t bag) {
  int use = 0;
  while (bag >= task.uses[use].bags) bag -= task.uses[use++].bags;
  return task.uses[use].data + bag * task.uses[use].pitch;
}

/// Sum of a chunk's places in columns column .. column + kColumns - 1. The rows of a few places are on their way
/// before the first is added.
template <int kColumns>
__device__ __forceinline__ Pack<kColumns> sum_places(const RowSumTask& task, const Chunk& chunk,
                                                     std::int64_t column) {
  constexpr int kAhead = kColumns == 8 ? 2 : 4;
  const std::uint32_t* bags = task.plan.bags + chunk.begin;
  const float* scales = task.plan.scales != nullptr ? task.plan.scales + chunk.begin : nullptr;
  const int places = static_cast<int>(chunk.end - chunk.begin);
  Pack<kColumns> sum{};
  for (int i = 0; i < places; i += kAhead) {
    Pack<kColumns> row[kAhead];
    float scale[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (i + a >= places) break;
      row[a] = load_pack<kColumns>(row_of_bag(task, bags[i + a]) + column);
      scale[a] = scales != nullptr ? scales[i + a] : 1.0f;
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (i + a >= places) break;
      if (a == 0 && i == 0) {
        scale_pack<false>(row[a], scale[a], sum);
      } else {
        scale_pack<true>(row[a], scale[a], sum);
      }
    }
  }
  return sum;
}

/// total plus the sums of a row's later chunks, the first of which begins at `begin`. Row k of `partials` is the
/// chunk that begins in block k.
template <int kColumns>
__device__ __forceinline__ void add_partials(Matrix<const float> partials, std::int64_t begin,
                                             std::int64_t row_end, std::int64_t column,
                                             Pack<kColumns>& total) {
  constexpr int kAhead = kColumns == 1 ? 16 : kColumns == 4 ? 8 : 2;
  const std::int64_t first = begin / kEmbeddingGradChunk;
  const std::int64_t last = first + (row_end - begin - 1) / kEmbeddingGradChunk;
  for (std::int64_t k = first; k <= last; k += kAhead) {
    Pack<kColumns> chunk[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (k + a > last) break;
      chunk[a] = load_pack<kColumns>(partials.row(k + a) + column);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (k + a > last) break;
      scale_pack<true>(chunk[a], 1.0f, total);
    }
  }
}

/// The task of `uses`; *columns gets how wide packs may be for all of them.
inline RowSumTask row_sum_task(std::span<const TableUse> uses, const RowPlan& plan,
                               std::int64_t width, int widest, int* columns) {
  RowSumTask task{};
  task.plan = plan;
  task.width = width;
  *columns = widest;
  int n = 0;
  for (const TableUse& use : uses) {
    if (use.ids.bags == 0) continue;
    task.uses[n++] = {use.d_y.data, use.d_y.pitch, static_cast<std::uint32_t>(use.ids.bags)};
    if (!packable(use.d_y, widest)) *columns = 1;
  }
  return task;
}

}  // namespace belfry::cuda
