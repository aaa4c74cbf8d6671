// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

enum class Transpose : bool { no, yes };

struct GemmOptions {
  Transpose a = Transpose::no;
  Transpose b = Transpose::no;
  float alpha = 1.0f;
  float beta = 0.0f;  ///< 0 overwrites c without reading it
};

namespace cpu {
void gemm(const Context& ctx, Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
          const GemmOptions& options);
/// One GEMM on the calling thread, for the tiles of other ops: c = alpha op(a) op(b) + beta c.
/// Bits depend on the shapes and pitches alone.
void gemm_tile(Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
               const GemmOptions& options);
}  // namespace cpu
namespace cuda {
void gemm(const Context& ctx, Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
          const GemmOptions& options);
}  // namespace cuda

/// Matrix product of a tower's dense layer:  c = alpha op(a) op(b) + beta c
/// Shapes       op(a) [M,K] f32, op(b) [K,N] f32, c [M,N] f32; any pitch
/// Empty        M = 0 or N = 0: no-op; K = 0: c = beta c
/// Aliasing     c must not overlap a or b
/// Cost         2 M N K flops: compute-bound from about K = 32
/// Scratch      cpu, for a small c over a long K: at most 15 M N floats of partial sums; cuda: what
///              cuBLASLt asks for, at most 32 MiB
/// Numerics     f32, no TF32; the order of the sum over K is the library's (oneDNN, cuBLASLt), so an
///              element is within a few K 2^-24 of the sum of its terms' sizes, typically sqrt K of that
/// Determinism  run_to_run; cpu: tiles are cut by shape, so any thread count gives the same bits. cuda:
///              on one kind of GPU and version of cuBLASLt; the algorithm is chosen by shape, pitches
///              and alignment, and never adds by atomics
inline void gemm(const Context& ctx, Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
                 const GemmOptions& options = {}) {
  const bool ta = options.a == Transpose::yes, tb = options.b == Transpose::yes;
  const std::int64_t m = ta ? a.cols : a.rows, k = ta ? a.rows : a.cols;
  require(m == c.rows, "gemm: rows of op(a) and c differ");
  require((tb ? b.rows : b.cols) == c.cols, "gemm: columns of op(b) and c differ");
  require((tb ? b.cols : b.rows) == k, "gemm: inner dimensions of op(a) and op(b) differ");
  require(a.pitch >= a.cols && b.pitch >= b.cols && c.pitch >= c.cols,
          "gemm: a pitch is smaller than its row");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::gemm(ctx, a, b, c, options);
    case Backend::cuda:
      if constexpr (kHasCuda::gemm) return cuda::gemm(ctx, a, b, c, options);
  }
  throw_no_backend("gemm");
}

}  // namespace belfry
