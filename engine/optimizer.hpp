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
  /// penalties, clipping, one gradient list per table (from all its uses, deduplicated once), then the steps.
  /// plans: per parameter, as row_plan made them for this batch; empty: they are made here. loss: the step's,
  /// in the backend's memory, to which the penalties are added; null: they are not told.
  /// As in Keras the gradient of a penalty is clipped with the rest, but for tables with penalty_rows = batch:
  /// there it joins the distinct rows, behind the clipping. Tables with penalty_rows = all have a gradient of
  /// all rows, which costs their size again in memory, and each step a pass over table, gradient and slots.
  void step(const Context& ctx, const NetworkGraph& graph, std::span<const RowPlan> plans = {},
            double* loss = nullptr);

 private:
  void penalise(const Context& ctx, const NetworkGraph& graph, std::span<const RowPlan> plans,
                double* loss) const;
  void clip(const Context& ctx, const NetworkGraph& graph) const;
  void step_dense(const Context& ctx, Parameter& parameter, const OptimizerSlots& slots) const;
  void step_table(const Context& ctx, Parameter& parameter, const OptimizerSlots& slots,
                  const std::vector<TableUse>& uses, const RowPlan* plan, double* loss) const;

  OptimizerConfig config_;
  ParameterRegistry& registry_;
};

}  // namespace belfry
