// SPDX-License-Identifier: Apache-2.0
// Losses of the ranking task: Keras's of single predictions, TF-Ranking's of pairs and lists.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/support/generate.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/tested_list_loss.hpp"
#include "tests/support/tested_ranking_loss.hpp"

namespace belfry::test {
namespace {

const std::map<std::string, RankingLoss> kPointwise = {{"mse", RankingLoss::mse},
                                                       {"mae", RankingLoss::mae},
                                                       {"huber", RankingLoss::huber},
                                                       {"huber_half", RankingLoss::huber},
                                                       {"bce", RankingLoss::bce},
                                                       {"bce_smooth", RankingLoss::bce},
                                                       {"bce_logits", RankingLoss::bce_logits}};
const std::map<std::string, ListLoss> kListwise = {
    {"pairwise_hinge", ListLoss::pairwise_hinge},
    {"pairwise_logistic", ListLoss::pairwise_logistic},
    {"pairwise_soft_zero_one", ListLoss::pairwise_soft_zero_one},
    {"softmax", ListLoss::softmax},
    {"list_mle", ListLoss::list_mle},
    {"approx_ndcg", ListLoss::approx_ndcg}};

/// A loss with reduction "none" is one value a row, weighted; its gradient is that of their sum.
struct Result {
  double loss = 0;
  std::vector<float> rows, row_weight, gradient;
};

std::vector<float> weights_of(const Json& inputs) {
  return inputs.contains("weight") ? tensor(inputs["weight"]).floats() : std::vector<float>();
}

Result run_pointwise(const Context& ctx, const Json& c) {
  const Json &params = c["params"], &inputs = c["inputs"];
  const std::vector<float> y = tensor(inputs["y_true"]).floats();
  const std::vector<float> p = tensor(inputs["y_pred"]).floats();
  Result r;
  r.row_weight = weights_of(inputs);
  r.rows.resize(y.size());
  r.gradient.resize(y.size());
  RankingLossOptions options;
  options.loss = kPointwise.at(params["loss"].get<std::string>());
  options.huber_delta = params.value("delta", options.huber_delta);
  options.label_smoothing = params.value("label_smoothing", options.label_smoothing);
  options.weight = view(std::as_const(r.row_weight));
  options.mean = params["reduction"] == "mean";
  EXPECT_EQ(params.value("epsilon", kBceEpsilon), kBceEpsilon);
  tested::ranking_loss(ctx, view(p), view(y), options, &r.loss, view(r.rows), view(r.gradient));
  return r;
}

Result run_listwise(const Context& ctx, const Json& c) {
  const Json &params = c["params"], &inputs = c["inputs"];
  const Tensor y = tensor(inputs["y_true"]);
  const HostMatrix labels(y.rows(), y.cols(), y.floats(), 1);
  const HostMatrix scores(y.rows(), y.cols(), tensor(inputs["y_pred"]).floats(), 2);
  const std::vector<float> weights = weights_of(inputs);
  const bool by_item = weights.size() == y.data.size() && y.cols() > 1;
  HostMatrix item_weights, gradient(y.rows(), y.cols());
  Result r;
  r.rows.resize(static_cast<std::size_t>(y.rows()));
  ListLossOptions options;
  if (by_item) {
    item_weights = HostMatrix(y.rows(), y.cols(), weights);
    options.item_weight = std::as_const(item_weights).view();
  } else {
    r.row_weight = weights;
    options.list_weight = view(std::as_const(r.row_weight));
  }
  options.loss = kListwise.at(params["loss"].get<std::string>());
  options.temperature = params.value("temperature", 1.0f);
  options.mean = params["reduction"] == "mean";
  options.padding_adds_to_list_mle = true;  // as TF-Ranking
  tested::list_loss(ctx, scores.view(), labels.view(), options, &r.loss, view(r.rows),
                    gradient.view());
  r.gradient = gradient.values();
  return r;
}

void check(const Json& c) {
  const Context ctx = make_context(2);
  const std::string loss = c["params"]["loss"].get<std::string>();
  ASSERT_TRUE(kPointwise.contains(loss) || kListwise.contains(loss)) << loss;
  const Result r = kPointwise.contains(loss) ? run_pointwise(ctx, c) : run_listwise(ctx, c);
  const Json& expected = c.contains("expected_f64") ? c["expected_f64"] : c["expected"];
  const double rtol = c["rtol"].get<double>(), atol = c["atol"].get<double>();
  std::vector<double> losses = {r.loss};
  if (c["params"]["reduction"] == "none") {
    losses.assign(r.rows.begin(), r.rows.end());
    for (std::size_t i = 0; i < losses.size() && !r.row_weight.empty(); ++i) {
      losses[i] *= static_cast<double>(r.row_weight[i]);
    }
    double sum = 0;
    for (const double row : losses) sum += row;
    EXPECT_NEAR(r.loss, sum, 1e-6 * std::abs(sum));
  }
  expect_close(losses, tensor(expected["loss"]).data, rtol, atol, "loss");
  expect_close({r.gradient.begin(), r.gradient.end()}, tensor(expected["gradient"]).data, rtol,
               atol, "gradient");
}

TEST(GoldenRankingLoss, AllCases) {
  for (const auto& path : golden_files("ranking_loss")) {
    const Json file = load_json(path);
    int cases = 0;
    for (const Json& c : file["cases"]) {
      SCOPED_TRACE(path.filename().string() + ": " + c["name"].get<std::string>());
      check(c);
      ++cases;
    }
    EXPECT_GT(cases, 0);
    RecordProperty("cases", cases);
  }
}

}  // namespace
}  // namespace belfry::test
