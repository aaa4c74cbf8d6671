// SPDX-License-Identifier: Apache-2.0
#include "engine/task.hpp"

#include "kernels/list_loss/list_loss.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"
#include "kernels/ranking_loss/ranking_loss.hpp"
#include "kernels/retrieval_softmax/retrieval_softmax.hpp"

namespace belfry {

RetrievalTask::RetrievalTask(const TaskConfig& config, const NetworkGraph& graph,
                             WorkspacePlan& plan, std::int64_t max_queries,
                             std::int64_t max_candidates, Precision precision, std::int64_t heads)
    : config_(config),
      precision_(precision),
      heads_(heads),
      scorer_(config.similarity),
      plan_(plan),
      query_(graph.find("query")),
      candidate_(graph.find("candidate")) {
  const std::int64_t width = width_ = graph.width(candidate_);
  require(graph.width(query_) == width * heads, "RetrievalTask: the towers differ in width");
  if (heads > 1) {  // one behind the other, so that the rows are those of the op
    q_ = plan.matrix(1, checked_product(max_queries, heads * width, "RetrievalTask"));
    d_q_ = plan.matrix(1, checked_product(max_queries, heads * width, "RetrievalTask"));
  }
  if (!scorer_.normalises()) return;  // a dot product reads the towers' outputs as they are
  if (heads == 1) {
    q_ = plan.matrix(max_queries, width);
    d_q_ = plan.matrix(max_queries, width);
  }
  c_ = plan.matrix(max_candidates, width);
  d_c_ = plan.matrix(max_candidates, width);
  q_norm_ = plan.matrix(1, max_queries * heads);
  c_norm_ = plan.matrix(1, max_candidates);
}

/// The finished vectors of `queries` queries, or their gradients.
Matrix<float> RetrievalTask::heads_of(int plan, std::int64_t queries) {
  if (heads_ == 1) return plan_.at(plan, queries);
  const Matrix<float> all = plan_.at(plan, 1);
  const std::int64_t rows = queries * heads_;
  return {all.data, rows, width_};
}

void RetrievalTask::run(const Context& ctx, NetworkGraph& graph, const Batch& batch, double* loss,
                        bool add) {
  require(!add, "RetrievalTask: it is the first of a step's tasks");
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
  if (!scorer_.normalises() && heads_ == 1) {
    retrieval_softmax(ctx, query, 1, candidate, options, loss, {}, d_query, d_candidate);
    return;
  }
  const Matrix<float> q = heads_of(q_, batch.queries), d_q = heads_of(d_q_, batch.queries);
  if (!scorer_.normalises()) {
    scorer_.finish(ctx, query, heads_, q, {});
    retrieval_softmax(ctx, q, heads_, candidate, options, loss, {}, d_q, d_candidate);
    return scorer_.finish_grad(ctx, q, heads_, {}, d_q, d_query);
  }
  const Matrix<float> c = plan_.at(c_, batch.candidates), d_c = plan_.at(d_c_, batch.candidates);
  const Vector<float> q_norm{plan_.at(q_norm_, 1).data, batch.queries * heads_};
  const Vector<float> c_norm{plan_.at(c_norm_, 1).data, batch.candidates};
  scorer_.finish(ctx, query, heads_, q, q_norm);
  scorer_.finish(ctx, candidate, 1, c, c_norm);
  retrieval_softmax(ctx, q, heads_, c, options, loss, {}, d_q, d_c);
  scorer_.finish_grad(ctx, q, heads_, q_norm, d_q, d_query);
  scorer_.finish_grad(ctx, c, 1, c_norm, d_c, d_candidate);
}

RankingTask::RankingTask(const TaskConfig& config, std::size_t number, const NetworkGraph& graph,
                         WorkspacePlan& plan, std::int64_t max_queries)
    : config_(config), number_(number), plan_(plan), network_(graph.find(config.score)) {
  require(graph.width(network_) == 1, "RankingTask: the score is one column wide");
  predictions_ = plan.matrix(1, max_queries);
  d_predictions_ = plan.matrix(1, max_queries);
}

void RankingTask::run(const Context& ctx, NetworkGraph& graph, const Batch& batch, double* loss,
                      bool add) {
  // Networks' rows are padded: the column is brought together, and its gradient put back.
  const Matrix<float> p{plan_.at(predictions_, 1).data, batch.queries, 1};
  const Matrix<float> d_p{plan_.at(d_predictions_, 1).data, batch.queries, 1};
  copy_matrix(ctx, graph.output(network_), p);
  const Vector<const float> predictions{p.data, batch.queries};
  const Vector<float> gradient{d_p.data, batch.queries};
  if (is_listwise(config_.ranking_loss)) {
    run_lists(ctx, batch, predictions, loss, add, gradient);
  } else {
    run_rows(ctx, batch, predictions, loss, add, gradient);
  }
  copy_matrix(ctx, d_p, graph.d_output(network_));
}

void RankingTask::run_rows(const Context& ctx, const Batch& batch, Vector<const float> p,
                           double* loss, bool add, Vector<float> d_p) {
  RankingLossOptions options;
  switch (config_.ranking_loss) {
    case RankingTaskLoss::mae:
      options.loss = RankingLoss::mae;
      break;
    case RankingTaskLoss::huber:
      options.loss = RankingLoss::huber;
      break;
    case RankingTaskLoss::bce:
      options.loss = RankingLoss::bce;
      break;
    case RankingTaskLoss::bce_logits:
      options.loss = RankingLoss::bce_logits;
      break;
    default:
      options.loss = RankingLoss::mse;
  }
  options.huber_delta = static_cast<float>(config_.huber_delta);
  options.weight = batch.weight;
  options.scale = static_cast<float>(config_.weight);
  options.mean = config_.mean_reduction;
  options.add_to_loss = add;
  ranking_loss(ctx, p, batch.labels[number_], options, loss, {}, d_p);
}

void RankingTask::run_lists(const Context& ctx, const Batch& batch, Vector<const float> p,
                            double* loss, bool add, Vector<float> d_p) {
  ListLossOptions options;
  switch (config_.ranking_loss) {
    case RankingTaskLoss::pairwise_hinge:
      options.loss = ListLoss::pairwise_hinge;
      break;
    case RankingTaskLoss::pairwise_logistic:
      options.loss = ListLoss::pairwise_logistic;
      break;
    case RankingTaskLoss::list_mle:
      options.loss = ListLoss::list_mle;
      break;
    case RankingTaskLoss::approx_ndcg:
      options.loss = ListLoss::approx_ndcg;
      break;
    default:
      options.loss = ListLoss::softmax;
  }
  options.temperature = static_cast<float>(config_.temperature);
  options.scale = static_cast<float>(config_.weight);
  options.mean = config_.mean_reduction;
  options.add_to_loss = add;
  const std::int64_t size = config_.list_size, lists = batch.queries / size;
  const auto as_lists = [&](auto* data) { return Matrix(data, lists, size); };
  if (batch.weight.data != nullptr) options.item_weight = as_lists(batch.weight.data);
  list_loss(ctx, as_lists(p.data), as_lists(batch.labels[number_].data), options, loss, {},
            as_lists(d_p.data));
}

std::vector<std::unique_ptr<Task>> make_tasks(const std::vector<TaskConfig>& configs,
                                              const NetworkGraph& graph, WorkspacePlan& plan,
                                              std::int64_t max_queries, std::int64_t max_candidates,
                                              Precision precision, std::int64_t heads) {
  std::vector<std::unique_ptr<Task>> out;
  for (const TaskConfig& config : configs) {
    if (config.kind != TaskKind::retrieval) continue;
    out.push_back(std::make_unique<RetrievalTask>(config, graph, plan, max_queries, max_candidates,
                                                  precision, heads));
  }
  std::size_t number = 0;
  for (const TaskConfig& config : configs) {
    if (config.kind != TaskKind::ranking) continue;
    out.push_back(std::make_unique<RankingTask>(config, number++, graph, plan, max_queries));
  }
  return out;
}

}  // namespace belfry
