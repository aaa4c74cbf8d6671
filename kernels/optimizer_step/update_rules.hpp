// SPDX-License-Identifier: Apache-2.0
// The scalar maths of optimizer_step, shared by its CPU and CUDA files. A rule updates one element;
// its constants are those of one step. Products and sums are not fused and roots and quotients are
// the correctly rounded ones, so that vector width and backend do not change a bit.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/core/bf16.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/core/step_state.hpp"
#include "kernels/optimizer_step/optimizer_step.hpp"

namespace belfry {

/// Moments of rows that are rarely touched decay to subnormals and then stick there, where some
/// processors are a hundred times slower (TensorFlow flushes them in its threads too).
BELFRY_HD inline float flush_subnormal(float x) {
  return std::fabs(x) < 0x1p-126f ? 0.0f : x;
}

struct SgdRule {
  float rate;
  BELFRY_HD void operator()(float g, float& w) const { w = w - rate * g; }
};

template <bool kNesterov>
struct MomentumRule {
  float rate, momentum;
  BELFRY_HD void operator()(float g, float& w, float& velocity) const {
    const float step = rate * g;
    velocity = flush_subnormal(momentum * velocity - step);
    w = w + (kNesterov ? momentum * velocity - step : velocity);
  }
};

/// lr g / root(a); without any gradient so far (a root of 0) nothing moves.
BELFRY_HD inline float adagrad_move(float rate, float g, float accumulator, float epsilon,
                                    EpsilonPlace place) {
  const float root = place == EpsilonPlace::inside_root ? std::sqrt(accumulator + epsilon)
                                                        : std::sqrt(accumulator) + epsilon;
  const float move = rate * g / root;
  return root == 0.0f ? 0.0f : move;
}

template <EpsilonPlace kPlace>
struct AdagradRule {
  float rate, epsilon;
  BELFRY_HD void operator()(float g, float& w, float& accumulator) const {
    accumulator = accumulator + g * g;
    w = w - adagrad_move(rate, g, accumulator, epsilon, kPlace);
  }
};

/// mean_d g_d^2 in a fixed order: 16 partial sums over d mod 16, added as a binary tree.
BELFRY_HD inline float mean_square(const float* g, std::int64_t width) {
  constexpr int kLanes = 16;
  float sum[kLanes] = {};
  std::int64_t d = 0;
  for (; d + kLanes <= width; d += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sum[lane] += g[d + lane] * g[d + lane];
  }
  for (int lane = 0; d + lane < width; ++lane) sum[lane] += g[d + lane] * g[d + lane];
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
  }
  return sum[0] / static_cast<float>(width);
}

struct AdamConstants {
  float rate;  ///< lr sqrt(1 - b2^t) / (1 - b1^t)
  float one_minus_beta_1, one_minus_beta_2;
  float epsilon;
  float decay;  ///< lr weight_decay
};

BELFRY_HD inline AdamConstants adam_constants(const OptimizerOptions& options,
                                              const StepState& state) {
  const double t = static_cast<double>(state.step + 1);
  const double rate = state.learning_rate[options.group];
  // Powers of the float32 betas, as in the moments: 1 - 0.999f differs from 0.001 by 1e-5 of itself.
  const double left_1 = 1.0 - std::pow(static_cast<double>(options.beta_1), t);
  const double left_2 = 1.0 - std::pow(static_cast<double>(options.beta_2), t);
  return {static_cast<float>(rate * std::sqrt(left_2) / left_1), 1.0f - options.beta_1,
          1.0f - options.beta_2, options.epsilon,
          state.learning_rate[options.group] * options.weight_decay};
}

BELFRY_HD inline void adam_moments(const AdamConstants& c, float g, float& m, float& v) {
  m = flush_subnormal(m + c.one_minus_beta_1 * (g - m));
  v = flush_subnormal(v + c.one_minus_beta_2 * (g * g - v));
}

/// Without momentum so far nothing moves, even where epsilon is 0.
BELFRY_HD inline float adam_move(const AdamConstants& c, float w, float m, float v) {
  const float root = std::sqrt(v) + c.epsilon;
  const float move = c.rate * m / root;
  return w - c.decay * w - (root == 0.0f ? 0.0f : move);
}

struct AdamRule : AdamConstants {
  BELFRY_HD void operator()(float g, float& w, float& m, float& v) const {
    adam_moments(*this, g, m, v);
    w = adam_move(*this, w, m, v);
  }
};

struct AmsgradRule : AdamConstants {
  BELFRY_HD void operator()(float g, float& w, float& m, float& v, float& largest_v) const {
    adam_moments(*this, g, m, v);
    const float seen = largest_v;
    largest_v = seen > v ? seen : v;
    w = adam_move(*this, w, m, largest_v);
  }
};

struct RmspropConstants {
  float rate, one_minus_rho, momentum;
  float inner,
      outer;  ///< epsilon inside and after the root; the other one is 0, which adds nothing
};

BELFRY_HD inline RmspropConstants rmsprop_constants(const OptimizerOptions& options,
                                                    const StepState& state) {
  const bool inside = options.epsilon_place == EpsilonPlace::inside_root;
  return {state.learning_rate[options.group], 1.0f - options.rho, options.momentum,
          inside ? options.epsilon : 0.0f, inside ? 0.0f : options.epsilon};
}

/// lr g over the root of the mean square or variance; 0 where that is 0.
BELFRY_HD inline float rmsprop_move(const RmspropConstants& c, float g, float d) {
  const float root = std::sqrt(d + c.inner) + c.outer;
  const float move = c.rate * g / root;
  return root == 0.0f ? 0.0f : move;
}
BELFRY_HD inline void rmsprop_moment(const RmspropConstants& c, float x, float& mean) {
  mean = flush_subnormal(mean + c.one_minus_rho * (x - mean));
}
/// Rounding may leave less than 0 of a variance.
BELFRY_HD inline float variance(float mean_square, float mean) {
  const float d = mean_square - mean * mean;
  return d > 0.0f ? d : 0.0f;
}
BELFRY_HD inline void follow(const RmspropConstants& c, float move, float& w, float& velocity) {
  velocity = flush_subnormal(c.momentum * velocity + move);
  w = w - velocity;
}

/// By its slots: mean square v, mean m where centered, velocity u where there is momentum.
template <bool kCentered, bool kMomentum>
struct RmspropRule;
template <>
struct RmspropRule<false, false> : RmspropConstants {
  BELFRY_HD void operator()(float g, float& w, float& v) const {
    rmsprop_moment(*this, g * g, v);
    w = w - rmsprop_move(*this, g, v);
  }
};
template <>
struct RmspropRule<false, true> : RmspropConstants {
  BELFRY_HD void operator()(float g, float& w, float& v, float& u) const {
    rmsprop_moment(*this, g * g, v);
    follow(*this, rmsprop_move(*this, g, v), w, u);
  }
};
template <>
struct RmspropRule<true, false> : RmspropConstants {
  BELFRY_HD void operator()(float g, float& w, float& v, float& m) const {
    rmsprop_moment(*this, g * g, v);
    rmsprop_moment(*this, g, m);
    w = w - rmsprop_move(*this, g, variance(v, m));
  }
};
template <>
struct RmspropRule<true, true> : RmspropConstants {
  BELFRY_HD void operator()(float g, float& w, float& v, float& m, float& u) const {
    rmsprop_moment(*this, g * g, v);
    rmsprop_moment(*this, g, m);
    follow(*this, rmsprop_move(*this, g, variance(v, m)), w, u);
  }
};

struct FtrlConstants {
  float rate, l1, twice_l2, twice_shrinkage, beta;
  float exponent;  ///< -learning_rate_power
};

BELFRY_HD inline FtrlConstants ftrl_constants(const OptimizerOptions& options,
                                              const StepState& state) {
  return {state.learning_rate[options.group], options.l1,   2.0f * options.l2,
          2.0f * options.l2_shrinkage,        options.beta, -options.learning_rate_power};
}

/// kRoot: the exponent is 0.5, Keras's default. Other powers are taken in double, whose rounding to float32
/// hides how the library rounds, but for rare cases.
template <bool kRoot>
struct FtrlRule : FtrlConstants {
  BELFRY_HD float power(float n) const {
    if constexpr (kRoot) return std::sqrt(n);
    return static_cast<float>(std::pow(static_cast<double>(n), static_cast<double>(exponent)));
  }
  BELFRY_HD void operator()(float g, float& w, float& n, float& z) const {
    const float grown = n + g * g;
    const float root = power(grown);
    const float linear =
        flush_subnormal(z + (g + twice_shrinkage * w) - (root - power(n)) / rate * w);
    const float cut = linear > l1 ? l1 : linear < -l1 ? -l1 : linear;
    const float divisor = (root + beta) / rate + twice_l2;
    const float moved = (cut - linear) / divisor;
    // Without a rate, or any gradient so far, nothing moves.
    const bool still = rate == 0.0f;
    w = still || divisor == 0.0f ? w : moved;
    n = still ? n : grown;
    z = still ? z : linear;
  }
};

struct ClippyConstants {
  float rate, epsilon;
  float variable_relative, accumulator_relative, absolute;
};

BELFRY_HD inline ClippyConstants clippy_constants(const OptimizerOptions& options,
                                                  const StepState& state) {
  return {state.learning_rate[options.group], options.epsilon, options.variable_relative_threshold,
          options.accumulator_relative_threshold, options.absolute_threshold};
}

/// Bits of 1.0f.
inline constexpr std::uint32_t kWholeMove = 0x3F800000u;

/// What of its move an element may make at most, as the bits of a float32 that is not negative: their order
/// is that of the values, with NaN behind them. a: the accumulator by which the move is scaled. (A select for
/// elements that do not move would keep the CPU's loop scalar.)
BELFRY_HD inline std::uint32_t clippy_share(const ClippyConstants& c, float g, float w, float a) {
  const float root = std::sqrt(a + c.epsilon);
  const float move = adagrad_move(c.rate, g, a, c.epsilon, EpsilonPlace::inside_root);
  const float limit =
      std::fabs(w) * c.variable_relative + c.accumulator_relative / root + c.absolute;
  return float_bits(limit / std::fabs(move)) & 0x7FFFFFFFu;  // no move: infinite or NaN
}

enum class ClippyAccumulator { standard, clipped, unclipped };

BELFRY_HD inline ClippyAccumulator clippy_accumulator(const OptimizerOptions& options) {
  return options.use_standard_accumulator_update ? ClippyAccumulator::standard
         : options.clip_accumulator_update       ? ClippyAccumulator::clipped
                                                 : ClippyAccumulator::unclipped;
}
/// The accumulator that scales the move.
BELFRY_HD inline float clippy_scale(ClippyAccumulator mode, float g, float a) {
  return mode == ClippyAccumulator::standard ? a + g * g : a;
}

/// factor: the parameter's, at most 1.
template <ClippyAccumulator kMode>
struct ClippyRule : ClippyConstants {
  float factor;
  BELFRY_HD void operator()(float g, float& w, float& a) const {
    const float scale = clippy_scale(kMode, g, a);
    w = w - factor * adagrad_move(rate, g, scale, epsilon, EpsilonPlace::inside_root);
    const float grown = kMode == ClippyAccumulator::clipped ? factor * g : g;
    a = a + grown * grown;
  }
};

}  // namespace belfry
