// SPDX-License-Identifier: Apache-2.0
// The optimizers that tests go through, parameters and gradients for them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "kernels/optimizer_step/optimizer_step.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/generate.hpp"

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
  add("rmsprop", OptimizerKind::rmsprop, [](O) {});
  add("rmsprop after root", OptimizerKind::rmsprop,
      [](O o) { o.epsilon = 0.01f, o.epsilon_place = EpsilonPlace::after_root; });
  add("rmsprop momentum", OptimizerKind::rmsprop, [](O o) { o.momentum = 0.9f, o.rho = 0.8f; });
  add("rmsprop centered", OptimizerKind::rmsprop,
      [](O o) { o.centered = true, o.epsilon = 1e-3f; });
  add("rmsprop centered momentum", OptimizerKind::rmsprop,
      [](O o) { o.centered = true, o.momentum = 0.5f, o.epsilon = 1e-3f; });
  add("ftrl", OptimizerKind::ftrl, [](O) {});
  add("ftrl all", OptimizerKind::ftrl,
      [](O o) { o.l1 = 0.3f, o.l2 = 0.05f, o.l2_shrinkage = 0.02f, o.beta = 0.5f; });
  add("ftrl power", OptimizerKind::ftrl, [](O o) { o.learning_rate_power = -0.3f; });
  add("clippy", OptimizerKind::clippy_adagrad, [](O) {});
  add("clippy tight", OptimizerKind::clippy_adagrad, [](O o) {
    o.variable_relative_threshold = 0.01f;
    o.accumulator_relative_threshold = 0.005f;
    o.absolute_threshold = 0.01f;
  });
  add("clippy clipped", OptimizerKind::clippy_adagrad, [](O o) {
    o.absolute_threshold = 0.02f;
    o.clip_accumulator_update = true;
  });
  add("clippy standard", OptimizerKind::clippy_adagrad, [](O o) {
    o.absolute_threshold = 0.02f;
    o.use_standard_accumulator_update = true;
  });
  return all;
}

/// A parameter with its slots, and a float64 copy that the oracle moves.
struct Parameter {
  OptimizerOptions options;
  HostMatrix w, slot[3];
  std::vector<double> w64, slot64[3];

  Parameter(const OptimizerOptions& o, HostMatrix start, std::int64_t padding = 0)
      : options(o), w(std::move(start)) {
    for (int s = 0; s < slot_count(o); ++s) {
      const float first = s == 0 && has_accumulator(o) ? 0.125f : 0.0f;
      slot[s] = HostMatrix(w.rows(), slot_width(o, w.cols()), padding, first);
      const std::vector<float> values = slot[s].values();
      slot64[s].assign(values.begin(), values.end());
    }
    const std::vector<float> values = w.values();
    w64.assign(values.begin(), values.end());
  }
  OptimizerSlots slots() { return {slot[0].view(), slot[1].view(), slot[2].view()}; }
  bool padding_intact() const {
    return w.padding_intact() && slot[0].padding_intact() && slot[1].padding_intact() &&
           slot[2].padding_intact();
  }
};

/// A random list of distinct rows, as embedding_bag_grad makes it.
struct Rows {
  std::vector<std::int32_t> rows;
  HostMatrix values;
  std::int64_t n = 0;
  RowGradient get() { return {rows.data(), values.view(), &n, values.rows()}; }
  std::vector<double> dense(std::int64_t table_rows) const {
    std::vector<double> out(table_rows * values.cols());
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t d = 0; d < values.cols(); ++d)
        out[rows[i] * values.cols() + d] = values(i, d);
    }
    return out;
  }
};

inline Rows random_rows(Random& random, std::int64_t table_rows, std::int64_t width, double share,
                        std::int64_t padding = 0) {
  Rows out;
  for (std::int64_t r = 0; r < table_rows; ++r) {
    if (random.uniform() < share) out.rows.push_back(static_cast<std::int32_t>(r));
  }
  out.n = static_cast<std::int64_t>(out.rows.size());
  out.values = HostMatrix::normal(random, out.n + 2, width, 1, padding);  // capacity above n
  out.rows.resize(out.n + 2, -1);
  return out;
}

}  // namespace belfry::test
