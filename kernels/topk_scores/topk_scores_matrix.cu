// SPDX-License-Identifier: Apache-2.0
// top-K of any k: the scores of a tile of queries in memory, struck where a mask says so, then select_k.
#include "kernels/topk_scores/topk_scores_call.cuh"

namespace belfry::cuda::topk_scores_kernels {

inline constexpr int kStrikeThreads = 128;

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    write_scores(PackedQueries queries, PackedItems items, TileOrder order, ItemMask mask,
                 int ranges, Matrix<float> out) {
  SIMT_DYN_SHARED(float, shared);
  const std::int64_t row_tile = blockIdx.x / ranges, range = blockIdx.x % ranges;
  Scan<Shape> scan(queries, items, order, row_tile, order.tiles * range / ranges,
                   order.tiles * (range + 1) / ranges, shared);
  scan.run([&](const float(&scores)[kThreadRows][kThreadItems], std::int64_t tile) {
    const std::int64_t row = row_tile * Shape::kRows + scan.first_row();
    const std::int64_t item = tile * Shape::kItems + scan.first_item();
    bool shown[kThreadItems];
#pragma unroll
    for (int i = 0; i < kThreadItems; ++i) {
      shown[i] = item + i < items.n && allowed(mask, item + i);
    }
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      if (row + r >= out.rows) continue;
      float* to = out.row(row + r) + item;
#pragma unroll
      for (int i = 0; i < kThreadItems; ++i) {
        if (item + i < items.n) to[i] = shown[i] ? scores[r][i] : __uint_as_float(0x7fc00000u);
      }
    }
  });
}

/// One block a query: its excluded rows become NaN.
__global__ void __launch_bounds__(kStrikeThreads)
    strike_excluded(RowLists exclude, std::int64_t first, Matrix<float> out) {
  const std::int64_t query = first + blockIdx.x, end = exclude.offsets[query + 1];
  for (std::int64_t i = exclude.offsets[query] + threadIdx.x; i < end; i += kStrikeThreads) {
    const std::int32_t row = exclude.rows[i];
    if (row >= 0 && row < out.cols) out(blockIdx.x, row) = __uint_as_float(0x7fc00000u);
  }
}

__global__ void fill_nan(Matrix<float> out) {
  for (std::int64_t t = grid_thread(); t < out.rows * out.cols; t += grid_threads()) {
    out.data[t] = __uint_as_float(0x7fc00000u);
  }
}

/// One block a query: scores of the rows of its `only` list.
__global__ void __launch_bounds__(kStrikeThreads)
    write_listed(Matrix<const float> queries, int heads, PackedItems items, ItemMask mask,
                 std::int64_t first, Matrix<float> out, StepState* status) {
  const std::int64_t query = first + blockIdx.x, end = mask.only.offsets[query + 1];
  for (std::int64_t i = mask.only.offsets[query] + threadIdx.x; i < end; i += kStrikeThreads) {
    const std::int32_t row = mask.only.rows[i];
    if (row < 0 || row >= items.n) {
      raise_status(status, kStatusIdOutOfRange);
    } else if (allowed(mask, row)) {
      out(blockIdx.x, row) = score_pair(queries, query, heads, items, row);
    }
  }
}

namespace {

using Shape = ManyQueries;

void score_all(const Call& call, std::int64_t first, Matrix<float> tile, float* packed_queries) {
  const Work work{first, tile.rows};
  PackedQueries packed;
  packed.data = packed_queries;
  packed.heads = call.heads;
  packed.chunks = static_cast<int>(Shape::chunks(call.items.dim));
  packed.resident = Shape::resident(call.items.dim, call.heads);
  const std::int64_t row_tiles = ceil_div(tile.rows, Shape::kRows);
  const std::int64_t floats = row_tiles * Shape::kRows * call.heads * packed.chunks * Shape::kDepth;
  simt::launch(call.dims(grid_for(floats, 256), 256), pack_queries<Shape>, call.queries, call.heads,
               packed.chunks, work, packed_queries);
  const std::int64_t ranges =
      std::max<std::int64_t>(1, std::min(ceil_div(kUnits, row_tiles), call.items.n / kRangeItems));
  simt::launch(call.dims(row_tiles * ranges, Shape::kThreads,
                         Shape::shared_bytes(call.items.dim, call.heads)),
               write_scores<Shape>, packed, call.items, tile_order(call.items.n, Shape::kItems),
               call.mask, static_cast<int>(ranges), tile);
}

void score_listed_rows(const Call& call, std::int64_t first, Matrix<float> tile) {
  simt::launch(call.dims(grid_for(tile.rows * tile.cols, 256), 256), fill_nan, tile);
  simt::launch(call.dims(tile.rows, kStrikeThreads), write_listed, call.queries, call.heads,
               call.items, call.mask, first, tile, call.ctx.state());
}

}  // namespace

void topk_by_matrix(const Call& call) {
  ArenaScope scope(call.ctx);
  const std::int64_t n = call.items.n;
  const std::int64_t rows =
      std::min(call.count(), std::max<std::int64_t>(1, call.limits.matrix_bytes / (4 * n)));
  float* scores = call.ctx.arena().take<float>(checked_product(rows, n, "topk_scores"));
  float* packed = call.ctx.arena().take<float>(rounded_up(rows, Shape::kRows) * call.heads *
                                               Shape::chunks(call.items.dim) * Shape::kDepth);
  for_each_chunk(call.count(), rows, [&](std::int64_t first, std::int64_t m) {
    const Matrix<float> tile(scores, m, n, n);
    if (call.mask.only.offsets != nullptr) {
      score_listed_rows(call, first, tile);
    } else {
      score_all(call, first, tile, packed);
    }
    if (call.mask.exclude.offsets != nullptr) {
      simt::launch(call.dims(m, kStrikeThreads), strike_excluded, call.mask.exclude, first, tile);
    }
    cuda::select_k(call.ctx, tile,
                   {call.out.scores.slice(first, m), call.out.rows.slice(first, m)});
  });
}

}  // namespace belfry::cuda::topk_scores_kernels
