// SPDX-License-Identifier: Apache-2.0
// list_loss on host memory, for the backend under test.
#pragma once

#include "kernels/list_loss/list_loss.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void list_loss(const Context& ctx, Matrix<const float> scores, Matrix<const float> labels,
                      const ListLossOptions& options, double* loss, Vector<float> row_loss,
                      Matrix<float> d_scores) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::list_loss(ctx, scores, labels, options, loss, row_loss, d_scores);
  }
  using test::Twin, test::Use;
  Twin s(ctx, scores), y(ctx, labels), by_list(ctx, options.list_weight);
  Twin by_item(ctx, options.item_weight);
  Twin total(ctx, Vector<double>(loss, loss != nullptr ? 1 : 0),
             options.add_to_loss ? Use::in_out : Use::out);
  Twin rows(ctx, row_loss, Use::out), d(ctx, d_scores, Use::out);
  ListLossOptions o = options;
  o.list_weight = by_list.vector();
  o.item_weight = by_item.matrix();
  belfry::list_loss(ctx, s.matrix(), y.matrix(), o, total.data(), rows.vector(), d.matrix());
  total.fetch(ctx);
  rows.fetch(ctx);
  d.fetch(ctx);
}

}  // namespace belfry::tested
