// SPDX-License-Identifier: Apache-2.0
#include "belfry/two_tower.hpp"

#include <fmt/format.h>

#include <map>

#include "belfry/table_source.hpp"
#include "engine/config_toml.hpp"
#include "engine/device_choice.hpp"
#include "engine/error.hpp"
#include "engine/model.hpp"
#include "engine/nearest.hpp"

namespace belfry {

struct TwoTower::State {
  Config config;  // as it was described; the model has its own, resolved
  RunOptions run;
  std::optional<data::Table> items, users;
  std::map<std::string, Vocabulary> vocabularies;  // by the name in FeatureConfig::vocabulary
  std::map<std::string, std::int64_t> rows;        // that a feature's table must have
  std::unique_ptr<Context> context;
  std::optional<data::Batches> trained_on;
  std::int64_t epochs_asked = 0;  // in all
  std::unique_ptr<Model> model;
};

namespace {

/// A failure of the GPU is told as every other.
template <class F>
auto told(F&& f) {
  try {
    return f();
  } catch (const simt::DeviceFailure& e) {
    throw error_of(e);
  }
}

std::unique_ptr<Context> open_context(const RunOptions& run) {
  return told([&] {
    const auto silent = [](const std::string&) {};
    return std::make_unique<Context>(choose_backend(run.device, "device", silent), run.threads);
  });
}

class Callbacks : public TrainObserver {
 public:
  explicit Callbacks(const FitOptions& options) : options_(options) {}
  void step(const StepReport& r) override {
    if (options_.on_step) options_.on_step(r);
  }
  void epoch(const EpochReport& r) override {
    if (options_.on_epoch) options_.on_epoch(r);
  }
  void note(const std::string& text) override {
    if (options_.on_note) options_.on_note(text);
  }

 private:
  const FitOptions& options_;
};

/// FactorizedTopK's names, and with belfry's own defaults the metrics that it always has.
std::vector<std::string> metric_names(const FactorizedTopK& metric, const std::string& preset) {
  std::vector<std::string> out;
  for (const std::int64_t k : metric.ks) {
    out.push_back(fmt::format("factorized_top_k/top_{}_categorical_accuracy", k));
  }
  if (preset.empty()) {
    for (const Metric& m : default_metrics(preset)) out.push_back(m.name());
  }
  return out;
}

void add_tower(Config& config, Side side, const Endpoint& endpoint,
               std::map<std::string, Vocabulary>& vocabularies,
               std::map<std::string, std::int64_t>& rows) {
  NetworkConfig network;
  network.name = side == Side::query ? "query" : "candidate";
  network.layers = endpoint.tower.layers();
  for (Feature& feature : endpoint.tower.features(side, endpoint.column)) {
    network.inputs.push_back(feature.config.name);
    if (feature.vocabulary) {
      feature.config.vocabulary = "the vocabulary of " + feature.config.name;
      vocabularies.emplace(feature.config.vocabulary, *feature.vocabulary);
    }
    if (feature.rows > 0) rows.emplace(feature.config.name, feature.rows);
    config.features.push_back(std::move(feature.config));
  }
  if (!network.layers.empty()) config.networks.push_back(std::move(network));
}

/// Whether a height that a program gave an embedding is the one that its vocabulary gives.
void check_rows(const std::map<std::string, std::int64_t>& rows, const ModelData& data) {
  for (const FeatureData& f : data.features) {
    const auto at = rows.find(f.config.name);
    if (at == rows.end()) continue;
    const std::int64_t height = data.tables[static_cast<std::size_t>(f.table)].rows();
    if (height == at->second) continue;
    throw Error(ExitCode::usage, f.config.name,
                fmt::format("its Embedding has {} rows, its values need {}", at->second, height),
                "Embedding{Vocabulary::size(), dim}, or Embedding{dim}");
  }
}

}  // namespace

double Metrics::operator[](std::string_view name) const {
  const auto at = metrics.find(std::string(name));
  if (at != metrics.end()) return at->second;
  std::vector<std::string> known;
  for (const auto& [key, value] : metrics) known.push_back(key);
  throw Error(ExitCode::usage, "metrics", fmt::format("\"{}\" was not computed", name),
              nearest_hint(std::string(name), known));
}

TwoTower::TwoTower(std::unique_ptr<State> state) : state_(std::move(state)) {}
TwoTower::~TwoTower() = default;
TwoTower::TwoTower(TwoTower&&) noexcept = default;
TwoTower& TwoTower::operator=(TwoTower&&) noexcept = default;

TwoTower::TwoTower(Endpoint query, Endpoint candidate, Tasks tasks, ModelOptions options)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.config = default_config(options.preset);
  s.config.data.user = query.column;
  s.config.data.item = candidate.column;
  s.config.tasks = std::move(tasks.configs);
  s.config.networks = std::move(options.networks);
  s.items = std::move(options.items);
  s.users = std::move(options.users);
  s.run = options.run;
  add_tower(s.config, Side::query, query, s.vocabularies, s.rows);
  add_tower(s.config, Side::candidate, candidate, s.vocabularies, s.rows);
  for (const Retrieval& task : tasks.retrieval) {
    s.config.tasks.push_back(task.config(options.preset));
    for (const FactorizedTopK& metric : task.options.metrics) {
      if (!metric.tower.same(candidate.tower)) {
        throw Error(ExitCode::usage, "FactorizedTopK", "its tower is not the candidate tower");
      }
      s.config.evaluate.metrics = metric_names(metric, options.preset);
      s.config.data.catalogue = CatalogueRule::all;
      if (!s.items) s.items = metric.candidates.table();
    }
  }
  for (const Ranking& task : tasks.ranking) {
    s.config.tasks.push_back(task.config());
    s.config.networks.push_back(task.network());
  }
}

TwoTower::TwoTower(Config config, RunOptions run) : state_(std::make_unique<State>()) {
  state_->config = std::move(config);
  state_->run = std::move(run);
}

TwoTower TwoTower::load(const std::string& path, RunOptions run) {
  auto state = std::make_unique<State>();
  state->context = open_context(run);
  state->model = told([&] { return std::make_unique<Model>(*state->context, path); });
  state->config = state->model->config();
  return TwoTower(std::move(state));
}

const std::string& TwoTower::preset() const {
  return state_->config.preset;
}

Config& TwoTower::config() {
  return state_->config;
}
const Config& TwoTower::config() const {
  return state_->config;
}

void TwoTower::compile(const OptimizerConfig& optimizer) {
  if (state_->model != nullptr) {
    throw Error(ExitCode::usage, "compile", "the model has its optimizer once it is trained");
  }
  state_->config.optimizer = optimizer;
}

TrainOutcome TwoTower::fit(const data::Batches& train, const FitOptions& options) {
  State& s = *state_;
  if (s.model != nullptr) {
    const std::int64_t size = train.size > 0 ? train.size : s.model->config().train.batch_size;
    if (!s.trained_on || !s.trained_on->table.same(train.table) ||
        size != s.model->config().train.batch_size) {
      throw Error(ExitCode::usage, "fit", "the model was made for other rows or batches",
                  "the same go on training; other ones need a new model");
    }
    return fit(options);
  }
  Config config = s.config;
  TableSource source(s.vocabularies);
  config.data.interactions = {source.add(train.table)};
  if (s.items && !s.items->shares(train.table)) config.data.items = source.add(*s.items);
  if (s.users) config.data.users = source.add(*s.users);
  if (train.size > 0) config.train.batch_size = train.size;
  make_model(std::move(config), source, options);
  s.trained_on = train;
  return fit(options);
}

void TwoTower::make_model(Config config, const DataSource& source, const FitOptions& options) {
  State& s = *state_;
  if (options.seed) config.train.seed = *options.seed;
  if (options.epochs) config.train.epochs = *options.epochs;
  Callbacks callbacks(options);
  DataReport report;
  resolve_config(config, &report, source);
  check_config(config);
  ModelData data = load_model_data(
      config, report, [&](const std::string& line) { callbacks.note(line); }, source);
  check_rows(s.rows, data);
  if (s.context == nullptr) s.context = open_context(s.run);
  s.model = told([&] {
    auto model = std::make_unique<Model>(*s.context, std::move(config), std::move(data),
                                         options.checkpoints);
    if (!options.checkpoints.empty()) model->trainer()->restore(callbacks);
    return model;
  });
}

TrainOutcome TwoTower::fit(const FitOptions& options) {
  State& s = *state_;
  const bool first = s.model == nullptr || s.epochs_asked == 0;
  if (s.model == nullptr) make_model(s.config, files(), options);
  const Config& config = s.model->config();
  if (options.seed && *options.seed != config.train.seed) {
    throw Error(ExitCode::usage, "fit", "the seed is that of the first fit");
  }
  const std::int64_t more = options.epochs.value_or(s.config.train.epochs);
  if (more < 0) throw Error(ExitCode::usage, "fit", "epochs must not be negative");
  // Epochs that a checkpoint brought count towards what the first fit asks for.
  s.epochs_asked = first ? more : s.model->trainer()->epochs_done() + more;
  Callbacks callbacks(options);
  return told([&] { return s.model->fit(s.epochs_asked, callbacks, options.stop); });
}

Metrics TwoTower::evaluate(const data::Batches& test) {
  const Model& known = model();
  TableSource source(state_->vocabularies);
  const std::string name = source.add(test.table);
  Config config = known.config();
  if (state_->items && !config.data.items.empty()) config.data.items = source.add(*state_->items);
  if (test.table.rows() == 0) throw Error(ExitCode::bad_data, name, "no usable row");
  return told([&] {
    const Interactions rows = load_test_file(config, name, known.data(), source);
    return Metrics{model().evaluate(rows, config.train.seed)};
  });
}

Metrics TwoTower::evaluate() {
  if (!model().data().has_test) {
    throw Error(ExitCode::usage, "evaluate", "the model's data has no test part",
                "config().split or config().data.test gives one");
  }
  return told(
      [&] { return Metrics{model().evaluate(model().data().test, model().config().train.seed)}; });
}

void TwoTower::save(const std::string& path) {
  told([&] { model().save(path); });
}

Model& TwoTower::model() {
  if (state_->model != nullptr) return *state_->model;
  throw Error(ExitCode::usage, "TwoTower", "the model is not trained yet", "fit comes first");
}

const Context& TwoTower::context() const {
  if (state_->context == nullptr) state_->context = open_context(state_->run);
  return *state_->context;
}

}  // namespace belfry
