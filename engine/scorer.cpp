// SPDX-License-Identifier: Apache-2.0
#include "engine/scorer.hpp"

#include "kernels/l2_normalize/l2_normalize.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"

namespace belfry {

void Scorer::finish(const Context& ctx, Matrix<const float> x, Matrix<float> y,
                    Vector<float> inverse_norm) const {
  if (normalises()) {
    l2_normalize(ctx, x, y, inverse_norm);
  } else {
    copy_matrix(ctx, x, y);
  }
}

void Scorer::finish_grad(const Context& ctx, Matrix<const float> y,
                         Vector<const float> inverse_norm, Matrix<const float> d_y,
                         Matrix<float> d_x) const {
  if (normalises()) {
    l2_normalize_grad(ctx, y, inverse_norm, d_y, d_x);
  } else {
    copy_matrix(ctx, d_y, d_x);
  }
}

}  // namespace belfry
