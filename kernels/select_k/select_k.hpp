// SPDX-License-Identifier: Apache-2.0
// The k best of each row of a matrix of scores: best first; equal scores, the smaller column first.
// A NaN is never selected; +inf and -inf are. A score of -0 is given as +0 (they are one place in the order).
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// scores [Q,k] descending, rows [Q,k] i32: the columns (items); slots without one hold NaN and -1.
struct TopK {
  Matrix<float> scores;
  Matrix<std::int32_t> rows;
};

namespace cpu {
void select_k(const Context& ctx, Matrix<const float> scores, TopK out);
}
namespace cuda {
void select_k(const Context& ctx, Matrix<const float> scores, TopK out);
}

/// Shapes       scores [Q,N] f32, out.scores [Q,k] f32, out.rows [Q,k] i32; k >= 1 of any size (more than N:
///              the rest stays empty)
/// Empty        Q = 0: no-op; N = 0: all slots empty
/// Aliasing     out must not overlap scores
/// Cost         k <= 1024: one read of the scores; CUDA above that: up to seven, most often four, and a sort of
///              the k winners
/// Scratch      CPU: 2 min(k,N) keys a thread, at most N. CUDA: k <= 1024: few rows are cut into parts of k keys,
///              8 MiB at most; above: 16 min(k,N) + 8208 bytes a row, rows in tiles of at most 256 MiB or one row
/// Determinism  bitwise_cpu_cuda
inline void select_k(const Context& ctx, Matrix<const float> scores, TopK out) {
  require(out.scores.rows == scores.rows, "select_k: out must have one row a row of scores");
  require(out.scores.cols >= 1, "select_k: k must be at least 1");
  require(out.rows.rows == out.scores.rows && out.rows.cols == out.scores.cols,
          "select_k: scores and rows must have one shape");
  require(scores.cols <= INT32_MAX, "select_k: column numbers are int32");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::select_k(ctx, scores, out);
    case Backend::cuda:
      if constexpr (kHasCuda::select_k) return cuda::select_k(ctx, scores, out);
  }
  throw_no_backend("select_k");
}

}  // namespace belfry
