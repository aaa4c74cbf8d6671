// SPDX-License-Identifier: Apache-2.0
// How the CUDA side of retrieval_softmax cuts its work. All cuts depend on shapes alone, so that sums are
// added in the same order on every GPU.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace belfry::cuda {

inline constexpr std::int64_t kTilePadding =
    128;                                       // copies of rows end with a whole tile of any kernel
inline constexpr std::int64_t kMaxHeads = 32;  // the heads of a query lie in one unit

/// How many shares the streamed side of a pass is cut into. A block leaves partial sums as large as its
/// rows, so shares are as few as fill a large GPU once; more where they are long enough not to notice, so
/// that the last blocks do not run alone.
inline std::int64_t softmax_splits(std::int64_t blocks, std::int64_t streamed_tiles,
                                   std::int64_t partial_bytes) {
  constexpr std::int64_t kFill = 256, kEven = 1024, kLongTiles = 96;
  constexpr std::int64_t kPartialBytes = std::int64_t{1} << 28;
  const std::int64_t fill = kFill / blocks;
  const std::int64_t even = std::min((kEven + blocks - 1) / blocks, streamed_tiles / kLongTiles);
  const std::int64_t affordable = kPartialBytes / std::max<std::int64_t>(1, partial_bytes);
  return std::max<std::int64_t>(1,
                                std::min({std::max(fill, even), streamed_tiles / 2, affordable}));
}

/// Columns of the copies: what the narrowest kernel that has the width wants. Wide kernels take any multiple
/// of 64.
struct SoftmaxDepth {
  bool wide;
  std::int64_t columns;
};
inline SoftmaxDepth softmax_depth(std::int64_t width, std::int64_t heads, std::int64_t widest) {
  for (std::int64_t columns = 32; heads == 1 && columns <= widest; columns *= 2) {
    if (width <= columns) return {false, columns};
  }
  return {true, (std::max<std::int64_t>(width, 1) + 63) / 64 * 64};
}

/// 1 << bits slots for the heads of a query.
inline int head_bits(std::int64_t heads) {
  return std::bit_width(static_cast<std::uint64_t>(heads - 1));
}

}  // namespace belfry::cuda
