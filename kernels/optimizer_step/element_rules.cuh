// SPDX-License-Identifier: Apache-2.0
// The rules of update_rules.hpp as kernels take them: chosen by type, made once a block.
#pragma once

#include "kernels/core/simt.hpp"
#include "kernels/optimizer_step/optimizer_step.hpp"
#include "kernels/optimizer_step/update_rules.hpp"

namespace belfry::cuda {

/// What the constants of a step come of.
struct StepInputs {
  const OptimizerOptions& options;
  const StepState& state;
  const float* clipping_factor;  ///< clippy_adagrad
  __device__ float rate() const { return state.learning_rate[options.group]; }
};

// A rule with its constants of the step: make() once a block, operator() for each element.

struct SgdUpdate {
  static constexpr int kSlots = 0;
  SgdRule rule;
  __device__ static SgdUpdate make(const StepInputs& in) { return {{in.rate()}}; }
  __device__ void operator()(float g, float& w, float (&)[1]) const { rule(g, w); }
};

struct MomentumUpdate {
  static constexpr int kSlots = 1;
  float rate, momentum;
  bool nesterov;
  __device__ static MomentumUpdate make(const StepInputs& in) {
    return {in.rate(), in.options.momentum, in.options.nesterov};
  }
  __device__ void operator()(float g, float& w, float (&slot)[1]) const {
    if (nesterov) {
      MomentumRule<true>{rate, momentum}(g, w, slot[0]);
    } else {
      MomentumRule<false>{rate, momentum}(g, w, slot[0]);
    }
  }
};

struct AdagradUpdate {
  static constexpr int kSlots = 1;
  float rate, epsilon;
  bool inside;
  __device__ static AdagradUpdate make(const StepInputs& in) {
    return {in.rate(), in.options.epsilon, in.options.epsilon_place == EpsilonPlace::inside_root};
  }
  __device__ void operator()(float g, float& w, float (&slot)[1]) const {
    if (inside) {
      AdagradRule<EpsilonPlace::inside_root>{rate, epsilon}(g, w, slot[0]);
    } else {
      AdagradRule<EpsilonPlace::after_root>{rate, epsilon}(g, w, slot[0]);
    }
  }
};

struct AdamUpdate {
  static constexpr int kSlots = 2;
  AdamRule rule;
  __device__ static AdamUpdate make(const StepInputs& in) {
    return {{adam_constants(in.options, in.state)}};
  }
  __device__ void operator()(float g, float& w, float (&slot)[2]) const {
    rule(g, w, slot[0], slot[1]);
  }
};

struct AmsgradUpdate {
  static constexpr int kSlots = 3;
  AmsgradRule rule;
  __device__ static AmsgradUpdate make(const StepInputs& in) {
    return {{adam_constants(in.options, in.state)}};
  }
  __device__ void operator()(float g, float& w, float (&slot)[3]) const {
    rule(g, w, slot[0], slot[1], slot[2]);
  }
};

template <bool kCentered, bool kMomentum>
struct RmspropUpdate {
  static constexpr int kSlots = 1 + (kCentered ? 1 : 0) + (kMomentum ? 1 : 0);
  RmspropRule<kCentered, kMomentum> rule;
  __device__ static RmspropUpdate make(const StepInputs& in) {
    return {{rmsprop_constants(in.options, in.state)}};
  }
  __device__ void operator()(float g, float& w, float (&slot)[kSlots]) const {
    if constexpr (kSlots == 1) {
      rule(g, w, slot[0]);
    } else if constexpr (kSlots == 2) {
      rule(g, w, slot[0], slot[1]);
    } else {
      rule(g, w, slot[0], slot[1], slot[2]);
    }
  }
};

template <bool kRoot>
struct FtrlUpdate {
  static constexpr int kSlots = 2;
  FtrlRule<kRoot> rule;
  __device__ static FtrlUpdate make(const StepInputs& in) {
    return {{ftrl_constants(in.options, in.state)}};
  }
  __device__ void operator()(float g, float& w, float (&slot)[2]) const {
    rule(g, w, slot[0], slot[1]);
  }
};

struct ClippyUpdate {
  static constexpr int kSlots = 1;
  ClippyConstants constants;
  float factor;
  ClippyAccumulator mode;
  __device__ static ClippyUpdate make(const StepInputs& in) {
    return {clippy_constants(in.options, in.state), *in.clipping_factor,
            clippy_accumulator(in.options)};
  }
  __device__ void operator()(float g, float& w, float (&slot)[1]) const {
    switch (mode) {
      case ClippyAccumulator::standard:
        return ClippyRule<ClippyAccumulator::standard>{constants, factor}(g, w, slot[0]);
      case ClippyAccumulator::clipped:
        return ClippyRule<ClippyAccumulator::clipped>{constants, factor}(g, w, slot[0]);
      case ClippyAccumulator::unclipped:
        return ClippyRule<ClippyAccumulator::unclipped>{constants, factor}(g, w, slot[0]);
    }
  }
};

template <class F>
void with_rmsprop_rule(const OptimizerOptions& options, F&& f) {
  const bool momentum = options.momentum != 0.0f;
  if (options.centered) {
    return momentum ? f(RmspropUpdate<true, true>{}) : f(RmspropUpdate<true, false>{});
  }
  return momentum ? f(RmspropUpdate<false, true>{}) : f(RmspropUpdate<false, false>{});
}

/// Calls f(rule) with an object of the rule's type, for a rule that needs a row's gradient alone.
template <class F>
void with_element_rule(const OptimizerOptions& options, F&& f) {
  switch (options.kind) {
    case OptimizerKind::sgd:
      return options.momentum == 0.0f ? f(SgdUpdate{}) : f(MomentumUpdate{});
    case OptimizerKind::adagrad:
      return f(AdagradUpdate{});
    case OptimizerKind::adam:
      return options.amsgrad ? f(AmsgradUpdate{}) : f(AdamUpdate{});
    case OptimizerKind::rmsprop:
      return with_rmsprop_rule(options, f);
    case OptimizerKind::ftrl:
      return options.learning_rate_power == -0.5f ? f(FtrlUpdate<true>{}) : f(FtrlUpdate<false>{});
    case OptimizerKind::rowwise_adagrad:
    case OptimizerKind::clippy_adagrad:
      break;
  }
}

}  // namespace belfry::cuda
