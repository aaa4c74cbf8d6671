// SPDX-License-Identifier: Apache-2.0
// Ratings and clicks by Keras, ranked lists with several relevant items by definition (agreed with trec_eval),
// graded lists by TF-Ranking.
#include "engine/metrics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>

#include "engine/ranking_metrics.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/ranking.hpp"

namespace belfry {
namespace {

using test::Json;
using test::number;
using test::tensor;

bool is_ranking(const Json& test_case) {
  return test_case.at("inputs").contains("relevant");
}

/// Names of the files, and ours.
const std::map<std::string, MetricKind> kKinds = {
    {"hit", MetricKind::hit_rate},      {"precision", MetricKind::precision},
    {"recall", MetricKind::recall},     {"recall_min", MetricKind::recall_min},
    {"mrr", MetricKind::mrr},           {"map", MetricKind::map},
    {"map_min", MetricKind::map_min},   {"ndcg", MetricKind::ndcg},
    {"coverage", MetricKind::coverage}, {"gini", MetricKind::gini}};

std::vector<Metric> metrics_at(std::int64_t k) {
  std::vector<Metric> metrics;
  for (const auto& [name, kind] : kKinds) metrics.push_back({kind, k});
  return metrics;
}

/// The given scores as dot products: items are unit vectors, a query is its row of scores.
struct Case {
  explicit Case(const Json& json) {
    const auto scores = tensor(json.at("inputs").at("scores"));
    queries = scores.floats();
    const std::int64_t users = scores.rows(), items = scores.cols();
    units.assign(items * items, 0.0f);
    for (std::int64_t i = 0; i < items; ++i) units[i * items + i] = 1.0f;
    input.queries = {queries.data(), users, items};
    input.outside.assign(users, 0);
    add_lists(json.at("inputs").at("relevant"), input.truth_offsets, input.truth);
    add_lists(json.at("inputs").at("train"), input.exclude_offsets, input.exclude);
  }
  static void add_lists(const Json& lists, std::vector<std::int64_t>& offsets, test::Rows& rows) {
    offsets = {0};
    for (const Json& list : lists) {
      for (const Json& row : list) rows.push_back(row.get<std::int32_t>());
      offsets.push_back(static_cast<std::int64_t>(rows.size()));
    }
  }
  std::vector<float> queries, units;
  RankingInput input;
};

void expect_metrics(const MetricMap& got, const Json& expected, std::int64_t k, double rtol,
                    double atol) {
  EXPECT_EQ(expected.size(), kKinds.size());
  for (const auto& [name, kind] : kKinds) {
    const double want = number(expected.at(name));
    const std::string ours = Metric{kind, k}.name();
    ASSERT_TRUE(got.count(ours)) << ours;
    EXPECT_NEAR(got.at(ours), want, atol + rtol * std::abs(want)) << ours;
  }
}

/// From the lists of the file, user by user.
void check_lists(const Json& json, const Case& c, std::int64_t k, double rtol, double atol) {
  const Json& expected = json.at("expected");
  const std::string at = std::to_string(k);
  const auto tops = expected.at("top_20").get<std::vector<test::Rows>>();
  const auto relevant = json.at("inputs").at("relevant").get<std::vector<test::Rows>>();
  RankingMetrics sums(metrics_at(k), c.input.queries.cols);
  std::vector<double> ndcg;
  for (std::size_t u = 0; u < tops.size(); ++u) {
    sums.add(tops[u], relevant[u], 0, std::nullopt);
    RankingMetrics one({{MetricKind::ndcg, k}}, c.input.queries.cols);
    one.add(tops[u], relevant[u], 0, std::nullopt);
    if (one.users() > 0) ndcg.push_back(one.result().begin()->second);
  }
  expect_metrics(sums.result(), expected.at("at_" + at), k, rtol, atol);
  if (expected.contains("per_user_ndcg_at_" + at)) {
    test::expect_close(ndcg, tensor(expected.at("per_user_ndcg_at_" + at)).data, rtol, atol,
                       "ndcg of each user");
  }
}

TEST(RankingMetrics, AllCases) {
  const Context ctx = test::make_context(2);
  int cases = 0;
  for (const auto& file : test::golden_files("metrics")) {
    const Json json = test::load_json(file);
    for (const Json& test_case : json.at("cases")) {
      if (!is_ranking(test_case)) continue;
      SCOPED_TRACE(file.filename().string() + ": " + test_case.at("name").get<std::string>());
      ++cases;
      Case c(test_case);
      const std::int64_t items = c.input.queries.cols;
      const test::Packed packed(ctx, c.units, items, items);
      c.input.items = packed.view;
      const Uploaded<float> queries(ctx, c.queries);
      c.input.queries.data = queries.data();
      const double rtol = test_case.at("rtol").get<double>();
      const double atol = test_case.at("atol").get<double>();
      for (const auto& k : test_case.at("params").at("ks").get<std::vector<std::int64_t>>()) {
        SCOPED_TRACE("k = " + std::to_string(k));
        if (k <= 20) check_lists(test_case, c, k, rtol, atol);  // the files hold 20 places
        expect_metrics(evaluate_ranking(ctx, c.input, metrics_at(k)),
                       test_case.at("expected").at("at_" + std::to_string(k)), k, rtol, atol);
      }
    }
  }
  RecordProperty("cases", cases);
}

/// Every number of the file.
void expect_map(const MetricMap& got, const Json& test_case) {
  const double rtol = test_case.at("rtol").get<double>(), atol = test_case.at("atol").get<double>();
  for (const auto& [name, json] : test_case.at("expected").items()) {
    ASSERT_TRUE(got.count(name)) << name;
    const double want = number(json);
    EXPECT_NEAR(got.at(name), want, atol + rtol * std::abs(want)) << name;
  }
}

/// Feeds rows in `batches` pieces, as numpy.array_split cuts them.
template <class Metrics>
MetricMap in_batches(Metrics metrics, const Json& inputs, std::size_t batches) {
  const auto labels = tensor(inputs.at("y_true")).floats();
  const auto predictions = tensor(inputs.at("y_pred")).floats();
  std::vector<float> weights;
  if (inputs.contains("weight")) weights = tensor(inputs.at("weight")).floats();
  const std::size_t rows = labels.size();
  for (std::size_t b = 0, first = 0; b < batches; ++b) {
    const std::size_t n = rows / batches + (b < rows % batches ? 1 : 0);
    const auto part = [&](const std::vector<float>& all) {
      return all.empty() ? std::span<const float>() : std::span(all).subspan(first, n);
    };
    metrics.add(part(labels), part(predictions), part(weights));
    first += n;
  }
  EXPECT_EQ(metrics.rows(), static_cast<std::int64_t>(rows));
  return metrics.result();
}

void check_graded(const Json& test_case) {
  const Json& inputs = test_case.at("inputs");
  const Json& top = test_case.at("params").at("topn");
  const auto labels = tensor(inputs.at("y_true")), scores = tensor(inputs.at("y_pred"));
  const std::vector<float> y = labels.floats(), s = scores.floats();
  std::vector<float> weights;
  if (inputs.contains("weight")) weights = tensor(inputs.at("weight")).floats();
  const Matrix<const float> all_y(y.data(), labels.rows(), labels.cols());
  const Matrix<const float> all_s(s.data(), labels.rows(), labels.cols());
  const std::int64_t k = top.is_null() ? 0 : top.get<std::int64_t>();
  GradedMetrics whole(k), halves(k);
  whole.add(all_y, all_s, weights);
  expect_map(whole.result(), test_case);
  const std::int64_t half = labels.rows() / 3;
  const std::span<const float> w = weights;
  halves.add(all_y.slice(0, half), all_s.slice(0, half), w.empty() ? w : w.first(half));
  halves.add(all_y.slice(half, labels.rows() - half), all_s.slice(half, labels.rows() - half),
             w.empty() ? w : w.subspan(half));
  EXPECT_EQ(halves.result(), whole.result());  // bit for bit
}

TEST(RatingMetrics, AllCases) {
  int cases = 0;
  for (const auto& file : test::golden_files("metrics")) {
    const Json json = test::load_json(file);
    for (const Json& test_case : json.at("cases")) {
      if (is_ranking(test_case)) continue;
      SCOPED_TRACE(file.filename().string() + ": " + test_case.at("name").get<std::string>());
      ++cases;
      const Json &inputs = test_case.at("inputs"), &params = test_case.at("params");
      if (params.contains("topn")) {
        check_graded(test_case);
        continue;
      }
      const bool clicks = test_case.at("expected").contains("auc");
      const auto run = [&](std::size_t batches) {
        return clicks
                   ? in_batches(ClickMetrics(params.at("thresholds").get<int>()), inputs, batches)
                   : in_batches(RatingMetrics(), inputs, batches);
      };
      expect_map(run(params.value("batches", std::size_t{1})), test_case);
      EXPECT_EQ(run(1), run(7));  // bit for bit
    }
  }
  EXPECT_GT(cases, 0);
  RecordProperty("cases", cases);
}

}  // namespace
}  // namespace belfry
