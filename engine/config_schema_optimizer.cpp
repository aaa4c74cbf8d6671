// SPDX-License-Identifier: Apache-2.0
// [optimizer], [[optimizer.group]] and schedules of the model file.
#include "engine/config_schema.hpp"

#include <limits>

namespace belfry::schema {
namespace {

const Words<OptimizerKind> kOptimizers{"optimizer kind",
                                       {{OptimizerKind::adam, "adam"},
                                        {OptimizerKind::adagrad, "adagrad"},
                                        {OptimizerKind::rowwise_adagrad, "rowwise-adagrad"},
                                        {OptimizerKind::sgd, "sgd"},
                                        {OptimizerKind::rmsprop, "rmsprop"},
                                        {OptimizerKind::ftrl, "ftrl"},
                                        {OptimizerKind::clippy_adagrad, "clippy-adagrad"}},
                                       {}};
constexpr Range kNotPositive{-std::numeric_limits<double>::infinity(), 0, false, false};
const Words<SparseUpdate> kSparse{
    "sparse update", {{SparseUpdate::lazy, "lazy"}, {SparseUpdate::exact, "exact"}}, {}};
const Words<EpsilonPlace> kEpsilonPlaces{
    "epsilon place",
    {{EpsilonPlace::inside_root, "inside-root"}, {EpsilonPlace::after_root, "after-root"}},
    {}};
const Words<ScheduleKind> kSchedules{"schedule kind",
                                     {{ScheduleKind::constant, "constant"},
                                      {ScheduleKind::exponential, "exponential"},
                                      {ScheduleKind::cosine, "cosine"},
                                      {ScheduleKind::inverse_time, "inverse-time"},
                                      {ScheduleKind::polynomial, "polynomial"},
                                      {ScheduleKind::piecewise, "piecewise"},
                                      {ScheduleKind::cosine_restarts, "cosine-restarts"}},
                                     {}};
Field groups(OptimizerConfig& c, const std::string& preset) {
  Field f{"group", ""};
  f.read = [&c, preset](const Reader& r, const Scope& s, const toml::node& node) {
    c.groups.clear();
    read_tables(r, s, "group", "[[optimizer.group]]", node,
                [&](std::size_t, const Scope& inner, const toml::table& t) {
                  if (t.get("match") == nullptr) {
                    refuse(r.place(t), "[[optimizer.group]] needs \"match\"",
                           "such as match = \"*.embedding\"");
                  }
                  OptimizerGroupConfig group = c.main;
                  read_table(
                      r, inner, t, [&group] { return fields(group, true); },
                      [&] {
                        if (group.options.kind != c.main.options.kind) {
                          group = default_optimizer(preset, group.options.kind);
                        }
                      });
                  group.place = r.place(t);
                  c.groups.push_back(std::move(group));
                });
  };
  return f;
}

/// Keys of one kind alone.
Fields special_fields(OptimizerOptions& o) {
  const bool rmsprop = o.kind == OptimizerKind::rmsprop, ftrl = o.kind == OptimizerKind::ftrl;
  const bool clippy = o.kind == OptimizerKind::clippy_adagrad;
  const std::string of_rmsprop = "kind = \"rmsprop\"", of_ftrl = "kind = \"ftrl\"";
  const std::string of_clippy = "kind = \"clippy-adagrad\"";
  return {
      when(rmsprop, of_rmsprop, real("rho", o.rho, kBelowOne, "decay of the mean square")),
      when(rmsprop, of_rmsprop,
           flag("centered", o.centered, "divide by the variance, not the mean square")),
      when(ftrl, of_ftrl,
           real("learning_rate_power", o.learning_rate_power, kNotPositive,
                "how the rate falls with the sums of squares")),
      when(ftrl, of_ftrl,
           real("l1_regularization_strength", o.l1, kNotNegative,
                "weights whose gradients sum to less are 0")),
      when(ftrl, of_ftrl,
           real("l2_regularization_strength", o.l2, kNotNegative,
                "shrinks weights as they are solved for")),
      when(ftrl, of_ftrl,
           real("l2_shrinkage_regularization_strength", o.l2_shrinkage, kNotNegative,
                "l2 that only the linear term sees")),
      when(ftrl, of_ftrl, real("beta", o.beta, kNotNegative, "added to the roots of the sums")),
      when(clippy, of_clippy,
           real("variable_relative_threshold", o.variable_relative_threshold, kNotNegative,
                "share of its value that a weight moves by at most")),
      when(clippy, of_clippy,
           real("accumulator_relative_threshold", o.accumulator_relative_threshold, kNotNegative,
                "the same of 1 / root of its sum of squares")),
      when(clippy, of_clippy,
           real("absolute_threshold", o.absolute_threshold, kNotNegative,
                "added to both: what a weight of 0 may move by")),
      when(clippy, of_clippy,
           flag("clip_accumulator_update", o.clip_accumulator_update,
                "sum the squares of clipped gradients")),
      when(clippy, of_clippy,
           flag("use_standard_accumulator_update", o.use_standard_accumulator_update,
                "sum the squares before the step, as Adagrad does")),
  };
}

}  // namespace

Fields fields(ScheduleConfig& c) {
  using K = ScheduleKind;
  const bool steps = c.kind != K::constant && c.kind != K::piecewise;
  const bool rate = c.kind == K::exponential || c.kind == K::inverse_time;
  const std::string of_steps = "a kind that decays";
  const std::string of_rate = "kind = \"exponential\" or \"inverse-time\"";
  const std::string of_cosine = "kind = \"cosine\"";
  const std::string of_restarts = "kind = \"cosine-restarts\"",
                    of_polynomial = "kind = \"polynomial\"";
  const std::string of_piecewise = "kind = \"piecewise\"";
  const bool cosine = c.kind == K::cosine, restarts = c.kind == K::cosine_restarts;
  const bool polynomial = c.kind == K::polynomial;
  const bool piecewise = c.kind == K::piecewise;
  return {
      kind(choice("kind", c.kind, kSchedules, "")),
      when(steps, of_steps, real("decay_steps", c.decay_steps, kPositive, "")),
      when(rate, of_rate, real("decay_rate", c.decay_rate, kPositive, "")),
      when(rate, of_rate, flag("staircase", c.staircase, "")),
      when(cosine || restarts, of_cosine + " or \"cosine-restarts\"",
           real("alpha", c.alpha, Range{0, 1}, "")),
      when(cosine, of_cosine, real("warmup_target", c.warmup_target, kNotNegative, "")),
      when(cosine, of_cosine, real("warmup_steps", c.warmup_steps, kNotNegative, "")),
      when(polynomial, of_polynomial,
           real("end_learning_rate", c.end_learning_rate, kNotNegative, "")),
      when(polynomial, of_polynomial, real("power", c.power, kPositive, "")),
      when(polynomial, of_polynomial, flag("cycle", c.cycle, "")),
      when(restarts, of_restarts, real("t_mul", c.t_mul, Range{1}, "")),
      when(restarts, of_restarts, real("m_mul", c.m_mul, kPositive, "")),
      when(piecewise, of_piecewise, reals("boundaries", c.boundaries, "")),
      when(piecewise, of_piecewise, reals("values", c.values, "")),
  };
}

Fields fields(OptimizerGroupConfig& c, bool group) {
  using K = OptimizerKind;
  OptimizerOptions& o = c.options;
  const bool sgd = o.kind == K::sgd, adam = o.kind == K::adam, adagrad = o.kind == K::adagrad;
  const bool rmsprop = o.kind == K::rmsprop, ftrl = o.kind == K::ftrl;
  const std::string of_sgd = "kind = \"sgd\"", of_adam = "kind = \"adam\"";
  const std::string of_momentum = "kind = \"sgd\" or \"rmsprop\"";
  const std::string of_place = "kind = \"adagrad\" or \"rmsprop\"";
  const std::string of_accumulator =
      "kind = \"adagrad\", \"rowwise-adagrad\", \"ftrl\" or \"clippy-adagrad\"";
  Fields list;
  if (group) list.push_back(text("match", c.match, "parameters, by name with * and ?"));
  const Fields rest = {
      kind(choice("kind", o.kind, kOptimizers, "the update rule")),
      real("learning_rate", c.learning_rate, kPositive,
           "step size (unset: adagrad and rowwise-adagrad 0.1, sgd 0.01, adam 0.01, under tfrs "
           "0.001, others 0.001)"),
      when(has_accumulator(o), of_accumulator,
           real("initial_accumulator_value", c.initial_accumulator_value, kNotNegative,
                "first value of the sums of squares")),
      when(sgd || rmsprop, of_momentum,
           real("momentum", o.momentum, kBelowOne, "share of the last step")),
      when(sgd, of_sgd, flag("nesterov", o.nesterov, "look ahead along the momentum")),
      when(adam, of_adam, real("beta_1", o.beta_1, kBelowOne, "decay of the mean")),
      when(adam, of_adam, real("beta_2", o.beta_2, kBelowOne, "decay of the mean square")),
      when(!sgd && !ftrl, "another kind than \"sgd\" and \"ftrl\"",
           real("epsilon", o.epsilon, kPositive, "keeps the divisor away from 0")),
      when(adagrad || rmsprop, of_place,
           choice("epsilon_place", o.epsilon_place, kEpsilonPlaces, "where it is added")),
      when(adam, of_adam, flag("amsgrad", o.amsgrad, "divide by the largest mean square so far")),
      when(adam, of_adam,
           real("weight_decay", o.weight_decay, kNotNegative, "decoupled: w -= rate * decay * w")),
  };
  const Fields special = special_fields(o);
  const Fields last = {
      choice("sparse_update", o.sparse, kSparse,
             "table rows without a gradient stay (lazy) or follow their momentum, as dense ones do "
             "(exact)"),
      table(
          "schedule", "[optimizer.schedule]", [&c] { return fields(c.schedule); },
          "of the learning rate over the steps"),
  };
  for (const Fields* part : {&rest, &special, &last}) {
    list.insert(list.end(), part->begin(), part->end());
  }
  return list;
}

Fields fields(OptimizerConfig& c, const std::string& preset) {
  Fields list = fields(c.main, false);
  list.push_back(real("clipvalue", c.clipvalue, kPositive,
                      "each element of each gradient is cut to it (unset: no clipping)", "1.0"));
  list.push_back(real("clipnorm", c.clipnorm, kPositive,
                      "each gradient is scaled down to this norm (unset: no clipping)", "1.0"));
  list.push_back(real("global_clipnorm", c.global_clipnorm, kPositive,
                      "all gradients are scaled down to this joint norm (unset: no clipping)",
                      "1.0"));
  list.push_back(groups(c, preset));
  return list;
}

}  // namespace belfry::schema
