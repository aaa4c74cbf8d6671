// SPDX-License-Identifier: Apache-2.0
// The device's ways to the same answer, and which one a shape takes. Tests name them.
#pragma once

#include "kernels/topk_scores/topk_scores.hpp"

namespace belfry::cuda {

enum class TopKPath {
  few,     ///< fp32, tiles of 8 queries: bound by memory
  many,    ///< fp32, tiles of 64 queries
  tensor,  ///< bf16 scores by tensor cores, and the bit-defined ones of what they leave
  matrix,  ///< fp32 scores of a tile of queries in memory, then select_k: any k
};

struct TopKShape {
  std::int64_t query_rows, heads, n, dim, k;
};

/// By the shape, and by whether the device has bf16 tensor cores. Every path gives the same bits.
TopKPath path_of(const TopKShape& shape);

/// What a path can do at all.
bool path_takes(TopKPath path, const TopKShape& shape);

/// Most bytes of scratch that a chunk of queries may take; a chunk is no smaller than one tile of queries.
struct TopKLimits {
  std::int64_t list_bytes = std::int64_t{512} << 20;    ///< lists of candidates
  std::int64_t query_bytes = std::int64_t{128} << 20;   ///< packed queries
  std::int64_t matrix_bytes = std::int64_t{256} << 20;  ///< scores of the path `matrix`
  /// In the device's memory: gets the number of queries of the last chunk that were scanned again, because
  /// of a sample or a bound that promised too much. For tests.
  int* rescanned = nullptr;
};

/// topk_scores by this path; items.n > 0 and at least one query.
void topk_scores_by(TopKPath path, const Context& ctx, Matrix<const float> queries,
                    std::int64_t heads, const PackedItems& items, const ItemMask& mask, TopK out,
                    const TopKLimits& limits = {});

}  // namespace belfry::cuda
