// SPDX-License-Identifier: Apache-2.0
// What a model learns: values that say the same as [[task]] of a model file. Options that are not given have the
// defaults of the model's preset.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "belfry/table.hpp"
#include "belfry/tower.hpp"
#include "engine/config.hpp"

namespace belfry {

/// The share of rows whose true item is among the k best of all candidates (tfrs.metrics.FactorizedTopK):
/// "factorized_top_k/top_{k}_categorical_accuracy". Its candidates are the model's catalogue. They are scored by
/// the model's candidate tower, the same that it is given here.
struct FactorizedTopK {
  FactorizedTopK(data::Column candidates, Tower tower,
                 std::vector<std::int64_t> ks = {1, 5, 10, 50, 100})
      : candidates(std::move(candidates)), tower(std::move(tower)), ks(std::move(ks)) {}
  data::Column candidates;
  Tower tower;
  std::vector<std::int64_t> ks;
};

struct RetrievalOptions {
  std::vector<FactorizedTopK> metrics = {};
  std::optional<RetrievalLoss> loss = {};
  std::optional<Similarity> similarity = {};
  std::optional<double> temperature = {};
  std::optional<NegativesConfig> negatives = {};
  std::optional<SamplingCorrection> sampling_correction = {};
  std::optional<bool> remove_accidental_hits = {};
  std::optional<bool> mask_known_positives = {};
  std::optional<std::int64_t> num_hard_negatives = {};
  std::optional<bool> mean_reduction = {};
  double weight = 1;
};

/// Users and their items come together (tfrs.tasks.Retrieval): a softmax over the batch, or over drawn items.
struct Retrieval {
  RetrievalOptions options = {};
  /// As the model file says it, on a preset's defaults.
  TaskConfig config(const std::string& preset) const;
};

/// A label is predicted by a network over both towers (tfrs.tasks.Ranking), or over other networks.
struct Ranking {
  std::string score = "score";                               ///< name of the network
  std::vector<LayerConfig> layers = {};                      ///< the last one column wide
  std::vector<std::string> inputs = {"query", "candidate"};  ///< towers, features, other networks
  std::string label = {};                                    ///< column; empty: the guessed rating
  RankingTaskLoss loss = RankingTaskLoss::mse;
  double weight = 1;
  std::optional<double> label_above = {};  ///< label 1 where the column is above, else 0
  std::string group_by = {};               ///< "user": lists of one user's rows
  std::int64_t list_size = 0;              ///< rows of a list
  TaskConfig config() const;
  NetworkConfig network() const { return {score, inputs, layers, {}}; }
};

/// One task, or several over shared towers, in any order; or a task as the model file says it.
class Tasks {
 public:
  Tasks(Retrieval task) : retrieval{std::move(task)} {}
  Tasks(Ranking task) : ranking{std::move(task)} {}
  Tasks(TaskConfig task) : configs{std::move(task)} {}
  Tasks(std::initializer_list<Tasks> tasks);
  std::vector<Retrieval> retrieval;
  std::vector<Ranking> ranking;
  std::vector<TaskConfig> configs;
};

}  // namespace belfry
