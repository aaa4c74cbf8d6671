// SPDX-License-Identifier: Apache-2.0
// Optimizer: which parameter takes which step, at what learning rate.
#pragma once

#include "engine/config.hpp"
#include "engine/network.hpp"
#include "engine/parameter_registry.hpp"

namespace belfry {

class Optimizer {
 public:
  /// Chooses each parameter's group and allocates optimizer state in the registry.
  Optimizer(const OptimizerConfig& config, ParameterRegistry& registry);

  /// Sets the learning rates of the update that `state` is for, by schedule.
  void set_learning_rates(StepState& state) const;
  /// One update of every parameter from the gradients of graph.backward(), with the rates in ctx.state():
  /// clipping, one gradient list per table (from all its uses, deduplicated once), then the steps. plans: per
  /// parameter, as row_plan made them for this batch; empty: they are made here.
  void step(const Context& ctx, const NetworkGraph& graph, std::span<const RowPlan> plans = {});

 private:
  void clip(const Context& ctx, const NetworkGraph& graph) const;
  void step_table(const Context& ctx, Parameter& parameter, const OptimizerSlots& slots,
                  const std::vector<TableUse>& uses, const RowPlan* plan) const;

  OptimizerConfig config_;
  ParameterRegistry& registry_;
};

}  // namespace belfry
