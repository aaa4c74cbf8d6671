// SPDX-License-Identifier: Apache-2.0
#include "engine/optimizer.hpp"

#include <algorithm>

#include "engine/schedule.hpp"
#include "kernels/clip_gradient/clip_gradient.hpp"
#include "kernels/embedding_bag/embedding_bag.hpp"
#include "kernels/optimizer_step/optimizer_step.hpp"

namespace belfry {

Optimizer::Optimizer(const OptimizerConfig& config, ParameterRegistry& registry)
    : config_(config), registry_(registry) {
  require(config.groups.size() < kMaxParameterGroups, "Optimizer: too many parameter groups");
  registry.prepare_training(config);
}

void Optimizer::set_learning_rates(const Context& ctx) const {
  StepState& state = *ctx.state();
  state.learning_rate[0] =
      learning_rate(config_.main.schedule, config_.main.learning_rate, state.step);
  for (std::size_t g = 0; g < config_.groups.size(); ++g) {
    state.learning_rate[g + 1] =
        learning_rate(config_.groups[g].schedule, config_.groups[g].learning_rate, state.step);
  }
}

/// Keras clips each variable's gradient as given: rows of a table before duplicates are summed.
void Optimizer::clip(const Context& ctx, const NetworkGraph& graph) const {
  if (!config_.clipvalue && !config_.clipnorm && !config_.global_clipnorm) return;
  std::vector<Matrix<float>> all;
  for (int p = 0; p < registry_.size(); ++p) {
    Parameter& parameter = registry_.at(p);
    std::vector<Matrix<float>> parts = graph.gradient_rows_of(p);
    if (!parameter.table) parts = {parameter.gradient_matrix()};
    if (config_.clipvalue) {
      clip_gradient(ctx, ClipKind::value, static_cast<float>(*config_.clipvalue), parts);
    }
    if (config_.clipnorm) {
      clip_gradient(ctx, ClipKind::norm, static_cast<float>(*config_.clipnorm), parts);
    }
    all.insert(all.end(), parts.begin(), parts.end());
  }
  if (config_.global_clipnorm) {
    clip_gradient(ctx, ClipKind::norm, static_cast<float>(*config_.global_clipnorm), all);
  }
}

void Optimizer::step(const Context& ctx, const NetworkGraph& graph) {
  set_learning_rates(ctx);
  clip(ctx, graph);
  for (int p = 0; p < registry_.size(); ++p) {
    Parameter& parameter = registry_.at(p);
    OptimizerSlots slots;
    Matrix<float>* slot[] = {&slots.first, &slots.second, &slots.third};
    for (std::size_t s = 0; s < parameter.slots.size(); ++s) {
      *slot[s] = parameter.slots[s].matrix(parameter.rows,
                                           slot_width(parameter.optimizer, parameter.cols));
    }
    if (parameter.table) {
      step_table(ctx, parameter, slots, graph.uses_of(p));
    } else {
      optimizer_step(ctx, parameter.optimizer, parameter.matrix(), parameter.gradient_matrix(),
                     slots);
    }
  }
  ++ctx.state()->step;
}

void Optimizer::step_table(const Context& ctx, Parameter& parameter, const OptimizerSlots& slots,
                           const std::vector<TableUse>& uses) const {
  std::int64_t ids = 0;
  for (const TableUse& use : uses) ids += use.ids.nnz;
  ArenaScope scope(ctx);
  RowGradient gradient;
  gradient.capacity = std::min(ids, parameter.rows);
  gradient.rows = ctx.arena().take<std::int32_t>(gradient.capacity);
  gradient.values = {ctx.arena().take<float>(gradient.capacity * parameter.cols), gradient.capacity,
                     parameter.cols};
  gradient.n = ctx.arena().take<std::int64_t>(1);
  embedding_bag_grad(ctx, uses, parameter.rows, gradient);
  optimizer_step(ctx, parameter.optimizer, parameter.matrix(), gradient, slots);
}

}  // namespace belfry
