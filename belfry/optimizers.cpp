// SPDX-License-Identifier: Apache-2.0
#include "belfry/optimizers.hpp"

namespace belfry {

namespace {

OptimizerGroupConfig base(const std::string& preset, OptimizerKind kind,
                          const std::optional<double>& learning_rate) {
  OptimizerGroupConfig group = default_optimizer(preset, kind);
  if (learning_rate) group.learning_rate = *learning_rate;
  return group;
}

template <class T>
OptimizerGroupConfig adagrad(const T& o, const std::string& preset, OptimizerKind kind) {
  OptimizerGroupConfig group = base(preset, kind, o.learning_rate);
  group.initial_accumulator_value = o.initial_accumulator_value;
  group.options.epsilon = static_cast<float>(o.epsilon);
  return group;
}

}  // namespace

OptimizerGroupConfig SGD::config(const std::string& preset) const {
  OptimizerGroupConfig group = base(preset, OptimizerKind::sgd, learning_rate);
  group.options.momentum = static_cast<float>(momentum);
  group.options.nesterov = nesterov;
  return group;
}

OptimizerGroupConfig Adagrad::config(const std::string& preset) const {
  return adagrad(*this, preset, OptimizerKind::adagrad);
}

OptimizerGroupConfig RowwiseAdagrad::config(const std::string& preset) const {
  return adagrad(*this, preset, OptimizerKind::rowwise_adagrad);
}

OptimizerGroupConfig Adam::config(const std::string& preset) const {
  OptimizerGroupConfig group = base(preset, OptimizerKind::adam, learning_rate);
  group.options.beta_1 = static_cast<float>(beta_1);
  group.options.beta_2 = static_cast<float>(beta_2);
  group.options.epsilon = static_cast<float>(epsilon);
  group.options.weight_decay = static_cast<float>(weight_decay);
  return group;
}

}  // namespace belfry
