// SPDX-License-Identifier: Apache-2.0
// Metrics of the ranking task, in float64: of ratings, of clicks, and of lists with graded labels. All are fed in
// batches; rows are added in order, so that the cut into batches changes no bit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/metrics.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Errors of predicted ratings: "rmse", "mae", "mse". Sums of weighted errors over the sum of weights.
class RatingMetrics {
 public:
  /// weights: one a row, or empty.
  void add(std::span<const float> labels, std::span<const float> predictions,
           std::span<const float> weights = {});
  std::int64_t rows() const { return rows_; }
  /// Empty without weight.
  MetricMap result() const;

 private:
  double squares_ = 0, sizes_ = 0, weight_ = 0;
  std::int64_t rows_ = 0;
};

/// Metrics of predicted probabilities of clicks, with Keras's definitions:
///   "auc"              area under the ROC curve, by trapezoids between `thresholds` evenly spaced ones; far from
///                      the exact one where predictions lie close together; 0 where one class is missing
///   "auc_exact"        share of pairs in order, ties as one half; left out where one class is missing
///   "binary_accuracy"  share of rows where prediction > 0.5 tells the label
///   "log_loss"         of predictions clipped to [1e-7, 1 - 1e-7], 1e-7 added inside of the logarithms
/// A label above 0.5 is a click. The exact area keeps all predictions: 24 bytes a row.
/// A NaN among the predictions makes all of them NaN.
class ClickMetrics {
 public:
  explicit ClickMetrics(int thresholds = 200);
  void add(std::span<const float> labels, std::span<const float> predictions,
           std::span<const float> weights = {});
  std::int64_t rows() const { return static_cast<std::int64_t>(kept_.size()); }
  /// Empty without weight.
  MetricMap result() const;

 private:
  struct Row {
    float prediction;
    double click, other;  // its weight, in its class
  };
  double area_by_thresholds() const;
  double exact_area() const;

  std::vector<float> thresholds_;
  std::vector<double> clicks_, others_;  // [i]: weight of rows above exactly i thresholds
  std::vector<Row> kept_;
  double correct_ = 0, log_loss_ = 0, weight_ = 0, click_weight_ = 0, other_weight_ = 0;
  bool no_order_ = false;  // a prediction was NaN
};

/// TF-Ranking's metrics of lists: "ndcg" (gain 2^label - 1, discount 1 / log2(1 + rank)), "mrr" and "map" (relevant:
/// label >= 1; MAP divides by all relevant items of the list), over the `top` best places, 0: all. Slots with a label
/// below 0 are padding; equal scores rank the lower slot first (TF-Ranking: at random). A list without a relevant
/// item counts as 0 with the mean weight of the other lists, here of all that were added.
/// A NaN among the scores of items makes all of them NaN.
class GradedMetrics {
 public:
  explicit GradedMetrics(std::int64_t top = 0);
  /// labels, scores [lists, slots]; weights: one a list, or empty.
  void add(Matrix<const float> labels, Matrix<const float> scores,
           std::span<const float> weights = {});
  std::int64_t lists() const { return lists_; }
  /// Means over lists; empty without a list.
  MetricMap result() const;

 private:
  struct Mean {
    double sum = 0, weight = 0;
    std::int64_t lists = 0;  // with something relevant
    void add(double value, double w);
    double of(std::int64_t all) const;
  };
  void add_list(const float* labels, const float* scores, double weight);

  std::int64_t top_, lists_ = 0;
  Mean ndcg_, mrr_, map_;
  std::vector<float> ranked_, best_;  // scratch: labels in the order of scores, and of labels
  std::vector<std::int64_t> slots_;
};

}  // namespace belfry
