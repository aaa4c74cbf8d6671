// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/bf16.hpp"
#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"
#include "kernels/embedding_bag/embedding_bag.hpp"

namespace belfry {

enum class OptimizerKind { sgd, adagrad, rowwise_adagrad, adam };

/// Which rows of a table a sparse gradient moves. `exact`: as if the gradient were dense (Keras's new
/// API): rows without gradient still follow their momentum. `lazy`: only rows with a gradient.
enum class SparseUpdate { exact, lazy };

/// The two places where Keras adds epsilon in Adagrad: inside the root (new API) or after it.
enum class EpsilonPlace { inside_root, after_root };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adam;
  int group = 0;          ///< learning rate = ctx.state()->learning_rate[group]
  float momentum = 0.0f;  ///< sgd
  bool nesterov = false;  ///< sgd
  float beta_1 = 0.9f;    ///< adam
  float beta_2 = 0.999f;  ///< adam
  float epsilon = 1e-7f;
  bool amsgrad = false;  ///< adam
  float weight_decay =
      0.0f;  ///< adam: decoupled (AdamW), w -= lr weight_decay w in the same update
  EpsilonPlace epsilon_place = EpsilonPlace::inside_root;  ///< adagrad
  SparseUpdate sparse = SparseUpdate::exact;
  std::uint32_t table =
      0;  ///< numbers the bf16 tables of a model apart, below 2^16 (kernels/core/bf16.hpp)
  bool operator==(const OptimizerOptions&) const = default;
};

/// Slots of one parameter [R, D], zero at the start unless initialise says otherwise; unused: empty.
///   sgd with momentum: first = velocity [R,D] · adagrad: first = accumulator [R,D]
///   rowwise_adagrad: first = accumulator [R,1] · adam: first = m, second = v, third = max v (amsgrad)
struct OptimizerSlots {
  Matrix<float> first, second, third;
};

/// Number of slots that `options` needs, and the width of each for a parameter of width D.
int slot_count(const OptimizerOptions& options);
std::int64_t slot_width(const OptimizerOptions& options, std::int64_t width);

/// Whether rows without a gradient move, too.
inline bool moves_every_row(const OptimizerOptions& options) {
  const bool has_momentum = options.kind == OptimizerKind::adam ||
                            (options.kind == OptimizerKind::sgd && options.momentum != 0.0f);
  return options.sparse == SparseUpdate::exact && has_momentum;
}

namespace cpu {
void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<float> parameter,
                    Matrix<const float> gradient, const OptimizerSlots& slots);
void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<float> parameter,
                    const RowGradient& gradient, const OptimizerSlots& slots);
void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<bf16> parameter,
                    const RowGradient& gradient, const OptimizerSlots& slots);
}  // namespace cpu
namespace cuda {
void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<float> parameter,
                    Matrix<const float> gradient, const OptimizerSlots& slots);
void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<float> parameter,
                    const RowGradient& gradient, const OptimizerSlots& slots);
void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<bf16> parameter,
                    const RowGradient& gradient, const OptimizerSlots& slots);
}  // namespace cuda

void check_optimizer_arguments(const OptimizerOptions& options, std::int64_t rows,
                               std::int64_t width, const OptimizerSlots& slots);
void check_row_gradient(const RowGradient& gradient, std::int64_t width);

/// One update of a dense parameter. lr and step come from ctx.state() (step + 1 is Adam's t).
///   sgd      v = momentum v - lr g;  w += v  (nesterov: w += momentum v - lr g);  w -= lr g without
///   adagrad  a += g^2;  w -= lr g / sqrt(a + eps)   [after_root: lr g / (sqrt(a) + eps)]
///   rowwise  a_r += mean_d g_rd^2;  w_r -= lr g_r / sqrt(a_r + eps)
///   adam     m += (1-b1)(g - m);  v += (1-b2)(g^2 - v);
///            w -= lr sqrt(1-b2^t)/(1-b1^t) m / (sqrt(v) + eps)      (Keras's epsilon-hat form)
/// Shapes       parameter, gradient [R,D] f32; slots as OptimizerSlots says
/// Empty        R = 0 or D = 0: no-op
/// Aliasing     nothing overlaps
/// Cost         reads and writes parameter and slots once: memory-bound
/// Scratch      none
/// Numerics     f32, nothing fused; subnormal moments and velocities become 0; a root of 0 (no gradient
///              so far, epsilon 0) moves nothing
/// Faults       a non-finite new value of the parameter or a slot raises kStatusNonFinite
/// Determinism  bitwise for any thread count, and on the device but for Adam's rate, whose double powers may
///              differ there in the last bit (then the update by 1 ulp of it)
/// See          Keras 2 optimizers (tf-keras 2.19); Duchi et al. 2011; Kingma and Ba 2015
inline void optimizer_step(const Context& ctx, const OptimizerOptions& options,
                           Matrix<float> parameter, Matrix<const float> gradient,
                           const OptimizerSlots& slots) {
  require(gradient.rows == parameter.rows && gradient.cols == parameter.cols,
          "optimizer_step: the gradient must have the parameter's shape");
  check_optimizer_arguments(options, parameter.rows, parameter.cols, slots);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::optimizer_step(ctx, options, parameter, gradient, slots);
    case Backend::cuda:
      if constexpr (kHasCuda::optimizer_step) {
        return cuda::optimizer_step(ctx, options, parameter, gradient, slots);
      }
  }
  throw_no_backend("optimizer_step");
}

/// The same for a table whose gradient is a list of distinct rows (embedding_bag_grad).
/// exact: equals the dense update with zeros elsewhere (cost R D where rows without gradient move:
/// adam, sgd with momentum; otherwise only the listed rows). lazy: touches the listed rows alone;
/// Adam's t is still the global step. Listed rows outside the table raise kStatusIdOutOfRange, and
/// nothing is updated.
/// A table in bf16 is updated in float32 and rounded stochastically (kernels/core/bf16.hpp); its slots stay
/// float32.
inline void optimizer_step(const Context& ctx, const OptimizerOptions& options,
                           Matrix<float> parameter, const RowGradient& gradient,
                           const OptimizerSlots& slots) {
  check_row_gradient(gradient, parameter.cols);
  check_optimizer_arguments(options, parameter.rows, parameter.cols, slots);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::optimizer_step(ctx, options, parameter, gradient, slots);
    case Backend::cuda:
      if constexpr (kHasCuda::optimizer_step) {
        return cuda::optimizer_step(ctx, options, parameter, gradient, slots);
      }
  }
  throw_no_backend("optimizer_step");
}
inline void optimizer_step(const Context& ctx, const OptimizerOptions& options,
                           Matrix<bf16> parameter, const RowGradient& gradient,
                           const OptimizerSlots& slots) {
  check_row_gradient(gradient, parameter.cols);
  check_optimizer_arguments(options, parameter.rows, parameter.cols, slots);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::optimizer_step(ctx, options, parameter, gradient, slots);
    case Backend::cuda:
      if constexpr (kHasCuda::optimizer_step) {
        return cuda::optimizer_step(ctx, options, parameter, gradient, slots);
      }
  }
  throw_no_backend("optimizer_step");
}

}  // namespace belfry
