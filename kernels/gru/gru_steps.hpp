// SPDX-License-Identifier: Apache-2.0
// The order of a GRU's work, the same on every backend: products of whole matrices, and between
// them the pass over one step of all lists that a backend brings along.
//
// Columns of `gates`: forward leaves z, r, n and q = h U_h + b_1. A backward step puts the
// gradients of the gates' arguments into the same places as n, z, r, q, so that what x kernel owes
// (z, r and n) and what h recurrent owes (z, r, q, in one piece) can be multiplied where they lie.
#pragma once

#include <span>

#include "kernels/bias_act/bias_act.hpp"
#include "kernels/dense/dense.hpp"
#include "kernels/gemm/gemm.hpp"
#include "kernels/gru/gru.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"

namespace belfry::gru_detail {

struct Step {
  std::int64_t t, steps;
  StepMask mask;
  Matrix<float> gates;            ///< [B,4U]; the first 3U columns hold x kernel + b_0
  Matrix<const float> recurrent;  ///< [B,3U] h U; data == nullptr: zero
  const float* bias;              ///< b_1, or nullptr
  Matrix<const float> before;     ///< [B,U] states; data == nullptr: zero
  Matrix<float> after;            ///< [B,U]
};

struct StepGrad {
  std::int64_t t, steps;
  StepMask mask;
  Matrix<float> gates;
  Matrix<const float> before;
  Matrix<const float> d_state;  ///< [B,U] of this step, from outside; data == nullptr: zero
  Matrix<const float> d_last;   ///< likewise, at the last step only
  bool last;                    ///< nothing comes from a later step: d_h is only written
  Matrix<float>
      d_h;  ///< [B,U] of the state after the step; then that before it, less what the gates owe
};

/// z, r or n of one unit, and the gradients that take their places.
struct Gates {
  float z, r, n, q;
};
struct GateGradients {
  float n, z, r, q;  ///< of the arguments
};
/// From the gradient of the state after the step.
constexpr GateGradients gate_gradients(const Gates& g, float before, float d_h) {
  const float d_n = d_h * (1.0f - g.z) * (1.0f - g.n * g.n);
  const float d_z = d_h * (before - g.n) * (g.z * (1.0f - g.z));
  const float d_r = d_n * g.q * (g.r * (1.0f - g.r));
  return {d_n, d_z, d_r, d_n * g.r};
}

template <class RunStep>
void forward(const Context& ctx, const GruCall& c, RunStep&& run_step) {
  const GruParameters& p = c.parameters;
  const std::int64_t units = p.recurrent.rows, lists = c.x.rows / c.steps;
  if (lists == 0 || units == 0) return;
  const bool bias = p.bias.data != nullptr;
  const DenseCall product{
      .x = c.x,
      .kernel = p.kernel,
      .bias = bias ? Vector<const float>(p.bias.row(0), 3 * units) : Vector<const float>(),
      .z = {},
      .y = c.gates.columns(0, 3 * units)};
  dense(ctx, std::span(&product, 1));
  ArenaScope scope(ctx);
  const Matrix<float> recurrent(ctx.arena().take<float>(3 * lists * units), lists, 3 * units);
  for (std::int64_t t = 0; t < c.steps; ++t) {
    const Matrix<float> after = step_of(c.states, c.steps, t);
    Step step{t, c.steps, c.mask, step_of(c.gates, c.steps, t), {}, nullptr, {}, after};
    if (bias) step.bias = p.bias.row(1);
    if (t > 0) {
      step.before = step_of(c.states, c.steps, t - 1);
      gemm(ctx, step.before, p.recurrent, recurrent);
      step.recurrent = recurrent;
    }
    run_step(step);
  }
}

/// The parts of the gates' gradients in `gates`.
struct GateParts {
  Matrix<float> n, zr, zrq;
  GateParts(Matrix<float> gates, std::int64_t units)
      : n(gates.columns(0, units)),
        zr(gates.columns(units, 2 * units)),
        zrq(gates.columns(units, 3 * units)) {}
};

inline void bias_gradient(const Context& ctx, Matrix<float> gates, Matrix<float> d_bias) {
  const std::int64_t units = gates.cols / 4;
  ArenaScope scope(ctx);
  const Matrix<float> sums(ctx.arena().take<float>(gates.cols), 1, gates.cols);
  bias_act_grad(ctx, gates, gates, gates, Activation::linear, gates, {sums.data, sums.cols});
  const GateParts parts(sums, units);
  copy_matrix(ctx, parts.zr, d_bias.slice(0, 1).columns(0, 2 * units));
  copy_matrix(ctx, parts.n, d_bias.slice(0, 1).columns(2 * units, units));
  copy_matrix(ctx, parts.zrq, d_bias.slice(1, 1));
}

/// What is left once the gates' gradients of all steps are there. Takes those of the first step.
inline void parameter_gradients(const Context& ctx, const GruGradCall& c) {
  const Matrix<const float> kernel = c.parameters.kernel;
  const std::int64_t units = c.parameters.recurrent.rows, rows = c.x.rows;
  const GateParts parts(c.gates, units);
  if (c.d_bias.data != nullptr) bias_gradient(ctx, c.gates, c.d_bias);
  gemm(ctx, c.x, parts.zr, c.d_kernel.columns(0, 2 * units), {.a = Transpose::yes});
  gemm(ctx, c.x, parts.n, c.d_kernel.columns(2 * units, units), {.a = Transpose::yes});
  if (c.d_x.data != nullptr) {
    gemm(ctx, parts.zr, kernel.columns(0, 2 * units), c.d_x, {.b = Transpose::yes});
    gemm(ctx, parts.n, kernel.columns(2 * units, units), c.d_x,
         {.b = Transpose::yes, .beta = 1.0f});
  }
  // One product over all rows but the ends pairs each step with the row before it, which before a
  // first step is another list's last: those count as zero.
  set_zero(ctx, step_of(parts.zrq, c.steps, 0));
  gemm(ctx, c.states.slice(0, rows - 1), parts.zrq.slice(1, rows - 1), c.d_recurrent,
       {.a = Transpose::yes});
}

template <class RunStep>
void backward(const Context& ctx, const GruGradCall& c, RunStep&& run_step) {
  const std::int64_t units = c.parameters.recurrent.rows, lists = c.x.rows / c.steps;
  if (lists == 0 || units == 0) {
    const Matrix<float> all[] = {c.d_kernel, c.d_recurrent, c.d_bias, c.d_x};
    return set_zero(ctx, all);
  }
  ArenaScope scope(ctx);
  const Matrix<float> d_h(ctx.arena().take<float>(lists * units), lists, units);
  for (std::int64_t t = c.steps; t-- > 0;) {
    StepGrad step{t,  c.steps,          c.mask, step_of(c.gates, c.steps, t), {}, {},
                  {}, t + 1 == c.steps, d_h};
    if (t > 0) step.before = step_of(c.states, c.steps, t - 1);
    if (c.d_states.data != nullptr) step.d_state = step_of(c.d_states, c.steps, t);
    if (step.last) step.d_last = c.d_last;
    run_step(step);
    if (t == 0) break;
    gemm(ctx, GateParts(step.gates, units).zrq, c.parameters.recurrent, d_h,
         {.b = Transpose::yes, .beta = 1.0f});
  }
  parameter_gradients(ctx, c);
}

}  // namespace belfry::gru_detail
