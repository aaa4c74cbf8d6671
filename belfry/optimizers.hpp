// SPDX-License-Identifier: Apache-2.0
// Optimizers by their Keras names; what is not given has the preset's value. engine/config.hpp's
// OptimizerGroupConfig says every constant, schedules included, and is accepted where these are.
#pragma once

#include <optional>
#include <string>

#include "engine/config.hpp"

namespace belfry {

struct SGD {
  std::optional<double> learning_rate = {};
  double momentum = 0;
  bool nesterov = false;
  OptimizerGroupConfig config(const std::string& preset) const;
};

struct Adagrad {
  std::optional<double> learning_rate = {};
  double initial_accumulator_value = 0.1;
  double epsilon = 1e-7;
  OptimizerGroupConfig config(const std::string& preset) const;
};

/// Adagrad with one sum of squares a row.
struct RowwiseAdagrad {
  std::optional<double> learning_rate = {};
  double initial_accumulator_value = 0.1;
  double epsilon = 1e-7;
  OptimizerGroupConfig config(const std::string& preset) const;
};

struct Adam {
  std::optional<double> learning_rate = {};
  double beta_1 = 0.9, beta_2 = 0.999;
  double epsilon = 1e-7;
  double weight_decay = 0;
  OptimizerGroupConfig config(const std::string& preset) const;
};

}  // namespace belfry
