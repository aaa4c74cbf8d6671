// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

enum class Pooling { sum, mean, sqrtn };

/// One use of a table in a step: the ids looked up and the gradient of the pooled result.
struct TableUse {
  Ragged ids;
  Pooling pooling = Pooling::sum;
  Matrix<const float> d_y;  ///< [bags, D]
};

/// The gradient of a table as distinct rows: rows[0 .. *n) ascending, values row i for rows[i].
/// Lies in the backend's memory; `capacity` bounds the number of distinct rows.
struct RowGradient {
  std::int32_t* rows = nullptr;  ///< [capacity]
  Matrix<float> values;          ///< [capacity, D]
  std::int64_t* n = nullptr;     ///< number of distinct rows
  std::int64_t capacity = 0;
};

/// The gradient's values are summed in chunks of so many positions of a row, then over chunks in order.
inline constexpr std::int64_t kEmbeddingGradChunk = 64;

/// s_b of a bag (see embedding_bag): the maths of both backends and of the gradient.
BELFRY_HD inline float bag_scale(const Ragged& ids, Pooling pooling, std::int64_t bag) {
  if (pooling == Pooling::sum) return 1.0f;
  const std::int64_t begin = ids.offsets != nullptr ? ids.offsets[bag] : bag;
  const std::int64_t end = ids.offsets != nullptr ? ids.offsets[bag + 1] : bag + 1;
  float sum = 0.0f;
  if (ids.weights == nullptr) {
    sum = static_cast<float>(end - begin);
  } else if (pooling == Pooling::mean) {
    for (std::int64_t j = begin; j < end; ++j) sum += ids.weights[j];
  } else {
    for (std::int64_t j = begin; j < end; ++j) sum += ids.weights[j] * ids.weights[j];
  }
  if (sum == 0.0f) return 0.0f;
  return pooling == Pooling::mean ? 1.0f / sum : 1.0f / std::sqrt(sum);
}

namespace cpu {
void embedding_bag(const Context& ctx, Matrix<const float> table, const Ragged& ids,
                   Pooling pooling, Matrix<float> y);
void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, std::int64_t table_rows,
                        const RowGradient& out);
}  // namespace cpu
namespace cuda {
void embedding_bag(const Context& ctx, Matrix<const float> table, const Ragged& ids,
                   Pooling pooling, Matrix<float> y);
void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, std::int64_t table_rows,
                        const RowGradient& out);
}  // namespace cuda

/// Pooled lookup of a table:  y_b = s_b sum_j w_j table[id_j]  over the ids j of bag b, with
/// s_b = 1 (sum), 1 / sum_j w_j (mean), 1 / sqrt(sum_j w_j^2) (sqrtn); s_b = 0 where that sum is 0.
/// Shapes       table [V,D] f32, ids.ids [nnz] i32 in [0,V), ids.offsets [B+1] i64 or null, y [B,D] f32
/// Empty        B = 0: no-op; an empty bag writes zeros
/// Aliasing     y must not overlap the table
/// Cost         reads nnz D floats in random rows, writes B D: memory-bound
/// Scratch      none
/// Numerics     f32, ids of a bag in order, scaled at the end; nothing fused
/// Determinism  bitwise for any thread count
/// Faults       an id outside [0,V) counts as a row of zeros and raises kStatusIdOutOfRange
inline void embedding_bag(const Context& ctx, Matrix<const float> table, const Ragged& ids,
                          Pooling pooling, Matrix<float> y) {
  require(y.rows == ids.bags, "embedding_bag: y must have one row a bag");
  require(y.cols == table.cols, "embedding_bag: y must be as wide as the table");
  require(ids.offsets != nullptr || ids.nnz == ids.bags,
          "embedding_bag: without offsets there is exactly one id a bag");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::embedding_bag(ctx, table, ids, pooling, y);
    case Backend::cuda:
      if constexpr (kHasCuda::embedding_bag) {
        return cuda::embedding_bag(ctx, table, ids, pooling, y);
      }
  }
  throw_no_backend("embedding_bag");
}

/// The gradient of a table from all its uses in a step, as distinct rows:
/// value of row r = sum over uses u (in order), over positions j of u with id_j = r (in order), of
/// s_b w_j d_y[b of j]. One list a table and step: duplicates are summed here, before any square.
/// Shapes       uses: ids as above, d_y [bags, D]; out.values [capacity, D], out.rows [capacity] i32
/// Empty        no ids: *out.n = 0
/// Aliasing     out must not overlap the inputs
/// Cost         O(nnz) sort of ids (depends on ids alone) + nnz D floats read, *n D written
/// Scratch      O(nnz) words and nnz / 64 rows of D floats from the arena
/// Numerics     f32, nothing fused; the positions of a row in the order stated, in chunks of
///              kEmbeddingGradChunk, whose sums are added in order: a hot row is shared by threads
/// Determinism  bitwise for any thread count; rows ascending
/// Faults       ids outside [0, table_rows) are left out and raise kStatusIdOutOfRange
inline void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses,
                               std::int64_t table_rows, const RowGradient& out) {
  std::int64_t nnz = 0;
  for (const TableUse& use : uses) {
    nnz += use.ids.nnz;
    require(use.d_y.rows == use.ids.bags, "embedding_bag_grad: d_y must have one row a bag");
    require(use.d_y.cols == out.values.cols, "embedding_bag_grad: all uses must be as wide as out");
    require(use.ids.offsets != nullptr || use.ids.nnz == use.ids.bags,
            "embedding_bag_grad: without offsets there is exactly one id a bag");
  }
  require(nnz <= UINT32_MAX, "embedding_bag_grad: positions are 32 bits wide");
  require(table_rows >= 0 && table_rows <= INT32_MAX, "embedding_bag_grad: row numbers are int32");
  require(out.capacity >= (nnz < table_rows ? nnz : table_rows) && out.values.rows >= out.capacity,
          "embedding_bag_grad: out holds fewer rows than may be distinct");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::embedding_bag_grad(ctx, uses, table_rows, out);
    case Backend::cuda:
      if constexpr (kHasCuda::embedding_bag) {
        return cuda::embedding_bag_grad(ctx, uses, table_rows, out);
      }
  }
  throw_no_backend("embedding_bag_grad");
}

}  // namespace belfry
