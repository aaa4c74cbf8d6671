// SPDX-License-Identifier: Apache-2.0
// Evaluator: the two families of metrics. Per user (recall, NDCG, ...): one query a user with the last
// training context, distinct items, masked items left out. FactorizedTopK: one query a test row with its
// own context, every row, the whole catalogue, nothing masked.
#pragma once

#include <memory>

#include "engine/config.hpp"
#include "engine/index.hpp"
#include "engine/metrics.hpp"
#include "engine/model_data.hpp"
#include "engine/two_tower.hpp"

namespace belfry {

struct Evaluation {
  std::int64_t users = 0, items = 0, test_rows = 0;
  std::int64_t dropped_pairs = 0;  ///< test pairs that are masked training pairs too
  bool exclude_seen = true;
  std::string device;  ///< that the model ran on: "cpu", or the GPU's name
  MetricMap metrics;
  MetricMap popularity, random;  ///< baselines on the same users; empty when not asked for
  double seconds = 0;
};

struct EvaluationOptions {
  std::vector<Metric> metrics;
  bool exclude_seen = true;
  bool baselines = true;
  std::uint64_t seed = 42;
};

/// The default list of a run.
std::vector<Metric> default_metrics(const std::string& preset);

/// Metrics of `test` for a model whose item vectors are in `index`. seen: per user the items that count as
/// seen (training, and validation where that is masked). Users are those with a training row and at least
/// one test item that is left.
/// Ranking tasks add theirs (rating_evaluation.hpp). index: nullptr where the model does not retrieve.
Evaluation evaluate(const Context& ctx, TowerNetworks& model, const Config& config,
                    const ModelData& data, const ItemIndex* index, const ItemLists& seen,
                    const Interactions& test, const EvaluationOptions& options);

/// Vectors of all catalogue items, packed for search; none where the model does not retrieve.
std::unique_ptr<ItemIndex> build_index(const Context& ctx, TowerNetworks& model,
                                       const ModelData& data);

}  // namespace belfry
