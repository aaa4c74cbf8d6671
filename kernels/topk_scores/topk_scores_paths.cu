// SPDX-License-Identifier: Apache-2.0
#include "kernels/topk_scores/topk_scores_paths.hpp"

#include "kernels/topk_scores/topk_scores_call.cuh"
#include "kernels/topk_scores/topk_tensor.cuh"

namespace belfry::cuda {

namespace {

bool has_bf16_mma() {
  static const bool answer = simt::device_info().major >= 8;
  return answer;
}

/// Copies of the items may take 8 GiB, and no more than a quarter of the GPU's memory.
std::int64_t most_copy_bytes() {
  static const std::int64_t answer =
      std::min(std::int64_t{8} << 30, simt::device_info().memory_bytes / 4);
  return answer;
}

}  // namespace

bool path_takes(TopKPath path, const TopKShape& shape) {
  const std::int64_t k = std::min(shape.k, shape.n);
  switch (path) {
    case TopKPath::few:
    case TopKPath::many:
      return k <= topk::kBlockK;
    case TopKPath::
        tensor:  // the heads of a query lie in a block's memory when they are scored again
      return k <= topk::kBlockK && shape.dim >= 1 && shape.dim <= topk::Tensor256::kDepth &&
             shape.heads <= 32 && has_bf16_mma();
    case TopKPath::matrix:
      return true;
  }
  return false;
}

TopKPath path_of(const TopKShape& shape) {
  if (!path_takes(TopKPath::many, shape)) return TopKPath::matrix;
  // Copies of the items cost about as much as 100 queries; short vectors and few items leave little to save.
  constexpr std::int64_t kRows = 512, kItems = 4096, kShortest = 12;
  const std::int64_t copies = checked_product(shape.n, 6 * (shape.dim + 16), "topk_scores");
  if (shape.query_rows >= kRows && shape.n >= kItems && shape.dim >= kShortest &&
      shape.k <= shape.n / 16 && copies <= most_copy_bytes() &&
      path_takes(TopKPath::tensor, shape)) {
    return TopKPath::tensor;
  }
  return shape.query_rows / shape.heads <= topk::FewQueries::kRows ? TopKPath::few : TopKPath::many;
}

void topk_scores_by(TopKPath path, const Context& ctx, Matrix<const float> queries,
                    std::int64_t heads, const PackedItems& items, const ItemMask& mask, TopK out,
                    const TopKLimits& limits) {
  using namespace topk_scores_kernels;
  require(path_takes(path, {queries.rows, heads, items.n, items.dim, out.scores.cols}),
          "topk_scores: this path does not take this shape");
  const Call call{ctx,
                  queries,
                  static_cast<int>(heads),
                  items,
                  mask,
                  out,
                  static_cast<int>(std::min(out.scores.cols, items.n)),
                  limits};
  switch (path) {
    case TopKPath::few:
      return topk_by_lists(call, true);
    case TopKPath::many:
      return topk_by_lists(call, false);
    case TopKPath::tensor:
      return topk_by_tensor(call);
    case TopKPath::matrix:
      return topk_by_matrix(call);
  }
}

}  // namespace belfry::cuda
