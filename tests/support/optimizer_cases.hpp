// SPDX-License-Identifier: Apache-2.0
// The optimizers that tests go through.
#pragma once

#include <string>
#include <vector>

#include "kernels/optimizer_step/optimizer_step.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::test {

struct NamedOptions {
  std::string name;
  OptimizerOptions options;
};

/// The update to be made, and the rate of group 0.
inline void set_step(const Context& ctx, std::int64_t step, float rate) {
  edit_state(ctx, [&](StepState& state) {
    state.step = step;
    state.learning_rate[0] = rate;
  });
}

/// Every kind of optimizer, with every option that changes its formula.
inline std::vector<NamedOptions> all_options() {
  std::vector<NamedOptions> all;
  const auto add = [&all](const std::string& name, OptimizerKind kind, auto&& set) {
    OptimizerOptions o;
    o.kind = kind;
    set(o);
    all.push_back({name, o});
  };
  using O = OptimizerOptions&;
  add("sgd", OptimizerKind::sgd, [](O) {});
  add("momentum", OptimizerKind::sgd, [](O o) { o.momentum = 0.9f; });
  add("nesterov", OptimizerKind::sgd, [](O o) { o.momentum = 0.8f, o.nesterov = true; });
  add("adagrad", OptimizerKind::adagrad, [](O) {});
  add("adagrad after root", OptimizerKind::adagrad,
      [](O o) { o.epsilon = 0.01f, o.epsilon_place = EpsilonPlace::after_root; });
  add("adagrad epsilon 0", OptimizerKind::adagrad, [](O o) { o.epsilon = 0; });
  add("rowwise", OptimizerKind::rowwise_adagrad, [](O) {});
  add("rowwise after root", OptimizerKind::rowwise_adagrad,
      [](O o) { o.epsilon = 0.01f, o.epsilon_place = EpsilonPlace::after_root; });
  add("adam", OptimizerKind::adam, [](O) {});
  add("adam betas", OptimizerKind::adam,
      [](O o) { o.beta_1 = 0.5f, o.beta_2 = 0.9f, o.epsilon = 1e-3f; });
  add("amsgrad", OptimizerKind::adam, [](O o) { o.amsgrad = true, o.beta_2 = 0.9f; });
  add("adamw", OptimizerKind::adam, [](O o) { o.weight_decay = 0.3f; });
  return all;
}

}  // namespace belfry::test
