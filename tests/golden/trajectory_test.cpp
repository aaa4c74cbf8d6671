// SPDX-License-Identifier: Apache-2.0
// Whole trainings by TFRS: given the same initial weights and batches, the engine must show the same loss
// at every step, end at the same weights, and rank the test items alike.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "engine/rating_evaluation.hpp"
#include "engine/trainer.hpp"
#include "kernels/topk_scores/topk_scores.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/temp_folder.hpp"
#include "tests/support/trajectory_model.hpp"

namespace belfry::test {
namespace {

std::string golden_parameter(const ParameterRegistry& registry, int parameter) {
  return golden_name(registry.at(parameter).name, registry.find("cross.0.0.projection") >= 0,
                     registry.find("query.0.recurrent") >= 0);
}

void set_weights(ParameterRegistry& registry, const Json& values, const std::string& prefix) {
  std::size_t given = 0;
  for (const auto& [key, value] : values.items()) given += key.rfind(prefix, 0) == 0;
  ASSERT_EQ(static_cast<std::size_t>(registry.size()), given);
  for (int p = 0; p < registry.size(); ++p) {
    const auto data = tensor(values.at(prefix + golden_parameter(registry, p))).floats();
    ASSERT_EQ(static_cast<std::int64_t>(data.size()), registry.at(p).value.size());
    set_values(registry.at(p).value, data);
  }
}

void check_training(const Json& c, const Config& config, const ModelData& data, Trainer& trainer) {
  const Json& e = c.at("expected");  // with its penalties, where it has some
  const auto expected = tensor(e.at(e.contains("total_loss") ? "total_loss" : "loss")).data;
  const double rtol = c.at("rtol"), atol = c.at("atol");
  const std::int64_t batch = config.train.batch_size, rows = data.train.size();
  const bool mean = std::all_of(config.tasks.begin(), config.tasks.end(),
                                [](const TaskConfig& t) { return t.mean_reduction; });
  std::vector<double> losses;
  for (std::int64_t epoch = 0; epoch < config.train.epochs; ++epoch) {
    for (std::int64_t step = 0; step * batch < rows; ++step) {
      const double loss = trainer.train_step(epoch, step);
      const auto n = static_cast<double>(std::min(batch, rows - step * batch));
      losses.push_back(mean ? loss / n : loss);
    }
  }
  expect_close(losses, expected, rtol, atol, "loss of every step");
  const ParameterRegistry& registry = trainer.model().registry();
  for (int p = 0; p < registry.size(); ++p) {
    const std::string name = golden_parameter(registry, p);
    const std::vector<float> value = host_values(registry.at(p).value);
    const std::vector<double> actual(value.begin(), value.end());
    expect_close(actual, tensor(c.at("expected").at("final:" + name)).data, 0,
                 c.at("params").at("atol_of_final").at(name).get<double>(), "final " + name);
  }
}

/// The losses of the first batches of a model as it stands, `most` of them at most.
std::vector<double> losses_of(const Context& ctx, const Config& config, const ModelData& data,
                              const Trainer& trainer, TowerNetworks& model, std::int64_t most) {
  BatchStream stream(data, config.train, config.tasks);
  WorkspacePlan plan;
  const auto tasks = make_tasks(config.tasks, model.graph(), plan, stream.batch_size(),
                                stream.max_candidates(), Precision::fp32);
  plan.commit(ctx.backend());
  const auto queue = make_step_queue(
      ctx, DataPlacement::automatic,
      {.registry = model.registry(),
       .stream = stream,
       .step =
           [&](const Context& c, const Batch& batch, const StepState*, double* loss) {
             model.graph().forward(c, batch.features, batch.queries, batch.candidates, nullptr,
                                   true);
             for (const auto& task : tasks)
               task->run(c, model.graph(), batch, loss, task != tasks.front());
           },
       .state = [&](std::int64_t epoch, std::int64_t step,
                    std::int64_t update) { return trainer.state_of(epoch, step, update); },
       .table_ids = [](int, const Batch&) { return std::vector<TableIds>(); }});
  std::vector<double> losses;
  for (std::int64_t step = 0; step < std::min(most, stream.steps_per_epoch()); ++step) {
    queue->submit({0, step, 1, step});
    losses.push_back(queue->collect().losses.front());
  }
  return losses;
}

/// Of each row, how many titles score above its own.
void check_ranks(const Json& c, const Context& ctx, const ModelData& data, TowerNetworks& model) {
  const auto index = build_index(ctx, model, data);
  const std::int64_t n = data.train.size();
  Buffer<float> q(ctx.backend(), n * model.width()), scores(ctx.backend(), n);
  const Matrix<float> queries = q.matrix(n, model.width());
  model.encode_queries(ctx, queries_of_interactions(data, data.train), 0, queries);
  const Uploaded<std::int32_t> truth(ctx, data.train.item);
  pair_scores(ctx, queries, 1, index->view(), truth.view(), scores.view());
  Results<std::int64_t> ranks(ctx, n);
  const std::vector<std::int32_t> no_row(static_cast<std::size_t>(n), -1);
  const Uploaded<std::int32_t> strictly(ctx, no_row);
  count_above(ctx, queries, 1, index->view(), {}, std::as_const(scores).view(), strictly.view(),
              {ranks.data(), n});
  const std::int64_t* above = ranks.fetch(ctx, n);
  const auto expected = tensor(c.at("expected").at("test_rank")).data;
  ASSERT_EQ(static_cast<std::int64_t>(expected.size()), n);
  int off = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    off += static_cast<double>(above[i]) != expected[i];
  EXPECT_LE(off, 1)
      << "test items with another rank";  // two scores may lie closer than float32 tells apart
}

/// Loss of every test batch, rank of every test item and error of the ratings, from TFRS's own final
/// weights; and the loss of step 1 from the initial ones.
void check_model(const Json& c, const Context& ctx) {
  const Json& e = c.at("expected");
  const Config training = config_of(c);
  Config config = training;
  config.train.batch_size = c.at("params").at("test_batch").get<std::int64_t>();
  const ModelData data = data_of(c, "test"), train = data_of(c, "train");
  TempFolder folder;
  Trainer trainer(ctx, config, data, folder.path());
  TowerNetworks& model = trainer.model();
  set_weights(model.registry(), e, "final:");
  expect_close(losses_of(ctx, config, data, trainer, model, data.train.size()),
               tensor(e.at("evaluate_loss_per_batch")).data, 3e-5, 1e-5, "test losses");
  if (e.contains("test_rank")) check_ranks(c, ctx, data, model);
  if (e.at("evaluate").contains("rmse")) {
    const MetricMap metrics = evaluate_ratings(ctx, model, config, data, data.train);
    expect_close({metrics.at("rmse")}, {number(e.at("evaluate").at("rmse"))}, 3e-5, 1e-5, "rmse");
  }
  Trainer start(ctx, training, train, folder.path());
  set_weights(start.model().registry(), c.at("inputs"), "initial:");
  expect_close(losses_of(ctx, training, train, start, start.model(), 1),
               {tensor(e.at("loss")).data.front()}, 3e-5, 1e-5, "loss of step 1");
}

/// Calls check(case) for the cases to which `missing` names nothing.
template <class Missing, class Check>
void for_cases(const char* what, Missing&& missing, Check&& check) {
  int run = 0;
  for (const auto& path : golden_files("trajectory")) {
    const Json file = load_json(path);
    for (const Json& c : file.at("cases")) {
      if (!missing(c).empty()) continue;
      SCOPED_TRACE(c.at("name").get<std::string>());
      check(c);
      ++run;
    }
  }
  EXPECT_GT(run, 0);
  std::cout << run << " " << what << "\n";
}

TEST(Trajectory, Trainings) {
  for_cases("trainings", missing_training, [](const Json& c) {
    const Context ctx = make_context(2);
    const Config config = config_of(c);
    const ModelData data = data_of(c, "train");
    TempFolder folder;
    Trainer trainer(ctx, config, data, folder.path());
    set_weights(trainer.model().registry(), c.at("inputs"), "initial:");
    check_training(c, config, data, trainer);
  });
}

TEST(Trajectory, Models) {
  for_cases(
      "models", [](const Json&) { return std::string(); },
      [](const Json& c) { check_model(c, make_context(2)); });
}

TEST(Trajectory, NotYetBuilt) {
  std::string names;
  for (const auto& path : golden_files("trajectory")) {
    const Json file = load_json(path);
    for (const Json& c : file.at("cases")) {
      const std::string reason = missing_training(c);
      if (!reason.empty()) names += " " + c.at("name").get<std::string>() + " (" + reason + ")";
    }
  }
  if (!names.empty()) GTEST_SKIP() << "pieces of later releases:" << names;
}

}  // namespace
}  // namespace belfry::test
