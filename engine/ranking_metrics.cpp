// SPDX-License-Identifier: Apache-2.0
#include "engine/ranking_metrics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/check.hpp"

namespace belfry {
namespace {

void check_sizes(std::span<const float> labels, std::span<const float> predictions,
                 std::span<const float> weights) {
  require(labels.size() == predictions.size(), "metrics: one label a prediction");
  require(weights.empty() || weights.size() == labels.size(), "metrics: one weight a row");
}

double weight_of(std::span<const float> weights, std::size_t i) {
  return weights.empty() ? 1.0 : static_cast<double>(weights[i]);
}

/// Keras's log loss: the clip in float32, whose 1 - 1e-7 is 0.99999988.
double log_loss(float label, float prediction) {
  constexpr float kLow = 1e-7f, kHigh = 1.0f - 1e-7f;
  const auto p = static_cast<double>(prediction < kLow    ? kLow
                                     : prediction > kHigh ? kHigh
                                                          : prediction);
  const auto y = static_cast<double>(label);
  return -(y * std::log(p + 1e-7) + (1 - y) * std::log(1 - p + 1e-7));
}

double gain(float label) {
  return std::exp2(static_cast<double>(label)) - 1;
}

/// Gains over discounts of the first `places` labels.
double discounted(const std::vector<float>& labels, std::size_t places) {
  double sum = 0;
  for (std::size_t i = 0; i < places; ++i) {
    sum += gain(labels[i]) / std::log2(static_cast<double>(i) + 2);
  }
  return sum;
}

}  // namespace

void RatingMetrics::add(std::span<const float> labels, std::span<const float> predictions,
                        std::span<const float> weights) {
  check_sizes(labels, predictions, weights);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const double w = weight_of(weights, i);
    const double error = static_cast<double>(labels[i]) - static_cast<double>(predictions[i]);
    squares_ += w * error * error;
    sizes_ += w * std::abs(error);
    weight_ += w;
  }
  rows_ += static_cast<std::int64_t>(labels.size());
}

MetricMap RatingMetrics::result() const {
  if (weight_ == 0) return {};
  const double mse = squares_ / weight_;
  return {{"rmse", std::sqrt(mse)}, {"mae", sizes_ / weight_}, {"mse", mse}};
}

ClickMetrics::ClickMetrics(int thresholds) {
  require(thresholds >= 2, "ClickMetrics: at least 2 thresholds");
  // The outermost lie beside [0, 1], so that all predictions are above one and below the other.
  thresholds_.push_back(-1e-7f);
  for (int i = 1; i + 1 < thresholds; ++i) {
    thresholds_.push_back(static_cast<float>(static_cast<double>(i) / (thresholds - 1)));
  }
  thresholds_.push_back(1.0f + 1e-7f);
  clicks_.assign(thresholds_.size() + 1, 0.0);
  others_ = clicks_;
}

void ClickMetrics::add(std::span<const float> labels, std::span<const float> predictions,
                       std::span<const float> weights) {
  check_sizes(labels, predictions, weights);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const double w = weight_of(weights, i);
    const bool click = labels[i] > 0.5f;
    const auto above = std::lower_bound(thresholds_.begin(), thresholds_.end(), predictions[i]);
    (click ? clicks_ : others_)[static_cast<std::size_t>(above - thresholds_.begin())] += w;
    (click ? click_weight_ : other_weight_) += w;
    weight_ += w;
    if ((predictions[i] > 0.5f) == click) correct_ += w;
    log_loss_ += w * log_loss(labels[i], predictions[i]);
    no_order_ = no_order_ || std::isnan(predictions[i]);
    kept_.push_back({predictions[i], click ? w : 0.0, click ? 0.0 : w});
  }
}

double ClickMetrics::area_by_thresholds() const {
  if (click_weight_ == 0 || other_weight_ == 0) return 0;
  double area = 0, clicks = 0, others = 0;            // of what lies above the threshold at hand
  for (std::size_t i = clicks_.size(); i > 0; --i) {  // also what lies beyond the outermost
    const double more_clicks = clicks + clicks_[i - 1], more_others = others + others_[i - 1];
    area += (more_others - others) * (clicks + more_clicks) / 2;
    clicks = more_clicks;
    others = more_others;
  }
  return area / (click_weight_ * other_weight_);
}

double ClickMetrics::exact_area() const {
  std::vector<Row> rows = kept_;
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.prediction < b.prediction; });
  double area = 0, below = 0;  // weight of the other class below the rows at hand
  for (std::size_t i = 0; i < rows.size();) {
    double clicks = 0, others = 0;
    const float prediction = rows[i].prediction;
    for (; i < rows.size() && rows[i].prediction == prediction; ++i) {
      clicks += rows[i].click;
      others += rows[i].other;
    }
    area += clicks * (below + others / 2);
    below += others;
  }
  return area / (click_weight_ * other_weight_);
}

MetricMap ClickMetrics::result() const {
  if (weight_ == 0) return {};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  MetricMap map = {{"auc", no_order_ ? nan : area_by_thresholds()},
                   {"binary_accuracy", no_order_ ? nan : correct_ / weight_},
                   {"log_loss", log_loss_ / weight_}};
  if (click_weight_ > 0 && other_weight_ > 0) map["auc_exact"] = no_order_ ? nan : exact_area();
  return map;
}

GradedMetrics::GradedMetrics(std::int64_t top) : top_(top) {
  require(top >= 0, "GradedMetrics: a negative number of places");
}

void GradedMetrics::Mean::add(double value, double w) {
  sum += w * value;
  weight += w;
  ++lists;
}

double GradedMetrics::Mean::of(std::int64_t all) const {
  if (lists == 0 || weight == 0) return 0;
  return sum / (weight * static_cast<double>(all) / static_cast<double>(lists));
}

void GradedMetrics::add_list(const float* labels, const float* scores, double weight) {
  const auto is_nan = [&](std::int64_t slot) { return std::isnan(scores[slot]); };
  if (std::any_of(slots_.begin(), slots_.end(), is_nan)) {  // such a list has no order
    for (Mean* mean : {&ndcg_, &mrr_, &map_}) {
      mean->add(std::numeric_limits<double>::quiet_NaN(), weight);
    }
    return;
  }
  std::stable_sort(slots_.begin(), slots_.end(),
                   [&](std::int64_t a, std::int64_t b) { return scores[a] > scores[b]; });
  ranked_.clear();
  for (const std::int64_t slot : slots_) ranked_.push_back(labels[slot]);
  best_ = ranked_;
  std::sort(best_.begin(), best_.end(), [](float a, float b) { return a > b; });
  const std::size_t n = ranked_.size();
  const std::size_t places = top_ == 0 ? n : std::min(n, static_cast<std::size_t>(top_));
  if (const double ideal = discounted(best_, places); ideal > 0) {
    ndcg_.add(discounted(ranked_, places) / ideal, weight);
  }
  double relevant = 0, found = 0, precisions = 0, first = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (ranked_[i] < 1) continue;
    ++relevant;
    if (i >= places) continue;
    const auto rank = static_cast<double>(i + 1);
    if (found == 0) first = 1 / rank;
    precisions += ++found / rank;
  }
  if (relevant == 0) return;
  mrr_.add(first, weight);
  map_.add(precisions / relevant, weight);
}

void GradedMetrics::add(Matrix<const float> labels, Matrix<const float> scores,
                        std::span<const float> weights) {
  require(labels.rows == scores.rows && labels.cols == scores.cols,
          "GradedMetrics: labels must have the shape of scores");
  require(weights.empty() || static_cast<std::int64_t>(weights.size()) == labels.rows,
          "GradedMetrics: one weight a list");
  for (std::int64_t l = 0; l < labels.rows; ++l) {
    slots_.clear();
    for (std::int64_t j = 0; j < labels.cols; ++j) {
      if (labels(l, j) >= 0) slots_.push_back(j);
    }
    add_list(labels.row(l), scores.row(l), weight_of(weights, static_cast<std::size_t>(l)));
  }
  lists_ += labels.rows;
}

MetricMap GradedMetrics::result() const {
  if (lists_ == 0) return {};
  return {{"ndcg", ndcg_.of(lists_)}, {"mrr", mrr_.of(lists_)}, {"map", map_.of(lists_)}};
}

}  // namespace belfry
