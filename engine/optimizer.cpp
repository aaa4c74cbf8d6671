// SPDX-License-Identifier: Apache-2.0
#include "engine/optimizer.hpp"

#include <algorithm>

#include "engine/schedule.hpp"
#include "kernels/clip_gradient/clip_gradient.hpp"
#include "kernels/embedding_update/embedding_update.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"

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
    if (parameter.dense_gradient()) parts = {parameter.gradient_matrix()};
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

/// The gradient of a table as distinct rows, whose values lie in the arena.
RowGradient rows_of_uses(const Context& ctx, const Parameter& parameter,
                         const std::vector<TableUse>& uses, const RowPlan& plan) {
  const std::int64_t size = checked_product(plan.capacity, parameter.cols, "a table's gradient");
  const Matrix<float> values(ctx.arena().take<float>(size), plan.capacity, parameter.cols);
  embedding_bag_grad(ctx, uses, plan, values);
  return {plan.rows, values, plan.n, plan.capacity};
}

/// Calls f with the parameter's values as they are stored.
template <class F>
void with_values(Parameter& parameter, F&& f) {
  if (parameter.half) {
    f(parameter.matrix16());
  } else {
    f(parameter.matrix());
  }
}
template <class T>
Matrix<const T> constant(Matrix<T> m) {
  return m;
}
}  // namespace

/// Penalties whose gradient has every row, and those gradients of tables as a whole.
void Optimizer::penalise(const Context& ctx, const NetworkGraph& graph,
                         std::span<const RowPlan> plans, double* loss) const {
  for (int p = 0; p < registry_.size(); ++p) {
    Parameter& parameter = registry_.at(p);
    if (parameter.penalty.none() || !parameter.dense_gradient()) continue;
    const Matrix<float> gradient = parameter.gradient_matrix();
    if (parameter.table) {
      ArenaScope scope(ctx);
      const std::vector<TableUse> uses = graph.uses_of(p);
      const RowPlan plan = plans.empty() ? plan_of(ctx, uses, parameter.rows) : plans[p];
      set_zero(ctx, gradient);
      add_rows(ctx, rows_of_uses(ctx, parameter, uses, plan), gradient);
    }
    with_values(parameter, [&](auto values) {
      penalty(ctx, parameter.penalty, constant(values), gradient, loss);
    });
  }
}

void Optimizer::step_dense(const Context& ctx, Parameter& parameter,
                           const OptimizerSlots& slots) const {
  if (!parameter.half) {
    return optimizer_step(ctx, parameter.optimizer, parameter.matrix(),
                          Matrix<const float>(parameter.gradient_matrix()), slots);
  }
  const RowGradient all{parameter.every_row.data(), parameter.gradient_matrix(),
                        parameter.row_count.data(), parameter.rows};
  optimizer_step(ctx, parameter.optimizer, parameter.matrix16(), all, slots);
}

void Optimizer::step(const Context& ctx, const NetworkGraph& graph, std::span<const RowPlan> plans,
                     double* loss) {
  penalise(ctx, graph, plans, loss);
  clip(ctx, graph);
  for (int p = 0; p < registry_.size(); ++p) {
    Parameter& parameter = registry_.at(p);
    OptimizerSlots slots;
    Matrix<float>* slot[] = {&slots.first, &slots.second, &slots.third};
    for (std::size_t s = 0; s < parameter.slots.size(); ++s) {
      *slot[s] = parameter.slots[s].matrix(parameter.rows,
                                           slot_width(parameter.optimizer, parameter.cols));
    }
    if (parameter.dense_gradient()) {
      step_dense(ctx, parameter, slots);
    } else {
      step_table(ctx, parameter, slots, graph.uses_of(p), plans.empty() ? nullptr : &plans[p],
                 loss);
    }
  }
}

void Optimizer::step_table(const Context& ctx, Parameter& parameter, const OptimizerSlots& slots,
                           const std::vector<TableUse>& uses, const RowPlan* plan,
                           double* loss) const {
  ArenaScope scope(ctx);
  RowPlan made;
  if (plan == nullptr) {
    made = plan_of(ctx, uses, parameter.rows);
    plan = &made;
  }
  with_values(parameter, [&](auto values) {
    if (parameter.penalty.none()) {
      return embedding_update(ctx, parameter.optimizer, uses, *plan, values, slots);
    }
    const RowGradient gradient = rows_of_uses(ctx, parameter, uses, *plan);
    penalty_of_rows(ctx, parameter.penalty, constant(values), gradient, loss);
    optimizer_step(ctx, parameter.optimizer, values, gradient, slots);
  });
}

}  // namespace belfry
