// SPDX-License-Identifier: Apache-2.0
// embedding_bag and its gradient on host memory, for the backend under test.
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "kernels/embedding_bag/embedding_bag.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::test {

/// Device copies of the uses of a table.
class UsesTwin {
 public:
  UsesTwin(const Context& ctx, std::span<const TableUse> uses) {
    for (const TableUse& use : uses) {
      ids_.emplace_back(ctx, use.ids);
      d_y_.emplace_back(ctx, use.d_y);
      views_.push_back({ids_.back().view(), use.pooling, d_y_.back().matrix()});
    }
  }
  std::span<const TableUse> views() const { return views_; }

 private:
  std::deque<RaggedTwin> ids_;
  std::deque<Twin<const float>> d_y_;
  std::vector<TableUse> views_;
};

}  // namespace belfry::test

namespace belfry::tested {

template <class T>
void embedding_bag(const Context& ctx, Matrix<T> table, const Ragged& ids, Pooling pooling,
                   Matrix<float> y) {
  const Matrix<const T> in(table.data, table.rows, table.cols, table.pitch);
  if (ctx.backend() == Backend::cpu) return belfry::embedding_bag(ctx, in, ids, pooling, y);
  test::Twin tables(ctx, in);
  test::RaggedTwin bags(ctx, ids);
  test::Twin ys(ctx, y, test::Use::out);
  belfry::embedding_bag(ctx, tables.matrix(), bags.view(), pooling, ys.matrix());
  ys.fetch(ctx);
  test::record_outputs(ctx, "embedding_bag", y);
}

inline void embedding_bag_grad(const Context& ctx, std::span<const TableUse> uses,
                               std::int64_t table_rows, const RowGradient& out) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::embedding_bag_grad(ctx, uses, table_rows, out);
  }
  const test::UsesTwin twins(ctx, uses);
  test::Twin rows(ctx, Vector<std::int32_t>(out.rows, out.capacity), test::Use::out);
  test::Twin values(ctx, out.values, test::Use::out);
  test::Twin n(ctx, Vector<std::int64_t>(out.n, 1), test::Use::out);
  belfry::embedding_bag_grad(ctx, twins.views(), table_rows,
                             {rows.data(), values.matrix(), n.data(), out.capacity});
  rows.fetch(ctx);
  values.fetch(ctx);
  n.fetch(ctx);
  test::record_outputs(ctx, "embedding_bag_grad", Vector<const std::int32_t>(out.rows, *out.n),
                       out.values.slice(0, *out.n));
}

}  // namespace belfry::tested
