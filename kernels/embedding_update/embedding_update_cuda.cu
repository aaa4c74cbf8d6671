// SPDX-License-Identifier: Apache-2.0
// First pass: a group of lanes sums the first chunk of a row, and updates the row if that is all of it; chunks of
// longer rows go to memory. Second pass: the group of the block in which a row's second chunk begins adds them in
// order and updates the row.
#include "kernels/embedding_update/embedding_update.hpp"

#include "kernels/core/row_lanes.cuh"
#include "kernels/embedding_bag/row_sum.cuh"
#include "kernels/optimizer_step/row_update.cuh"

namespace belfry::cuda {

namespace embedding_update_kernels {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 4096;  // a block computes the step's constants once

/// Chunks of rows that have more than one: row k of `later` is the one that begins in block k, row k of `first`
/// the first chunk of the row whose second one that is.
struct LongRows {
  Matrix<float> first, later;
};

/// Rows of the plan; -1 where one lies outside of the table: they ascend.
__device__ __forceinline__ std::int64_t planned_rows(const RowPlan& plan, std::int64_t table_rows) {
  const std::int64_t n = *plan.n;
  return n > 0 && plan.rows[n - 1] >= table_rows ? -1 : n;
}

/// Where the sum of a chunk is kept; null: it is all of its row.
__device__ __forceinline__ float* place_of_chunk(const RowPlan& plan, const LongRows& chunks,
                                                 std::int64_t unit, const Chunk& chunk) {
  if (unit >= plan.capacity) return chunks.later.row(unit - plan.capacity);
  if (chunk.end == chunk.row_end) return nullptr;
  return chunks.first.row(chunk.end / kEmbeddingGradChunk);
}

/// Whether this block's group finishes the row.
__device__ __forceinline__ bool is_second_chunk(const RowPlan& plan, const Chunk& chunk) {
  return chunk.row >= 0 && chunk.begin == plan.begin[chunk.row] + kEmbeddingGradChunk;
}

template <class Rule, class T, int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    update_short_rows(const __grid_constant__ RowSumTask sums,
                      const __grid_constant__ ParameterTask<T> task, LongRows chunks, int lanes) {
  const RowPlan& plan = sums.plan;
  const std::int64_t rows = planned_rows(plan, task.parameter.rows);
  if (rows < 0) {
    if (grid_thread() == 0) raise_status(task.state, kStatusIdOutOfRange);
    return;
  }
  const Rule rule = rule_of_step<Rule>(task);
  const RoundingKey key = key_of(task);
  const RowLanes at = row_lanes(lanes);
  std::uint32_t top = 0;
  for (std::int64_t unit = at.group; unit < plan.capacity + chunks.later.rows; unit += at.groups) {
    const Chunk chunk = chunk_of_unit(plan, rows, unit);
    if (chunk.row < 0) continue;
    float* out = place_of_chunk(plan, chunks, unit, chunk);
    const std::int64_t row = plan.rows[chunk.row];
    for (std::int64_t column = at.lane * kColumns; column < sums.width;
         column += at.lanes * kColumns) {
      HeldPack<Rule, T, kColumns> held;
      if (out == nullptr) held.load(task, row, column);
      const Pack<kColumns> sum = sum_places<kColumns>(sums, chunk, column);
      if (out != nullptr) {
        store_pack(out + column, sum);
      } else {
        held.update(rule, sum, top);
        held.store(task, key, row, column);
      }
    }
  }
  if (top >= kInfinite) raise_status(task.state, kStatusNonFinite);
}

template <class Rule, class T, int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    update_long_rows(RowPlan plan, const __grid_constant__ ParameterTask<T> task, LongRows chunks,
                     int lanes) {
  if (planned_rows(plan, task.parameter.rows) < 0) return;  // reported by the first pass
  const Rule rule = rule_of_step<Rule>(task);
  const RoundingKey key = key_of(task);
  const RowLanes at = row_lanes(lanes);
  std::uint32_t top = 0;
  for (std::int64_t block = at.group; block < chunks.later.rows; block += at.groups) {
    const Chunk chunk = chunk_of_block(plan, block);
    if (!is_second_chunk(plan, chunk)) continue;
    for (std::int64_t column = at.lane * kColumns; column < task.parameter.cols;
         column += at.lanes * kColumns) {
      Pack<kColumns> sum = load_pack<kColumns>(chunks.first.row(block) + column);
      add_partials(Matrix<const float>(chunks.later), chunk.begin, chunk.row_end, column, sum);
      update_pack(rule, task, key, plan.rows[chunk.row], column, sum, top);
    }
  }
  if (top >= kInfinite) raise_status(task.state, kStatusNonFinite);
}

/// A row for row-wise Adagrad, kTiles packs a lane: loaded while its gradient is summed.
template <class T, int kColumns, int kTiles>
struct HeldRow {
  Pack<kColumns> w[kTiles]{};
  float accumulator = 0.0f;  ///< lane 0's

  __device__ __forceinline__ void load(const RowwiseUpdate& rule, const ParameterTask<T>& task,
                                       const RowLanes& at, std::int64_t row) {
    accumulator = rule.load(at, task.slots[0].row(row));
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const std::int64_t column = (t * at.lanes + at.lane) * kColumns;
      if (column < task.parameter.cols) {
        w[t] = load_pack<kColumns>(task.parameter.row(row) + column);
      }
    }
  }
  /// g: zeros behind the row's end. All lanes of the group call it.
  __device__ __forceinline__ void update(const RowwiseUpdate& rule, const ParameterTask<T>& task,
                                         const RoundingKey& key, const RowLanes& at,
                                         std::int64_t row, const Pack<kColumns> (&g)[kTiles],
                                         std::uint32_t& top) {
    GroupMeanSquare<kColumns> squares;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) squares.add(at, g[t]);
    const float mean = squares.mean(at, task.parameter.cols);
    const float root = rule.accumulate(at, task.slots[0].row(row), accumulator, mean, top);
    if (root == 0.0f) return;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const std::int64_t column = (t * at.lanes + at.lane) * kColumns;
      if (column >= task.parameter.cols) break;
      rule.move(g[t], root, w[t], top);
      store_parameter(task, key, row, column, w[t]);
    }
  }
};

template <class T, int kColumns, int kTiles>
__global__ void __launch_bounds__(kThreads, 2)
    update_short_rows_rowwise(const __grid_constant__ RowSumTask sums,
                              const __grid_constant__ ParameterTask<T> task, LongRows chunks,
                              int lanes) {
  const RowPlan& plan = sums.plan;
  const std::int64_t rows = planned_rows(plan, task.parameter.rows);
  if (rows < 0) {
    if (grid_thread() == 0) raise_status(task.state, kStatusIdOutOfRange);
    return;
  }
  const RowwiseUpdate rule = RowwiseUpdate::make(task.options, *task.state);
  const RoundingKey key = key_of(task);
  const RowLanes at = row_lanes(lanes);
  std::uint32_t top = 0;
  for (std::int64_t unit = at.group; unit < plan.capacity + chunks.later.rows; unit += at.groups) {
    const Chunk chunk = chunk_of_unit(plan, rows, unit);
    if (chunk.row < 0) continue;
    float* out = place_of_chunk(plan, chunks, unit, chunk);
    const std::int64_t row = plan.rows[chunk.row];
    HeldRow<T, kColumns, kTiles> held;
    if (out == nullptr) held.load(rule, task, at, row);
    Pack<kColumns> g[kTiles] = {};
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const std::int64_t column = (t * at.lanes + at.lane) * kColumns;
      if (column >= sums.width) break;
      g[t] = sum_places<kColumns>(sums, chunk, column);
      if (out != nullptr) store_pack(out + column, g[t]);
    }
    if (out == nullptr) held.update(rule, task, key, at, row, g, top);
  }
  if (top >= kInfinite) raise_status(task.state, kStatusNonFinite);
}

template <class T, int kColumns, int kTiles>
__global__ void __launch_bounds__(kThreads, 2)
    update_long_rows_rowwise(RowPlan plan, const __grid_constant__ ParameterTask<T> task,
                             LongRows chunks, int lanes) {
  if (planned_rows(plan, task.parameter.rows) < 0) return;  // reported by the first pass
  const RowwiseUpdate rule = RowwiseUpdate::make(task.options, *task.state);
  const RoundingKey key = key_of(task);
  const RowLanes at = row_lanes(lanes);
  std::uint32_t top = 0;
  for (std::int64_t block = at.group; block < chunks.later.rows; block += at.groups) {
    const Chunk chunk = chunk_of_block(plan, block);
    if (!is_second_chunk(plan, chunk)) continue;
    Pack<kColumns> g[kTiles] = {};
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const std::int64_t column = (t * at.lanes + at.lane) * kColumns;
      if (column >= task.parameter.cols) break;
      g[t] = load_pack<kColumns>(chunks.first.row(block) + column);
      add_partials(Matrix<const float>(chunks.later), chunk.begin, chunk.row_end, column, g[t]);
    }
    const std::int64_t row = plan.rows[chunk.row];
    HeldRow<T, kColumns, kTiles> held;
    held.load(rule, task, at, row);
    held.update(rule, task, key, at, row, g, top);
  }
  if (top >= kInfinite) raise_status(task.state, kStatusNonFinite);
}

}  // namespace embedding_update_kernels

namespace {

using namespace embedding_update_kernels;

/// Packs of a row-wise row that a lane holds at most: 16 columns.
template <class T>
constexpr int kMostTiles = 16 / kWidestPack<T>;

template <class T>
struct Launch {
  const Context& ctx;
  RowSumTask sums;
  ParameterTask<T> task;
  LongRows chunks;
  int lanes;

  simt::Dims dims(std::int64_t groups) const {
    return {.grid = grid_for(groups * lanes, kThreads, kMostBlocks),
            .block = kThreads,
            .stream = &ctx.stream()};
  }
  template <class Short, class Long>
  void queue(Short* short_rows, Long* long_rows) const {
    simt::launch(dims(chunk_units(sums.plan)), short_rows, sums, task, chunks, lanes);
    if (sums.plan.nnz <= kEmbeddingGradChunk) return;  // no row has a second chunk
    simt::launch(dims(chunk_blocks(sums.plan)), long_rows, sums.plan, task, chunks, lanes);
  }
};

template <class T, int kColumns>
void queue_by_element(Launch<T>& launch) {
  launch.lanes = lanes_for(launch.sums.width, kColumns);
  with_element_rule(launch.task.options, [&](auto rule) {
    launch.queue(update_short_rows<decltype(rule), T, kColumns>,
                 update_long_rows<decltype(rule), T, kColumns>);
  });
}

template <class T>
void queue_rowwise(Launch<T>& launch) {
  constexpr int kColumns = kWidestPack<T>;
  launch.lanes = lanes_for(launch.sums.width, kColumns, 16 / kColumns);
  if (launch.sums.width <= launch.lanes * kColumns) {
    launch.queue(update_short_rows_rowwise<T, kColumns, 1>,
                 update_long_rows_rowwise<T, kColumns, 1>);
  } else {
    launch.queue(update_short_rows_rowwise<T, kColumns, kMostTiles<T>>,
                 update_long_rows_rowwise<T, kColumns, kMostTiles<T>>);
  }
}

/// The two ops after each other: where every row moves, a move depends on other rows, or a row does not fit into a
/// group's registers.
template <class T>
void update_by_gradient(const Context& ctx, const OptimizerOptions& options,
                        std::span<const TableUse> uses, const RowPlan& plan, Matrix<T> table,
                        const OptimizerSlots& slots) {
  const std::int64_t size = checked_product(plan.capacity, table.cols, "a table's gradient");
  const Matrix<float> values(ctx.arena().take<float>(size), plan.capacity, table.cols);
  cuda::embedding_bag_grad(ctx, uses, plan, values);
  cuda::optimizer_step(ctx, options, table, {plan.rows, values, plan.n, plan.capacity}, slots);
}

template <class T>
void update(const Context& ctx, const OptimizerOptions& options, std::span<const TableUse> uses,
            const RowPlan& plan, Matrix<T> table, const OptimizerSlots& slots) {
  if (table.empty()) return;
  ArenaScope scope(ctx);
  constexpr int kWidest = kWidestPack<T>;
  int columns = 0;
  const RowSumTask sums = row_sum_task(uses, plan, table.cols, kWidest, &columns);
  Launch<T> launch{ctx, sums, parameter_task(ctx, options, table, slots), {}, 0};
  if (!packable_parameter(launch.task, kWidest)) columns = 1;
  const bool rowwise = options.kind == OptimizerKind::rowwise_adagrad;
  const bool too_wide =
      rowwise && (columns == 1 || table.cols > std::int64_t{kMostTiles<T>} * kWarp * kWidest);
  if (moves_every_row(options) || needs_whole_gradient(options) || too_wide) {
    return update_by_gradient(ctx, options, uses, plan, table, slots);
  }
  if (plan.nnz == 0 || plan.capacity == 0) return;
  const std::int64_t blocks = chunk_blocks(plan);
  const std::int64_t size = checked_product(blocks, table.cols, "partial sums");
  launch.chunks = {{ctx.arena().take<float>(size), blocks, table.cols},
                   {ctx.arena().take<float>(size), blocks, table.cols}};
  if (rowwise) {
    queue_rowwise(launch);
  } else if (columns == 1) {
    queue_by_element<T, 1>(launch);
  } else {
    queue_by_element<T, kWidest>(launch);
  }
}

}  // namespace

void embedding_update(const Context& ctx, const OptimizerOptions& options,
                      std::span<const TableUse> uses, const RowPlan& plan, Matrix<float> table,
                      const OptimizerSlots& slots) {
  update(ctx, options, uses, plan, table, slots);
}

void embedding_update(const Context& ctx, const OptimizerOptions& options,
                      std::span<const TableUse> uses, const RowPlan& plan, Matrix<bf16> table,
                      const OptimizerSlots& slots) {
  update(ctx, options, uses, plan, table, slots);
}

}  // namespace belfry::cuda
