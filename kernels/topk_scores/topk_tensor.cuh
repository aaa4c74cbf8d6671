// SPDX-License-Identifier: Apache-2.0
// What the tensor path knows of its vectors: bf16 copies in the layout of the mma, norms, and the bound on the
// difference between a bf16 score and the bit-defined one. The derivation is in README.md.
#pragma once

#include <cstdint>

#include "kernels/core/block.cuh"
#include "kernels/topk_scores/topk_lists.cuh"

namespace belfry::cuda::topk {

/// A tile of rows (one head of one query each) against tiles of items.
template <int KSteps, int RowTiles, int Warps, int Items, int Blocks>
struct TensorShape {
  static constexpr int kSteps = KSteps, kDepth = 16 * KSteps;  // dimensions, padded
  static constexpr int kRowTiles = RowTiles;                   // of 16 rows, per warp
  static constexpr int kWarps = Warps, kThreads = Warps * kWarp;
  static constexpr int kWarpRows = 16 * RowTiles, kRows = kWarpRows * Warps;
  static constexpr int kItems = Items;
  static constexpr int kStages = 3;
  static constexpr int kGroups =
      8 / RowTiles;  // of 8 items whose scores are looked at together: 32 a lane
  static constexpr int kBlocks = Blocks;  // resident on a multiprocessor
  static constexpr std::int64_t kSharedBytes = std::int64_t{kStages} * kItems * kDepth * 2;
};
using Tensor32 = TensorShape<2, 4, 4, 128, 3>;
using Tensor64 = TensorShape<4, 4, 4, 128, 3>;
using Tensor128 = TensorShape<8, 2, 8, 64, 1>;
using Tensor256 = TensorShape<16, 2, 8, 32, 1>;

/// Norms of the vectors of an item tile, and of what their bf16 copies lack: the largest of each.
struct TileNorms {
  float norm, residual;
};
/// What a scan wants to know of a tile of items.
struct TileHead {
  TileNorms norms;
  int whole;  ///< all of its items exist and are allowed
};

/// Items for the tensor path.
struct TensorItems {
  const std::uint16_t* tiles = nullptr;  ///< bf16 [tile][8 items][8 dimensions][item][dimension]
  const TileHead* heads = nullptr;       ///< [tile]
  const unsigned* candidates =
      nullptr;                  ///< [tile][kItems / 32]: bits of items that exist and are allowed
  const float* rows = nullptr;  ///< fp32 [n][row_pitch], zeros behind the dimensions
  std::int64_t n = 0, tile_count = 0;
  int row_pitch = 0;  ///< a multiple of 4
};

/// One row of the scan: factors of the bound and of the largest possible score, and the threshold.
struct RowBound {
  float by_norm, by_residual;  ///< error <= by_norm |x| + by_residual |x - x~| + kTiny
  float largest;               ///< |score| <= largest |x| + kTiny
  float threshold;             ///< k items are proven to reach it (or a sample says so)
};

inline constexpr float kTiny = 0x1p-110f;  // above all that underflow may take
inline constexpr float kSmallestNorm = 0x1p-126f;
inline constexpr float kLargestNorm = 0x1p62f;    // longer vectors have no bf16 copy but zeros
inline constexpr float kNever = 0x1.fffffep127f;  // a threshold that no row reaches

/// |bf16 score + what the accumulator started from - bit-defined score ...| <= this; inf: nothing is known.
__device__ __forceinline__ float error_of(const RowBound& row, const TileNorms& tile) {
  return fmaf(row.by_norm, tile.norm, fmaf(row.by_residual, tile.residual, kTiny));
}
/// The threshold that counts for this tile: no score of it lies below.
__device__ __forceinline__ float threshold_in(const RowBound& row, const TileNorms& tile) {
  const float least = fmaf(-row.largest, tile.norm, -kTiny);
  return row.threshold > least ? row.threshold : least;
}
/// What accumulators start from: a score that may reach the threshold ends without sign.
__device__ __forceinline__ float start_of(const RowBound& row, const TileNorms& tile) {
  return error_of(row, tile) - threshold_in(row, tile);
}

/// bf16 bits, round to nearest even; what would be subnormal becomes 0, as tensor cores may do.
__device__ __forceinline__ std::uint16_t to_bf16(float x) {
  const unsigned bits = __float_as_uint(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return 0;  // of vectors that have no copy anyway
  const unsigned rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  return static_cast<std::uint16_t>((rounded & 0x7f80u) == 0 ? 0 : rounded);
}
__device__ __forceinline__ float from_bf16(std::uint16_t x) {
  return __uint_as_float(static_cast<unsigned>(x) << 16);
}

/// Not less than the root of a sum of squares that was added up in double.
__device__ __forceinline__ float norm_above(double squares) {
  const double norm = sqrt(squares) * (1.0 + 0x1p-20);
  if (!(norm < 0x1p127)) return __uint_as_float(0x7f800000u);  // NaN too
  const auto result = static_cast<float>(norm);
  return result > kSmallestNorm ? result : kSmallestNorm;
}

}  // namespace belfry::cuda::topk
