// SPDX-License-Identifier: Apache-2.0
// Tasks turn network outputs into a loss and into gradients of those outputs.
#pragma once

#include <memory>
#include <vector>

#include "engine/batch_stream.hpp"
#include "engine/config.hpp"
#include "engine/network.hpp"
#include "engine/scorer.hpp"

namespace belfry {

class Task {
 public:
  virtual ~Task() = default;
  /// The batch's loss (weighted by the task; sum or mean as configured) into *loss, or added to it, and its
  /// gradients put into d_output of the networks that the task reads. `loss` lies in the backend's memory.
  virtual void run(const Context& ctx, NetworkGraph& graph, const Batch& batch, double* loss,
                   bool add) = 0;
};

/// tfrs.tasks.Retrieval over the towers "query" and "candidate". The first task of a step: it does not add.
/// heads: vectors of a query, each as wide as a candidate; the query tower is all of them side by side.
class RetrievalTask : public Task {
 public:
  RetrievalTask(const TaskConfig& config, const NetworkGraph& graph, WorkspacePlan& plan,
                std::int64_t max_queries, std::int64_t max_candidates,
                Precision precision = Precision::fp32, std::int64_t heads = 1);
  void run(const Context& ctx, NetworkGraph& graph, const Batch& batch, double* loss,
           bool add) override;

 private:
  TaskConfig config_;
  Precision precision_;
  std::int64_t heads_;
  Scorer scorer_;
  Matrix<float> heads_of(int plan, std::int64_t queries);
  WorkspacePlan& plan_;
  int query_ = 0, candidate_ = 0;              // networks
  std::int64_t width_ = 0;                     // of a candidate, and of a head
  int q_ = -1, c_ = -1, d_q_ = -1, d_c_ = -1;  // finished vectors and their gradients
  int q_norm_ = -1, c_norm_ = -1;
};

/// tfrs.tasks.Ranking: the output of a network, one column, against a label of each row; or of lists of
/// list_size rows in a row.
class RankingTask : public Task {
 public:
  /// number: of this task among the ranking tasks, which is that of its labels in a batch.
  RankingTask(const TaskConfig& config, std::size_t number, const NetworkGraph& graph,
              WorkspacePlan& plan, std::int64_t max_queries);
  void run(const Context& ctx, NetworkGraph& graph, const Batch& batch, double* loss,
           bool add) override;

 private:
  void run_rows(const Context& ctx, const Batch& batch, Vector<const float> p, double* loss,
                bool add, Vector<float> d_p);
  void run_lists(const Context& ctx, const Batch& batch, Vector<const float> p, double* loss,
                 bool add, Vector<float> d_p);
  TaskConfig config_;
  std::size_t number_;
  WorkspacePlan& plan_;
  int network_ = 0;
  int predictions_ = -1, d_predictions_ = -1;  // without the pitch of a network's output
};

/// The tasks of a model, retrieval first.
std::vector<std::unique_ptr<Task>> make_tasks(const std::vector<TaskConfig>& configs,
                                              const NetworkGraph& graph, WorkspacePlan& plan,
                                              std::int64_t max_queries, std::int64_t max_candidates,
                                              Precision precision, std::int64_t heads = 1);

}  // namespace belfry
