// SPDX-License-Identifier: Apache-2.0
// Scorer: what makes a score of two tower outputs. Cosine scores are dot products of unit vectors, so
// loss, metric, index and export all see vectors that the same scorer has finished.
#pragma once

#include "engine/config.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

class Scorer {
 public:
  explicit Scorer(Similarity similarity) : similarity_(similarity) {}
  bool normalises() const { return similarity_ == Similarity::cosine; }
  /// y = the vectors whose dot product is the score; inverse_norm [B] is kept for the gradient (unused
  /// for dot). y must not be x for dot.
  void finish(const Context& ctx, Matrix<const float> x, Matrix<float> y,
              Vector<float> inverse_norm) const;
  /// d_x from d_y, through the normalisation.
  void finish_grad(const Context& ctx, Matrix<const float> y, Vector<const float> inverse_norm,
                   Matrix<const float> d_y, Matrix<float> d_x) const;

 private:
  Similarity similarity_;
};

}  // namespace belfry
