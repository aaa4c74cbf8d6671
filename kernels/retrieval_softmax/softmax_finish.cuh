// SPDX-License-Identifier: Apache-2.0
// After the passes: partial results of the splits, merged in order, and the positives' own part.
#pragma once

#include "kernels/core/context.hpp"
#include "kernels/retrieval_softmax/softmax_passes.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

/// What rows come to, and what the options say of them.
struct RowResults {
  Vector<const float> weight;
  double scale;  // of the loss: options.scale [/ B]
  double temperature;
  float in_exponent;  // of a positive's score
  int splits;
  float* rescale;          // [split][slots] of a split's sums, for d_queries
  float* shift;            // [slots] for the column pass
  float* factor;           // [slots] or nullptr
  float* positive_factor;  // [B] (p_ii - 1) weight scale / temperature
  double* row_loss;        // [B]
  Vector<float> row_loss_out;
  Vector<std::int32_t> rank;
};

/// What the gradients are merged from.
struct Merge {
  SlotMap slots;
  int depth, splits;
  const float* positive_factor;  // [B]
  const float* share;            // [slots] of the positive's gradient
};

/// Losses, ranks, and what the column pass wants. kLog2: exponents are of base 2.
template <bool kLog2>
void finish_rows(const Context& ctx, const RowPartials& partials, const RowResults& results,
                 const SlotMap& slots, double* loss);
void merge_d_queries(const Context& ctx, const Merge& merge, const RowPartials& partials,
                     const float* rescale, Matrix<const float> candidates, Matrix<float> d_queries);
/// `factor`: what the partial sums lack.
void merge_d_candidates(const Context& ctx, const Merge& merge, const ColumnPartials& partials,
                        float factor, Matrix<const float> queries, Matrix<float> d_candidates);
/// Zeros where there is no query.
void clear_gradient(const Context& ctx, Matrix<float> gradient);

}  // namespace belfry::cuda::retrieval_softmax_kernels
