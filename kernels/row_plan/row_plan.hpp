// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

enum class Pooling { sum, mean, sqrtn };

/// The ids of one use of a table in a step: bags of rows, and how a bag is pooled.
struct TableIds {
  Ragged ids;
  Pooling pooling = Pooling::sum;
};

/// A table's gradient is summed in chunks of so many places of a row, then over chunks in order.
inline constexpr std::int64_t kEmbeddingGradChunk = 64;

/// A table is used so often in a step at most.
inline constexpr std::int64_t kMaxTableUses = 32;

/// Entry of RowPlan::chunk_rows where no chunk begins.
inline constexpr std::uint32_t kNoChunk = UINT32_MAX;

/// What the gradient of a table in one step owes to its ids alone: a list of places, sorted by row, a row's
/// places in the order of uses and positions. Lies in the backend's memory.
struct RowPlan {
  std::int32_t* rows = nullptr;  ///< [capacity] the distinct rows, ascending
  std::int64_t* n = nullptr;     ///< their number
  std::uint32_t* begin =
      nullptr;  ///< [capacity + 1] places of rows[i]: begin[i] .. begin[i + 1] - 1
  std::uint32_t* bags = nullptr;        ///< [nnz] a place's bag, counted through all uses
  float* scales = nullptr;              ///< [nnz] its factor s_b w_j; null where all are 1
  std::uint32_t* chunk_rows = nullptr;  ///< [nnz / kEmbeddingGradChunk + 1], see chunk_begin
  std::int64_t nnz = 0;                 ///< places, at most
  std::int64_t capacity = 0;            ///< distinct rows, at most
};

/// Chunks of a row begin at begin[i], begin[i] + 64, ... Of those that are not a row's first, at most one
/// begins within places 64 k .. 64 k + 63, and it belongs to the row of place 64 k: chunk_rows[k] is that row's
/// number in `rows`, or kNoChunk. Where it begins, given begin[chunk_rows[k]]:
BELFRY_HD inline std::int64_t chunk_begin(std::int64_t row_begin, std::int64_t block) {
  const std::int64_t from = block * kEmbeddingGradChunk - row_begin;
  return row_begin + (from + kEmbeddingGradChunk - 1) / kEmbeddingGradChunk * kEmbeddingGradChunk;
}

/// s_b of a bag (see embedding_bag): the maths of both backends and of the gradient.
BELFRY_HD inline float bag_scale(const Ragged& ids, Pooling pooling, std::int64_t bag) {
  if (pooling == Pooling::sum) return 1.0f;
  const std::int64_t begin = ids.offsets != nullptr ? ids.offsets[bag] : bag;
  const std::int64_t end = ids.offsets != nullptr ? ids.offsets[bag + 1] : bag + 1;
  float sum = 0.0f;
  if (ids.weights == nullptr) {
    sum = static_cast<float>(end - begin);
  } else if (pooling == Pooling::mean) {
    for (std::int64_t j = begin; j < end; ++j) sum += ids.weights[j];
  } else {
    for (std::int64_t j = begin; j < end; ++j) sum += ids.weights[j] * ids.weights[j];
  }
  if (sum == 0.0f) return 0.0f;
  return pooling == Pooling::mean ? 1.0f / sum : 1.0f / std::sqrt(sum);
}

/// Whether some place has a factor other than 1.
inline bool has_scales(const TableIds& use) {
  return use.ids.weights != nullptr || (use.ids.offsets != nullptr && use.pooling != Pooling::sum);
}

/// Memory of one plan for `nnz` ids of a table of `table_rows` rows, from an arena of the plan's backend.
inline RowPlan take_row_plan(Arena& arena, std::int64_t nnz, std::int64_t table_rows, bool scales) {
  RowPlan plan;
  plan.nnz = nnz;
  plan.capacity = nnz < table_rows ? nnz : table_rows;
  plan.rows = arena.take<std::int32_t>(plan.capacity);
  plan.n = arena.take<std::int64_t>(1);
  plan.begin = arena.take<std::uint32_t>(plan.capacity + 1);
  plan.bags = arena.take<std::uint32_t>(nnz);
  if (scales) plan.scales = arena.take<float>(nnz);
  plan.chunk_rows = arena.take<std::uint32_t>(nnz / kEmbeddingGradChunk + 1);
  return plan;
}

namespace cpu {
void row_plan(const Context& ctx, std::span<const TableIds> uses, std::int64_t table_rows,
              std::span<const RowPlan> plans);
}  // namespace cpu
namespace cuda {
void row_plan(const Context& ctx, std::span<const TableIds> uses, std::int64_t table_rows,
              std::span<const RowPlan> plans);
}  // namespace cuda

void check_row_plan_arguments(std::span<const TableIds> uses, std::int64_t table_rows,
                              std::span<const RowPlan> plans);

/// Plans the gradients of one table for plans.size() steps at once; uses[t u .. t u + u - 1] are those of
/// step t. Depends on ids, offsets and weights alone, so that it can run ahead of the steps, on another
/// context, for many batches in one sort.
/// Shapes       uses: ids as in embedding_bag, all within one step or many; plans as RowPlan says, with as
///              many places as the step's uses have ids. With offsets, nnz may be a bound: what lies outside
///              of offsets[0] .. offsets[bags] is left out
/// Empty        no ids: *n = 0
/// Aliasing     plans must not overlap each other or the inputs
/// Cost         one stable radix sort of all ids, by as many bits as rows and steps need, and a few passes
/// Scratch      O(nnz) words from the arena
/// Numerics     factors f32, nothing fused
/// Determinism  bitwise_cpu_cuda
/// Faults       ids outside [0, table_rows) are left out and raise kStatusIdOutOfRange in this context
inline void row_plan(const Context& ctx, std::span<const TableIds> uses, std::int64_t table_rows,
                     std::span<const RowPlan> plans) {
  check_row_plan_arguments(uses, table_rows, plans);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::row_plan(ctx, uses, table_rows, plans);
    case Backend::cuda:
      if constexpr (kHasCuda::row_plan) {
        return cuda::row_plan(ctx, uses, table_rows, plans);
      }
  }
  throw_no_backend("row_plan");
}

}  // namespace belfry
