// SPDX-License-Identifier: Apache-2.0
// Both families of metrics against plain loops in float64 over whole rankings.
#include "engine/evaluator.hpp"

#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "kernels/core/libraries.hpp"
#include "tests/simt/device_array.hpp"
#include "tests/support/ranking.hpp"
#include "tests/support/trained_model.hpp"

namespace belfry::test {
namespace {

/// Means over users, as CONTRACT describes them and nothing clever.
struct Naive {
  std::map<std::string, double> metrics;
  std::int64_t users = 0, dropped = 0;
};

Naive naive_ranking(const Context& ctx, const TrainedModel& m, const Interactions& test,
                    bool exclude_seen) {
  Naive out;
  const ModelData& data = m.model->data;
  std::map<std::string, double> sums;
  for (std::int32_t u = 0; u < data.user_count(); ++u) {
    const auto seen = m.seen_by(u);
    std::set<std::int32_t> truth;
    for (std::size_t i = 0; i < test.user.size(); ++i) {
      if (test.user[i] == u) truth.insert(test.item[i]);
    }
    if (exclude_seen) {
      for (const std::int32_t i : seen) out.dropped += static_cast<std::int64_t>(truth.erase(i));
    }
    if (truth.empty()) continue;
    ++out.users;
    const auto q = m.encode(ctx, queries_of_users(data, {u}));
    const auto ranked =
        m.ranking(q.data(), [&](std::int32_t i) { return !exclude_seen || !seen.contains(i); });
    const auto n = static_cast<double>(truth.size());
    double mrr = 0;
    for (std::size_t r = 0; r < ranked.size() && mrr == 0; ++r) {
      if (truth.contains(ranked[r].second)) mrr = 1.0 / static_cast<double>(r + 1);
    }
    sums["mrr"] += mrr;
    for (const std::size_t k : {1u, 5u, 20u, 1000u}) {
      double hits = 0, dcg = 0, ideal = 0, precisions = 0;
      for (std::size_t r = 0; r < k; ++r) {
        const double gain = 1 / std::log2(static_cast<double>(r) + 2);
        if (static_cast<double>(r) < n) ideal += gain;
        if (r >= ranked.size() || !truth.contains(ranked[r].second)) continue;
        ++hits;
        dcg += gain;
        precisions += hits / static_cast<double>(r + 1);
      }
      const std::string at = "@" + std::to_string(k);
      sums["recall" + at] += hits / n;
      sums["precision" + at] += hits / static_cast<double>(k);
      sums["hit_rate" + at] += hits > 0 ? 1 : 0;
      sums["ndcg" + at] += dcg / ideal;
      sums["map" + at] += precisions / n;
    }
  }
  for (const auto& [name, sum] : sums) out.metrics[name] = sum / static_cast<double>(out.users);
  return out;
}

Naive naive_factorized(const Context& ctx, const TrainedModel& m, const Interactions& test,
                       bool cold) {
  Naive out;
  const ModelData& data = m.model->data;
  const auto q = m.encode(ctx, queries_of_interactions(data, test));
  const auto d = m.stride();
  for (const int k : {1, 5, 20}) {
    double hits = 0;
    for (std::size_t i = 0; i < test.user.size(); ++i) {
      if (test.item[i] >= data.item_count()) continue;
      if (!cold && test.user[i] >= data.user_count()) continue;
      const float* query = q.data() + i * d;
      const float positive = m.score(query, test.item[i]);
      int above = 0;
      for (std::int32_t j = 0; j < data.item_count(); ++j) above += m.score(query, j) > positive;
      hits += above < k ? 1 : 0;
    }
    out.metrics["factorized_top_k/top_" + std::to_string(k) + "_categorical_accuracy"] =
        hits / static_cast<double>(test.user.size());
  }
  return out;
}

EvaluationOptions everything(bool exclude_seen) {
  std::vector<std::string> names{"mrr"};
  for (const char* name : {"recall", "precision", "hit_rate", "ndcg", "map"}) {
    for (const char* k : {"@1", "@5", "@20", "@1000"}) names.push_back(std::string(name) + k);
  }
  for (const char* k : {"1", "5", "20"}) {
    names.push_back("factorized_top_k/top_" + std::string(k) + "_categorical_accuracy");
  }
  EvaluationOptions options;
  options.metrics = parse_all(names);
  options.exclude_seen = exclude_seen;
  return options;
}

Evaluation run(const Context& ctx, const TrainedModel& m, const Interactions& test,
               const EvaluationOptions& options) {
  return evaluate(ctx, *m.model->model, m.model->config, m.model->data, m.model->index.get(),
                  m.seen, test, options);
}

TEST(Evaluator, EqualsPlainLoops) {
  for (const char* similarity : {"dot", "cosine"}) {
    const Context ctx = make_context(2);
    // Cosine with three heads.
    const TrainedModel m(ctx, similarity, "", 1, similarity == std::string("dot") ? 1 : 3);
    const Interactions& test = m.loaded.data.test;
    for (const bool exclude : {true, false}) {
      const Evaluation e = run(ctx, m, test, everything(exclude));
      const Naive ranking = naive_ranking(ctx, m, test, exclude);
      const Naive rows = naive_factorized(ctx, m, test, true);
      EXPECT_EQ(e.users, ranking.users);
      EXPECT_LT(e.users, m.model->data.user_count() + 1);
      EXPECT_EQ(e.dropped_pairs, ranking.dropped);
      EXPECT_EQ(e.dropped_pairs > 0, exclude);
      EXPECT_EQ(e.test_rows, 120);
      EXPECT_EQ(e.exclude_seen, exclude);
      EXPECT_EQ(e.device, device_name(ctx));
      EXPECT_EQ(e.metrics.size(), ranking.metrics.size() + rows.metrics.size());
      for (const auto& [name, value] : ranking.metrics) {
        EXPECT_NEAR(e.metrics.at(name), value, 1e-12) << name;
      }
      for (const auto& [name, value] : rows.metrics) {
        EXPECT_NEAR(e.metrics.at(name), value, 1e-12) << name;
      }
      EXPECT_GT(e.metrics.at("recall@20"), 0);
      EXPECT_LT(e.metrics.at("recall@1000"), 1);  // test items outside the catalogue are misses
    }
  }
}

TEST(Evaluator, BaselinesSeeTheSameUsers) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx);
  EvaluationOptions options = everything(true);
  const Evaluation e = run(ctx, m, m.loaded.data.test, options);
  ASSERT_TRUE(e.popularity.contains("recall@5"));
  ASSERT_TRUE(e.random.contains("recall@5"));
  EXPECT_FALSE(e.popularity.contains("factorized_top_k/top_1_categorical_accuracy"));
  // Popularity by hand: items lie in order of their counts already.
  double recall = 0;
  const ModelData& data = m.model->data;
  for (std::int32_t u = 0; u < data.user_count(); ++u) {
    const auto seen = m.seen_by(u);
    std::set<std::int32_t> truth;
    for (std::size_t i = 0; i < m.loaded.data.test.user.size(); ++i) {
      const std::int32_t item = m.loaded.data.test.item[i];
      if (m.loaded.data.test.user[i] == u && !seen.contains(item)) truth.insert(item);
    }
    if (truth.empty()) continue;
    int place = 0, hits = 0;
    for (std::int32_t i = 0; i < data.item_count() && place < 5; ++i) {
      if (seen.contains(i)) continue;
      ++place;
      hits += truth.contains(i) ? 1 : 0;
    }
    recall += hits / static_cast<double>(truth.size());
  }
  EXPECT_NEAR(e.popularity.at("recall@5"), recall / static_cast<double>(e.users), 1e-12);
  options.baselines = false;
  const Evaluation without = run(ctx, m, m.loaded.data.test, options);
  EXPECT_TRUE(without.popularity.empty());
  EXPECT_EQ(without.metrics, e.metrics);
}

TEST(Evaluator, ByHand) {
  // Rows of strangers, items outside, repeated pairs and seen pairs; one user is left.
  const Context ctx = make_context(1);
  const TrainedModel m(ctx);
  const ModelData& data = m.model->data;
  const auto seen = m.seen_by(0);
  std::int32_t unseen = 0;
  while (seen.contains(unseen)) ++unseen;
  const auto users = static_cast<std::int32_t>(data.user_count());
  const auto items = static_cast<std::int32_t>(data.item_count());
  Interactions test;
  test.user = {0, 0, 0, 0, 1, users, 0};
  test.item = {unseen, unseen, items, items, *m.seen_by(1).begin(), 3, *seen.begin()};
  test.context.assign(2, {.rows = std::vector<std::int32_t>(7, 1)});
  EvaluationOptions options;
  options.metrics = parse_all({"recall@1000", "hit_rate@1000"});
  const Evaluation e = run(ctx, m, test, options);
  EXPECT_EQ(e.users, 1);  // user 1 has nothing left, the stranger does not count
  EXPECT_EQ(e.dropped_pairs, 2);
  EXPECT_EQ(e.metrics.at("recall@1000"), 0.5);  // two distinct items, one of them outside
  EXPECT_EQ(e.metrics.at("hit_rate@1000"), 1);
  Interactions none;
  none.context = {{}, {}};
  const Evaluation empty = run(ctx, m, none, everything(true));
  EXPECT_EQ(empty.users, 0);
  EXPECT_TRUE(empty.metrics.empty());
}

TEST(Evaluator, AStrangerWithoutAnOovRowIsAMiss) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx, "dot", "", 0);
  const Interactions& test = m.loaded.data.test;
  ASSERT_TRUE(std::any_of(test.user.begin(), test.user.end(),
                          [&](std::int32_t u) { return u >= m.model->data.user_count(); }));
  const Evaluation e = run(ctx, m, test, everything(true));
  const Naive expected = naive_factorized(ctx, m, test, false);
  for (const auto& [name, value] : expected.metrics) {
    EXPECT_NEAR(e.metrics.at(name), value, 1e-12) << name;
  }
}

TEST(Evaluator, BitsDoNotDependOnThreads) {
  std::vector<Evaluation> all;
  for (const int threads : {1, 2, 4}) {
    const Context ctx = make_context(threads);
    const TrainedModel m(ctx);
    all.push_back(run(ctx, m, m.loaded.data.test, everything(true)));
  }
  for (const Evaluation& e : all) {
    EXPECT_EQ(e.metrics, all[0].metrics);
    EXPECT_EQ(e.random, all[0].random);
  }
}

TEST(Evaluator, UnderAllSchedules) {
  // Model, index, evaluation: on the device whatever comes too early or too late shows in one of these.
  std::optional<MetricMap> first;
  for_each_schedule([&] {
    const Context ctx = make_context(1);
    const TrainedModel m(ctx, "cosine");
    const Evaluation e = run(ctx, m, m.loaded.data.test, everything(true));
    if (!first) first = e.metrics;
    EXPECT_EQ(e.metrics, *first);
  });
}

TEST(Evaluator, VectorsThatAreNotFiniteAreANumericalFault) {
  const Context ctx = make_context(1);
  const TrainedModel m(ctx);
  ParameterRegistry& registry = m.model->model->registry();
  Buffer<float>& table = registry.at(registry.find("item.embedding")).value;
  set_values(table, std::vector<float>(static_cast<std::size_t>(table.size()), 3e38f));
  const Error e = error_of([&] { build_index(ctx, *m.model->model, m.model->data); });
  EXPECT_EQ(e.code(), ExitCode::numerical) << e.what();
}

TEST(Evaluator, DefaultMetrics) {
  EXPECT_EQ(default_metrics("").front().name(), "recall@10");
  EXPECT_EQ(default_metrics("tfrs").front().name(), "factorized_top_k/top_1_categorical_accuracy");
  EXPECT_EQ(default_metrics("tfrs").size(), default_metrics("").size() + 5);
}

}  // namespace
}  // namespace belfry::test
