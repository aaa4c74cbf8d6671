// SPDX-License-Identifier: Apache-2.0
// Scorer: what makes a score of two tower outputs. Cosine scores are dot products of unit vectors, so
// loss, metric, index and export all see vectors that the same scorer has finished. A query tower of several
// heads gives as many vectors to a query, and the score is the maximum over them.
#pragma once

#include "engine/config.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

class Scorer {
 public:
  explicit Scorer(Similarity similarity) : similarity_(similarity) {}
  bool normalises() const { return similarity_ == Similarity::cosine; }
  /// y = the vectors whose dot product is the score; inverse_norm [rows of y] is kept for the gradient (unused
  /// for dot). x [B, heads*D], y [B*heads, D], head h of row i in row i*heads + h: contiguous where there are
  /// several heads. y must not be x for dot.
  void finish(const Context& ctx, Matrix<const float> x, std::int64_t heads, Matrix<float> y,
              Vector<float> inverse_norm) const;
  /// d_x [B, heads*D] from d_y [B*heads, D], through the normalisation. With several heads d_y is overwritten.
  void finish_grad(const Context& ctx, Matrix<const float> y, std::int64_t heads,
                   Vector<const float> inverse_norm, Matrix<float> d_y, Matrix<float> d_x) const;

 private:
  Similarity similarity_;
};

}  // namespace belfry
