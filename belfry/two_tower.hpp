// SPDX-License-Identifier: Apache-2.0
// TwoTower: a model described, trained, measured and saved. It is written as a Config, what a model file is read
// into, and run by engine/model.hpp, which runs `belfry train`: same description, data and seed, same bits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "belfry/optimizers.hpp"
#include "belfry/table.hpp"
#include "belfry/tasks.hpp"
#include "belfry/tower.hpp"
#include "engine/config.hpp"
#include "engine/evaluator.hpp"
#include "engine/trainer.hpp"

namespace belfry {

class Model;

/// One side: the column of its ids, and its tower.
struct Endpoint {
  std::string column;
  Tower tower;
};

struct RunOptions {
  std::string device = "auto";  ///< "auto", "cpu", "cuda" or "cuda:N"
  int threads = 0;              ///< of the CPU; 0: all. No result depends on it.
};

struct ModelOptions {
  std::string preset = {};                ///< defaults: "" belfry's, "tfrs" those of TFRS
  std::optional<data::Table> items = {};  ///< features of items; else the table of FactorizedTopK
  std::optional<data::Table> users = {};  ///< features of users
  std::vector<NetworkConfig> networks = {};  ///< beside the towers and those of Ranking tasks
  RunOptions run = {};
};

struct FitOptions {
  std::optional<std::int64_t> epochs = {};  ///< default: the preset's
  std::optional<std::uint64_t> seed = {};   ///< of weights, shuffling and draws; of the first fit
  std::stop_token stop = {};  ///< requested: the step is finished, fit returns `stopped`
  std::function<void(const StepReport&)> on_step = {};  ///< both on the calling thread
  std::function<void(const EpochReport&)> on_epoch = {};
  std::function<void(const std::string&)> on_note = {};
  /// Folder for checkpoints, from whose newest the first fit goes on; empty: none are written.
  std::string checkpoints = {};
};

/// Values by name, and with them counts and the popularity and random baselines.
struct Metrics : Evaluation {
  /// Error(usage) that names the nearest where none of this name was computed.
  double operator[](std::string_view name) const;
};

/// Errors are belfry::Error: usage for a description that contradicts itself or the data, bad_data for rows,
/// numerical where training diverges, no_gpu, out_of_memory, io. After one the model is as it was before, except
/// that a failed fit leaves its last weights. Not thread-safe: one caller at a time. Movable.
class TwoTower {
 public:
  TwoTower(Endpoint query, Endpoint candidate, Tasks tasks, ModelOptions options = {});
  /// From a whole description, such as load_config("model.toml") (engine/config_toml.hpp): the file as a client.
  explicit TwoTower(Config config, RunOptions run = {});
  /// A trained model from its file, which answers and can be evaluated. Error(bad_model, io).
  static TwoTower load(const std::string& path, RunOptions run = {});
  ~TwoTower();
  TwoTower(TwoTower&&) noexcept;
  TwoTower& operator=(TwoTower&&) noexcept;

  /// The optimizer of all parameters; without it the preset's. Before the first fit, else Error(usage).
  template <class Optimizer>
  void compile(const Optimizer& optimizer) {
    compile(OptimizerConfig{optimizer.config(preset()), {}, {}, {}, {}});
  }
  void compile(const OptimizerGroupConfig& optimizer) {
    compile(OptimizerConfig{optimizer, {}, {}, {}, {}});
  }
  /// With parameter groups and clipping.
  void compile(const OptimizerConfig& optimizer);

  /// Everything that a model file can say of this model, to be read or changed until the first fit
  /// (config().train.early_stop.reset()); data, split and output belong to files.
  Config& config();
  const Config& config() const;

  /// Trains on these rows. Again with the same rows: so many epochs more; with others: Error(usage). Early stopping
  /// (the default but for preset "tfrs") holds rows back as the model file's split.validation says. Costs what
  /// `belfry train` does. Of the program's arrays only those of items are needed afterwards, by evaluate.
  TrainOutcome fit(const data::Batches& train, const FitOptions& options = {});
  /// The same for the data that a whole description names: its test part is what evaluate() takes.
  TrainOutcome fit(const FitOptions& options = {});

  /// Metrics of test rows: FactorizedTopK's and those of users (recall@10, ndcg@20, ..) or of ratings.
  Metrics evaluate(const data::Batches& test);
  Metrics evaluate();

  /// Writes model.safetensors, which load() and the command read: `belfry recommend FILE --user 42`.
  void save(const std::string& path);

  /// The engine's model beneath, for all that has no name here; Error(usage) before the first fit.
  Model& model();
  const Context& context() const;

 private:
  struct State;
  explicit TwoTower(std::unique_ptr<State> state);
  const std::string& preset() const;
  void make_model(Config config, const DataSource& source, const FitOptions& options);
  std::unique_ptr<State> state_;
};

}  // namespace belfry
