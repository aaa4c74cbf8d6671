// SPDX-License-Identifier: Apache-2.0
// retrieval_softmax on host memory, for the backend under test.
#pragma once

#include "kernels/retrieval_softmax/retrieval_softmax.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void retrieval_softmax(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                              Matrix<const float> candidates,
                              const RetrievalSoftmaxOptions& options, double* loss,
                              Vector<float> row_loss, Matrix<float> d_queries,
                              Matrix<float> d_candidates) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::retrieval_softmax(ctx, queries, heads, candidates, options, loss, row_loss,
                                     d_queries, d_candidates);
  }
  using test::Twin, test::Use;
  const std::int64_t batch = heads > 0 ? queries.rows / heads : 0;
  Twin q(ctx, queries), c(ctx, candidates);
  Twin log_probability(ctx, options.log_probability), weight(ctx, options.weight);
  Twin ids(ctx, options.candidate_ids);
  Twin rank(ctx, options.positive_rank, Use::out);
  test::RowListsTwin masked(ctx, options.masked, batch);
  Twin total(ctx, Vector<double>(loss, loss != nullptr ? 1 : 0), Use::out);
  Twin rows(ctx, row_loss, Use::out);
  Twin dq(ctx, d_queries, Use::out), dc(ctx, d_candidates, Use::out);
  RetrievalSoftmaxOptions o = options;
  o.log_probability = log_probability.vector();
  o.candidate_ids = ids.vector();
  o.weight = weight.vector();
  o.positive_rank = rank.vector();
  o.masked = masked.view();
  belfry::retrieval_softmax(ctx, q.matrix(), heads, c.matrix(), o, total.data(), rows.vector(),
                            dq.matrix(), dc.matrix());
  total.fetch(ctx);
  rows.fetch(ctx);
  rank.fetch(ctx);
  dq.fetch(ctx);
  dc.fetch(ctx);
}

}  // namespace belfry::tested
