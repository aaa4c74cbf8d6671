// SPDX-License-Identifier: Apache-2.0
#include "engine/optimizer.hpp"

#include <algorithm>

#include "engine/schedule.hpp"
#include "kernels/clip_gradient/clip_gradient.hpp"
#include "kernels/embedding_update/embedding_update.hpp"

namespace belfry {

Optimizer::Optimizer(const OptimizerConfig& config, ParameterRegistry& registry)
    : config_(config), registry_(registry) {
  require(config.groups.size() < kMaxParameterGroups, "Optimizer: too many parameter groups");
  registry.prepare_training(config);
}

void Optimizer::set_learning_rates(StepState& state) const {
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

void Optimizer::step(const Context& ctx, const NetworkGraph& graph,
                     std::span<const RowPlan> plans) {
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
      step_table(ctx, parameter, slots, graph.uses_of(p), plans.empty() ? nullptr : &plans[p]);
    } else {
      optimizer_step(ctx, parameter.optimizer, parameter.matrix(), parameter.gradient_matrix(),
                     slots);
    }
  }
}

namespace {
RowPlan plan_of(const Context& ctx, const std::vector<TableUse>& uses, std::int64_t table_rows) {
  std::vector<TableIds> ids;
  std::int64_t nnz = 0;
  bool scales = false;
  for (const TableUse& use : uses) {
    ids.push_back({use.ids, use.pooling});
    nnz += use.ids.nnz;
    scales |= has_scales(ids.back());
  }
  const RowPlan plan = take_row_plan(ctx.arena(), nnz, table_rows, scales);
  row_plan(ctx, ids, table_rows, {&plan, 1});
  return plan;
}
}  // namespace

void Optimizer::step_table(const Context& ctx, Parameter& parameter, const OptimizerSlots& slots,
                           const std::vector<TableUse>& uses, const RowPlan* plan) const {
  ArenaScope scope(ctx);
  RowPlan made;
  if (plan == nullptr) {
    made = plan_of(ctx, uses, parameter.rows);
    plan = &made;
  }
  if (parameter.half) {
    embedding_update(ctx, parameter.optimizer, uses, *plan, parameter.matrix16(), slots);
  } else {
    embedding_update(ctx, parameter.optimizer, uses, *plan, parameter.matrix(), slots);
  }
}

}  // namespace belfry
