// SPDX-License-Identifier: Apache-2.0
// How the CPU side of retrieval_softmax cuts its work, and what a worker holds. All cuts depend on
// shapes alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/retrieval_softmax/retrieval_softmax.hpp"
#include "kernels/retrieval_softmax/score_steps.hpp"

namespace belfry::cpu {

inline constexpr std::int64_t kMaxWidth = 64;      // rows of a tile
inline constexpr std::int64_t kBlockColumns = 96;  // columns handled while they are in L1
inline constexpr std::int64_t kMaxGroups = 16;
inline constexpr std::int64_t kTileBytes = std::int64_t{16} << 20;
inline constexpr std::int64_t kPartialBytes = std::int64_t{64} << 20;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

struct SoftmaxPlan {
  std::int64_t width = 0;          // rows of a tile: 16, 32 or 64
  std::int64_t planes = 0;         // one per head, and one for their maximum if there are several
  std::int64_t tile_columns = 0;   // columns of scores that are kept: all, or one block
  std::int64_t column_stride = 0;  // between kept columns: width, or 0 where blocks take turns
  std::int64_t blocks = 0;         // column blocks
  std::int64_t tiles = 0;
  std::int64_t groups = 0;        // of tiles; each has its own partial d_candidates
  std::int64_t padded_width = 0;  // D rounded up to whole vectors
};

/// Wide tiles read and write candidates and their gradient less often: the rows halve only where the
/// tile would pass kTileBytes. The scores live in L2 or L3; each is written once and read once.
inline SoftmaxPlan plan_softmax(std::int64_t b, std::int64_t heads, std::int64_t c, std::int64_t d,
                                bool gradients, bool keep_tile) {
  SoftmaxPlan p;
  p.planes = heads == 1 ? 1 : heads + 1;
  p.tile_columns = keep_tile ? c : std::min(c, kBlockColumns);
  p.width = b > 32 ? 64 : b > 16 ? 32 : 16;
  while (p.width > 16 && p.width * p.planes * p.tile_columns * 4 > kTileBytes) p.width /= 2;
  p.column_stride = keep_tile ? p.width : 0;
  p.blocks = ceil_div(c, kBlockColumns);
  p.tiles = ceil_div(b, p.width);
  p.padded_width = ceil_div(d, 16) * 16;
  const std::int64_t affordable =
      gradients ? kPartialBytes / std::max<std::int64_t>(1, c * p.padded_width * 4) : kMaxGroups;
  p.groups = std::clamp(affordable, std::int64_t{1},
                        std::min(kMaxGroups, std::max<std::int64_t>(1, p.tiles)));
  return p;
}

/// A worker's scratch, [columns][width] or [D][width] transposed except `scaled_queries`.
struct TileScratch {
  float* scores;          // [planes][tile_columns][width]; the last plane is the maximum over heads
  float* queries;         // [heads][D][width], divided by the temperature
  float* scaled_queries;  // [heads][width][padded_width], times each row's factor
  float* d_queries;       // [heads][D][width], relative to the running maximum
  float* positives;       // [D][width]
  float* block_max;       // [blocks][width] the running maximum that a block's exps refer to
  float* positive_score;  // [width]
  float* positive_share;  // [heads][width] a head's share of the positive's gradient
  float* maximum;         // [width] running
  double* total;          // [width] sum of exps of the others, relative to the running maximum
  float* row_factor;      // [width] weight / temperature / sum of exps
  float* positive_factor;  // [width] (p_ii - 1) weight / temperature
  std::int32_t* better;    // [width] columns above the positive
  ColumnList* hits;        // [width]
  ColumnList* masked;      // [width]
};

/// One call of the op, as its tiles see it.
struct SoftmaxJob {
  Matrix<const float> queries;
  std::int64_t heads = 1;
  Matrix<const float> candidates;
  const RetrievalSoftmaxOptions* options = nullptr;
  std::int64_t batch = 0;
  std::int64_t hard_negatives = 0;  // 0: all columns stay
  bool gradients = false;
  SoftmaxPlan plan;
  EqualIds equal_ids;
  double scale = 1.0;          // of every row's loss: 1, or 1 / B
  double* row_loss = nullptr;  // [B], unweighted
  Matrix<float> d_queries;
  Matrix<float> partials[kMaxGroups];  // d_candidates of each group
};

}  // namespace belfry::cpu
