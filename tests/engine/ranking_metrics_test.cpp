// SPDX-License-Identifier: Apache-2.0
#include "engine/ranking_metrics.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/core/check.hpp"

namespace belfry {
namespace {

using Floats = std::vector<float>;

TEST(RatingMetrics, ByHand) {
  RatingMetrics m;
  EXPECT_TRUE(m.result().empty());
  m.add(Floats{1, 5}, Floats{2, 2});
  EXPECT_DOUBLE_EQ(m.result().at("mse"), 5);
  EXPECT_DOUBLE_EQ(m.result().at("rmse"), std::sqrt(5.0));
  EXPECT_DOUBLE_EQ(m.result().at("mae"), 2);
  m.add(Floats{3}, Floats{4}, Floats{8});  // weights divide, not rows
  EXPECT_DOUBLE_EQ(m.result().at("mae"), 1.2);
  EXPECT_EQ(m.rows(), 3);
  EXPECT_THROW(m.add(Floats{3}, Floats{}), ContractError);
  EXPECT_THROW(m.add(Floats{3}, Floats{4}, Floats{1, 2}), ContractError);
}

TEST(ClickMetrics, ByHand) {
  ClickMetrics m;
  EXPECT_TRUE(m.result().empty());
  // Pairs: (0.8, 0.4) and (0.8, 0.6) in order, (0.4, 0.4) a tie, (0.4, 0.6) not.
  m.add(Floats{1, 1, 0, 0}, Floats{0.8f, 0.4f, 0.4f, 0.6f});
  const MetricMap got = m.result();
  EXPECT_DOUBLE_EQ(got.at("auc_exact"), 0.625);
  EXPECT_NEAR(got.at("auc"), 0.625, 1e-12);
  EXPECT_DOUBLE_EQ(got.at("binary_accuracy"), 0.5);
  EXPECT_NEAR(got.at("log_loss"),
              -(std::log(0.8) + std::log(0.4) + std::log(0.6) + std::log(0.4)) / 4, 1e-6);
  EXPECT_THROW(ClickMetrics(1), ContractError);
}

TEST(ClickMetrics, OneClass) {
  for (const float label : {0.0f, 1.0f}) {
    ClickMetrics m;
    m.add(Floats{label, label}, Floats{0.1f, 0.7f});
    EXPECT_EQ(m.result().at("auc"), 0);
    EXPECT_FALSE(m.result().contains("auc_exact"));
    EXPECT_DOUBLE_EQ(m.result().at("binary_accuracy"), 0.5);
  }
}

TEST(ClickMetrics, OutsideOfTheUnitInterval) {
  ClickMetrics m(3);
  m.add(Floats{1, 0, 1, 0}, Floats{7, -3, 1, 0});
  EXPECT_DOUBLE_EQ(m.result().at("auc"), 1);
  EXPECT_DOUBLE_EQ(m.result().at("auc_exact"), 1);
  EXPECT_NEAR(m.result().at("log_loss"), 0, 2e-7);
}

TEST(GradedMetrics, ByHand) {
  // In order of scores: labels 0, 2, 1; the padding's score is the highest.
  const Floats labels = {1, 0, -1, 2}, scores = {0.5f, 3, 9, 1};
  const Matrix<const float> y(labels.data(), 1, 4), s(scores.data(), 1, 4);
  GradedMetrics m;
  EXPECT_TRUE(m.result().empty());
  m.add(y, s);
  EXPECT_EQ(m.lists(), 1);
  const double second = 1 / std::log2(3.0);
  EXPECT_NEAR(m.result().at("ndcg"), (3 * second + 0.5) / (3 + second), 1e-12);
  EXPECT_DOUBLE_EQ(m.result().at("mrr"), 0.5);
  EXPECT_DOUBLE_EQ(m.result().at("map"), (1.0 / 2 + 2.0 / 3) / 2);
  GradedMetrics first(1);
  first.add(y, s);
  EXPECT_EQ(first.result(), (MetricMap{{"ndcg", 0.0}, {"mrr", 0.0}, {"map", 0.0}}));
}

TEST(GradedMetrics, ListsWithoutRelevantItems) {
  const Floats labels = {0, 0, 1, 0, 0, 1}, scores = {2, 1, 2, 1, 1, 1};
  const Matrix<const float> y(labels.data(), 3, 2), s(scores.data(), 3, 2);
  GradedMetrics m;
  m.add(y, s, Floats{100, 1, 3});  // the first list's own weight is not looked at: it counts 2
  EXPECT_DOUBLE_EQ(m.result().at("mrr"), (1 * 1 + 3 * 0.5) / 6);  // equal scores: the lower slot
  GradedMetrics none;
  none.add(y.slice(0, 1), s.slice(0, 1));
  EXPECT_EQ(none.result(), (MetricMap{{"ndcg", 0.0}, {"mrr", 0.0}, {"map", 0.0}}));
  EXPECT_THROW(m.add(y, s.slice(0, 2)), ContractError);
  EXPECT_THROW(m.add(y, s.columns(0, 1)), ContractError);
  EXPECT_THROW(m.add(y, s, Floats{1}), ContractError);
  EXPECT_THROW(GradedMetrics(-1), ContractError);
}

TEST(RankingTaskMetrics, NanIsSeen) {
  const float nan = std::nanf("");
  RatingMetrics ratings;
  ratings.add(Floats{1, 2}, Floats{1, nan});
  ClickMetrics clicks;
  clicks.add(Floats{1, 0, 1}, Floats{0.5f, nan, nan});
  const Floats labels = {1, 0}, scores = {1, nan};
  GradedMetrics graded;
  graded.add({labels.data(), 1, 2}, {scores.data(), 1, 2});
  for (const MetricMap& map : {ratings.result(), clicks.result(), graded.result()}) {
    EXPECT_FALSE(map.empty());
    for (const auto& [name, value] : map) EXPECT_TRUE(std::isnan(value)) << name;
  }
}

}  // namespace
}  // namespace belfry
