// SPDX-License-Identifier: Apache-2.0
// Tasks turn network outputs into a loss and into gradients of those outputs.
#pragma once

#include "engine/batch_stream.hpp"
#include "engine/config.hpp"
#include "engine/network.hpp"
#include "engine/scorer.hpp"

namespace belfry {

/// tfrs.tasks.Retrieval over the towers "query" and "candidate".
class RetrievalTask {
 public:
  RetrievalTask(const TaskConfig& config, const NetworkGraph& graph, WorkspacePlan& plan,
                std::int64_t max_queries, std::int64_t max_candidates,
                Precision precision = Precision::fp32);

  /// The batch's loss (weighted by the task; sum or mean as configured), and its gradients put into the
  /// towers' d_output. `loss` lies in the backend's memory.
  void run(const Context& ctx, NetworkGraph& graph, const Batch& batch, double* loss);
  const TaskConfig& config() const { return config_; }

 private:
  TaskConfig config_;
  Precision precision_;
  Scorer scorer_;
  WorkspacePlan& plan_;
  int query_ = 0, candidate_ = 0;              // networks
  int q_ = -1, c_ = -1, d_q_ = -1, d_c_ = -1;  // finished vectors and their gradients
  int q_norm_ = -1, c_norm_ = -1;
};

}  // namespace belfry
