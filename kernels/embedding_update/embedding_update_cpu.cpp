// SPDX-License-Identifier: Apache-2.0
// On the CPU the gradient of a step fits into a cache level or two: the two ops after each other.
#include "kernels/embedding_update/embedding_update.hpp"

namespace belfry {

void check_embedding_update_arguments(const OptimizerOptions& options,
                                      std::span<const TableUse> uses, const RowPlan& plan,
                                      std::int64_t table_rows, std::int64_t width,
                                      const OptimizerSlots& slots) {
  check_table_uses(uses, width);
  std::int64_t nnz = 0;
  for (const TableUse& use : uses) nnz += use.ids.nnz;
  require(plan.nnz == nnz, "embedding_update: the plan was made for other uses");
  check_optimizer_arguments(options, table_rows, width, slots);
}

namespace cpu {

namespace {

template <class T>
void update(const Context& ctx, const OptimizerOptions& options, std::span<const TableUse> uses,
            const RowPlan& plan, Matrix<T> table, const OptimizerSlots& slots) {
  if (table.empty()) return;
  ArenaScope scope(ctx);
  const std::int64_t size = checked_product(plan.capacity, table.cols, "a table's gradient");
  const Matrix<float> values(ctx.arena().take<float>(size), plan.capacity, table.cols);
  cpu::embedding_bag_grad(ctx, uses, plan, values);
  cpu::optimizer_step(ctx, options, table, {plan.rows, values, plan.n, plan.capacity}, slots);
}

}  // namespace

void embedding_update(const Context& ctx, const OptimizerOptions& options,
                      std::span<const TableUse> uses, const RowPlan& plan, Matrix<float> table,
                      const OptimizerSlots& slots) {
  update(ctx, options, uses, plan, table, slots);
}

void embedding_update(const Context& ctx, const OptimizerOptions& options,
                      std::span<const TableUse> uses, const RowPlan& plan, Matrix<bf16> table,
                      const OptimizerSlots& slots) {
  update(ctx, options, uses, plan, table, slots);
}

}  // namespace cpu
}  // namespace belfry
