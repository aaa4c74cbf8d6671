// SPDX-License-Identifier: Apache-2.0
// The device side of topk_scores: packing, single scores, and which path a call takes.
#include "kernels/topk_scores/topk_scores.hpp"
#include "kernels/topk_scores/topk_scores_paths.hpp"
#include "kernels/topk_scores/topk_scores_plan.cuh"

namespace belfry::cuda {

namespace topk_scores_kernels {

inline constexpr int kPackDims = 32;
inline constexpr int kPackThreads = 256;

/// One block: a panel's part of kPackDims dimensions, transposed through shared memory.
__global__ void __launch_bounds__(kPackThreads)
    pack_panels(Matrix<const float> items, std::int64_t first, float* packed) {
  SIMT_SHARED_ARRAY(float, part, [kPanelItems][kPackDims + 1]);
  const std::int64_t parts = (items.cols + kPackDims - 1) / kPackDims;
  const std::int64_t panel = first / kPanelItems + blockIdx.x / parts;
  const std::int64_t first_dim = blockIdx.x % parts * kPackDims;
  for (int i = static_cast<int>(threadIdx.x); i < kPanelItems * kPackDims; i += kPackThreads) {
    const std::int64_t row = panel * kPanelItems + i / kPackDims - first;
    const std::int64_t dim = first_dim + i % kPackDims;
    if (row >= 0 && row < items.rows && dim < items.cols) {
      part[i / kPackDims][i % kPackDims] = items(row, dim);
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kPanelItems * kPackDims; i += kPackThreads) {
    const int slot = i % kPanelItems, d = i / static_cast<int>(kPanelItems);
    const std::int64_t row = panel * kPanelItems + slot - first, dim = first_dim + d;
    if (row >= 0 && row < items.rows && dim < items.cols) {
      packed[(panel * items.cols + dim) * kPanelItems + slot] = part[slot][d];
    }
  }
}

__global__ void score_pairs(Matrix<const float> queries, int heads, PackedItems items,
                            Vector<const std::int32_t> rows, Vector<float> out, StepState* status) {
  for (std::int64_t i = grid_thread(); i < out.size; i += grid_threads()) {
    const std::int32_t row = rows[i];
    const bool there = row >= 0 && row < items.n;
    if (!there && row != -1) raise_status(status, kStatusIdOutOfRange);
    out[i] = there ? score_pair(queries, i, heads, items, row) : __uint_as_float(0x7fc00000u);
  }
}

__global__ void write_empty(TopK out) {
  for (std::int64_t t = grid_thread(); t < out.scores.rows * out.scores.cols; t += grid_threads()) {
    out.scores(t / out.scores.cols, t % out.scores.cols) = __uint_as_float(0x7fc00000u);
    out.rows(t / out.scores.cols, t % out.scores.cols) = -1;
  }
}

}  // namespace topk_scores_kernels

void pack_items(const Context& ctx, Matrix<const float> items, std::int64_t first, float* packed,
                std::int64_t n) {
  using namespace topk_scores_kernels;
  require(items.empty() || packed != nullptr, "pack_items: no packing");
  static_cast<void>(n);
  if (items.empty()) return;
  const std::int64_t panels = ceil_div(first + items.rows, kPanelItems) - first / kPanelItems;
  simt::launch({.grid = static_cast<unsigned>(panels * ceil_div(items.cols, kPackDims)),
                .block = kPackThreads,
                .stream = &ctx.stream()},
               pack_panels, items, first, packed);
}

void pair_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, Vector<const std::int32_t> rows, Vector<float> out) {
  using namespace topk_scores_kernels;
  if (out.size == 0) return;
  constexpr int kThreads = 64;  // a pair is a long chain: few pairs want many multiprocessors
  simt::launch({.grid = grid_for(out.size, kThreads), .block = kThreads, .stream = &ctx.stream()},
               score_pairs, queries, static_cast<int>(heads), items, rows, out, ctx.state());
}

void topk_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, const ItemMask& mask, TopK out) {
  using namespace topk_scores_kernels;
  if (out.scores.rows == 0) return;
  if (items.n == 0) {
    simt::launch({.grid = grid_for(out.scores.rows * out.scores.cols, 256),
                  .block = 256,
                  .stream = &ctx.stream()},
                 write_empty, out);
    return;
  }
  topk_scores_by(path_of({queries.rows, heads, items.n, items.dim, out.scores.cols}), ctx, queries,
                 heads, items, mask, out);
}

}  // namespace belfry::cuda
