// SPDX-License-Identifier: Apache-2.0
// Model: one model in a process, from its description and data to training, metrics, answers and its file.
// `belfry train` (run.cpp) and the builder of <belfry/belfry.hpp> are both clients of it: there is one way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/evaluator.hpp"
#include "engine/model_file.hpp"
#include "engine/trainer.hpp"

namespace belfry {

/// Not thread-safe: one caller at a time. Same config, data and seed: same bits, for any number of threads.
class Model {
 public:
  /// A model to train. `config` is resolved and checked, `data` was loaded by it (model_data.hpp).
  /// checkpoints: as for Trainer. The context must outlive the model.
  Model(const Context& ctx, Config config, ModelData data, std::filesystem::path checkpoints = {});
  /// A trained one from its file; Error(bad_model, io) as load_model_file. It answers, and trains no more.
  Model(const Context& ctx, const std::filesystem::path& file);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Config& config() const { return state_->config; }
  const ModelData& data() const { return state_->data; }
  TowerNetworks& networks();
  /// nullptr: it was read from a file, or training has ended.
  Trainer* trainer() { return trainer_.get(); }

  /// Trains until so many epochs are done in all, or until `stop` is requested; errors as Trainer::run.
  /// A model that is not to be trained: Error(usage).
  TrainOutcome fit(std::int64_t epochs, TrainObserver& observer, const std::stop_token& stop);
  /// Frees what only training needs, before the item vectors come; the weights stay.
  void end_training();

  /// The model as it answers now: item vectors of the present weights (made on first use after training,
  /// one pass over the catalogue) and the items that each user has seen. Valid until fit.
  ModelView view();
  /// Metrics of `rows`, by name ("recall@20"; none: the config's, else the preset's), beside their baselines.
  Evaluation evaluate(const Interactions& rows, std::uint64_t seed,
                      const std::vector<std::string>& metrics = {});
  /// Writes model.safetensors: all that answering needs. Same model, same bytes.
  void save(const std::filesystem::path& file);

 private:
  const Context& ctx_;
  std::unique_ptr<LoadedModel> state_;  // its networks: none while there is a trainer
  std::unique_ptr<Trainer> trainer_;
  bool trainable_ = false, indexed_ = false;
};

}  // namespace belfry
