// SPDX-License-Identifier: Apache-2.0
#include "engine/scorer.hpp"

#include "kernels/l2_normalize/l2_normalize.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"

namespace belfry {

namespace {
/// All heads of a query as one row again.
Matrix<float> joined(Matrix<float> y, std::int64_t heads) {
  require(y.contiguous() && y.rows % heads == 0, "Scorer: heads lie one behind the other");
  return {y.data, y.rows / heads, y.cols * heads};
}
}  // namespace

void Scorer::finish(const Context& ctx, Matrix<const float> x, std::int64_t heads, Matrix<float> y,
                    Vector<float> inverse_norm) const {
  if (heads > 1) {  // rows of x may be padded, and then its heads are not evenly apart
    copy_matrix(ctx, x, joined(y, heads));
    if (normalises()) l2_normalize(ctx, y, y, inverse_norm);
  } else if (normalises()) {
    l2_normalize(ctx, x, y, inverse_norm);
  } else {
    copy_matrix(ctx, x, y);
  }
}

void Scorer::finish_grad(const Context& ctx, Matrix<const float> y, std::int64_t heads,
                         Vector<const float> inverse_norm, Matrix<float> d_y,
                         Matrix<float> d_x) const {
  if (heads > 1) {
    if (normalises()) l2_normalize_grad(ctx, y, inverse_norm, d_y, d_y);
    copy_matrix(ctx, joined(d_y, heads), d_x);
  } else if (normalises()) {
    l2_normalize_grad(ctx, y, inverse_norm, d_y, d_x);
  } else {
    copy_matrix(ctx, d_y, d_x);
  }
}

}  // namespace belfry
