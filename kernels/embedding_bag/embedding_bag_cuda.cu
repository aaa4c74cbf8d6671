// SPDX-License-Identifier: Apache-2.0
// Lookup: a group of lanes copies several rows at a time, or pools a bag. Gradient: first the sums of all chunks,
// then those of rows with more than one chunk are added in order.
#include "kernels/embedding_bag/embedding_bag.hpp"

#include <algorithm>

#include "kernels/core/row_lanes.cuh"
#include "kernels/embedding_bag/row_sum.cuh"

namespace belfry::cuda {

namespace embedding_bag_kernels {

constexpr int kThreads = 256;
constexpr int kRowsAhead = 4;

template <class T>
struct LookupTask {
  Matrix<const T> table;
  Ragged ids;
  Pooling pooling;
  Matrix<float> y;
  StepState* state;
};

template <class T>
__device__ __forceinline__ bool inside(const LookupTask<T>& task, std::int32_t id) {
  return id >= 0 && id < task.table.rows;
}

/// One id a bag, no weights: kRows rows of a group are on their way before the first is stored.
template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads, 2) gather_rows(LookupTask<T> task, int lanes) {
  constexpr int kRows = kRowsAhead;
  const RowLanes at = row_lanes(lanes);
  bool good = true;
  for (std::int64_t first = at.group; first < task.y.rows; first += kRows * at.groups) {
    std::int32_t id[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const std::int64_t bag = first + r * at.groups;
      id[r] = bag < task.y.rows ? task.ids.ids[bag] : 0;
      good &= bag >= task.y.rows || inside(task, id[r]);
    }
    for (std::int64_t column = at.lane * kColumns; column < task.y.cols;
         column += at.lanes * kColumns) {
      Pack<kColumns> row[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        row[r] = {};
        if (first + r * at.groups >= task.y.rows || !inside(task, id[r])) continue;
        row[r] = load_pack<kColumns>(task.table.row(id[r]) + column);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const std::int64_t bag = first + r * at.groups;
        if (bag < task.y.rows) store_pack(task.y.row(bag) + column, row[r]);
      }
    }
  }
  if (!good) raise_status(task.state, kStatusIdOutOfRange);
}

/// Columns column .. of bag [begin, end) before its factor: ids in order, from the first that lies in the table.
template <class T, int kColumns>
__device__ __forceinline__ Pack<kColumns> pool(const LookupTask<T>& task, std::int64_t begin,
                                               std::int64_t end, std::int64_t column, bool* started,
                                               bool* good) {
  constexpr int kAhead = kColumns == 8 ? 2 : 4;
  Pack<kColumns> sum{};
  for (std::int64_t j = begin; j < end; j += kAhead) {
    Pack<kColumns> row[kAhead];
    float weight[kAhead];
    bool found[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const std::int32_t id = j + a < end ? task.ids.ids[j + a] : -1;
      found[a] = inside(task, id);
      *good &= found[a] || j + a >= end;
      if (!found[a]) continue;
      weight[a] = task.ids.weights != nullptr ? task.ids.weights[j + a] : 1.0f;
      row[a] = load_pack<kColumns>(task.table.row(id) + column);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      if (!found[a]) continue;
      if (*started) {
        scale_pack<true>(row[a], weight[a], sum);
      } else {
        scale_pack<false>(row[a], weight[a], sum);
      }
      *started = true;
    }
  }
  return sum;
}

/// A group of lanes a bag.
template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads, 2) pool_bags(LookupTask<T> task, int lanes) {
  const RowLanes at = row_lanes(lanes);
  bool good = true;
  for (std::int64_t bag = at.group; bag < task.y.rows; bag += at.groups) {
    const bool ragged = task.ids.offsets != nullptr;
    const std::int64_t begin = ragged ? task.ids.offsets[bag] : bag;
    const std::int64_t end = ragged ? task.ids.offsets[bag + 1] : bag + 1;
    const float factor = bag_scale(task.ids, task.pooling, bag);
    for (std::int64_t column = at.lane * kColumns; column < task.y.cols;
         column += at.lanes * kColumns) {
      bool started = false;
      Pack<kColumns> sum = pool<T, kColumns>(task, begin, end, column, &started, &good);
      if (started && task.pooling != Pooling::sum) scale_pack<false>(sum, factor, sum);
      store_pack(task.y.row(bag) + column, sum);
    }
  }
  if (!good) raise_status(task.state, kStatusIdOutOfRange);
}

/// First chunks of rows go to `values`, later ones to `partials`.
template <int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    sum_chunks(const __grid_constant__ RowSumTask task, Matrix<float> values,
               Matrix<float> partials, int lanes) {
  const RowLanes at = row_lanes(lanes);
  const std::int64_t rows = *task.plan.n;
  for (std::int64_t unit = at.group; unit < task.plan.capacity + partials.rows; unit += at.groups) {
    const Chunk chunk = chunk_of_unit(task.plan, rows, unit);
    if (chunk.row < 0) continue;
    float* out =
        unit < task.plan.capacity ? values.row(chunk.row) : partials.row(unit - task.plan.capacity);
    for (std::int64_t column = at.lane * kColumns; column < task.width;
         column += at.lanes * kColumns) {
      store_pack(out + column, sum_places<kColumns>(task, chunk, column));
    }
  }
}

/// The group of the block in which a row's second chunk begins adds all the later ones.
template <int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    add_chunks(RowPlan plan, Matrix<float> values, Matrix<float> partials, int lanes) {
  const RowLanes at = row_lanes(lanes);
  for (std::int64_t block = at.group; block < partials.rows; block += at.groups) {
    const Chunk chunk = chunk_of_block(plan, block);
    if (chunk.row < 0 || chunk.begin != plan.begin[chunk.row] + kEmbeddingGradChunk) continue;
    for (std::int64_t column = at.lane * kColumns; column < values.cols;
         column += at.lanes * kColumns) {
      float* out = values.row(chunk.row) + column;
      Pack<kColumns> total = load_pack<kColumns>(out);
      add_partials(Matrix<const float>(partials), chunk.begin, chunk.row_end, column, total);
      store_pack(out, total);
    }
  }
}

}  // namespace embedding_bag_kernels

namespace {

using namespace embedding_bag_kernels;

template <class T, int kColumns>
void queue_lookup(const Context& ctx, const LookupTask<T>& task) {
  const int lanes = lanes_for(task.y.cols, kColumns);
  const bool plain = task.ids.offsets == nullptr && task.ids.weights == nullptr;
  const std::int64_t groups = plain ? ceil_div(task.y.rows, kRowsAhead) : task.y.rows;
  simt::launch(
      {.grid = grid_for(groups * lanes, kThreads), .block = kThreads, .stream = &ctx.stream()},
      plain ? gather_rows<T, kColumns> : pool_bags<T, kColumns>, task, lanes);
}

template <class T, int kWidest>
void lookup(const Context& ctx, Matrix<const T> table, const Ragged& ids, Pooling pooling,
            Matrix<float> y) {
  if (y.empty()) return;
  const LookupTask<T> task{table, ids, pooling, y, ctx.state()};
  if (packable(table, kWidest) && packable(y, kWidest)) {
    queue_lookup<T, kWidest>(ctx, task);
  } else {
    queue_lookup<T, 1>(ctx, task);
  }
}

template <int kColumns>
void queue_sums(const Context& ctx, const RowSumTask& task, Matrix<float> values,
                Matrix<float> partials) {
  const int lanes = lanes_for(task.width, kColumns);
  simt::launch({.grid = grid_for(chunk_units(task.plan) * lanes, kThreads),
                .block = kThreads,
                .stream = &ctx.stream()},
               sum_chunks<kColumns>, task, values, partials, lanes);
  if (task.plan.nnz <= kEmbeddingGradChunk) return;  // no row has a second chunk
  simt::launch({.grid = grid_for(partials.rows * lanes, kThreads),
                .block = kThreads,
                .stream = &ctx.stream()},
               add_chunks<kColumns>, task.plan, values, partials, lanes);
}

}  // namespace

void embedding_bag(const Context& ctx, Matrix<const float> table, const Ragged& ids,
                   Pooling pooling, Matrix<float> y) {
  lookup<float, 4>(ctx, table, ids, pooling, y);
}

void embedding_bag(const Context& ctx, Matrix<const bf16> table, const Ragged& ids, Pooling pooling,
                   Matrix<float> y) {
  lookup<bf16, 8>(ctx, table, ids, pooling, y);
}

void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, const RowPlan& plan,
                        Matrix<float> values) {
  if (plan.nnz == 0 || plan.capacity == 0 || values.cols == 0) return;
  ArenaScope scope(ctx);
  const std::int64_t blocks = chunk_blocks(plan);
  float* chunks = ctx.arena().take<float>(checked_product(blocks, values.cols, "partial sums"));
  const Matrix<float> partials(chunks, blocks, values.cols);
  int columns = 0;
  const RowSumTask task = row_sum_task(uses, plan, values.cols, 4, &columns);
  if (columns == 4 && packable(values, 4)) {
    queue_sums<4>(ctx, task, values, partials);
  } else {
    queue_sums<1>(ctx, task, values, partials);
  }
}

void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, std::int64_t table_rows,
                        const RowGradient& out) {
  TableIds ids[kMaxTableUses];
  const std::int64_t nnz = ids_of_uses(uses, ids);
  const bool scales = std::any_of(ids, ids + uses.size(), has_scales);
  ArenaScope scope(ctx);
  RowPlan plan = take_row_plan(ctx.arena(), nnz, table_rows, scales);
  plan.rows = out.rows;
  plan.n = out.n;
  cuda::row_plan(ctx, {ids, uses.size()}, table_rows, {&plan, 1});
  cuda::embedding_bag_grad(ctx, uses, plan, out.values);
}

}  // namespace belfry::cuda
