// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/embedding_bag/embedding_bag.hpp"
#include "kernels/optimizer_step/optimizer_step.hpp"

namespace belfry {

namespace cpu {
void embedding_update(const Context& ctx, const OptimizerOptions& options,
                      std::span<const TableUse> uses, const RowPlan& plan, Matrix<float> table,
                      const OptimizerSlots& slots);
void embedding_update(const Context& ctx, const OptimizerOptions& options,
                      std::span<const TableUse> uses, const RowPlan& plan, Matrix<bf16> table,
                      const OptimizerSlots& slots);
}  // namespace cpu
namespace cuda {
void embedding_update(const Context& ctx, const OptimizerOptions& options,
                      std::span<const TableUse> uses, const RowPlan& plan, Matrix<float> table,
                      const OptimizerSlots& slots);
void embedding_update(const Context& ctx, const OptimizerOptions& options,
                      std::span<const TableUse> uses, const RowPlan& plan, Matrix<bf16> table,
                      const OptimizerSlots& slots);
}  // namespace cuda

void check_embedding_update_arguments(const OptimizerOptions& options,
                                      std::span<const TableUse> uses, const RowPlan& plan,
                                      std::int64_t table_rows, std::int64_t width,
                                      const OptimizerSlots& slots);

/// The update of a table by all its uses in a step: embedding_bag_grad and optimizer_step in one, to the bit. Where
/// the rule moves listed rows alone, each by its own gradient (not moves_every_row, needs_whole_gradient), the
/// device sums and updates a row in registers, and no gradient passes through memory but the chunks of rows with more than kEmbeddingGradChunk places.
/// Shapes       uses as in embedding_bag_grad, plan of their ids (row_plan), table [V,D] f32 or bf16, slots as in
///              optimizer_step
/// Empty        no ids: as a gradient of zeros; V = 0 or D = 0: no-op
/// Aliasing     nothing overlaps
/// Cost         nnz D floats read; table and slots of the plan's rows read and written once: memory-bound
/// Scratch      nnz / 32 rows of D floats from the arena; on the CPU, where every row moves, and for
///              clippy_adagrad plan.capacity rows more
/// Numerics, Determinism, Faults   those of the two ops
inline void embedding_update(const Context& ctx, const OptimizerOptions& options,
                             std::span<const TableUse> uses, const RowPlan& plan,
                             Matrix<float> table, const OptimizerSlots& slots) {
  check_embedding_update_arguments(options, uses, plan, table.rows, table.cols, slots);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::embedding_update(ctx, options, uses, plan, table, slots);
    case Backend::cuda:
      if constexpr (kHasCuda::embedding_update) {
        return cuda::embedding_update(ctx, options, uses, plan, table, slots);
      }
  }
  throw_no_backend("embedding_update");
}
inline void embedding_update(const Context& ctx, const OptimizerOptions& options,
                             std::span<const TableUse> uses, const RowPlan& plan,
                             Matrix<bf16> table, const OptimizerSlots& slots) {
  check_embedding_update_arguments(options, uses, plan, table.rows, table.cols, slots);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::embedding_update(ctx, options, uses, plan, table, slots);
    case Backend::cuda:
      if constexpr (kHasCuda::embedding_update) {
        return cuda::embedding_update(ctx, options, uses, plan, table, slots);
      }
  }
  throw_no_backend("embedding_update");
}

}  // namespace belfry
