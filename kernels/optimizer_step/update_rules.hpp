// SPDX-License-Identifier: Apache-2.0
// The scalar maths of optimizer_step, shared by its CPU and CUDA files. A rule updates one element;
// its constants are those of one step. Products and sums are not fused and roots and quotients are
// the correctly rounded ones, so that vector width and backend do not change a bit.
#pragma once

#include <cmath>
#include <cstdint>

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

}  // namespace belfry
