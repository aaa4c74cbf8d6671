// SPDX-License-Identifier: Apache-2.0
// tfrs.tasks.Retrieval: loss, row losses, both gradients, in-batch top-1 and top-5 accuracy.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "kernels/retrieval_softmax/score_steps.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/retrieval_oracle.hpp"

namespace belfry::test {
namespace {

std::vector<double> doubles(const std::vector<float>& v) {
  return {v.begin(), v.end()};
}

/// One case as a call of the op. `probability` is [C], [Q,C] or empty.
struct Case {
  RetrievalProblem problem;
  Tensor probability;
  bool positive_masked = false;
};

Case read_case(const Json& json) {
  Case c;
  RetrievalProblem& p = c.problem;
  const Json& in = json.at("inputs");
  const Json& params = json.at("params");
  const Tensor query = tensor(in.at("query")), candidate = tensor(in.at("candidate"));
  p.b = query.rows();
  p.heads = query.shape.size() == 3 ? query.shape[1] : 1;
  p.d = query.shape.back();
  p.c = candidate.rows();
  p.queries = query.floats();
  p.candidates = candidate.floats();
  p.temperature = static_cast<float>(params.value("temperature", 1.0));
  p.hard_negatives = params.value("num_hard_negatives", std::int64_t{0});
  p.mean = params.value("reduction", std::string("sum")) == "mean";
  if (in.contains("sample_weight")) p.weight = tensor(in.at("sample_weight")).floats();
  if (in.contains("candidate_sampling_probability")) {
    c.probability = tensor(in.at("candidate_sampling_probability"));
  }
  if (params.value("remove_accidental_hits", false)) {
    p.ids = tensor(in.at("candidate_ids")).integers;
  }
  if (in.contains("score_mask")) {  // dense, false = ignore
    const Tensor mask = tensor(in.at("score_mask"));
    p.has_mask = true;
    p.masked.resize(static_cast<std::size_t>(p.b));
    for (std::int64_t i = 0; i < p.b; ++i) {
      for (std::int64_t j = 0; j < p.c; ++j) {
        if (mask.data[i * p.c + j] != 0) continue;
        p.masked[i].insert(static_cast<std::int32_t>(j));
        c.positive_masked = c.positive_masked || i == j;
      }
    }
  }
  return c;
}

std::vector<float> log_of(const double* p, std::int64_t n) {
  std::vector<float> out;
  for (std::int64_t j = 0; j < n; ++j) {
    out.push_back(cpu::log_sampling_probability(static_cast<float>(p[j])));
  }
  return out;
}

/// The op takes one log q a candidate. A matrix of probabilities goes through it row by row: query i
/// alone, its candidate moved to column 0.
RetrievalOutput run_by_rows(const Context& ctx, const Case& c) {
  const RetrievalProblem& p = c.problem;
  const std::int64_t d = p.d, query = p.heads * d;
  RetrievalOutput all;
  all.d_candidates.resize(p.candidates.size());
  for (std::int64_t i = 0; i < p.b; ++i) {
    RetrievalProblem row = p;
    row.b = 1;
    row.mean = false;
    row.queries.assign(&p.queries[i * query], &p.queries[i * query] + query);
    row.log_probability = log_of(&c.probability.data[i * p.c], p.c);
    std::swap(row.log_probability[0], row.log_probability[i]);
    std::swap_ranges(&row.candidates[0], &row.candidates[0] + d, &row.candidates[i * d]);
    if (!p.ids.empty()) std::swap(row.ids[0], row.ids[i]);
    if (!p.weight.empty()) row.weight.assign(1, p.weight[i]);
    if (p.has_mask) {
      row.masked.assign(1, {});
      for (const std::int32_t j : p.masked[i]) row.masked[0].insert(j == 0 ? i : j == i ? 0 : j);
    }
    const RetrievalOutput out = run_retrieval(ctx, row);
    const float scale = p.mean ? 1.0f / static_cast<float>(p.b) : 1.0f;
    all.loss += out.loss * static_cast<double>(scale);
    all.row_loss.push_back(out.row_loss[0]);
    all.rank.push_back(out.rank[0]);
    for (const float g : out.d_queries) all.d_queries.push_back(g * scale);
    for (std::int64_t j = 0; j < p.c; ++j) {
      const std::int64_t from = j == 0 ? i : j == i ? 0 : j;
      for (std::int64_t k = 0; k < d; ++k) {
        all.d_candidates[j * d + k] += out.d_candidates[from * d + k] * scale;
      }
    }
  }
  return all;
}

RetrievalOutput run_case(const Context& ctx, Case& c) {
  if (c.probability.shape.size() == 2) return run_by_rows(ctx, c);
  c.problem.log_probability =
      log_of(c.probability.data.data(), static_cast<std::int64_t>(c.probability.data.size()));
  return run_retrieval(ctx, c.problem);
}

/// Keras TopKCategoricalAccuracy: the weighted share of rows with fewer than k better columns.
double top_k_accuracy(const RetrievalProblem& p, const RetrievalOutput& out, std::int32_t k) {
  double hits = 0, weights = 0;
  for (std::int64_t i = 0; i < p.b; ++i) {
    const double w = p.weight.empty() ? 1.0 : p.weight[i];
    hits += out.rank[i] < k ? w : 0;
    weights += w;
  }
  return weights == 0 ? 0 : hits / weights;
}

/// No sane answer exists upstream: the op rejects, or a masked positive stays all the same.
void check_undefined(const Context& ctx, Case& c) {
  if (c.problem.c < c.problem.b) {
    EXPECT_THROW(run_case(ctx, c), ContractError);
    return;
  }
  ASSERT_TRUE(c.positive_masked) << "a case without an answer, for an unknown reason";
  const RetrievalOutput out = run_case(ctx, c);
  const RetrievalAnswer expected = oracle(c.problem);
  EXPECT_NEAR(out.loss, expected.loss, 1e-5);
  expect_close(doubles(out.d_queries), expected.d_queries, 1e-5, 1e-5, "dquery");
  expect_close(doubles(out.d_candidates), expected.d_candidates, 1e-5, 1e-5, "dcandidate");
  for (std::int64_t i = 0; i < c.problem.b; ++i) c.problem.masked[i].erase(static_cast<int>(i));
  EXPECT_TRUE(run_case(ctx, c) == out);
}

void check_case(const Context& ctx, const Json& json) {
  Case c = read_case(json);
  const Json& float32 = json.at("expected");
  if (float32.is_null()) return check_undefined(ctx, c);
  const Json& exact = json.contains("expected_f64") ? json.at("expected_f64") : float32;
  const RetrievalOutput out = run_case(ctx, c);
  const double rtol = json.at("rtol").get<double>(), atol = json.at("atol").get<double>();
  const auto hold = [&](const char* name, const std::vector<double>& actual) {
    const Json& from = exact.contains(name) ? exact : float32;
    if (from.contains(name)) expect_close(actual, tensor(from.at(name)).data, rtol, atol, name);
  };
  hold("loss", {out.loss});
  hold("row_losses", doubles(out.row_loss));
  hold("dquery", doubles(out.d_queries));
  hold("dcandidate", doubles(out.d_candidates));
  hold("batch_top1", {top_k_accuracy(c.problem, out, 1)});
  hold("batch_top5", {top_k_accuracy(c.problem, out, 5)});
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(RetrievalLoss, AllCases) {
  const Context ctx = make_context(1);
  for (const auto& path : golden_files("retrieval_loss")) {
    const Json file = load_json(path);
    EXPECT_FALSE(file.at("cases").empty()) << path;
    for (const Json& json : file.at("cases")) {
      SCOPED_TRACE(json.at("name").get<std::string>());
      check_case(ctx, json);
    }
  }
}

}  // namespace
}  // namespace belfry::test
