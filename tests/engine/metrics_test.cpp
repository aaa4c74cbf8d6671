// SPDX-License-Identifier: Apache-2.0
#include "engine/metrics.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "kernels/core/check.hpp"
#include "tests/support/ranking.hpp"

namespace belfry {
namespace {

using test::Packed;
using test::parse_all;
using test::Rows;
using test::World;

// ------------------------------------------------------------------ names

TEST(MetricNames, RoundTrip) {
  for (const std::string name : {"recall@20", "recall_min@20", "precision@10", "hit_rate@10",
                                 "ndcg@20", "mrr", "mrr@10", "map@20", "map_min@20", "coverage@10",
                                 "gini@1", "factorized_top_k/top_100_categorical_accuracy"}) {
    const auto metric = parse_metric(name);
    ASSERT_TRUE(metric) << name;
    EXPECT_EQ(metric->name(), name);
  }
  EXPECT_EQ(parse_metric("map@7")->kind, MetricKind::map);
  EXPECT_EQ(parse_metric("map@7")->k, 7);
  EXPECT_EQ(parse_metric("mrr")->k, 0);
  EXPECT_EQ(parse_metric("factorized_top_k/top_5_categorical_accuracy")->kind,
            MetricKind::top_k_accuracy);
}

TEST(MetricNames, RefusesOtherNames) {
  for (const std::string name : {"",
                                 "recall",
                                 "recall@",
                                 "recall@0",
                                 "recall@-1",
                                 "recall@+5",
                                 "recall@05",
                                 "recall@5x",
                                 "recall@ 5",
                                 "recall@9999999999999",
                                 "Recall@5",
                                 "ndcg",
                                 "mrr@",
                                 "@5",
                                 "auc",
                                 "mrr@5@5",
                                 "factorized_top_k/top__categorical_accuracy",
                                 "factorized_top_k/top_0_categorical_accuracy",
                                 "factorized_top_k/top_categorical_accuracy",
                                 "factorized_top_k"}) {
    EXPECT_FALSE(parse_metric(name)) << name;
  }
}

TEST(MetricNames, FormsAreNamesWithK) {
  std::set<MetricKind> kinds;
  for (std::string form : metric_forms()) {
    if (const auto at = form.find('K'); at != std::string::npos) form[at] = '7';
    const auto metric = parse_metric(form);
    ASSERT_TRUE(metric) << form;
    kinds.insert(metric->kind);
  }
  EXPECT_EQ(kinds.size(), 11u);
}

// ------------------------------------------------------------------ sums, by hand

TEST(RankingMetrics, ByHand) {
  RankingMetrics sums(parse_all({"recall@2", "recall@4", "precision@4", "hit_rate@2", "ndcg@4",
                                 "mrr", "mrr@2", "map@4", "coverage@2", "gini@2"}),
                      6);
  // Hits at ranks 1 and 4; a third relevant item lies outside the catalogue.
  sums.add(Rows{3, 0, 1, 5}, Rows{3, 5}, 1, std::nullopt);
  // No hit in the list; the first relevant item has rank 6.
  sums.add(Rows{3, 1, 0, 4}, Rows{2}, 0, 5);
  const MetricMap m = sums.result();
  EXPECT_EQ(sums.users(), 2);
  EXPECT_DOUBLE_EQ(m.at("recall@2"), (1.0 / 3 + 0) / 2);
  EXPECT_DOUBLE_EQ(m.at("recall@4"), (2.0 / 3 + 0) / 2);
  EXPECT_DOUBLE_EQ(m.at("precision@4"), 0.5 / 2);
  EXPECT_DOUBLE_EQ(m.at("hit_rate@2"), 0.5);
  const double ideal = 1 + 1 / std::log2(3.0) + 0.5;
  EXPECT_DOUBLE_EQ(m.at("ndcg@4"), (1 + 1 / std::log2(5.0)) / ideal / 2);
  EXPECT_DOUBLE_EQ(m.at("mrr"), (1 + 1.0 / 6) / 2);
  EXPECT_DOUBLE_EQ(m.at("mrr@2"), 0.5);
  EXPECT_DOUBLE_EQ(m.at("map@4"), (1 + 2.0 / 4) / 3 / 2);
  EXPECT_DOUBLE_EQ(m.at("coverage@2"), 3.0 / 6);  // items 3, 0, 1
  // Counts ascending: 0 0 0 1 1 2, factors -5 -3 -1 1 3 5.
  EXPECT_DOUBLE_EQ(m.at("gini@2"), (1.0 + 3 + 10) / (6 * 4));
}

TEST(RankingMetrics, IdealListStopsAtK) {
  RankingMetrics sums(parse_all({"ndcg@2", "recall@2"}), 9);
  sums.add(Rows{1, 2}, Rows{1, 2, 3, 4}, 0, std::nullopt);
  EXPECT_DOUBLE_EQ(sums.result().at("ndcg@2"), 1.0);
  EXPECT_DOUBLE_EQ(sums.result().at("recall@2"), 0.5);  // never divided by min(k, relevant)
}

TEST(RankingMetrics, ShortListAndItemsOutsideOnly) {
  RankingMetrics sums(parse_all({"precision@10", "ndcg@10", "map@10", "mrr"}), 3);
  sums.add(Rows{1}, Rows{1}, 0, std::nullopt);
  sums.add(Rows{1, 2, 0}, Rows{}, 4, std::nullopt);  // nothing that a list could hold
  EXPECT_DOUBLE_EQ(sums.result().at("precision@10"), 0.1 / 2);
  EXPECT_DOUBLE_EQ(sums.result().at("ndcg@10"), 0.5);
  EXPECT_DOUBLE_EQ(sums.result().at("map@10"), 0.5);
  EXPECT_DOUBLE_EQ(sums.result().at("mrr"), 0.5);
}

TEST(RankingMetrics, UserWithoutRelevantItemsCountsForCoverageAlone) {
  RankingMetrics sums(parse_all({"recall@1", "coverage@1", "gini@1"}), 2);
  EXPECT_EQ(sums.result().count("recall@1"), 0u);
  EXPECT_EQ(sums.result().at("coverage@1"), 0.0);
  EXPECT_EQ(sums.result().at("gini@1"), 0.0);
  sums.add(Rows{1}, Rows{}, 0, std::nullopt);
  EXPECT_EQ(sums.users(), 0);
  EXPECT_EQ(sums.result().at("coverage@1"), 0.5);
  EXPECT_EQ(sums.result().at("gini@1"), 0.5);
  sums.add(Rows{1}, Rows{1}, 0, std::nullopt);
  EXPECT_EQ(sums.result().at("recall@1"), 1.0);
}

TEST(RankingMetrics, LeavesTheOtherFamilyOut) {
  RankingMetrics sums(parse_all({"factorized_top_k/top_5_categorical_accuracy", "recall@1"}), 2);
  sums.add(Rows{0}, Rows{0}, 0, std::nullopt);
  EXPECT_EQ(sums.result().size(), 1u);
}

TEST(RankingMetrics, KOfZeroBreaksTheContract) {
  EXPECT_THROW(RankingMetrics({{MetricKind::recall, 0}}, 3), ContractError);
}

// ------------------------------------------------------------------ TFRS's top-k accuracy

/// Queries of one dimension against items whose score is their value.
struct Line {
  explicit Line(std::vector<float> v, std::int64_t queries = 1)
      : ctx(test::backend_under_test(), 1),
        values(std::move(v)),
        ones(static_cast<std::size_t>(queries), 1.0f),
        uploaded(ctx, ones),
        packed(ctx, values, static_cast<std::int64_t>(values.size()), 1) {}
  Matrix<const float> q() const {
    return {uploaded.data(), static_cast<std::int64_t>(ones.size()), 1};
  }
  Context ctx;
  std::vector<float> values, ones;
  Uploaded<float> uploaded;
  Packed packed;
};

std::string top(std::int64_t k) {
  return Metric{MetricKind::top_k_accuracy, k}.name();
}

TEST(FactorizedTopK, ByScoreByHand) {
  Line line({5, 4, 4, 1}, 4);
  TopKAccuracy metric({1, 2, 3});
  // Strictly higher: 0, 1 (a tie counts for the positive), 3, 4.
  const std::vector<float> positive = {5, 4, 3, 0};
  metric.update_by_score(line.ctx, line.q(), 1, line.packed.view, positive, {});
  EXPECT_EQ(metric.last_hits(), (std::vector<char>{1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_DOUBLE_EQ(metric.result().at(top(1)), 0.25);
  EXPECT_DOUBLE_EQ(metric.result().at(top(2)), 0.5);
  EXPECT_DOUBLE_EQ(metric.result().at(top(3)), 0.5);
}

TEST(FactorizedTopK, ByIdByHand) {
  Line line({5, 4, 4, 1}, 4);
  TopKAccuracy metric({1, 2, 4});
  const std::vector<std::int64_t> ids = {10, 11, 12, 10}, truth = {10, 11, 12, 13};
  metric.update_by_id(line.ctx, line.q(), 1, line.packed.view, ids, truth, {});
  EXPECT_EQ(metric.last_hits(), (std::vector<char>{1, 1, 1, 0, 1, 1, 0, 0, 1, 0, 0, 0}));
}

TEST(FactorizedTopK, WeightsAddUpOverUpdates) {
  Line line({5, 4}, 2);
  TopKAccuracy metric({1});
  EXPECT_DOUBLE_EQ(metric.result().at(top(1)), 0.0);
  const std::vector<float> positive = {5, 4};
  metric.update_by_score(line.ctx, line.q(), 1, line.packed.view, positive,
                         std::vector<float>{0.0f, 0.0f});
  EXPECT_DOUBLE_EQ(metric.result().at(top(1)), 0.0);
  metric.update_by_score(line.ctx, line.q(), 1, line.packed.view, positive,
                         std::vector<float>{0.5f, 1.0f});
  metric.update_by_score(line.ctx, line.q(), 1, line.packed.view, positive, {});
  EXPECT_DOUBLE_EQ(metric.result().at(top(1)), 1.5 / 3.5);
}

TEST(FactorizedTopK, NonFiniteScores) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto value = [](std::vector<float> values, float positive, std::vector<std::int64_t> ks) {
    Line line(std::move(values));
    TopKAccuracy metric(ks);
    metric.update_by_score(line.ctx, line.q(), 1, line.packed.view, std::vector<float>{positive},
                           {});
    return metric.result().at(top(ks[0]));
  };
  EXPECT_EQ(value({1, 2, 3}, 3, {1}), 1);
  EXPECT_EQ(value({1, 2, 3}, nan, {1}), 0);
  EXPECT_EQ(value({1, 2, 3}, inf, {1}), 0);
  EXPECT_EQ(value({1, inf, 3}, 3, {3}), 0);
  EXPECT_EQ(value({1, -inf, 3}, 3, {1, 2}), 1);  // not among the two scanned
  EXPECT_EQ(value({1, -inf, 3}, 3, {1, 3}), 0);
  EXPECT_EQ(value({1, nan, 3}, 3, {1, 2}), 1);
  EXPECT_EQ(value({1, nan, 3}, 3, {1, 3}), 0);
  EXPECT_EQ(value({1, nan, 3}, 3, {1, 100}), 0);
  EXPECT_EQ(value({3e38f, 1}, 1, {2}), 1);  // near the end of the range, but finite
  EXPECT_EQ(value({3e38f, 1}, 1, {1}), 0);
}

TEST(FactorizedTopK, SmallAndEmptyCorpus) {
  Line line({2, 1});
  TopKAccuracy metric({1, 100});
  metric.update_by_score(line.ctx, line.q(), 1, line.packed.view, std::vector<float>{0.5f}, {});
  EXPECT_EQ(metric.result().at(top(1)), 0);
  EXPECT_EQ(metric.result().at(top(100)), 1);
  Line empty({});
  TopKAccuracy nothing({1});
  nothing.update_by_score(empty.ctx, empty.q(), 1, empty.packed.view, std::vector<float>{0.5f}, {});
  EXPECT_EQ(nothing.result().at(top(1)), 1);  // no candidate beats the positive
}

TEST(FactorizedTopK, AgreesWithAFullScanOverManyTilesAndHeads) {
  const std::int64_t n = test::on_device() ? 1100 : 2500, items = 70, dim = 3;
  for (const std::int64_t heads : {1, 2}) {
    World w(heads, n, items, dim, heads, false);
    test::Random random(3);
    std::vector<std::int64_t> ids(items), truth(n);
    std::iota(ids.begin(), ids.end(), 100);
    std::vector<float> positive(n), weight(n);
    std::vector<char> by_score, by_id;
    double sum = 0, hit = 0;
    for (std::int64_t u = 0; u < n; ++u) {
      const auto s = w.scores(u);
      const std::int64_t row = random.below(items);
      truth[u] = ids[row];
      positive[u] = static_cast<float>(s[row]);
      weight[u] = static_cast<float>(random.below(4)) / 4;
      std::int64_t above = 0, before = 0;
      for (std::int64_t i = 0; i < items; ++i) {
        above += s[i] > s[row];
        before += s[i] > s[row] || (s[i] == s[row] && i < row);
      }
      for (const int k : {1, 5, 20}) {
        by_score.push_back(above < k);
        by_id.push_back(before < k);
      }
      sum += weight[u];
      hit += by_id[by_id.size() - 2] != 0 ? double{weight[u]} : 0.0;
    }
    MetricMap first;
    for (const int threads : {1, 4}) {
      const Context ctx = test::make_context(threads);
      const Packed packed(ctx, w.vectors, items, dim);
      w.upload(ctx);
      TopKAccuracy score({1, 5, 20}), id({1, 5, 20});
      score.update_by_score(ctx, w.input.queries, heads, packed.view, positive, weight);
      id.update_by_id(ctx, w.input.queries, heads, packed.view, ids, truth, weight);
      EXPECT_EQ(score.last_hits(), by_score);
      EXPECT_EQ(id.last_hits(), by_id);
      EXPECT_NEAR(id.result().at(top(5)), hit / sum, 1e-12);
      if (first.empty()) first = id.result();
      EXPECT_EQ(id.result(), first);
    }
  }
}

TEST(FactorizedTopK, AnItemNeverBeatsItself) {
  const std::int64_t n = 200, dim = 32;
  test::Random random(11);
  const auto items = random.normals(n * dim);
  auto queries = random.normals(n * dim, 0.2);
  for (std::int64_t i = 0; i < n * dim; ++i) queries[i] += items[i];
  const Context ctx = test::make_context(2);
  const Packed packed(ctx, items, n, dim);
  std::vector<std::int32_t> own(n);
  std::vector<std::int64_t> ids(n);
  std::iota(own.begin(), own.end(), 0);
  std::iota(ids.begin(), ids.end(), 0);
  const Uploaded<float> there(ctx, queries);
  const Uploaded<std::int32_t> own_rows(ctx, own);
  const Matrix<const float> q(there.data(), n, dim);
  Results<float> found(ctx, n);
  pair_scores(ctx, q, 1, packed.view, own_rows.view(), {found.data(), n});
  const float* scores = found.fetch(ctx, n);
  const std::vector<float> positive(scores, scores + n);
  TopKAccuracy score({1}), id({1});
  score.update_by_score(ctx, q, 1, packed.view, positive, {});
  id.update_by_id(ctx, q, 1, packed.view, ids, ids, {});
  EXPECT_EQ(score.last_hits(), id.last_hits());
  EXPECT_GT(id.result().at(top(1)), 0.95);
}

TEST(FactorizedTopK, BrokenContracts) {
  Line line({1, 2});
  EXPECT_THROW(TopKAccuracy({}), ContractError);
  EXPECT_THROW(TopKAccuracy({5, 0}), ContractError);
  TopKAccuracy metric({1});
  const std::vector<float> two(2, 1.0f), one(1, 1.0f);
  const std::vector<std::int64_t> id(1), ids(2);
  const auto& v = line.packed.view;
  EXPECT_THROW(metric.update_by_score(line.ctx, line.q(), 1, v, two, {}), ContractError);
  EXPECT_THROW(metric.update_by_score(line.ctx, line.q(), 1, v, one, two), ContractError);
  EXPECT_THROW(metric.update_by_score(line.ctx, line.q(), 2, v, one, {}), ContractError);
  EXPECT_THROW(metric.update_by_id(line.ctx, line.q(), 1, v, id, id, {}), ContractError);
  EXPECT_THROW(metric.update_by_id(line.ctx, line.q(), 1, v, ids, ids, {}), ContractError);
}

}  // namespace
}  // namespace belfry
