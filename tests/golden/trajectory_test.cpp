// SPDX-License-Identifier: Apache-2.0
// Whole trainings by TFRS: given the same initial weights and batches, the engine must show the same loss
// at every step, end at the same weights, and rank the test items alike.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "engine/trainer.hpp"
#include "kernels/topk_scores/topk_scores.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

bool known_optimizer(const Json& o) {
  const auto name = o.at("name").get<std::string>();
  if (name == "composite")
    return known_optimizer(o.at("tables")) && known_optimizer(o.at("others"));
  return name == "sgd" || name == "adagrad" || name == "adam";
}

/// Towers of ids with or without dense layers, and nothing else.
bool supported(const Json& c) {
  if (!known_optimizer(c.at("params").at("optimizer"))) return false;
  for (const auto& [key, value] : c.at("inputs").items()) {
    if (key.rfind("initial:", 0) != 0) continue;
    const std::string name = key.substr(8);
    if (name != "user_table" && name != "item_table" && name.rfind("query_dense", 0) != 0 &&
        name.rfind("candidate_dense", 0) != 0) {
      return false;
    }
  }
  return !c.at("params").contains("head") && c.at("inputs").contains("train_user_id");
}

OptimizerGroupConfig group(const Json& o) {
  OptimizerGroupConfig g;
  const auto name = o.at("name").get<std::string>();
  g.options.kind = name == "sgd"    ? OptimizerKind::sgd
                   : name == "adam" ? OptimizerKind::adam
                                    : OptimizerKind::adagrad;
  g.options.sparse = SparseUpdate::exact;
  g.options.epsilon = o.value("epsilon", 1e-7f);
  g.options.beta_1 = o.value("beta_1", 0.9f);
  g.options.beta_2 = o.value("beta_2", 0.999f);
  g.learning_rate = o.at("learning_rate").get<double>();
  g.initial_accumulator_value = o.value("initial_accumulator", 0.1);
  return g;
}

Config config_of(const Json& c) {
  const Json& p = c.at("params");
  Config config;
  const Json& o = p.at("optimizer");
  if (o.at("name") == "composite") {
    config.optimizer.main = group(o.at("others"));
    config.optimizer.groups.push_back(group(o.at("tables")));
    config.optimizer.groups.back().match = "*.embedding";
  } else {
    config.optimizer.main = group(o);
  }
  TaskConfig task;
  task.similarity = p.value("normalise", false) ? Similarity::cosine : Similarity::dot;
  task.temperature = p.value("temperature", 1.0);
  task.sampling_correction =
      p.value("sampling", false) ? SamplingCorrection::frequency : SamplingCorrection::none;
  task.remove_accidental_hits = p.value("remove_accidental_hits", false);
  task.num_hard_negatives = p.value("num_hard_negatives", 0);
  task.mean_reduction = p.value("reduction", "sum") == "mean";
  config.tasks.push_back(task);
  config.train.batch_size = p.at("batch").get<std::int64_t>();
  config.train.epochs = p.at("epochs").get<std::int64_t>();
  config.train.shuffle = ShuffleMode::none;
  config.train.early_stop.reset();
  for (const char* side : {"query", "candidate"}) {
    LayerConfig mlp;
    for (int i = 0;; ++i) {
      const std::string bias =
          "initial:" + std::string(side) + "_dense" + std::to_string(i) + "_bias";
      if (!c.at("inputs").contains(bias)) break;
      mlp.units.push_back(c.at("inputs").at(bias).at("shape")[0].get<std::int64_t>());
    }
    if (mlp.units.empty()) continue;
    NetworkConfig network;
    network.name = side;
    network.inputs = {side == std::string("query") ? "user" : "item"};
    network.layers = {mlp};
    config.networks.push_back(network);
  }
  return config;
}

/// Entities are all users and titles that occur; their table rows follow Keras's StringLookup.
ModelData data_of(const Json& c, const std::string& part) {
  const Json& in = c.at("inputs");
  const auto users = tensor(in.at("user_vocabulary")).text,
             titles = tensor(in.at("title_vocabulary")).text;
  ModelData d;
  VocabularyOptions none;
  none.oov = 0;
  std::set<std::string> all(users.begin(), users.end());
  for (const char* p : {"train_user_id", "test_user_id"}) {
    for (const std::string& u : tensor(in.at(p)).text) all.insert(u);
  }
  const std::vector<std::string> entities(all.begin(), all.end());
  d.users = Vocabulary(entities, std::vector<std::int64_t>(entities.size(), 1), none);
  d.items = Vocabulary(titles, std::vector<std::int64_t>(titles.size(), 1), none);
  d.item_counts = d.items.counts();
  const auto add = [&](const std::string& name, Side side,
                       const std::vector<std::string>& vocabulary,
                       const std::vector<std::string>& values, const std::string& table) {
    TableData t;
    t.name = name;
    t.dim = in.at("initial:" + table).at("shape")[1].get<std::int64_t>();
    t.vocabulary = Vocabulary(vocabulary, std::vector<std::int64_t>(vocabulary.size(), 1), {});
    FeatureData f;
    f.config.name = name;
    f.config.of = side;
    f.table = static_cast<int>(d.tables.size());
    for (const std::string& v : values)
      f.values.rows.push_back(static_cast<std::int32_t>(*t.vocabulary.row(v)));
    d.tables.push_back(std::move(t));
    d.features.push_back(std::move(f));
  };
  add("user", Side::query, users, entities, "user_table");
  add("item", Side::candidate, titles, titles, "item_table");
  for (const std::string& u : tensor(in.at(part + "_user_id")).text) {
    d.train.user.push_back(static_cast<std::int32_t>(*d.users.token_index(u)));
  }
  for (const std::string& t : tensor(in.at(part + "_title")).text) {
    d.train.item.push_back(static_cast<std::int32_t>(*d.items.token_index(t)));
  }
  if (in.contains(part + "_weight")) d.train.weight = tensor(in.at(part + "_weight")).floats();
  if (in.contains(part + "_sampling_probability")) {
    d.item_probability.assign(titles.size(), 1.0f);
    const auto p = tensor(in.at(part + "_sampling_probability")).floats();
    for (std::size_t i = 0; i < p.size(); ++i)
      d.item_probability[static_cast<std::size_t>(d.train.item[i])] = p[i];
  }
  return d;
}

/// Golden name of a parameter of the engine: "query.1.kernel" is "query_dense1_kernel".
std::string golden_name(const std::string& name) {
  if (name == "user.embedding") return "user_table";
  if (name == "item.embedding") return "item_table";
  const std::size_t a = name.find('.'), b = name.find('.', a + 1);
  return name.substr(0, a) + "_dense" + name.substr(a + 1, b - a - 1) + "_" + name.substr(b + 1);
}

void set_weights(ParameterRegistry& registry, const Json& values, const std::string& prefix) {
  for (int p = 0; p < registry.size(); ++p) {
    const auto data = tensor(values.at(prefix + golden_name(registry.at(p).name))).floats();
    ASSERT_EQ(static_cast<std::int64_t>(data.size()), registry.at(p).value.size());
    set_values(registry.at(p).value, data);
  }
}

void check_training(const Json& c, const Config& config, const ModelData& data, Trainer& trainer) {
  const auto expected = tensor(c.at("expected").at("loss")).data;
  const double rtol = c.at("rtol"), atol = c.at("atol");
  const std::int64_t batch = config.train.batch_size, rows = data.train.size();
  std::vector<double> losses;
  for (std::int64_t epoch = 0; epoch < config.train.epochs; ++epoch) {
    for (std::int64_t step = 0; step * batch < rows; ++step) {
      double loss = trainer.train_step(epoch, step);
      const auto n = static_cast<double>(std::min(batch, rows - step * batch));
      losses.push_back(config.tasks[0].mean_reduction ? loss / n : loss);
    }
  }
  expect_close(losses, expected, rtol, atol, "loss of every step");
  const ParameterRegistry& registry = trainer.model().registry();
  for (int p = 0; p < registry.size(); ++p) {
    const std::string name = golden_name(registry.at(p).name);
    const std::vector<float> value = host_values(registry.at(p).value);
    const std::vector<double> actual(value.begin(), value.end());
    expect_close(actual, tensor(c.at("expected").at("final:" + name)).data, 0,
                 c.at("params").at("atol_of_final").at(name).get<double>(), "final " + name);
  }
}

/// Loss of every test batch and rank of every test item, from TFRS's own final weights.
void check_test(const Json& c, const Context& ctx, const Config& config) {
  const ModelData data = data_of(c, "test");
  Config test = config;
  test.train.batch_size = c.at("params").at("test_batch").get<std::int64_t>();
  TempFolder folder;
  Trainer trainer(ctx, test, data, folder.path());
  set_weights(trainer.model().registry(), c.at("expected"), "final:");
  BatchStream stream(data, test.train, test.tasks);
  WorkspacePlan plan;
  TwoTower& model = trainer.model();
  RetrievalTask task(test.tasks[0], model.graph(), plan, stream.batch_size(),
                     stream.max_candidates());
  plan.commit(ctx.backend());
  std::vector<double> losses;
  const auto queue = make_step_queue(
      ctx, DataPlacement::automatic,
      {.registry = model.registry(),
       .stream = stream,
       .step =
           [&](const Context& c, const Batch& batch, const StepState*, double* loss) {
             model.graph().forward(c, batch.features, batch.queries, batch.candidates, nullptr,
                                   true);
             task.run(c, model.graph(), batch, loss, false);
           },
       .state = [&](std::int64_t epoch, std::int64_t step,
                    std::int64_t update) { return trainer.state_of(epoch, step, update); },
       .table_ids = [](int, const Batch&) { return std::vector<TableIds>(); }});
  for (std::int64_t step = 0; step < stream.steps_per_epoch(); ++step) {
    queue->submit({0, step, 1, step});
    losses.push_back(queue->collect().losses.front());
  }
  expect_close(losses, tensor(c.at("expected").at("evaluate_loss_per_batch")).data, 3e-5, 1e-5,
               "test losses");

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
  int off = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    off += static_cast<double>(above[i]) != expected[i];
  EXPECT_LE(off, 1)
      << "test items with another rank";  // two scores may lie closer than float32 tells apart
}

TEST(Trajectory, AllCases) {
  int run = 0;
  for (const auto& path : golden_files("trajectory")) {
    const Json file = load_json(path);
    for (const Json& c : file.at("cases")) {
      if (!supported(c)) continue;
      SCOPED_TRACE(c.at("name").get<std::string>());
      const Context ctx = make_context(2);
      const Config config = config_of(c);
      const ModelData data = data_of(c, "train");
      TempFolder folder;
      Trainer trainer(ctx, config, data, folder.path());
      set_weights(trainer.model().registry(), c.at("inputs"), "initial:");
      check_training(c, config, data, trainer);
      check_test(c, ctx, config);
      ++run;
    }
  }
  std::cout << run << " trainings\n";
}

TEST(Trajectory, NotYetBuilt) {
  std::string names;
  for (const auto& path : golden_files("trajectory")) {
    const Json file = load_json(path);
    for (const Json& c : file.at("cases")) {
      if (!supported(c)) names += " " + c.at("name").get<std::string>();
    }
  }
  if (!names.empty()) GTEST_SKIP() << "features of later releases:" << names;
}

}  // namespace
}  // namespace belfry::test
