// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/bf16.hpp"
#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"
#include "kernels/embedding_bag/embedding_bag.hpp"

namespace belfry {

enum class OptimizerKind { sgd, adagrad, rowwise_adagrad, adam, rmsprop, ftrl, clippy_adagrad };

/// Which rows of a table a sparse gradient moves. `exact`: as if the gradient were dense (Keras's new
/// API): rows without gradient still follow their momentum. `lazy`: only rows with a gradient.
enum class SparseUpdate { exact, lazy };

/// The two places where Keras adds epsilon in Adagrad and RMSprop: inside the root (new API) or after it
/// (legacy API; its RMSprop with momentum adds it inside, too).
enum class EpsilonPlace { inside_root, after_root };

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adam;
  int group = 0;          ///< learning rate = ctx.state()->learning_rate[group]
  float momentum = 0.0f;  ///< sgd, rmsprop
  bool nesterov = false;  ///< sgd
  float beta_1 = 0.9f;    ///< adam
  float beta_2 = 0.999f;  ///< adam
  float epsilon = 1e-7f;
  bool amsgrad = false;  ///< adam
  float weight_decay =
      0.0f;  ///< adam: decoupled (AdamW), w -= lr weight_decay w in the same update
  EpsilonPlace epsilon_place = EpsilonPlace::inside_root;  ///< adagrad, rmsprop
  float rho = 0.9f;                                        ///< rmsprop: decay of the mean square
  bool centered = false;                         ///< rmsprop: divide by the variance instead of it
  float learning_rate_power = -0.5f;             ///< ftrl: at most 0
  float l1 = 0.0f, l2 = 0.0f;                    ///< ftrl: strength of the regularisers
  float l2_shrinkage = 0.0f;                     ///< ftrl: l2 that only the linear term sees
  float beta = 0.0f;                             ///< ftrl
  float variable_relative_threshold = 0.1f;      ///< clippy_adagrad
  float accumulator_relative_threshold = 0.0f;   ///< clippy_adagrad
  float absolute_threshold = 1e-7f;              ///< clippy_adagrad
  bool clip_accumulator_update = false;          ///< clippy_adagrad: a += (s g)^2
  bool use_standard_accumulator_update = false;  ///< clippy_adagrad: a += g^2 before the move
  SparseUpdate sparse = SparseUpdate::exact;
  std::uint32_t table =
      0;  ///< numbers the bf16 tables of a model apart, below 2^16 (kernels/core/bf16.hpp)
  bool operator==(const OptimizerOptions&) const = default;
};

/// Slots of one parameter [R, D], zero at the start unless initialise says otherwise; unused: empty.
///   sgd with momentum: first = velocity [R,D] · adagrad: first = accumulator [R,D]
///   rowwise_adagrad: first = accumulator [R,1] · adam: first = m, second = v, third = max v (amsgrad)
///   rmsprop: first = mean square, then the mean (centered), then the velocity (momentum), as far as used
///   ftrl: first = accumulator, second = linear term · clippy_adagrad: first = accumulator
struct OptimizerSlots {
  Matrix<float> first, second, third;
  /// clippy_adagrad: where not null, the step's factor (1: nothing clipped) is written here, in the backend's
  /// memory. It says nothing after an empty parameter, or a list that was refused.
  float* clipping_factor = nullptr;
};

/// Number of slots that `options` needs, and the width of each for a parameter of width D.
int slot_count(const OptimizerOptions& options);
std::int64_t slot_width(const OptimizerOptions& options, std::int64_t width);

/// Whether the first slot is a sum of squares, which the user may start at another value than 0.
inline bool has_accumulator(const OptimizerOptions& options) {
  return options.kind == OptimizerKind::adagrad || options.kind == OptimizerKind::rowwise_adagrad ||
         options.kind == OptimizerKind::ftrl || options.kind == OptimizerKind::clippy_adagrad;
}

/// Whether rows without a gradient, or their slots, change, too.
inline bool moves_every_row(const OptimizerOptions& options) {
  const bool has_momentum = options.kind == OptimizerKind::adam ||
                            options.kind == OptimizerKind::rmsprop ||
                            options.kind == OptimizerKind::ftrl ||
                            (options.kind == OptimizerKind::sgd && options.momentum != 0.0f);
  return options.sparse == SparseUpdate::exact && has_momentum;
}

/// Whether an element's move depends on all of the parameter's gradient.
inline bool needs_whole_gradient(const OptimizerOptions& options) {
  return options.kind == OptimizerKind::clippy_adagrad;
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
///   rmsprop  v += (1-rho)(g^2 - v);  centered: a += (1-rho)(g - a), d = max(v - a^2, 0), else d = v;
///            u = momentum u + lr g / sqrt(d + eps);  w -= u   [after_root: lr g / (sqrt(d) + eps)]
///   ftrl     n' = n + g^2;  z += g + 2 l2_shrinkage w - (n'^-power - n^-power)/lr w;  n = n';
///            w = (min(max(z, -l1), l1) - z) / ((n^-power + beta)/lr + 2 l2);  nothing where lr is 0
///   clippy   standard: a += g^2;  p = 1/sqrt(a + eps), delta = lr g p;
///            s = min(1, min over the elements with delta != 0 of (|w| variable_relative_threshold
///            + p accumulator_relative_threshold + absolute_threshold) / |delta|): one factor a parameter;
///            w -= s delta;  not standard: a += g^2, or (s g)^2 with clip_accumulator_update
/// Shapes       parameter, gradient [R,D] f32; slots as OptimizerSlots says
/// Empty        R = 0 or D = 0: no-op
/// Aliasing     nothing overlaps
/// Cost         reads and writes parameter and slots once: memory-bound; clippy reads all twice
/// Scratch      none; clippy: 16 KiB at most on the device, a word for 16384 elements on the CPU
/// Numerics     f32, nothing fused; subnormal moments and velocities become 0; a root of 0 (no gradient
///              so far, epsilon 0) moves nothing
/// Faults       a non-finite new value of the parameter or a slot raises kStatusNonFinite
/// Determinism  bitwise for any thread count, and on the device but for Adam's rate, whose double powers may
///              differ there in the last bit (then the update by 1 ulp of it), as may ftrl's for another
///              power than -0.5. clippy's factor is a minimum, which no order changes
/// See          Keras 2 optimizers (tf-keras 2.19); Duchi et al. 2011; Kingma and Ba 2015; McMahan et al. 2013
///              (FTRL); Tang et al. 2023 and TFRS 0.7 (ClippyAdagrad)
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
/// adam, rmsprop, ftrl, sgd with momentum; otherwise only the listed rows). lazy: touches the listed rows
/// alone; Adam's t is still the global step. clippy's factor is over the listed rows, whose gradient alone is
/// not 0. Listed rows outside the table raise kStatusIdOutOfRange, and
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
