// SPDX-License-Identifier: Apache-2.0
#include "kernels/dense/dense.hpp"
#include "kernels/gemm/gemm.hpp"

namespace belfry::cpu {

void dense(const Context& ctx, std::span<const DenseCall> calls) {
  for (const DenseCall& c : calls) {
    const Matrix<float> z = c.activation == Activation::linear ? c.y : c.z;
    cpu::gemm(ctx, c.x, c.kernel, z, {});
    cpu::bias_act(ctx, z, c.bias, c.activation, c.y);
  }
}

void dense_grad(const Context& ctx, std::span<const DenseGradCall> calls) {
  for (const DenseGradCall& c : calls) {
    const bool linear = c.activation == Activation::linear;  // reads neither z nor y
    const Matrix<const float> z = linear ? c.d_y : c.z, y = linear ? c.d_y : c.y;
    cpu::bias_act_grad(ctx, z, y, c.d_y, c.activation, c.d_y, c.d_bias);
    cpu::gemm(ctx, c.x, c.d_y, c.d_kernel, {.a = Transpose::yes});
    if (c.d_x.data != nullptr) cpu::gemm(ctx, c.d_y, c.kernel, c.d_x, {.b = Transpose::yes});
  }
}

}  // namespace belfry::cpu
