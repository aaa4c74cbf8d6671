// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/bf16.hpp"
#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"
#include "kernels/row_plan/row_plan.hpp"

namespace belfry {

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

namespace cpu {
void embedding_bag(const Context& ctx, Matrix<const float> table, const Ragged& ids,
                   Pooling pooling, Matrix<float> y);
void embedding_bag(const Context& ctx, Matrix<const bf16> table, const Ragged& ids, Pooling pooling,
                   Matrix<float> y);
void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, std::int64_t table_rows,
                        const RowGradient& out);
void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, const RowPlan& plan,
                        Matrix<float> values);
}  // namespace cpu
namespace cuda {
void embedding_bag(const Context& ctx, Matrix<const float> table, const Ragged& ids,
                   Pooling pooling, Matrix<float> y);
void embedding_bag(const Context& ctx, Matrix<const bf16> table, const Ragged& ids, Pooling pooling,
                   Matrix<float> y);
void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, std::int64_t table_rows,
                        const RowGradient& out);
void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses, const RowPlan& plan,
                        Matrix<float> values);
}  // namespace cuda

void check_embedding_bag_arguments(std::int64_t width, const Ragged& ids, Matrix<const float> y);
void check_table_uses(std::span<const TableUse> uses, std::int64_t width);

/// The ids of uses, as row_plan takes them. Returns how many there are.
std::int64_t ids_of_uses(std::span<const TableUse> uses, TableIds (&ids)[kMaxTableUses]);

/// Pooled lookup of a table:  y_b = s_b sum_j w_j table[id_j]  over the ids j of bag b, with
/// s_b = 1 (sum), 1 / sum_j w_j (mean), 1 / sqrt(sum_j w_j^2) (sqrtn); s_b = 0 where that sum is 0.
/// Shapes       table [V,D] f32 or bf16, ids.ids [nnz] i32 in [0,V), ids.offsets [B+1] i64 or null,
///              y [B,D] f32
/// Empty        B = 0: no-op; an empty bag writes zeros
/// Aliasing     y must not overlap the table
/// Cost         reads nnz D elements in random rows, writes B D: memory-bound
/// Scratch      none
/// Numerics     f32, ids of a bag in order, scaled at the end; nothing fused
/// Determinism  bitwise_cpu_cuda
/// Faults       an id outside [0,V) counts as a row of zeros and raises kStatusIdOutOfRange
inline void embedding_bag(const Context& ctx, Matrix<const float> table, const Ragged& ids,
                          Pooling pooling, Matrix<float> y) {
  check_embedding_bag_arguments(table.cols, ids, y);
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
inline void embedding_bag(const Context& ctx, Matrix<const bf16> table, const Ragged& ids,
                          Pooling pooling, Matrix<float> y) {
  check_embedding_bag_arguments(table.cols, ids, y);
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
/// Cost         row_plan, which depends on ids alone, + nnz D floats read, *n D written
/// Scratch      O(nnz) words and nnz / 64 rows of D floats from the arena
/// Numerics     f32, nothing fused; the positions of a row in the order stated, in chunks of
///              kEmbeddingGradChunk, whose sums are added in order: a hot row is shared by threads
/// Determinism  bitwise_cpu_cuda; rows ascending
/// Faults       ids outside [0, table_rows) are left out and raise kStatusIdOutOfRange
inline void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses,
                               std::int64_t table_rows, const RowGradient& out) {
  check_table_uses(uses, out.values.cols);
  std::int64_t nnz = 0;
  for (const TableUse& use : uses) nnz += use.ids.nnz;
  require(nnz <= UINT32_MAX, "embedding_bag_grad: positions are 32 bits wide");
  require(table_rows >= 0 && table_rows <= INT32_MAX, "embedding_bag_grad: row numbers are int32");
  require(out.capacity >= (nnz < table_rows ? nnz : table_rows) && out.values.rows >= out.capacity,
          "embedding_bag_grad: out holds fewer rows than may be distinct");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::embedding_bag_grad(ctx, uses, table_rows, out);
    case Backend::cuda:
      if constexpr (kHasCuda::embedding_bag && kHasCuda::row_plan) {
        return cuda::embedding_bag_grad(ctx, uses, table_rows, out);
      }
  }
  throw_no_backend("embedding_bag_grad");
}

/// The same with the step's plan made before (row_plan, from the same ids): the sums alone. Row i of `values`
/// [at least plan.capacity, D] is that of plan.rows[i]; the gradient is {plan.rows, values, plan.n,
/// plan.capacity}.
inline void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses,
                               const RowPlan& plan, Matrix<float> values) {
  check_table_uses(uses, values.cols);
  std::int64_t nnz = 0;
  for (const TableUse& use : uses) nnz += use.ids.nnz;
  require(plan.nnz == nnz, "embedding_bag_grad: the plan was made for other uses");
  require(values.rows >= plan.capacity,
          "embedding_bag_grad: values holds fewer rows than may be distinct");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::embedding_bag_grad(ctx, uses, plan, values);
    case Backend::cuda:
      if constexpr (kHasCuda::embedding_bag) {
        return cuda::embedding_bag_grad(ctx, uses, plan, values);
      }
  }
  throw_no_backend("embedding_bag_grad");
}

}  // namespace belfry
