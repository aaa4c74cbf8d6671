// SPDX-License-Identifier: Apache-2.0
// What ranking tasks predict of test rows, against their labels.
#pragma once

#include "engine/config.hpp"
#include "engine/metrics.hpp"
#include "engine/model_data.hpp"
#include "engine/two_tower.hpp"

namespace belfry {

/// Metrics of all ranking tasks on rows of `test`, each row with its own context: rmse, mae and mse of ratings;
/// auc, binary_accuracy and log_loss of labels 0 and 1; ndcg of lists, `lists_per_user` (under preset "tfrs"
/// one) drawn of each user's test rows by the training's seed. With several ranking tasks, names begin with
/// "SCORE/". Unknown users and items are looked up as such. Empty without a ranking task or a row.
MetricMap evaluate_ratings(const Context& ctx, TowerNetworks& model, const Config& config,
                           const ModelData& data, const Interactions& test);

/// The names of those metrics, in the order of tasks.
std::vector<std::string> rating_metrics(const Config& config);
/// Whether `name` is a metric of a ranking task.
bool is_rating_metric(const std::string& name);
/// Whether a smaller value is the better one.
bool smaller_is_better(const std::string& name);
/// The metric that early stopping watches when a model ranks only.
std::string default_rating_metric(RankingTaskLoss loss);

}  // namespace belfry
