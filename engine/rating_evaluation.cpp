// SPDX-License-Identifier: Apache-2.0
#include "engine/rating_evaluation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "engine/list_sampler.hpp"
#include "engine/ranking_metrics.hpp"

namespace belfry {

namespace {

bool is_click(RankingTaskLoss loss) {
  return loss == RankingTaskLoss::bce || loss == RankingTaskLoss::bce_logits;
}

/// NDCG of so many lists of each user that has rows for one.
MetricMap list_metrics(const TaskConfig& task, std::int64_t lists_per_user,
                       const Interactions& test, std::uint64_t seed,
                       const std::vector<float>& predictions, const std::vector<float>& labels) {
  const std::vector<std::int64_t> rows =
      sample_lists(test.user, task.list_size, lists_per_user, seed);
  std::vector<float> scores, truth;
  for (const std::int64_t row : rows) {
    scores.push_back(predictions[static_cast<std::size_t>(row)]);
    truth.push_back(labels[static_cast<std::size_t>(row)]);
  }
  const std::int64_t lists = static_cast<std::int64_t>(rows.size()) / task.list_size;
  GradedMetrics metrics;
  metrics.add({truth.data(), lists, task.list_size}, {scores.data(), lists, task.list_size});
  MetricMap out;
  for (const auto& [name, value] : metrics.result()) {
    if (name == "ndcg") out[name] = value;
  }
  return out;
}

MetricMap metrics_of(const Config& config, const TaskConfig& task, const Interactions& test,
                     std::vector<float> predictions, const std::vector<float>& labels) {
  MetricMap out;
  if (is_click(task.ranking_loss)) {
    if (task.ranking_loss == RankingTaskLoss::bce_logits) {
      for (float& p : predictions) p = 1.0f / (1.0f + std::exp(-p));
    }
    ClickMetrics clicks;
    clicks.add(labels, predictions, test.weight);
    out = clicks.result();
  } else if (!is_listwise(task.ranking_loss)) {
    RatingMetrics ratings;
    ratings.add(labels, predictions, test.weight);
    out = ratings.result();
  }
  if (task.list_size > 0) {
    // TFRS measures one list a user, and the draw of it moves the mean more than many an epoch does.
    const std::int64_t lists = config.preset == "tfrs" ? 1 : task.lists_per_user;
    out.merge(list_metrics(task, lists, test, config.train.seed, predictions, labels));
  }
  return out;
}

}  // namespace

MetricMap evaluate_ratings(const Context& ctx, TowerNetworks& model, const Config& config,
                           const ModelData& data, const Interactions& test) {
  const auto tasks = std::count_if(config.tasks.begin(), config.tasks.end(),
                                   [](const auto& t) { return t.kind == TaskKind::ranking; });
  MetricMap out;
  if (tasks == 0 || test.size() == 0) return out;
  const QueryRows queries = queries_of_interactions(data, test);
  std::vector<std::int32_t> items = test.item;
  for (std::int32_t& i : items) i = i < data.item_count() ? i : -1;
  std::size_t number = 0;
  for (const TaskConfig& task : config.tasks) {
    if (task.kind != TaskKind::ranking) continue;
    std::vector<float> predictions(items.size());
    model.score_pairs(ctx, model.graph().find(task.score), queries, items, predictions.data());
    const MetricMap metrics =
        metrics_of(config, task, test, std::move(predictions), test.labels[number++]);
    for (const auto& [name, value] : metrics) {
      out[tasks > 1 ? task.score + "/" + name : name] = value;
    }
  }
  return out;
}

std::vector<std::string> rating_metrics(const Config& config) {
  const auto tasks = std::count_if(config.tasks.begin(), config.tasks.end(),
                                   [](const auto& t) { return t.kind == TaskKind::ranking; });
  std::vector<std::string> out;
  for (const TaskConfig& task : config.tasks) {
    if (task.kind != TaskKind::ranking) continue;
    std::vector<std::string> names;
    if (is_click(task.ranking_loss)) {
      names = {"auc", "auc_exact", "binary_accuracy", "log_loss"};
    } else if (!is_listwise(task.ranking_loss)) {
      names = {"rmse", "mae", "mse"};
    }
    if (task.list_size > 0) names.push_back("ndcg");
    for (const std::string& name : names) {
      out.push_back(tasks > 1 ? task.score + "/" + name : name);
    }
  }
  return out;
}

bool is_rating_metric(const std::string& name) {
  static constexpr std::array<std::string_view, 8> kNames = {
      "rmse", "mae", "mse", "auc", "auc_exact", "binary_accuracy", "log_loss", "ndcg"};
  const std::size_t slash = name.rfind('/');
  const std::string_view plain =
      std::string_view(name).substr(slash == std::string::npos ? 0 : slash + 1);
  return std::find(kNames.begin(), kNames.end(), plain) != kNames.end();
}

bool smaller_is_better(const std::string& name) {
  static constexpr std::array<std::string_view, 4> kErrors = {"rmse", "mae", "mse", "log_loss"};
  return std::any_of(kErrors.begin(), kErrors.end(),
                     [&](std::string_view error) { return name.ends_with(error); });
}

std::string default_rating_metric(RankingTaskLoss loss) {
  if (is_click(loss)) return "log_loss";
  return is_listwise(loss) ? "ndcg" : "rmse";
}

}  // namespace belfry
