// SPDX-License-Identifier: Apache-2.0
#include "engine/task.hpp"

#include "kernels/retrieval_softmax/retrieval_softmax.hpp"

namespace belfry {

RetrievalTask::RetrievalTask(const TaskConfig& config, const NetworkGraph& graph,
                             WorkspacePlan& plan, std::int64_t max_queries,
                             std::int64_t max_candidates, Precision precision)
    : config_(config),
      precision_(precision),
      scorer_(config.similarity),
      plan_(plan),
      query_(graph.find("query")),
      candidate_(graph.find("candidate")) {
  require(graph.width(query_) == graph.width(candidate_),
          "RetrievalTask: the towers differ in width");
  if (!scorer_.normalises()) return;  // a dot product reads the towers' outputs as they are
  const std::int64_t width = graph.width(query_);
  q_ = plan.matrix(max_queries, width);
  d_q_ = plan.matrix(max_queries, width);
  c_ = plan.matrix(max_candidates, width);
  d_c_ = plan.matrix(max_candidates, width);
  q_norm_ = plan.matrix(1, max_queries);
  c_norm_ = plan.matrix(1, max_candidates);
}

void RetrievalTask::run(const Context& ctx, NetworkGraph& graph, const Batch& batch, double* loss) {
  RetrievalSoftmaxOptions options;
  options.temperature = static_cast<float>(config_.temperature);
  options.log_probability = batch.log_probability;
  if (config_.remove_accidental_hits) options.candidate_ids = batch.candidate_ids;
  options.masked = batch.masked;
  options.hard_negatives = config_.num_hard_negatives;
  options.weight = batch.weight;
  options.mean = config_.mean_reduction;
  options.in_batch = config_.negatives.in_batch;
  options.precision = precision_;
  options.scale = static_cast<float>(config_.weight);

  const Matrix<float> query = graph.output(query_), candidate = graph.output(candidate_);
  const Matrix<float> d_query = graph.d_output(query_), d_candidate = graph.d_output(candidate_);
  if (!scorer_.normalises()) {
    retrieval_softmax(ctx, query, 1, candidate, options, loss, {}, d_query, d_candidate);
    return;
  }
  const Matrix<float> q = plan_.at(q_, batch.queries), d_q = plan_.at(d_q_, batch.queries);
  const Matrix<float> c = plan_.at(c_, batch.candidates), d_c = plan_.at(d_c_, batch.candidates);
  const Vector<float> q_norm{plan_.at(q_norm_, 1).data, batch.queries};
  const Vector<float> c_norm{plan_.at(c_norm_, 1).data, batch.candidates};
  scorer_.finish(ctx, query, q, q_norm);
  scorer_.finish(ctx, candidate, c, c_norm);
  retrieval_softmax(ctx, q, 1, c, options, loss, {}, d_q, d_c);
  scorer_.finish_grad(ctx, q, q_norm, d_q, d_query);
  scorer_.finish_grad(ctx, c, c_norm, d_c, d_candidate);
}

}  // namespace belfry
