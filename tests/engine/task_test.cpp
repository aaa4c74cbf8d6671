// SPDX-License-Identifier: Apache-2.0
// From a batch to a loss and the gradients of both towers' outputs, each option of a task in its turn.
#include "engine/task.hpp"

#include <gtest/gtest.h>

#include "engine/two_tower.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/retrieval_oracle.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

/// Rows of `x` and, for cosine, of x / |x|, in float64.
struct Vectors {
  Vectors(Matrix<const float> x, bool cosine) : d(x.cols) {
    for (std::int64_t i = 0; i < x.rows; ++i) {
      double square = 0;
      for (std::int64_t k = 0; k < d; ++k) square += static_cast<double>(x(i, k)) * x(i, k);
      norm.push_back(cosine ? std::sqrt(square) : 1);
      for (std::int64_t k = 0; k < d; ++k) y.push_back(static_cast<float>(x(i, k) / norm.back()));
    }
  }
  /// The gradient of x from that of y.
  std::vector<double> back(std::vector<double> d_y, bool cosine) const {
    for (std::size_t i = 0; cosine && i < norm.size(); ++i) {
      const std::size_t at = i * static_cast<std::size_t>(d);
      double along = 0;
      for (std::size_t k = at; k < at + static_cast<std::size_t>(d); ++k) along += d_y[k] * y[k];
      for (std::size_t k = at; k < at + static_cast<std::size_t>(d); ++k) {
        d_y[k] = (d_y[k] - along * y[k]) / norm[i];
      }
    }
    return d_y;
  }
  std::int64_t d;
  std::vector<double> norm;
  std::vector<float> y;
};

std::vector<float> values(Matrix<const float> m) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < m.rows; ++i) out.insert(out.end(), m.row(i), m.row(i) + m.cols);
  return out;
}

/// The batch as a problem of the oracle, under what `config` says.
RetrievalProblem problem_of(const Batch& batch, const TaskConfig& config, const Vectors& q,
                            const Vectors& c) {
  RetrievalProblem p;
  p.b = batch.queries;
  p.c = batch.candidates;
  p.d = q.d;
  p.queries = q.y;
  p.candidates = c.y;
  p.temperature = static_cast<float>(config.temperature);
  p.scale = static_cast<float>(config.weight);
  p.mean = config.mean_reduction;
  p.in_batch = config.negatives.in_batch;
  p.hard_negatives = config.num_hard_negatives;
  p.weight.assign(batch.weight.begin(), batch.weight.end());
  if (config.sampling_correction == SamplingCorrection::frequency) {
    p.log_probability.assign(batch.log_probability.begin(), batch.log_probability.end());
    EXPECT_EQ(batch.log_probability.size, p.c);
  }
  if (config.remove_accidental_hits) {
    p.ids.assign(batch.candidate_ids.begin(), batch.candidate_ids.end());
  }
  if (config.mask_known_positives) {
    p.has_mask = true;
    for (std::int64_t i = 0; i < p.b; ++i) {
      p.masked.emplace_back(batch.masked.rows + batch.masked.offsets[i],
                            batch.masked.rows + batch.masked.offsets[i + 1]);
    }
  }
  return p;
}

void check(const std::vector<std::string>& overrides, bool weighted) {
  static const SmallRatings ratings(30, 25, 400);
  std::vector<std::string> all{"train.batch_size=48"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  Loaded l = load(ratings.config(all));
  for (std::int64_t i = 0; weighted && i < l.data.train.size(); ++i) {
    l.data.train.weight.push_back(static_cast<float>(i % 5) / 2);
  }
  const TaskConfig& config = l.config.tasks.front();
  const bool cosine = config.similarity == Similarity::cosine;
  const Context ctx(Backend::cpu, 2);
  const std::vector<TaskConfig> tasks{config};
  BatchStream stream(l.data, l.config.train, tasks);
  TowerNetworks model(ctx, l.config, l.data, stream.batch_size(), stream.max_candidates(), true);
  RetrievalTask task(config, model.graph(), model.plan(), stream.batch_size(),
                     stream.max_candidates());
  model.commit(ctx);
  model.registry().initialise(ctx, 2);
  NetworkGraph& graph = model.graph();
  const int query = graph.find("query"), candidate = graph.find("candidate");
  for (const std::int64_t step : {std::int64_t{0}, stream.steps_per_epoch() - 1}) {
    const Batch& batch = stream.make(ctx, 0, step);
    graph.forward(ctx, batch.features, batch.queries, batch.candidates, nullptr, true);
    double loss = -1;
    task.run(ctx, graph, batch, &loss, false);
    const Vectors q(graph.output(query), cosine), c(graph.output(candidate), cosine);
    const RetrievalProblem p = problem_of(batch, config, q, c);
    const RetrievalAnswer expected = oracle(p);
    EXPECT_NEAR(loss, expected.loss, 2e-5 * std::max(1.0, std::abs(expected.loss)));
    expect_near(values(graph.d_output(query)), q.back(expected.d_queries, cosine), 1e-4, 2e-6,
                "d_query");
    expect_near(values(graph.d_output(candidate)), c.back(expected.d_candidates, cosine), 1e-4,
                2e-6, "d_candidate");
  }
}

TEST(RetrievalTask, EqualsTheOracle) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"task.similarity=dot"},
      {"task.similarity=dot", "task.temperature=0.5", "task.reduction=sum"},
      {"task.weight=2.5"},
      {"task.sampling_correction=none", "task.remove_accidental_hits=false"},
      {"task.negatives.uniform=10", "task.negatives.popularity=7"},
      {"task.mask_known_positives=true", "task.negatives.uniform=10"},
      {"task.num_hard_negatives=6", "task.similarity=dot"},
      {"task.loss=sampled-softmax", "task.negatives={in_batch=false,uniform=30}"},
  };
  for (const auto& overrides : cases) {
    SCOPED_TRACE(overrides.empty() ? "defaults" : overrides.front());
    check(overrides, false);
    check(overrides, true);
  }
}

TEST(RetrievalTask, TowersOfTwoWidthsAreRefused) {
  ParameterRegistry registry(Backend::cpu);
  WorkspacePlan plan;
  const int narrow = registry.add("a", 3, 2, true, {}), wide = registry.add("b", 3, 4, true, {});
  const NetworkGraph graph({}, {{"a", Side::query, narrow}, {"b", Side::candidate, wide}}, registry,
                           plan, 4, 4, true);
  EXPECT_THROW(RetrievalTask({}, graph, plan, 4, 4), ContractError);
}

}  // namespace
}  // namespace belfry::test
