// SPDX-License-Identifier: Apache-2.0
// Ranked lists with several relevant items: numbers by definition, agreed with trec_eval.
#include "engine/metrics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

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

/// Names of the files, and ours; the files hold more variants than belfry has.
const std::map<std::string, MetricKind> kKinds = {
    {"hit", MetricKind::hit_rate},      {"precision", MetricKind::precision},
    {"recall", MetricKind::recall},     {"mrr", MetricKind::mrr},
    {"map", MetricKind::map},           {"ndcg", MetricKind::ndcg},
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

TEST(RankingMetrics, CasesNotBuiltYet) {
  std::string names;
  int count = 0;
  for (const auto& file : test::golden_files("metrics")) {
    const Json json = test::load_json(file);
    for (const Json& test_case : json.at("cases")) {
      if (is_ranking(test_case)) continue;
      names += ' ';
      names += test_case.at("name").get<std::string>();
      ++count;
    }
  }
  GTEST_SKIP() << count << " cases of rating, click and graded metrics:" << names
               << "; of the rankings recall_min and map_min (divided by min(k, relevant))";
}

}  // namespace
}  // namespace belfry
