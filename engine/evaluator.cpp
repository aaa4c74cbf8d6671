// SPDX-License-Identifier: Apache-2.0
#include "engine/evaluator.hpp"

#include <algorithm>
#include <chrono>

#include "engine/error.hpp"
#include "engine/rating_evaluation.hpp"
#include "kernels/core/libraries.hpp"
#include "kernels/core/transfer.hpp"

namespace belfry {

namespace {

constexpr std::int64_t kTile = 4096;

/// Distinct test items per user, split into catalogue items and a count of outside ones; masked pairs gone.
struct Truth {
  std::vector<std::int32_t> users;  // evaluated users
  RankingInput input;               // truth, outside and exclude lists of these users
  std::int64_t dropped = 0;
};

Truth collect_truth(const ModelData& data, const ItemLists& seen, const Interactions& test,
                    bool exclude_seen) {
  Truth out;
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
  pairs.reserve(test.user.size());
  for (std::size_t i = 0; i < test.user.size(); ++i) {
    if (test.user[i] < data.user_count()) pairs.emplace_back(test.user[i], test.item[i]);
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  RankingInput& in = out.input;
  in.truth_offsets.push_back(0);
  if (exclude_seen) in.exclude_offsets.push_back(0);
  for (std::size_t i = 0; i < pairs.size();) {
    const std::int32_t user = pairs[i].first;
    const auto first = seen.items.begin() + seen.offsets[static_cast<std::size_t>(user)];
    const auto last = seen.items.begin() + seen.offsets[static_cast<std::size_t>(user) + 1];
    std::int64_t outside = 0;
    const std::size_t before = in.truth.size();
    for (; i < pairs.size() && pairs[i].first == user; ++i) {
      const std::int32_t item = pairs[i].second;
      if (exclude_seen && std::binary_search(first, last, item)) {
        ++out.dropped;
      } else if (item >= data.item_count()) {
        ++outside;
      } else {
        in.truth.push_back(item);
      }
    }
    if (in.truth.size() == before && outside == 0) continue;
    out.users.push_back(user);
    in.truth_offsets.push_back(static_cast<std::int64_t>(in.truth.size()));
    in.outside.push_back(outside);
    if (exclude_seen) {
      in.exclude.insert(in.exclude.end(), first, last);
      in.exclude_offsets.push_back(static_cast<std::int64_t>(in.exclude.size()));
    }
  }
  return out;
}

/// Whether every feature of the user has a row for unknown values.
bool answers_unknown_users(const ModelData& data) {
  return std::all_of(data.features.begin(), data.features.end(), [&](const FeatureData& f) {
    return f.config.of == Side::candidate || f.context || f.form() != FeatureForm::row ||
           data.tables[static_cast<std::size_t>(f.table)].buckets > 0 ||
           data.tables[static_cast<std::size_t>(f.table)].vocabulary.first_token_row() > 0;
  });
}

MetricMap factorized_top_k(const Context& ctx, TowerNetworks& model, const ModelData& data,
                           const ItemIndex& index, const Interactions& test,
                           const std::vector<Metric>& metrics) {
  std::vector<std::int64_t> ks;
  for (const Metric& m : metrics) {
    if (m.kind == MetricKind::top_k_accuracy) ks.push_back(m.k);
  }
  if (ks.empty() || test.size() == 0) return {};
  std::sort(ks.begin(), ks.end());
  TopKAccuracy top_k(ks);
  const QueryRows queries = queries_of_interactions(data, test);
  const std::int64_t tile = std::min(kTile, test.size());
  const bool cold = answers_unknown_users(data);
  const std::int64_t heads = model.heads();
  Buffer<float> vectors(ctx.backend(), tile * heads * model.width());
  const float largest = largest_component(ctx, index.view());
  Results<float> scores(ctx, tile);
  std::vector<std::int32_t> rows;
  for (std::int64_t first = 0; first < test.size(); first += tile) {
    const std::int64_t n = std::min(tile, test.size() - first);
    const Matrix<float> q = vectors.matrix(n * heads, model.width());
    model.encode_queries(ctx, queries, first, q);
    // A true item outside the catalogue has no vector, nor an unknown user without an OOV row: a miss.
    rows.clear();
    for (std::int64_t i = 0; i < n; ++i) {
      const auto row = static_cast<std::size_t>(first + i);
      const bool vector = cold || test.user[row] < data.user_count();
      rows.push_back(vector && test.item[row] < data.item_count() ? test.item[row] : -1);
    }
    const Uploaded<std::int32_t> items(ctx, rows);
    pair_scores(ctx, q, heads, index.view(), items.view(), {scores.data(), n});
    top_k.update_by_score(ctx, q, heads, index.view(),
                          {scores.fetch(ctx, n), static_cast<std::size_t>(n)}, {}, largest);
  }
  return top_k.result();
}

}  // namespace

std::vector<Metric> default_metrics(const std::string& preset) {
  std::vector<std::string> names;
  if (preset == "tfrs") {
    for (const int k : {1, 5, 10, 50, 100}) {
      names.push_back("factorized_top_k/top_" + std::to_string(k) + "_categorical_accuracy");
    }
  }
  for (const char* name : {"recall@10", "recall@20", "recall@100", "ndcg@10", "ndcg@20",
                           "precision@10", "hit_rate@10", "map@10", "mrr"}) {
    names.emplace_back(name);
  }
  std::vector<Metric> out;
  for (const std::string& name : names) out.push_back(*parse_metric(name));
  return out;
}

std::unique_ptr<ItemIndex> build_index(const Context& ctx, TowerNetworks& model,
                                       const ModelData& data) {
  if (model.width() == 0) return nullptr;
  auto index = std::make_unique<ItemIndex>(ctx, data.item_count(), model.width());
  const std::int64_t tile = std::max<std::int64_t>(1, std::min(kTile, data.item_count()));
  Buffer<float> vectors(ctx.backend(), tile * model.width());
  for (std::int64_t first = 0; first < data.item_count(); first += tile) {
    const std::int64_t n = std::min(tile, data.item_count() - first);
    const Matrix<float> v = vectors.matrix(n, model.width());
    model.encode_items(ctx, first, v);
    try {
      index->add(ctx, first, v);
    } catch (const Error& e) {  // not the data's fault: the weights have grown beyond float32
      throw Error(ExitCode::numerical, e.where(), "it is not finite",
                  "a smaller optimizer.learning_rate may help");
    }
  }
  return index;
}

Evaluation evaluate(const Context& ctx, TowerNetworks& model, const Config& config,
                    const ModelData& data, const ItemIndex* index, const ItemLists& seen,
                    const Interactions& test, const EvaluationOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  Evaluation out;
  out.exclude_seen = options.exclude_seen;
  out.device = device_name(ctx);
  out.items = data.item_count();
  out.test_rows = test.size();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  out.metrics = evaluate_ratings(ctx, model, config, data, test);
  if (index == nullptr) {
    out.seconds = elapsed();
    return out;
  }
  out.metrics.merge(factorized_top_k(ctx, model, data, *index, test, options.metrics));

  std::vector<Metric> per_user;
  for (const Metric& m : options.metrics) {
    if (m.kind != MetricKind::top_k_accuracy) per_user.push_back(m);
  }
  Truth truth = collect_truth(data, seen, test, options.exclude_seen);
  out.users = static_cast<std::int64_t>(truth.users.size());
  out.dropped_pairs = truth.dropped;
  if (!per_user.empty() && out.users > 0) {
    const QueryRows queries = queries_of_users(data, truth.users);
    const std::int64_t heads = model.heads();
    Buffer<float> vectors(ctx.backend(), out.users * heads * model.width());
    const Matrix<float> q = vectors.matrix(out.users * heads, model.width());
    model.encode_queries(ctx, queries, 0, q);
    truth.input.queries = q;
    truth.input.heads = heads;
    truth.input.items = index->view();
    out.metrics.merge(evaluate_ranking(ctx, truth.input, per_user));
    if (options.baselines) {
      out.popularity = popularity_baseline(truth.input, data.item_counts, per_user);
      out.random = random_baseline(truth.input, options.seed, per_user);
    }
  }
  out.seconds = elapsed();
  return out;
}

}  // namespace belfry
