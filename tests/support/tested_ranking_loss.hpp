// SPDX-License-Identifier: Apache-2.0
// ranking_loss on host memory, for the backend under test.
#pragma once

#include "kernels/ranking_loss/ranking_loss.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void ranking_loss(const Context& ctx, Vector<const float> predictions,
                         Vector<const float> labels, const RankingLossOptions& options,
                         double* loss, Vector<float> row_loss, Vector<float> d_predictions) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::ranking_loss(ctx, predictions, labels, options, loss, row_loss, d_predictions);
  }
  using test::Twin, test::Use;
  const bool in_place = d_predictions.data != nullptr && d_predictions.data == predictions.data;
  Twin p(ctx, predictions), y(ctx, labels), w(ctx, options.weight);
  Twin total(ctx, Vector<double>(loss, loss != nullptr ? 1 : 0),
             options.add_to_loss ? Use::in_out : Use::out);
  Twin rows(ctx, row_loss, Use::out), d(ctx, d_predictions, in_place ? Use::in_out : Use::out);
  RankingLossOptions o = options;
  o.weight = w.vector();
  belfry::ranking_loss(ctx, in_place ? Vector<const float>(d.vector()) : p.vector(), y.vector(), o,
                       total.data(), rows.vector(), d.vector());
  total.fetch(ctx);
  rows.fetch(ctx);
  d.fetch(ctx);
}

}  // namespace belfry::tested
