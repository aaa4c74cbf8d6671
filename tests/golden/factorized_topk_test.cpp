// SPDX-License-Identifier: Apache-2.0
// tfrs.metrics.FactorizedTopK, alone and inside tasks.Retrieval. Where TFRS loses a hit to its own
// rounding, or has no defined answer (NaN), the exact `expected` stands.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "engine/metrics.hpp"
#include "kernels/retrieval_softmax/retrieval_softmax.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/ranking.hpp"

namespace belfry {
namespace {

using test::Json;
using test::number;
using test::Packed;
using test::Tensor;
using test::tensor;

bool is_task(const Json& test_case) {
  return test_case.at("inputs").contains("query");
}

std::string top(std::int64_t k) {
  return Metric{MetricKind::top_k_accuracy, k}.name();
}

/// Ids as numbers: equal texts get equal numbers.
std::vector<std::int64_t> ids_of(const Tensor& t, std::map<std::string, std::int64_t>& names) {
  if (t.dtype != "str") return t.integers;
  std::vector<std::int64_t> ids;
  for (const auto& text : t.text) {
    ids.push_back(names.emplace(text, static_cast<std::int64_t>(names.size())).first->second);
  }
  return ids;
}

/// Scores of query i with row i of `candidates`: the positives of a batch.
std::vector<float> own_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                              const PackedItems& candidates) {
  const std::int64_t n = queries.rows / heads;
  test::Rows own(n);
  std::iota(own.begin(), own.end(), 0);
  const Uploaded<std::int32_t> rows(ctx, own);
  Results<float> scores(ctx, n);
  pair_scores(ctx, queries, heads, candidates, rows.view(), {scores.data(), n});
  const float* found = scores.fetch(ctx, n);
  return {found, found + n};
}

template <class T>
std::span<const T> part(const std::vector<T>& all, std::int64_t first, std::int64_t n) {
  if (all.empty()) return {};
  return std::span<const T>(all).subspan(first, n);
}

/// Cuts n rows into `parts` as numpy's array_split: the first n % parts have one more.
std::vector<std::int64_t> cuts(std::int64_t n, std::int64_t parts) {
  std::vector<std::int64_t> at{0};
  for (std::int64_t p = 0; p < parts; ++p) at.push_back(at.back() + n / parts + (p < n % parts));
  return at;
}

void check_metric(const Context& ctx, const Json& test_case) {
  const Json& inputs = test_case.at("inputs");
  const Json& params = test_case.at("params");
  const auto candidates = tensor(inputs.at("candidates")), queries = tensor(inputs.at("queries"));
  const auto positives = tensor(inputs.at("true_candidates"));
  const auto ks = params.at("ks").get<std::vector<std::int64_t>>();
  const std::int64_t n = queries.rows(), dim = queries.cols();
  const auto q = queries.floats();
  const Uploaded<float> there(ctx, q);
  const Matrix<const float> query_rows(there.data(), n, dim);
  const Packed corpus(ctx, candidates.floats(), candidates.rows(), dim);
  const Packed own(ctx, positives.floats(), n, dim);
  const auto own_score = own_scores(ctx, query_rows, 1, own.view);
  std::vector<float> weight;
  if (inputs.contains("sample_weight")) weight = tensor(inputs.at("sample_weight")).floats();
  const bool by_id = params.at("mode").get<std::string>() == "id";
  std::map<std::string, std::int64_t> names;
  std::vector<std::int64_t> ids(candidates.rows()), true_ids;
  std::iota(ids.begin(), ids.end(), 0);
  if (inputs.contains("candidate_ids")) ids = ids_of(tensor(inputs.at("candidate_ids")), names);
  if (by_id) true_ids = ids_of(tensor(inputs.at("true_candidate_ids")), names);

  TopKAccuracy metric(ks);
  std::vector<double> hits;
  const auto at = cuts(n, params.value("updates", std::int64_t{1}));
  for (std::size_t p = 0; p + 1 < at.size(); ++p) {
    const std::int64_t first = at[p], m = at[p + 1] - at[p];
    if (by_id) {
      metric.update_by_id(ctx, query_rows.slice(first, m), 1, corpus.view, ids,
                          part(true_ids, first, m), part(weight, first, m));
    } else {
      metric.update_by_score(ctx, query_rows.slice(first, m), 1, corpus.view,
                             part(own_score, first, m), part(weight, first, m));
    }
    hits.insert(hits.end(), metric.last_hits().begin(), metric.last_hits().end());
  }
  const Json& expected = test_case.at("expected");
  std::vector<double> accuracy;
  for (const auto k : ks) accuracy.push_back(metric.result().at(top(k)));
  test::expect_close(hits, tensor(expected.at("hits")).data, 0, 0, "hits");
  test::expect_close(accuracy, tensor(expected.at("accuracy")).data, test_case.at("rtol"),
                     test_case.at("atol"), "accuracy");
}

/// The metric inside the task: one step, a corpus of 20 zero vectors, k = 5.
void check_task(const Context& ctx, const Json& test_case) {
  const Json& inputs = test_case.at("inputs");
  const auto query = tensor(inputs.at("query")), candidate = tensor(inputs.at("candidate"));
  const std::int64_t n = query.rows(), dim = candidate.cols(), heads = query.cols() / dim;
  const auto q = query.floats(), c = candidate.floats();
  const Uploaded<float> query_copy(ctx, q), candidate_copy(ctx, c);
  const Matrix<const float> queries(query_copy.data(), n * heads, dim);
  const Matrix<const float> candidates(candidate_copy.data(), candidate.rows(), dim);
  std::vector<float> weight;
  if (inputs.contains("sample_weight")) weight = tensor(inputs.at("sample_weight")).floats();
  RetrievalSoftmaxOptions options;
  const Uploaded<float> weight_copy(ctx, weight);
  options.weight = weight_copy.view();
  Results<double> sum(ctx, 1);
  retrieval_softmax(ctx, queries, heads, candidates, options, sum.data(), {}, {}, {});
  const double loss = *sum.fetch(ctx, 1);

  const Packed batch(ctx, c, candidate.rows(), dim);
  const Packed corpus(ctx, std::vector<float>(20 * dim), 20, dim);
  const auto positive = own_scores(ctx, queries, heads, batch.view);
  TopKAccuracy batch_metric({1}), corpus_metric({5});
  const Json& params = test_case.at("params");
  if (params.value("compute_batch_metrics", true)) {
    batch_metric.update_by_score(ctx, queries, heads, batch.view, positive, weight);
  }
  if (params.value("compute_metrics", true) && heads == 1) {  // TFRS skips it for several heads
    corpus_metric.update_by_score(ctx, queries, heads, corpus.view, positive, weight);
  }
  const Json& expected = test_case.at("expected");
  // TFRS's loss metric is a Keras Mean over the losses of the steps: here there is one.
  const std::vector<double> got = {loss, loss, batch_metric.result().at(top(1)),
                                   corpus_metric.result().at(top(5))};
  test::expect_close(got,
                     {number(expected.at("loss")), number(expected.at("loss_mean")),
                      number(expected.at("batch_top1")), number(expected.at("top5"))},
                     test_case.at("rtol"), test_case.at("atol"), "loss, its mean, top-1, top-5");
}

TEST(FactorizedTopK, AllCases) {
  const Context ctx = test::make_context(2);
  for (const auto& file : test::golden_files("factorized_topk")) {
    const Json json = test::load_json(file);
    for (const Json& test_case : json.at("cases")) {
      SCOPED_TRACE(file.filename().string() + ": " + test_case.at("name").get<std::string>());
      if (is_task(test_case)) {
        check_task(ctx, test_case);
      } else {
        check_metric(ctx, test_case);
      }
    }
  }
}

}  // namespace
}  // namespace belfry
