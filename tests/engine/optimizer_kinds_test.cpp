// SPDX-License-Identifier: Apache-2.0
// RMSprop, FTRL and ClippyAdagrad from the model file to a run that was stopped and resumed.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/config_toml.hpp"
#include "engine/error.hpp"
#include "engine/model_file.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

Config parse(const std::string& optimizer) {
  return parse_config("data.interactions = 'r.csv'\n[optimizer]\n" + optimizer, "m.toml", {});
}

std::string refusal(const std::string& optimizer) {
  try {
    check_config(parse(optimizer));
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::usage);
    return e.what();
  }
  return "accepted";
}

TEST(OptimizerKinds, EveryKeySurvivesPrinting) {
  const Config rmsprop = parse(
      "kind = 'rmsprop'\nrho = 0.8\nmomentum = 0.5\ncentered = true\nepsilon = 0.001\n"
      "epsilon_place = 'after-root'\nsparse_update = 'exact'\n");
  const OptimizerOptions& r = rmsprop.optimizer.main.options;
  EXPECT_EQ(r.kind, OptimizerKind::rmsprop);
  EXPECT_EQ(r.rho, 0.8f);
  EXPECT_EQ(r.momentum, 0.5f);
  EXPECT_TRUE(r.centered);
  EXPECT_EQ(r.epsilon_place, EpsilonPlace::after_root);
  const Config ftrl = parse(
      "kind = 'ftrl'\nlearning_rate_power = -0.25\nl1_regularization_strength = 0.1\n"
      "l2_regularization_strength = 0.2\nl2_shrinkage_regularization_strength = 0.3\nbeta = 0.4\n"
      "initial_accumulator_value = 0.5\n");
  const OptimizerOptions& f = ftrl.optimizer.main.options;
  EXPECT_EQ(f.learning_rate_power, -0.25f);
  EXPECT_EQ(f.l1, 0.1f);
  EXPECT_EQ(f.l2, 0.2f);
  EXPECT_EQ(f.l2_shrinkage, 0.3f);
  EXPECT_EQ(f.beta, 0.4f);
  EXPECT_EQ(ftrl.optimizer.main.initial_accumulator_value, 0.5);
  const Config clippy = parse(
      "kind = 'clippy-adagrad'\nvariable_relative_threshold = 0.2\n"
      "accumulator_relative_threshold = 0.3\nabsolute_threshold = 0.4\n"
      "use_standard_accumulator_update = true\ninitial_accumulator_value = 0\n"
      "[[optimizer.group]]\nmatch = '*.bias'\nclip_accumulator_update = true\n"
      "use_standard_accumulator_update = false\n[[optimizer.group]]\nmatch = '*.kernel'\n"
      "kind = 'ftrl'\n");
  const OptimizerOptions& c = clippy.optimizer.main.options;
  EXPECT_EQ(c.variable_relative_threshold, 0.2f);
  EXPECT_EQ(c.accumulator_relative_threshold, 0.3f);
  EXPECT_EQ(c.absolute_threshold, 0.4f);
  EXPECT_TRUE(c.use_standard_accumulator_update);
  EXPECT_TRUE(clippy.optimizer.groups.at(0).options.clip_accumulator_update);
  EXPECT_EQ(clippy.optimizer.groups.at(1).options.kind, OptimizerKind::ftrl);
  for (const Config& config : {rmsprop, ftrl, clippy}) {
    check_config(config);
    EXPECT_EQ(parse_config(to_toml(config), "m.toml", {}), config);
  }
}

TEST(OptimizerKinds, DefaultsAreThoseOfKeras) {
  for (const std::string kind : {"rmsprop", "ftrl", "clippy-adagrad"}) {
    for (const std::string preset : {"", "preset = 'tfrs'\n"}) {
      const Config c = parse_config(preset + "optimizer.kind = '" + kind + "'\n", "m.toml", {});
      const OptimizerGroupConfig& g = c.optimizer.main;
      EXPECT_EQ(g.learning_rate, 0.001) << kind;
      EXPECT_EQ(g.initial_accumulator_value, 0.1);
      EXPECT_EQ(g.options.epsilon, 1e-7f);
      EXPECT_EQ(g.options.epsilon_place, EpsilonPlace::inside_root);
      EXPECT_EQ(g.options.rho, 0.9f);
      EXPECT_EQ(g.options.momentum, 0.0f);
      EXPECT_FALSE(g.options.centered);
      EXPECT_EQ(g.options.learning_rate_power, -0.5f);
      EXPECT_EQ(g.options.l1 + g.options.l2 + g.options.l2_shrinkage + g.options.beta, 0.0f);
      EXPECT_EQ(g.options.variable_relative_threshold, 0.1f);
      EXPECT_EQ(g.options.accumulator_relative_threshold, 0.0f);
      EXPECT_EQ(g.options.absolute_threshold, 1e-7f);
      EXPECT_EQ(g.options.sparse, preset.empty() ? SparseUpdate::lazy : SparseUpdate::exact);
    }
  }
}

TEST(OptimizerKinds, BadKeysAreRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"kind = 'rmspop'\n",
       "m.toml:3:8: unknown optimizer kind \"rmspop\"; did you mean \"rmsprop\"?"},
      {"kind = 'rmsprop'\nrho = 1\n", "m.toml:4:7: \"rho\" in [optimizer] must be below 1, not 1"},
      {"rho = 0.5\n",
       "m.toml:3:7: \"rho\" in [optimizer] has no meaning here; it needs kind = \"rmsprop\""},
      {"kind = 'sgd'\ncentered = true\n", "m.toml:4:12: \"centered\" in [optimizer] has no"},
      {"kind = 'ftrl'\nlearning_rate_power = 0.5\n",
       "m.toml:4:23: \"learning_rate_power\" in [optimizer] must be"},
      {"kind = 'ftrl'\nbeta = -1\n", "m.toml:4:8: \"beta\" in [optimizer] must be"},
      {"kind = 'ftrl'\nl1_regularisation_strength = 1\n",
       "m.toml:4:1: unknown key \"l1_regularisation_strength\" in [optimizer]; did you mean "
       "\"l1_regularization_strength\"?"},
      {"kind = 'ftrl'\nepsilon = 0.1\n", "m.toml:4:11: \"epsilon\" in [optimizer] has no meaning"},
      {"kind = 'ftrl'\nmomentum = 0.1\n",
       "m.toml:4:12: \"momentum\" in [optimizer] has no meaning here; it needs kind = \"sgd\" or "
       "\"rmsprop\""},
      {"kind = 'adagrad'\nabsolute_threshold = 0.1\n",
       "m.toml:4:22: \"absolute_threshold\" in [optimizer] has no meaning here; it needs kind = "
       "\"clippy-adagrad\""},
      {"kind = 'clippy-adagrad'\nvariable_relative_threshold = -0.1\n", "m.toml:4:31: "},
      {"kind = 'clippy-adagrad'\nepsilon_place = 'after-root'\n",
       "m.toml:4:17: \"epsilon_place\" in [optimizer] has no meaning"},
      {"kind = 'clippy-adagrad'\nuse_standard_accumulator_update = true\n"
       "clip_accumulator_update = true\n",
       "m.toml:5:27: a gradient cannot be clipped for an accumulator that is updated before"},
      {"[[optimizer.group]]\nmatch = '*'\nkind = 'clippy-adagrad'\n"
       "clip_accumulator_update = true\nuse_standard_accumulator_update = true\n",
       "m.toml:6:27: a gradient cannot be clipped"},
  };
  for (const auto& [text, message] : cases) {
    const std::string actual = refusal(text);
    EXPECT_EQ(actual.substr(0, std::string(message).size()), message) << actual;
  }
}

TEST(OptimizerKinds, AGroupHasItsOwnKindAndSlots) {
  Config c = parse(
      "kind = 'clippy-adagrad'\ninitial_accumulator_value = 0.25\n"
      "[[optimizer.group]]\nmatch = 'b*'\nkind = 'ftrl'\ninitial_accumulator_value = 0.5\n"
      "[[optimizer.group]]\nmatch = 'c*'\nkind = 'rmsprop'\ncentered = true\nmomentum = 0.5\n");
  ParameterRegistry r(Backend::cpu);
  for (const char* name : {"a", "b", "c"}) r.add(name, 2, 3, true, {});
  r.prepare_training(c.optimizer);
  const std::vector<std::vector<float>> expected = {{0.25f}, {0.5f, 0}, {0, 0, 0}};
  for (int p = 0; p < 3; ++p) {
    const std::vector<float>& first = expected[static_cast<std::size_t>(p)];
    ASSERT_EQ(r.at(p).slots.size(), first.size());
    for (std::size_t s = 0; s < first.size(); ++s) {
      EXPECT_EQ(host_values(r.at(p).slots[s]), std::vector<float>(6, first[s])) << p << ' ' << s;
    }
    EXPECT_EQ(r.at(p).optimizer.group, p);
  }
}

class OptimizerRun : public testing::TestWithParam<std::vector<std::string>> {};

/// A run learns, and one that was stopped after each of some steps and resumed has the same model.
TEST_P(OptimizerRun, StoppedAndResumedIsTheSameModel) {
  static const SmallRatings ratings(40, 30, 500);
  std::vector<std::string> overrides{"train.epochs=4", "train.batch_size=64"};
  overrides.insert(overrides.end(), GetParam().begin(), GetParam().end());
  const TempFolder folder;
  const Config config = ratings.config(overrides);
  Recorder whole;
  const Context ctx(Backend::cpu, 2);
  const RunResult expected = train_run(ctx, config, folder / "whole", whole, {});
  ASSERT_EQ(expected.outcome, TrainOutcome::finished);
  EXPECT_LT(whole.epochs.back().loss_mean, whole.epochs.front().loss_mean);
  for (const std::int64_t stop : {1, 7}) {
    const auto root = folder / ("stopped_" + std::to_string(stop));
    Recorder recorder, rest;
    std::stop_source source;
    recorder.on_step = [&](const StepReport&) {
      if (recorder.steps == stop) source.request_stop();
    };
    ASSERT_EQ(
        train_run(Context(Backend::cpu, 1), config, root, recorder, source.get_token()).outcome,
        TrainOutcome::stopped);
    const RunResult end = resume_run(ctx, root, {}, rest, {});
    EXPECT_EQ(end.outcome, TrainOutcome::finished);
    EXPECT_EQ(end.model_sha256, expected.model_sha256) << stop;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, OptimizerRun,
    testing::Values(
        std::vector<std::string>{"optimizer.kind=rmsprop", "optimizer.learning_rate=0.01"},
        std::vector<std::string>{"optimizer.kind=rmsprop", "optimizer.momentum=0.5",
                                 "optimizer.centered=true", "optimizer.sparse_update=exact",
                                 "optimizer.learning_rate=0.003", "optimizer.epsilon=0.001"},
        std::vector<std::string>{"optimizer.kind=ftrl", "optimizer.learning_rate=0.3"},
        std::vector<std::string>{"optimizer.kind=ftrl", "optimizer.learning_rate=0.3",
                                 "optimizer.beta=0.1", "optimizer.l1_regularization_strength=0.001",
                                 "train.precision=bf16"},
        std::vector<std::string>{"optimizer.kind=clippy-adagrad", "optimizer.learning_rate=0.5",
                                 "optimizer.absolute_threshold=0.05"},
        std::vector<std::string>{"optimizer.kind=clippy-adagrad", "optimizer.learning_rate=0.5",
                                 "optimizer.absolute_threshold=0.05",
                                 "optimizer.clip_accumulator_update=true",
                                 "train.precision=bf16"}));

}  // namespace
}  // namespace belfry::test
