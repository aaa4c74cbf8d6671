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

  /// One update of every parameter from the gradients of graph.backward(): learning rates by schedule,
  /// clipping, one gradient list per table (from all its uses, deduplicated once), then the steps. Counts
  /// the step in ctx.state().
  void step(const Context& ctx, const NetworkGraph& graph);

 private:
  void set_learning_rates(const Context& ctx) const;
  void clip(const Context& ctx, const NetworkGraph& graph) const;
  void step_table(const Context& ctx, Parameter& parameter, const OptimizerSlots& slots,
                  const std::vector<TableUse>& uses) const;

  OptimizerConfig config_;
  ParameterRegistry& registry_;
};

}  // namespace belfry
