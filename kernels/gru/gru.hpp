// SPDX-License-Identifier: Apache-2.0
// A gated recurrent unit over padded lists of steps (kernels/core/steps.hpp), forward and backward.
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/steps.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Columns are the gates z, r, h, U each.
struct GruParameters {
  Matrix<const float> kernel;     ///< [D,3U]
  Matrix<const float> recurrent;  ///< [U,3U]
  Matrix<const float> bias;       ///< [2,3U]: of x kernel, of h recurrent; data == nullptr: none
};

struct GruCall {
  Matrix<const float> x;   ///< [B T, D]
  std::int64_t steps = 1;  ///< T
  StepMask mask;
  GruParameters parameters;
  Matrix<float> gates;   ///< [B T, 4U], for backward
  Matrix<float> states;  ///< [B T, U]; the last ones are step_of(states, T, T - 1)
};

struct GruGradCall {
  Matrix<const float> x;
  std::int64_t steps = 1;
  StepMask mask;
  GruParameters parameters;
  Matrix<const float> states;  ///< as forward left them
  Matrix<float> gates;  ///< as forward left them; holds the gradients of the gates afterwards
  Matrix<const float> d_states;  ///< [B T, U]; data == nullptr: zero
  Matrix<const float> d_last;    ///< [B,U], of the last states, besides; data == nullptr: zero
  Matrix<float> d_kernel;        ///< [D,3U]
  Matrix<float> d_recurrent;     ///< [U,3U]
  Matrix<float> d_bias;          ///< [2,3U]; data == nullptr: no bias
  Matrix<float> d_x;             ///< [B T, D]; data == nullptr: not wanted
};

namespace cpu {
void gru(const Context& ctx, const GruCall& call);
void gru_grad(const Context& ctx, const GruGradCall& call);
}  // namespace cpu
namespace cuda {
void gru(const Context& ctx, const GruCall& call);
void gru_grad(const Context& ctx, const GruGradCall& call);
}  // namespace cuda

namespace gru_detail {
/// What both directions ask of x, the mask's shape and the parameters.
inline void check(Matrix<const float> x, std::int64_t steps, const GruParameters& p,
                  Matrix<const float> gates, Matrix<const float> states) {
  const std::int64_t units = p.recurrent.rows;
  require(steps >= 1 && x.rows % steps == 0, "gru: rows of x must be whole lists of steps");
  require(p.kernel.rows == x.cols && p.kernel.cols == 3 * units,
          "gru: kernel must be columns of x by three times the units");
  require(p.recurrent.cols == 3 * units, "gru: recurrent must be the units by three times them");
  require(p.bias.data == nullptr || (p.bias.rows == 2 && p.bias.cols == 3 * units),
          "gru: bias must have two rows of three times the units");
  require(gates.rows == x.rows && gates.cols == 4 * units,
          "gru: gates must be rows of x by four times the units");
  require(states.rows == x.rows && states.cols == units,
          "gru: states must be rows of x by the units");
}
}  // namespace gru_detail

/// Keras's GRU (reset_after = True), h = 0 before the first step:
///   z, r = sigmoid(x W_zr + b_0 + h U_zr + b_1);  n = tanh(x W_h + b_0 + r (h U_h + b_1))
///   h = z h + (1 - z) n;  at a step that the mask leaves out h stays, and is that step's state
/// Shapes       see GruCall, f32, any pitch; row b T + t is step t of list b
/// Empty        B = 0 or U = 0: no-op; a list without steps keeps the state 0
/// Aliasing     gates and states overlap nothing; x at steps left out is multiplied and dropped
/// Cost         6 B T D U flops at once, then T - 1 products of 6 B U U flops, each followed by a
///              pass over B U: a chain of 2 T launches (cuda), however small
/// Scratch      3 B U floats, and as dense
/// Numerics     f32; sums as dense, each gate within 8 ulp of its argument's; errors of a step pass
///              through the gates of the later ones, where they shrink for usual weights
/// Determinism  run_to_run; cpu: any thread count. The backends differ by the order of the sums and
///              ulps of the gates: a state by some 3e-6, a gradient by 3e-5 of its terms
/// See          tf.keras.layers.GRU
inline void gru(const Context& ctx, const GruCall& c) {
  gru_detail::check(c.x, c.steps, c.parameters, c.gates, c.states);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::gru(ctx, c);
    case Backend::cuda:
      if constexpr (kHasCuda::gru) return cuda::gru(ctx, c);
  }
  throw_no_backend("gru");
}

/// Its gradients, through all steps (no truncation), of d_states and d_last together.
/// Shapes       see GruGradCall, f32, any pitch
/// Empty        B = 0: d_kernel, d_recurrent and d_bias become 0
/// Aliasing     outputs overlap nothing; x at steps left out must be finite (it meets a gradient of
///              0)
/// Cost         twice forward's
/// Scratch      B U floats, 4 U more with a bias, and as bias_act_grad and gemm
/// Numerics     f32; sums as gemm and bias_act_grad. A step left out has gradients of exactly 0
/// Determinism  as forward
inline void gru_grad(const Context& ctx, const GruGradCall& c) {
  gru_detail::check(c.x, c.steps, c.parameters, c.gates, c.states);
  const std::int64_t units = c.parameters.recurrent.rows;
  require(c.d_states.data == nullptr || (c.d_states.rows == c.x.rows && c.d_states.cols == units),
          "gru_grad: d_states must have the shape of states");
  require(
      c.d_last.data == nullptr || (c.d_last.rows == c.x.rows / c.steps && c.d_last.cols == units),
      "gru_grad: d_last must be lists by units");
  require(c.d_kernel.rows == c.parameters.kernel.rows && c.d_kernel.cols == 3 * units,
          "gru_grad: d_kernel must have the shape of kernel");
  require(c.d_recurrent.rows == units && c.d_recurrent.cols == 3 * units,
          "gru_grad: d_recurrent must have the shape of recurrent");
  require(c.d_bias.data == nullptr || (c.d_bias.rows == 2 && c.d_bias.cols == 3 * units),
          "gru_grad: d_bias must have the shape of bias");
  require(c.d_x.data == nullptr || (c.d_x.rows == c.x.rows && c.d_x.cols == c.x.cols),
          "gru_grad: d_x must have the shape of x");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::gru_grad(ctx, c);
    case Backend::cuda:
      if constexpr (kHasCuda::gru) return cuda::gru_grad(ctx, c);
  }
  throw_no_backend("gru_grad");
}

}  // namespace belfry
