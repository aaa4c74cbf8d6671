// SPDX-License-Identifier: Apache-2.0
// Exact maximum inner product over packed items. The score of a pair is a pure function of its two
// vectors: s = 0; for k = 0 .. D-1: s = fma(q_k, v_k, s), in f32. Every path below gives these bits,
// so ties are real ties and results are compared by equality. With several heads: the maximum, and NaN
// where a head's score is NaN. A score of -0 is given as +0 (they are one place in the order).
#pragma once

#include "kernels/core/buffer.hpp"
#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"
#include "kernels/select_k/select_k.hpp"

namespace belfry {

/// Items of one panel: within a panel the layout is [D][kPanelItems], so that a vector register holds
/// the same dimension of neighbouring items. 48 = 3 AVX-512 or 6 AVX2 registers.
inline constexpr std::int64_t kPanelItems = 48;

/// Read-only view of packed items: ceil(n / 48) panels; slots past n in the last panel hold zeros.
struct PackedItems {
  const float* data = nullptr;
  std::int64_t n = 0;
  std::int64_t dim = 0;
  /// Floats that a packing of n x dim takes.
  static std::int64_t size(std::int64_t n, std::int64_t dim);
};

/// Which items a query may get. All of it is tested before an item can enter the list: nothing that
/// is excluded is ever returned, and nothing eligible is lost.
struct ItemMask {
  RowLists exclude;                          ///< per query, ascending
  RowLists only;                             ///< per query, ascending; offsets null: no restriction
  Vector<const std::uint64_t> allowed_bits;  ///< shared bitmap [ceil(n/64)], empty: all
};

namespace cpu {
void pack_items(const Context& ctx, Matrix<const float> items, std::int64_t first, float* packed,
                std::int64_t n);
void topk_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, const ItemMask& mask, TopK out);
void pair_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, Vector<const std::int32_t> rows, Vector<float> out);
void count_above(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, const ItemMask& mask, Vector<const float> threshold,
                 Vector<const std::int32_t> row, Vector<std::int64_t> out);
}  // namespace cpu
namespace cuda {
void pack_items(const Context& ctx, Matrix<const float> items, std::int64_t first, float* packed,
                std::int64_t n);
void topk_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, const ItemMask& mask, TopK out);
void pair_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, Vector<const std::int32_t> rows, Vector<float> out);
void count_above(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                 const PackedItems& items, const ItemMask& mask, Vector<const float> threshold,
                 Vector<const std::int32_t> row, Vector<std::int64_t> out);
}  // namespace cuda

/// Writes items[i] as packed row first + i of a packing for n items (zero-filled by its Buffer).
/// Shapes       items [m,D] f32, first + m <= n, packed PackedItems::size(n, D) floats
/// Aliasing     packed must not overlap items
/// Determinism  bitwise_cpu_cuda
inline void pack_items(const Context& ctx, Matrix<const float> items, std::int64_t first,
                       float* packed, std::int64_t n) {
  require(first >= 0 && items.rows <= n - first, "pack_items: rows lie outside the packing");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::pack_items(ctx, items, first, packed, n);
    case Backend::cuda:
      if constexpr (kHasCuda::topk_scores) return cuda::pack_items(ctx, items, first, packed, n);
  }
  throw_no_backend("pack_items");
}

/// The k best eligible items of each query, best first; equal scores: the smaller row first.
/// Shapes       queries [Q*heads, D] f32, items n x D, out.scores [Q,k] f32, out.rows [Q,k] i32;
///              k >= 1 of any size (more than n: the rest stays empty)
/// Empty        Q = 0: no-op; n = 0: all slots empty
/// Aliasing     out must not overlap the inputs
/// Cost         2 Q heads n D flops; a scan in tiles that stay in L2 with a threshold filter, no score
///              matrix (CUDA: but for k > 1024). CUDA with many queries: bf16 tensor cores filter, see README.md
/// Scratch      CPU: per thread a query tile's lists: O(tile k), at most 16 MiB or one list, from the arena; with
///              few queries partial lists of item ranges, at most n/2 keys a query. CUDA: lists of 512 MiB, packed
///              queries of 128 MiB, for k > 1024 scores of 256 MiB, at most (or one tile); and for many queries
///              6 bytes a component of the items, at most 8 GiB and a quarter of the GPU's memory
/// Numerics     the bit-defined score above; a NaN score never enters a list; +inf and -inf do
/// Determinism  bitwise_cpu_cuda, any instruction set, tile shape, path, schedule and thread count
/// Faults       a row of an `only` list outside of the items: the CPU refuses it, CUDA sets
///              kStatusIdOutOfRange and leaves the row out (a list's first and last row are looked at)
inline void topk_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                        const PackedItems& items, const ItemMask& mask, TopK out) {
  require(heads >= 1 && queries.rows == out.scores.rows * heads,
          "topk_scores: out must have one row a query");
  require(queries.cols == items.dim, "topk_scores: queries and items differ in width");
  require(out.scores.cols >= 1, "topk_scores: k must be at least 1");
  require(out.rows.rows == out.scores.rows && out.rows.cols == out.scores.cols,
          "topk_scores: scores and rows must have one shape");
  require(items.n <= INT32_MAX, "topk_scores: row numbers are int32");
  require(mask.allowed_bits.empty() || mask.allowed_bits.size == (items.n + 63) / 64,
          "topk_scores: the bitmap must have one bit an item");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::topk_scores(ctx, queries, heads, items, mask, out);
    case Backend::cuda:
      if constexpr (kHasCuda::topk_scores) {
        return cuda::topk_scores(ctx, queries, heads, items, mask, out);
      }
  }
  throw_no_backend("topk_scores");
}

/// The bit-defined score of query i with item rows[i]; row -1 gives NaN.
/// Shapes       queries [Q*heads, D], rows [Q] i32 in [-1, n), out [Q] f32
/// Faults       another row: the CPU refuses it, CUDA sets kStatusIdOutOfRange and gives NaN
/// Determinism  bitwise_cpu_cuda; equals topk_scores's score of the same pair
inline void pair_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                        const PackedItems& items, Vector<const std::int32_t> rows,
                        Vector<float> out) {
  require(heads >= 1 && queries.rows == out.size * heads && rows.size == out.size,
          "pair_scores: one row and one score a query");
  require(queries.cols == items.dim, "pair_scores: queries and items differ in width");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::pair_scores(ctx, queries, heads, items, rows, out);
    case Backend::cuda:
      if constexpr (kHasCuda::topk_scores) {
        return cuda::pair_scores(ctx, queries, heads, items, rows, out);
      }
  }
  throw_no_backend("pair_scores");
}

/// Number of eligible items that come before (threshold_i, row_i) in query i's order: score greater
/// than the threshold, or equal with a smaller row (row_i = -1: only strictly greater ones). With the
/// pair's own score and row this is its 0-based rank. A NaN threshold has nothing above it.
/// Shapes       queries [Q*heads, D], threshold [Q] f32, row [Q] i32, out [Q] i64
/// Cost         one scan in fp32; CUDA: none with `only` lists, whose rows are scored one by one, as are excluded
///              rows, whose counts are taken back
/// Scratch      CUDA: packed queries, at most 128 MiB or one tile
/// Faults       as topk_scores
/// Determinism  bitwise_cpu_cuda
inline void count_above(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                        const PackedItems& items, const ItemMask& mask,
                        Vector<const float> threshold, Vector<const std::int32_t> row,
                        Vector<std::int64_t> out) {
  require(heads >= 1 && queries.rows == out.size * heads && threshold.size == out.size &&
              row.size == out.size,
          "count_above: one threshold, row and count a query");
  require(queries.cols == items.dim, "count_above: queries and items differ in width");
  require(mask.allowed_bits.empty() || mask.allowed_bits.size == (items.n + 63) / 64,
          "count_above: the bitmap must have one bit an item");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::count_above(ctx, queries, heads, items, mask, threshold, row, out);
    case Backend::cuda:
      if constexpr (kHasCuda::topk_scores) {
        return cuda::count_above(ctx, queries, heads, items, mask, threshold, row, out);
      }
  }
  throw_no_backend("count_above");
}

}  // namespace belfry
