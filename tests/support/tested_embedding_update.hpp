// SPDX-License-Identifier: Apache-2.0
// row_plan and embedding_update on host memory, for the backend under test.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "kernels/embedding_update/embedding_update.hpp"
#include "tests/support/tested_embedding_bag.hpp"
#include "tests/support/tested_optimizer_step.hpp"
#include "tests/support/tested_row_plan.hpp"

namespace belfry::test {

/// The plan of one step's uses, whose memory is the backend's.
inline HeldPlan plan_of(const Context& ctx, std::span<const TableUse> uses,
                        std::int64_t table_rows) {
  std::vector<TableIds> ids;
  std::int64_t nnz = 0;
  bool scales = false;
  for (const TableUse& use : uses) {
    ids.push_back({use.ids, use.pooling});
    nnz += use.ids.nnz;
    scales = scales || has_scales(ids.back());
  }
  HeldPlan plan(ctx, nnz, table_rows, scales);
  const RowPlan view = plan.get();
  belfry::row_plan(ctx, ids, table_rows, {&view, 1});
  ctx.synchronise();
  return plan;
}

}  // namespace belfry::test

namespace belfry::tested {

/// planned_rows: of the table that the plan is made for; 0: table.rows.
template <class T>
void embedding_update(const Context& ctx, const OptimizerOptions& options,
                      std::span<const TableUse> uses, Matrix<T> table, const OptimizerSlots& slots,
                      std::int64_t planned_rows = 0) {
  if (planned_rows == 0) planned_rows = table.rows;
  if (ctx.backend() == Backend::cpu) {
    test::HeldPlan plan = test::plan_of(ctx, uses, planned_rows);
    return belfry::embedding_update(ctx, options, uses, plan.get(), table, slots);
  }
  const test::UsesTwin twins(ctx, uses);
  test::HeldPlan plan = test::plan_of(ctx, twins.views(), planned_rows);
  test::Twin w(ctx, table);
  test::SlotsTwin s(ctx, slots);
  belfry::embedding_update(ctx, options, twins.views(), plan.get(), w.matrix(), s.views());
  w.fetch(ctx);
  s.fetch(ctx);
  test::record_update(ctx, options, table);
}

}  // namespace belfry::tested
