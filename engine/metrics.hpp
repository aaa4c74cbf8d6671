// SPDX-License-Identifier: Apache-2.0
// Metrics of ranked lists, in float64: definitions of notes "recall = hits / |truth|", binary NDCG over
// min(k, |truth|), MAP and MRR at k; and TFRS's top-k categorical accuracy.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/context.hpp"
#include "kernels/topk_scores/topk_scores.hpp"

namespace belfry {

using MetricMap = std::map<std::string, double>;

enum class MetricKind {
  recall,
  recall_min,  ///< divided by min(k, |truth|), as the next _min
  precision,
  hit_rate,
  ndcg,
  mrr,
  map,
  map_min,
  coverage,
  gini,
  top_k_accuracy
};

/// "recall@20", "mrr", "map@10", "factorized_top_k/top_100_categorical_accuracy" <-> kind and k.
struct Metric {
  MetricKind kind = MetricKind::recall;
  std::int64_t k = 0;  ///< 0: the whole ranking (mrr)
  std::string name() const;
};
/// nullopt for a name that is no metric.
std::optional<Metric> parse_metric(const std::string& name);
/// All metric forms, for error messages: "recall@K", ...
const std::vector<std::string>& metric_forms();

/// Sums metrics over users; each user once, in any fixed order. Metrics of the other family
/// (top_k_accuracy) are left out.
class RankingMetrics {
 public:
  RankingMetrics(std::vector<Metric> metrics, std::int64_t catalogue_items);
  /// ranked: the user's list, best first (may be shorter than k); truth: distinct relevant rows,
  /// ascending; outside: distinct relevant items that no list can hold (misses); first_rank: 0-based rank
  /// of the best-ranked truth item in the whole ranking when known (mrr without k; else the rank in
  /// `ranked`). A user without any relevant item counts for coverage and gini alone.
  void add(std::span<const std::int32_t> ranked, std::span<const std::int32_t> truth,
           std::int64_t outside, std::optional<std::int64_t> first_rank);
  std::int64_t users() const { return users_; }
  /// Means over the users; without a user only coverage and gini are there.
  MetricMap result() const;

 private:
  double value(const Metric& metric, std::int64_t relevant, std::optional<std::int64_t> first_rank);
  void grow_ideal(std::int64_t ranks);

  std::vector<Metric> metrics_;
  std::vector<double> sums_;
  std::vector<std::vector<std::int64_t>> item_counts_;  // coverage and gini, per metric
  std::vector<std::int64_t> hits_;                      // of the user at hand: ranks from 1
  std::vector<double> ideal_;                           // [r]: DCG of r leading hits
  std::int64_t items_ = 0, users_ = 0;
};

/// What the per-user family needs: one query a user, distinct test items, masked items. Queries and items
/// lie in the backend's memory.
struct RankingInput {
  Matrix<const float> queries;  ///< [U*heads, d]
  std::int64_t heads = 1;
  PackedItems items;
  std::vector<std::int64_t> truth_offsets;    ///< [U + 1]
  std::vector<std::int32_t> truth;            ///< ascending, distinct, inside the catalogue
  std::vector<std::int64_t> outside;          ///< [U] distinct test items outside the catalogue
  std::vector<std::int64_t> exclude_offsets;  ///< [U + 1], or empty: nothing is masked
  std::vector<std::int32_t> exclude;          ///< ascending
};

/// Metrics of the model over all users of `input` (streamed in tiles of users; O(tile k) memory).
MetricMap evaluate_ranking(const Context& ctx, const RankingInput& input,
                           const std::vector<Metric>& metrics);
/// The same users and masks, items ranked by `item_counts` (ties: the smaller row), or uniformly at
/// random by seed.
MetricMap popularity_baseline(const RankingInput& input,
                              const std::vector<std::int64_t>& item_counts,
                              const std::vector<Metric>& metrics);
MetricMap random_baseline(const RankingInput& input, std::uint64_t seed,
                          const std::vector<Metric>& metrics);

/// The largest |component| of items, NaN where one is NaN. On the device the vectors pass through the host.
float largest_component(const Context& ctx, const PackedItems& items);

/// tfrs.metrics.FactorizedTopK: weighted share of rows whose true candidate is among the k best. Queries and
/// candidates lie in the backend's memory, all else in the host's.
class TopKAccuracy {
 public:
  explicit TopKAccuracy(std::vector<std::int64_t> ks);
  /// Score-based, as TFRS's default: hit iff fewer than k candidates score strictly higher than the
  /// positive (bit-defined scores: an item never beats itself). positive_scores [Q]: score of each row's
  /// true candidate. As in TFRS, a row misses at every k when its positive, or any of the max(ks)
  /// candidates scanned, is not finite. weight [Q] or empty. largest: largest_component(candidates) where
  /// the caller has it, for many updates with the same candidates.
  void update_by_score(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                       const PackedItems& candidates, std::span<const float> positive_scores,
                       std::span<const float> weight, std::optional<float> largest = std::nullopt);
  /// Id-based: hit iff the true id is among the first k; candidate_ids [n], true_ids [Q].
  void update_by_id(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                    const PackedItems& candidates, std::span<const std::int64_t> candidate_ids,
                    std::span<const std::int64_t> true_ids, std::span<const float> weight);
  /// hits[q * ks + i] of the last update.
  const std::vector<char>& last_hits() const { return hits_; }
  /// "factorized_top_k/top_{k}_categorical_accuracy" -> value (0 without weight).
  MetricMap result() const;

 private:
  void begin(std::int64_t queries, std::span<const float> weight);
  /// rank: 0-based rank of the true candidate, -1 for a miss at every k.
  void record(std::int64_t row, std::int64_t rank, std::span<const float> weight);
  /// Records rank_of(query, scores, rows) of each query's list of the max(ks) best candidates.
  template <class RankOf>
  void scan_lists(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                  const PackedItems& candidates, std::span<const float> weight, RankOf rank_of);

  std::vector<std::int64_t> ks_;
  std::vector<double> sums_;
  double weight_ = 0;
  std::vector<char> hits_;
};

}  // namespace belfry
