// SPDX-License-Identifier: Apache-2.0
// Trainer: the loop over epochs and steps, early stopping on the validation part, checkpoints. A run that
// was stopped at any step and resumed ends with the same bits as one that never stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/batch_stream.hpp"
#include "engine/config.hpp"
#include "engine/evaluator.hpp"
#include "engine/file_io.hpp"
#include "engine/model_data.hpp"
#include "engine/optimizer.hpp"
#include "engine/step_queue.hpp"
#include "engine/task.hpp"
#include "engine/two_tower.hpp"

namespace belfry {

struct StepReport {
  std::int64_t epoch = 0, epochs = 0;  ///< from 1
  std::int64_t step = 0, steps = 0;    ///< of this epoch, from 1
  std::int64_t examples = 0;           ///< of this epoch so far
  std::int64_t epoch_examples = 0;     ///< of the whole epoch
  double loss_mean = 0;                ///< per example, of this epoch so far
};

struct EpochReport {
  std::int64_t epoch = 0, steps = 0, examples = 0;
  double loss_mean = 0;
  double seconds = 0;                ///< of training in this process, evaluation left out
  std::optional<double> validation;  ///< the early-stop metric
  bool best = false;
};

/// What a program wants to hear. Called on the training thread.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void step(const StepReport&) {}
  virtual void epoch(const EpochReport&) {}
  virtual void note(const std::string&) {}
};

enum class TrainOutcome { finished, stopped };

class Trainer {
 public:
  /// `checkpoints`: folder for checkpoints and the best weights so far; empty: no checkpoints, and the best
  /// weights wait in a temporary folder. References must outlive it.
  Trainer(const Context& ctx, const Config& config, const ModelData& data,
          std::filesystem::path checkpoints);

  /// Goes on from the newest valid checkpoint in the folder, if there is one that fits data and config.
  /// Damaged ones are passed over with a note.
  bool restore(TrainObserver& observer);
  /// Trains to the end, or until `stop` is requested: then the step is finished and a checkpoint saved.
  /// A non-finite loss or weight: Error(numerical), and no checkpoint of it. May be called again when
  /// config.train.epochs has grown.
  TrainOutcome run(TrainObserver& observer, const std::stop_token& stop);

  /// One update with its loss, summed over the batch's rows: for those who drive training themselves.
  double train_step(std::int64_t epoch, std::int64_t step);

  /// The state with which update number `update` (from 0), step `step` of `epoch`, is made.
  StepState state_of(std::int64_t epoch, std::int64_t step, std::int64_t update) const;

  TowerNetworks& model() { return model_; }
  std::int64_t epochs_done() const { return epoch_; }
  std::int64_t best_epoch() const { return best_epoch_; }  ///< from 1; 0: no early stopping
  std::int64_t workspace_bytes() { return model_.plan().bytes(); }

 private:
  /// One update: the whole of training, once. Queued, and captured, as it stands here.
  void make_update(const Context& ctx, const Batch& batch, const StepState* next, double* loss);
  StepParts step_parts();
  bool train_epoch(TrainObserver& observer, const std::stop_token& stop);
  std::int64_t submit_steps(std::int64_t submitted);
  void collect_steps(TrainObserver& observer);
  double summed(double loss, std::int64_t step) const;
  void end_epoch(TrainObserver& observer);
  /// Empty where the validation rows say nothing of it.
  std::optional<double> validation_metric();
  void check_status(const ChunkResult& result) const;
  void save_checkpoint();
  void save_best();
  void load_best();
  std::filesystem::path best_file(std::int64_t epoch) const;
  void remove_other_best_files() const;

  const Context& ctx_;
  const Config& config_;
  const ModelData& data_;
  std::unique_ptr<TemporaryFolder> own_folder_;  // where no folder was given
  std::filesystem::path checkpoints_;
  BatchStream stream_;
  TowerNetworks model_;
  std::vector<std::unique_ptr<Task>> tasks_;
  Optimizer optimizer_;
  bool mean_loss_ = true;  // of all tasks: a step's loss is one row's
  std::unique_ptr<StepQueue> queue_;
  ItemLists train_items_;  // masked while validating
  // Where training stands: all of it is in a checkpoint.
  std::int64_t epoch_ = 0, step_ = 0;  // next step to make, from 0
  std::int64_t updates_ = 0;           // made so far
  double epoch_loss_ = 0;
  std::int64_t epoch_examples_ = 0;
  std::int64_t best_epoch_ = 0, epochs_without_gain_ = 0;
  double best_metric_ = 0;
  double epoch_seconds_ = 0;
};

}  // namespace belfry
