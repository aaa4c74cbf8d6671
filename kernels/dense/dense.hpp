// SPDX-License-Identifier: Apache-2.0
// One dense layer, forward and backward, for several layers that do not depend on each other: those of
// both towers at the same depth.
#pragma once

#include <span>

#include "kernels/bias_act/bias_act.hpp"
#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

struct DenseCall {
  Matrix<const float> x;       ///< [B,K]
  Matrix<const float> kernel;  ///< [K,N]
  Vector<const float> bias;    ///< [N], or empty
  Activation activation = Activation::linear;
  Matrix<float>
      z;  ///< [B,N] for backward; not used by the linear activation, and may be empty then
  Matrix<float> y;  ///< [B,N]
};

struct DenseGradCall {
  Matrix<const float> x, kernel;
  Activation activation = Activation::linear;
  Matrix<const float> z, y;  ///< as forward left them
  Matrix<float> d_y;         ///< [B,N]; holds d_z afterwards
  Matrix<float> d_kernel;    ///< [K,N]
  Vector<float> d_bias;      ///< [N], or empty: no bias
  Matrix<float> d_x;         ///< [B,K]; data == nullptr: not wanted
};

namespace cpu {
void dense(const Context& ctx, std::span<const DenseCall> calls);
void dense_grad(const Context& ctx, std::span<const DenseGradCall> calls);
}  // namespace cpu
namespace cuda {
void dense(const Context& ctx, std::span<const DenseCall> calls);
void dense_grad(const Context& ctx, std::span<const DenseGradCall> calls);
}  // namespace cuda

/// Dense layers, each:  z = x kernel + bias;  y = act(z)
/// Shapes       see DenseCall, f32, any pitch; calls may differ in all sizes
/// Empty        B = 0: no-op; K = 0: z = bias
/// Aliasing     what a call writes overlaps nothing that any call reads or writes
/// Cost         2 B K N flops a call. cuda: bias, and relu, ride in the product's epilogue, which saves
///              two passes over B N; calls of equal sizes whose operands lie in ascending order go out
///              as one batched product, others side by side
/// Scratch      cpu: as gemm. cuda: what cuBLASLt asks for, at most 32 MiB a product
/// Numerics     as gemm, then bias_act. z holds the pre-activation, but for relu on cuda, where it may be
///              left unwritten and a NaN may come out as 0 (max(z, 0) is the library's)
/// Determinism  run_to_run, given the same order of the operands in memory; cpu: any thread count
inline void dense(const Context& ctx, std::span<const DenseCall> calls) {
  for (const DenseCall& c : calls) {
    const std::int64_t rows = c.x.rows, units = c.kernel.cols;
    require(c.x.cols == c.kernel.rows, "dense: columns of x and rows of kernel differ");
    require(c.y.rows == rows && c.y.cols == units,
            "dense: y must be rows of x by columns of kernel");
    require(c.activation == Activation::linear ||
                (c.z.rows == rows && c.z.cols == units && (c.z.data != c.y.data || c.y.empty())),
            "dense: z must have the shape of y, and a place of its own");
    require(c.bias.empty() || c.bias.size == units, "dense: bias must have one value a column");
    require(c.x.pitch >= c.x.cols && c.kernel.pitch >= units && c.y.pitch >= units,
            "dense: a pitch is smaller than its row");
  }
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::dense(ctx, calls);
    case Backend::cuda:
      if constexpr (kHasCuda::dense) return cuda::dense(ctx, calls);
  }
  throw_no_backend("dense");
}

/// Their gradients, each:  d_z = d_y * act'(z);  d_kernel = x^T d_z;  d_bias = sum_i d_z_i;  d_x = d_z kernel^T
/// Shapes       see DenseGradCall, f32, any pitch
/// Empty        B = 0: d_kernel and d_bias become 0
/// Aliasing     d_z takes the place of d_y; else as forward
/// Cost         4 B K N flops a call (half without d_x). cuda: the d_bias of a linear layer rides in the
///              product of d_kernel where the library can; all products of all calls run side by side,
///              those of equal sizes as one
/// Scratch      as bias_act_grad and gemm together, a call
/// Numerics     as bias_act_grad, then gemm
/// Determinism  as forward
inline void dense_grad(const Context& ctx, std::span<const DenseGradCall> calls) {
  for (const DenseGradCall& c : calls) {
    const std::int64_t rows = c.x.rows, units = c.kernel.cols;
    const auto outputs = [&](const auto& m) { return m.rows == rows && m.cols == units; };
    require(c.x.cols == c.kernel.rows, "dense_grad: columns of x and rows of kernel differ");
    require(outputs(c.d_y), "dense_grad: d_y must be rows of x by columns of kernel");
    require(c.activation == Activation::linear || (outputs(c.y) && outputs(c.z)),
            "dense_grad: y and z must have the shape of d_y");
    require(c.d_kernel.rows == c.kernel.rows && c.d_kernel.cols == units,
            "dense_grad: d_kernel must have the shape of kernel");
    require(c.d_bias.empty() || c.d_bias.size == units,
            "dense_grad: d_bias must have one value a column");
    require(c.d_x.data == nullptr || (c.d_x.rows == rows && c.d_x.cols == c.x.cols),
            "dense_grad: d_x must have the shape of x");
    require(c.x.pitch >= c.x.cols && c.kernel.pitch >= units && c.d_y.pitch >= units &&
                c.d_kernel.pitch >= units && c.d_x.pitch >= c.d_x.cols,
            "dense_grad: a pitch is smaller than its row");
  }
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::dense_grad(ctx, calls);
    case Backend::cuda:
      if constexpr (kHasCuda::dense) return cuda::dense_grad(ctx, calls);
  }
  throw_no_backend("dense_grad");
}

}  // namespace belfry
