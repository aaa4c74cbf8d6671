// SPDX-License-Identifier: Apache-2.0
// Keras's SGD, Adagrad, Adam, RMSprop and FTRL, both APIs, dense and sparse, with clipping and schedules; TFRS's
// ClippyAdagrad and CompositeOptimizer; the schedules as tables. The new API is our exact sparse update with epsilon
// inside the root; the legacy one moves listed rows alone under momentum and in FTRL (lazy), and adds epsilon after
// the root, but in RMSprop with momentum.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/schedule.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/tested_clip_gradient.hpp"
#include "tests/support/tested_embedding_bag.hpp"
#include "tests/support/tested_optimizer_step.hpp"

namespace belfry::test {
namespace {

const std::map<std::string, OptimizerKind> kKinds = {
    {"SGD", OptimizerKind::sgd},   {"Adagrad", OptimizerKind::adagrad},
    {"Adam", OptimizerKind::adam}, {"RMSprop", OptimizerKind::rmsprop},
    {"Ftrl", OptimizerKind::ftrl}, {"ClippyAdagrad", OptimizerKind::clippy_adagrad}};
const std::map<std::string, ScheduleKind> kSchedules = {
    {"ExponentialDecay", ScheduleKind::exponential},
    {"InverseTimeDecay", ScheduleKind::inverse_time},
    {"PiecewiseConstantDecay", ScheduleKind::piecewise},
    {"PolynomialDecay", ScheduleKind::polynomial},
    {"CosineDecay", ScheduleKind::cosine},
    {"CosineDecayRestarts", ScheduleKind::cosine_restarts}};

double value_or(const Json& options, const char* key, double otherwise) {
  return options.contains(key) && !options[key].is_null() ? number(options[key]) : otherwise;
}

/// A learning rate: a number, or one of Keras's schedules with its defaults.
struct Rate {
  ScheduleConfig schedule;
  double base = 0;
  float at(std::int64_t step) const { return learning_rate(schedule, base, step); }
};

Rate rate_of(const Json& json) {
  if (!json.is_object()) return {{}, number(json)};
  Rate rate;
  ScheduleConfig& s = rate.schedule;
  s.kind = kSchedules.at(json["class"].get<std::string>());
  rate.base = value_or(json, "initial_learning_rate", 0);
  s.decay_steps = value_or(json, "decay_steps", value_or(json, "first_decay_steps", 0));
  s.decay_rate = value_or(json, "decay_rate", 0);
  s.staircase = value_or(json, "staircase", 0) != 0;
  s.alpha = value_or(json, "alpha", 0);
  s.end_learning_rate = value_or(json, "end_learning_rate", 0.0001);
  s.power = value_or(json, "power", 1);
  s.cycle = value_or(json, "cycle", 0) != 0;
  s.t_mul = value_or(json, "t_mul", 2);
  s.m_mul = value_or(json, "m_mul", 1);
  if (json.contains("boundaries")) s.boundaries = tensor(json["boundaries"]).data;
  if (json.contains("values")) s.values = tensor(json["values"]).data;
  if (json.contains("warmup_target") && !json["warmup_target"].is_null()) {
    s.warmup_target = number(json["warmup_target"]);
    s.warmup_steps = value_or(json, "warmup_steps", 0);
    if (s.warmup_steps == 0) rate.base = s.warmup_target;  // Keras then starts at the target
  }
  check_schedule(s, {});
  return rate;
}

/// A Keras optimizer with its options.
struct Optimizer {
  OptimizerOptions options;
  Rate rate;
  double accumulator = 0;  ///< first value of the slots
  std::optional<double> clipvalue, clipnorm, global_clipnorm;
};

/// All that the options of a case may say; anything else would be ignored in silence.
const std::set<std::string> kOptions = {"learning_rate",
                                        "momentum",
                                        "nesterov",
                                        "beta_1",
                                        "beta_2",
                                        "epsilon",
                                        "amsgrad",
                                        "weight_decay",
                                        "initial_accumulator_value",
                                        "clipvalue",
                                        "clipnorm",
                                        "global_clipnorm",
                                        "rho",
                                        "centered",
                                        "learning_rate_power",
                                        "l1_regularization_strength",
                                        "l2_regularization_strength",
                                        "l2_shrinkage_regularization_strength",
                                        "beta",
                                        "variable_relative_threshold",
                                        "accumulator_relative_threshold",
                                        "absolute_threshold",
                                        "clip_accumulator_update",
                                        "use_standard_accumulator_update"};

/// Options of RMSprop, FTRL and ClippyAdagrad.
void set_special_options(OptimizerOptions& o, const Json& given) {
  const auto real = [&](const char* key, float& value) {
    value = static_cast<float>(value_or(given, key, value));
  };
  real("rho", o.rho);
  o.centered = value_or(given, "centered", 0) != 0;
  real("learning_rate_power", o.learning_rate_power);
  real("l1_regularization_strength", o.l1);
  real("l2_regularization_strength", o.l2);
  real("l2_shrinkage_regularization_strength", o.l2_shrinkage);
  real("beta", o.beta);
  real("variable_relative_threshold", o.variable_relative_threshold);
  real("accumulator_relative_threshold", o.accumulator_relative_threshold);
  real("absolute_threshold", o.absolute_threshold);
  o.clip_accumulator_update = value_or(given, "clip_accumulator_update", 0) != 0;
  o.use_standard_accumulator_update = value_or(given, "use_standard_accumulator_update", 0) != 0;
}

Optimizer optimizer_of(const std::string& name, const std::string& api, const Json& given) {
  for (const auto& [key, value] : given.items()) EXPECT_TRUE(kOptions.count(key)) << key;
  Optimizer out;
  OptimizerOptions& o = out.options;
  const bool legacy = api == "legacy";
  o.kind = kKinds.at(name);
  o.momentum = static_cast<float>(value_or(given, "momentum", 0));
  o.nesterov = value_or(given, "nesterov", 0) != 0;
  o.beta_1 = static_cast<float>(value_or(given, "beta_1", 0.9));
  o.beta_2 = static_cast<float>(value_or(given, "beta_2", 0.999));
  o.epsilon = static_cast<float>(value_or(given, "epsilon", 1e-7));
  o.amsgrad = value_or(given, "amsgrad", 0) != 0;
  o.weight_decay = static_cast<float>(value_or(given, "weight_decay", 0));
  set_special_options(o, given);
  const bool followed = o.kind == OptimizerKind::rmsprop && o.momentum != 0;
  const bool listed = o.kind == OptimizerKind::sgd || o.kind == OptimizerKind::ftrl || followed;
  o.epsilon_place = legacy && !followed ? EpsilonPlace::after_root : EpsilonPlace::inside_root;
  o.sparse = legacy && listed ? SparseUpdate::lazy : SparseUpdate::exact;
  const double standard_rate = o.kind == OptimizerKind::sgd ? 0.01 : 0.001;
  out.rate =
      given.contains("learning_rate") ? rate_of(given["learning_rate"]) : Rate{{}, standard_rate};
  if (has_accumulator(o)) {
    out.accumulator = value_or(given, "initial_accumulator_value", 0.1);
  }
  for (auto [key, limit] :
       {std::pair{"clipvalue", &out.clipvalue}, std::pair{"clipnorm", &out.clipnorm},
        std::pair{"global_clipnorm", &out.global_clipnorm}}) {
    if (given.contains(key) && !given[key].is_null()) *limit = number(given[key]);
  }
  return out;
}

struct Variable {
  HostMatrix w;
  HostMatrix slot[3];
  float factor = -1;  ///< ClippyAdagrad's

  Variable(const Tensor& start, const Optimizer& optimizer)
      : w(start.rows(), start.cols(), start.floats()) {
    for (int s = 0; s < slot_count(optimizer.options); ++s) {
      slot[s] = HostMatrix(w.rows(), w.cols(), 0,
                           s == 0 ? static_cast<float>(optimizer.accumulator) : 0.0f);
    }
  }
  OptimizerSlots slots() { return {slot[0].view(), slot[1].view(), slot[2].view(), &factor}; }
};

/// The gradient of one variable in one step: dense, or rows as they were given (with duplicates).
struct Gradient {
  HostMatrix values;
  std::vector<std::int32_t> ids;
  bool sparse = false;
};

Gradient dense_gradient(const std::vector<float>& values, const HostMatrix& like) {
  return {HostMatrix(like.rows(), like.cols(), values), {}, false};
}

Gradient gradient_at(const Json& json, std::int64_t step, const HostMatrix& like) {
  if (json.contains("indices")) {
    const Tensor ids = tensor(json["indices"][step]), values = tensor(json["values"][step]);
    return {HostMatrix(values.rows(), like.cols(), values.floats()),
            {ids.integers.begin(), ids.integers.end()},
            true};
  }
  const std::vector<float> all = tensor(json).floats();
  const std::int64_t size = like.rows() * like.cols();
  return dense_gradient({all.begin() + step * size, all.begin() + (step + 1) * size}, like);
}

void set_step(const Context& ctx, std::int64_t step, int group, float rate) {
  edit_state(ctx, [&](StepState& state) {
    state.step = step;
    state.learning_rate[group] = rate;
  });
}

/// Clips, then sums duplicates, then updates: the order of Keras.
void apply(const Context& ctx, const Optimizer& optimizer, std::vector<Variable*> variables,
           std::vector<Gradient> gradients) {
  std::vector<Matrix<float>> parts;
  for (Gradient& g : gradients) parts.push_back(g.values.view());
  const auto clip = [&](ClipKind kind, double limit, std::span<const Matrix<float>> of) {
    tested::clip_gradient(ctx, kind, static_cast<float>(limit), of);
  };
  if (optimizer.clipvalue) clip(ClipKind::value, *optimizer.clipvalue, parts);
  if (optimizer.global_clipnorm) clip(ClipKind::norm, *optimizer.global_clipnorm, parts);
  if (optimizer.clipnorm) {
    for (const Matrix<float>& part : parts) clip(ClipKind::norm, *optimizer.clipnorm, {&part, 1});
  }
  for (std::size_t i = 0; i < variables.size(); ++i) {
    Variable& v = *variables[i];
    const Gradient& g = gradients[i];
    if (!g.sparse) {
      tested::optimizer_step(ctx, optimizer.options, v.w.view(), g.values.view(), v.slots());
      continue;
    }
    const std::int64_t nnz = g.values.rows(), capacity = std::min(nnz, v.w.rows());
    const TableUse use{{g.ids.data(), nullptr, nullptr, nnz, nnz}, Pooling::sum, g.values.view()};
    std::vector<std::int32_t> rows(static_cast<std::size_t>(capacity));
    HostMatrix values(capacity, v.w.cols());
    std::int64_t n = 0;
    const RowGradient summed{rows.data(), values.view(), &n, capacity};
    tested::embedding_bag_grad(ctx, {&use, 1}, v.w.rows(), summed);
    tested::optimizer_step(ctx, optimizer.options, v.w.view(), summed, v.slots());
  }
}

void expect_values(const HostMatrix& actual, const std::vector<double>& expected, const Json& c,
                   const std::string& what) {
  const std::vector<float> values = actual.values();
  expect_close({values.begin(), values.end()}, expected, number(c["rtol"]), number(c["atol"]),
               what);
}

/// What TFRS exports of ClippyAdagrad after a step.
void expect_clippy(const Variable& v, const Json& expected, const std::string& name,
                   std::int64_t step, const Json& c) {
  if (!expected.contains("clipping_factor")) return;
  const Tensor sums = tensor(expected["accumulator"][name]);
  const std::int64_t size = sums.cols();
  expect_values(v.slot[0], {sums.data.begin() + step * size, sums.data.begin() + (step + 1) * size},
                c, name + "'s accumulator after step " + std::to_string(step + 1));
  const double factor = tensor(expected["clipping_factor"][name]).data[step];
  EXPECT_NEAR(v.factor, factor, number(c["rtol"]) * factor + number(c["atol"])) << name;
}

/// A sequence of different steps over all variables of the case.
void run_sequence(const Json& c) {
  const Json& params = c["params"];
  const Optimizer optimizer =
      optimizer_of(params["optimizer"], params["api"], params.value("options", Json::object()));
  const Json& expected = c.contains("expected_f64") ? c["expected_f64"] : c["expected"];
  const Context ctx = make_context(2);
  std::vector<std::string> names;
  std::vector<Variable> variables;
  std::map<std::string, Tensor> history;
  for (const auto& [name, start] : c["inputs"]["initial"].items()) {
    names.push_back(name);
    variables.emplace_back(tensor(start), optimizer);
    history[name] = tensor(expected["values"][name]);
  }
  std::vector<Variable*> pointers;
  for (Variable& v : variables) pointers.push_back(&v);
  const std::int64_t steps = history.at(names.at(0)).rows();
  for (std::int64_t step = 0; step < steps; ++step) {
    set_step(ctx, step, 0, optimizer.rate.at(step));
    std::vector<Gradient> gradients;
    for (std::size_t i = 0; i < names.size(); ++i) {
      gradients.push_back(gradient_at(c["inputs"]["gradient_" + names[i]], step, variables[i].w));
    }
    apply(ctx, optimizer, pointers, std::move(gradients));
    for (std::size_t i = 0; i < names.size(); ++i) {
      const Tensor& all = history[names[i]];
      const std::int64_t size = all.cols();
      expect_values(variables[i].w,
                    {all.data.begin() + step * size, all.data.begin() + (step + 1) * size}, c,
                    names[i] + " after step " + std::to_string(step + 1));
      expect_clippy(variables[i], expected, names[i], step, c);
    }
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

/// Ten identical steps; one optimizer, or one a group of variables (CompositeOptimizer).
void run_identical_steps(const Json& c) {
  constexpr int kSteps = 10;
  const Json& params = c["params"];
  Json groups = Json::object();
  if (params.contains("groups")) {
    groups = params["groups"];
  } else {
    groups[params["optimizer"].get<std::string>()] = Json::array();
    for (const auto& [name, start] : c["inputs"]["initial"].items()) {
      groups[params["optimizer"].get<std::string>()].push_back(name);
    }
  }
  const Json& expected = c.contains("expected_f64") ? c["expected_f64"] : c["expected"];
  const Context ctx = make_context(2);
  int group = 0;
  for (const auto& [optimizer_name, members] : groups.items()) {
    Optimizer optimizer =
        optimizer_of(optimizer_name, params["api"], params.value("options", Json::object()));
    optimizer.options.group = group;
    for (const Json& member : members) {
      const std::string name = member;
      Variable v(tensor(c["inputs"]["initial"][name]), optimizer);
      for (int step = 0; step < kSteps; ++step) {
        set_step(ctx, step, group, optimizer.rate.at(step));
        std::vector<Gradient> g;
        g.push_back(dense_gradient(tensor(c["inputs"]["gradient"][name]).floats(), v.w));
        apply(ctx, optimizer, {&v}, std::move(g));
      }
      expect_values(v.w, tensor(expected[name]).data, c, name);
    }
    ++group;
  }
}

/// shrink_by_references: one step of ClippyAdagrad at a rate of 1 from accumulators of 1, whose move is the tensor
/// and whose limits come of the weight (the first reference) and the accumulator (the second, which is constant).
void run_shrink(const Json& c) {
  const Json &params = c["params"], &references = c["inputs"]["references"];
  const Tensor moves = tensor(c["inputs"]["tensor"]);
  const std::vector<double> relative = tensor(params["relative"]).data;
  OptimizerOptions o;
  o.kind = OptimizerKind::clippy_adagrad;
  o.epsilon = 0;
  o.variable_relative_threshold = 0;
  o.absolute_threshold = static_cast<float>(number(params["absolute"]));
  std::vector<float> w(moves.data.size(), 0.0f);
  if (!references.empty()) {
    o.variable_relative_threshold = static_cast<float>(relative.at(0));
    const std::vector<float> first = tensor(references[0]).floats();
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = first[first.size() == 1 ? 0 : i];
  }
  if (references.size() > 1) {
    const std::vector<double> second = tensor(references[1]).data;
    ASSERT_EQ(second.size(), 1u);
    o.accumulator_relative_threshold = static_cast<float>(relative.at(1) * std::abs(second[0]));
  }
  ASSERT_LE(references.size(), 2u);
  const auto n = static_cast<std::int64_t>(w.size());
  HostMatrix weights(1, n, w), sums(1, n, 0, 1.0f);
  const HostMatrix g(1, n, moves.floats());
  float factor = -1;
  const Context ctx = make_context(1);
  set_step(ctx, 0, 0, 1.0f);
  tested::optimizer_step(ctx, o, weights.view(), Matrix<const float>(g.view()),
                         {sums.view(), {}, {}, &factor});
  std::vector<double> value;
  for (std::int64_t i = 0; i < n; ++i) value.push_back(double{w[i]} - double{weights(0, i)});
  const double rtol = number(c["rtol"]), atol = number(c["atol"]);
  expect_close(value, tensor(c["expected"]["value"]).data, rtol, atol, "value");
  expect_close({factor}, {number(c["expected"]["scale"])}, rtol, atol, "scale");
}

/// One ClippyAdagrad step of a dense variable and of a row of a table.
void run_clippy_step(const Json& c) {
  const Optimizer optimizer = optimizer_of("ClippyAdagrad", "tfrs", c["params"]["options"]);
  const Json& expected = c["expected"];
  const Context ctx = make_context(2);
  set_step(ctx, 0, 0, optimizer.rate.at(0));
  Variable x(tensor(c["inputs"]["x"]), optimizer), table(tensor(c["inputs"]["table"]), optimizer);
  const std::vector<float> gradient = tensor(c["inputs"]["gradient"]).floats();
  const auto width = static_cast<std::int64_t>(gradient.size());
  std::vector<Gradient> gradients;
  gradients.push_back(dense_gradient(gradient, x.w));
  gradients.push_back({HostMatrix(1, width, gradient), {1}, true});
  apply(ctx, optimizer, {&x, &table}, std::move(gradients));
  expect_values(x.w, tensor(expected["x"]).data, c, "x");
  expect_values(table.w, tensor(expected["table"]).data, c, "table");
  expect_values(x.slot[0], tensor(expected["accumulator_x"]).data, c, "accumulator of x");
  expect_values(table.slot[0], tensor(expected["accumulator_table"]).data, c, "of the table");
  const std::vector<double> factor = {number(expected["clipping_factor"])};
  for (const Variable* v : {&x, &table}) {
    expect_close({v->factor}, factor, number(c["rtol"]), number(c["atol"]), "factor");
  }
}

void run_schedule(const Json& c) {
  const Rate rate = rate_of(c["params"]["options"]);
  std::vector<double> actual;
  for (const std::int64_t step : tensor(c["inputs"]["step"]).integers) {
    actual.push_back(rate.at(step));
  }
  const Json& expected = c.contains("expected_f64") ? c["expected_f64"] : c["expected"];
  expect_close(actual, tensor(expected["value"]).data, number(c["rtol"]), number(c["atol"]),
               "rate");
}

enum class Form { sequence, identical_steps, schedule, shrink, clippy_step, unsupported };

Form form_of(const Json& c) {
  const Json& params = c["params"];
  const Json options = params.value("options", Json::object());
  if (options.contains("class")) {
    return kSchedules.count(options["class"].get<std::string>()) ? Form::schedule
                                                                 : Form::unsupported;
  }
  if (params.contains("relative")) return Form::shrink;
  if (c["inputs"].contains("table")) return Form::clippy_step;
  std::vector<std::string> optimizers;
  if (params.contains("optimizer")) optimizers.push_back(params["optimizer"]);
  if (params.contains("groups")) {
    for (const auto& [name, members] : params["groups"].items()) optimizers.push_back(name);
  }
  if (optimizers.empty()) return Form::unsupported;
  for (const std::string& name : optimizers) {
    if (kKinds.count(name) == 0) return Form::unsupported;
  }
  return c["inputs"].contains("gradient") ? Form::identical_steps : Form::sequence;
}

template <class F>
void for_each_case(F&& f) {
  for (const auto& path : golden_files("optimizers")) {
    const Json file = load_json(path);
    for (const Json& c : file["cases"]) {
      SCOPED_TRACE(path.filename().string() + ": " + c["name"].get<std::string>());
      f(c);
    }
  }
}

TEST(Optimizers, AllCases) {
  int ran = 0;
  for_each_case([&ran](const Json& c) {
    const Form form = form_of(c);
    if (form == Form::sequence) run_sequence(c);
    if (form == Form::identical_steps) run_identical_steps(c);
    if (form == Form::schedule) run_schedule(c);
    if (form == Form::shrink) run_shrink(c);
    if (form == Form::clippy_step) run_clippy_step(c);
    EXPECT_NE(form, Form::unsupported);
    ++ran;
  });
  EXPECT_EQ(ran, 161);
  RecordProperty("cases", ran);
  std::cout << ran << " cases\n";
}

TEST(Optimizers, RowsThatOnlyMomentumMoves) {
  // The file says which rows move without a gradient; our choice of exact and lazy must agree.
  for_each_case([](const Json& c) {
    if (form_of(c) != Form::sequence || !c.contains("untouched_rows")) return;
    const Optimizer o =
        optimizer_of(c["params"]["optimizer"], c["params"]["api"], c["params"]["options"]);
    const bool exact = o.options.sparse == SparseUpdate::exact;
    const bool moves = o.options.kind == OptimizerKind::adam || o.options.momentum != 0.0f ||
                       o.options.l2_shrinkage != 0.0f;
    EXPECT_EQ(c["untouched_rows"]["row_4_moves_between_its_steps_3_and_9"].get<bool>(),
              moves && exact);
    // FTRL computes a weight from its sums alone: without any gradient 0.
    EXPECT_EQ(c["untouched_rows"]["row_5_never_in_a_gradient_changes"].get<bool>(),
              o.options.kind == OptimizerKind::ftrl && exact);
  });
}

}  // namespace
}  // namespace belfry::test
