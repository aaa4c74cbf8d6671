// SPDX-License-Identifier: Apache-2.0
// Names of metrics, and the sums behind them.
#include "engine/metrics.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <string_view>

#include "engine/topk_stream.hpp"
#include "kernels/core/check.hpp"
#include "kernels/core/transfer.hpp"

namespace belfry {
namespace {

struct KindName {
  MetricKind kind;
  std::string_view name;
};
constexpr std::array<KindName, 10> kKinds = {{{MetricKind::recall, "recall"},
                                              {MetricKind::recall_min, "recall_min"},
                                              {MetricKind::precision, "precision"},
                                              {MetricKind::hit_rate, "hit_rate"},
                                              {MetricKind::ndcg, "ndcg"},
                                              {MetricKind::mrr, "mrr"},
                                              {MetricKind::map, "map"},
                                              {MetricKind::map_min, "map_min"},
                                              {MetricKind::coverage, "coverage"},
                                              {MetricKind::gini, "gini"}}};
constexpr std::string_view kTopKHead = "factorized_top_k/top_";
constexpr std::string_view kTopKTail = "_categorical_accuracy";

/// A plain decimal number in [1, 2^31): no sign, no leading zero, so that a name has one spelling.
std::optional<std::int64_t> parse_k(std::string_view text) {
  std::int32_t k = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), k);
  if (error != std::errc() || end != text.data() + text.size() || k < 1 || text.front() == '0') {
    return std::nullopt;
  }
  return k;
}

bool counts_items(MetricKind kind) {
  return kind == MetricKind::coverage || kind == MetricKind::gini;
}

/// Gini index of how often each item was recommended: 0 when all equally often, near 1 when a few
/// items take every place.
double gini(std::vector<std::int64_t> counts) {
  std::sort(counts.begin(), counts.end());
  const auto n = static_cast<std::int64_t>(counts.size());
  double weighted = 0, total = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto x = static_cast<double>(counts[i]);
    weighted += static_cast<double>(2 * (i + 1) - n - 1) * x;
    total += x;
  }
  return total > 0 ? weighted / (static_cast<double>(n) * total) : 0.0;
}

/// Bits of the largest |value|. As whole numbers the bits of floats without sign keep their order, and
/// infinity and NaN come last, so that no value slips past a comparison.
std::uint32_t largest_bits(const float* values, std::int64_t n, std::uint32_t so_far) {
  constexpr std::int64_t kLanes =
      16;  // independent maxima, which the compiler can keep in registers
  std::array<std::uint32_t, kLanes> most{};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t l = 0; l < kLanes; ++l) {
      most[l] = std::max(most[l], std::bit_cast<std::uint32_t>(values[i + l]) & 0x7FFFFFFFu);
    }
  }
  for (; i < n; ++i)
    most[0] = std::max(most[0], std::bit_cast<std::uint32_t>(values[i]) & 0x7FFFFFFFu);
  return std::max(so_far, *std::max_element(most.begin(), most.end()));
}

/// Bits of the largest |value| of n that lie in the backend's memory one after the other.
std::uint32_t largest_bits_at(const Context& ctx, const float* values, std::int64_t n) {
  if (ctx.backend() == Backend::cpu) return largest_bits(values, n, 0);
  constexpr std::int64_t kPiece = std::int64_t{1} << 22;
  std::vector<float> piece(static_cast<std::size_t>(std::min(n, kPiece)));
  std::uint32_t most = 0;
  for (std::int64_t first = 0; first < n; first += kPiece) {
    const std::int64_t m = std::min(kPiece, n - first);
    download(ctx, values + first, piece.data(), m);
    most = largest_bits(piece.data(), m, most);
  }
  return most;
}

/// True when no score of these vectors can overflow or be NaN. One look at each value: 1 / queries of
/// the scan that follows.
bool scores_stay_finite(const Context& ctx, Matrix<const float> queries, std::int64_t dim,
                        float largest_item) {
  std::uint32_t q = 0;
  if (queries.contiguous()) {
    q = largest_bits_at(ctx, queries.data, queries.rows * queries.cols);
  } else {
    for (std::int64_t i = 0; i < queries.rows; ++i) {
      q = std::max(q, largest_bits_at(ctx, queries.row(i), queries.cols));
    }
  }
  const double bound = static_cast<double>(std::bit_cast<float>(q)) *
                       static_cast<double>(largest_item) * static_cast<double>(dim);
  return bound < 1e38;  // false for NaN
}

}  // namespace

std::string Metric::name() const {
  if (kind == MetricKind::top_k_accuracy) {
    return std::string(kTopKHead) + std::to_string(k) + std::string(kTopKTail);
  }
  for (const KindName& entry : kKinds) {
    if (entry.kind != kind) continue;
    const std::string name(entry.name);
    return k == 0 ? name : name + "@" + std::to_string(k);
  }
  throw ContractError("Metric::name: unknown kind");
}

std::optional<Metric> parse_metric(const std::string& name) {
  const std::string_view text = name;
  if (text.starts_with(kTopKHead) && text.ends_with(kTopKTail) &&
      text.size() > kTopKHead.size() + kTopKTail.size()) {
    const auto k =
        parse_k(text.substr(kTopKHead.size(), text.size() - kTopKHead.size() - kTopKTail.size()));
    if (!k) return std::nullopt;
    return Metric{MetricKind::top_k_accuracy, *k};
  }
  const std::size_t at = text.find('@');
  for (const KindName& entry : kKinds) {
    if (text.substr(0, at) != entry.name) continue;
    if (at == std::string_view::npos) {
      if (entry.kind != MetricKind::mrr) return std::nullopt;
      return Metric{MetricKind::mrr, 0};
    }
    const std::string_view digits = text.substr(at + 1);
    const auto k = digits.empty() ? std::nullopt : parse_k(digits);
    if (!k) return std::nullopt;
    return Metric{entry.kind, *k};
  }
  return std::nullopt;
}

const std::vector<std::string>& metric_forms() {
  static const std::vector<std::string> forms = [] {
    std::vector<std::string> list;
    for (const KindName& entry : kKinds) {
      if (entry.kind == MetricKind::mrr) list.emplace_back(entry.name);
      list.push_back(std::string(entry.name) + "@K");
    }
    list.push_back(std::string(kTopKHead) + "K" + std::string(kTopKTail));
    return list;
  }();
  return forms;
}

RankingMetrics::RankingMetrics(std::vector<Metric> metrics, std::int64_t catalogue_items)
    : metrics_(std::move(metrics)), items_(catalogue_items) {
  std::erase_if(metrics_, [](const Metric& m) { return m.kind == MetricKind::top_k_accuracy; });
  std::int64_t longest = 0;
  for (const Metric& m : metrics_) {
    require(m.k >= 1 || (m.k == 0 && m.kind == MetricKind::mrr),
            "RankingMetrics: k must be at least 1");
    longest = std::max(longest, m.k);
  }
  // No list is longer than the catalogue, but the ideal list is: it counts items outside it too.
  sums_.assign(metrics_.size(), 0.0);
  item_counts_.resize(metrics_.size());
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    if (counts_items(metrics_[i].kind)) item_counts_[i].assign(items_, 0);
  }
  grow_ideal(std::min(longest, items_));
}

void RankingMetrics::grow_ideal(std::int64_t ranks) {
  while (static_cast<std::int64_t>(ideal_.size()) <= ranks) {
    const auto rank = static_cast<double>(ideal_.size());
    ideal_.push_back(ideal_.empty() ? 0.0 : ideal_.back() + 1.0 / std::log2(rank + 1.0));
  }
}

double RankingMetrics::value(const Metric& metric, std::int64_t relevant,
                             std::optional<std::int64_t> first_rank) {
  const auto within =
      metric.k == 0 ? hits_.end() : std::upper_bound(hits_.begin(), hits_.end(), metric.k);
  const auto count = static_cast<std::int64_t>(within - hits_.begin());
  switch (metric.kind) {
    case MetricKind::recall:
      return static_cast<double>(count) / static_cast<double>(relevant);
    case MetricKind::recall_min:
      return static_cast<double>(count) / static_cast<double>(std::min(metric.k, relevant));
    case MetricKind::precision:
      return static_cast<double>(count) / static_cast<double>(metric.k);
    case MetricKind::hit_rate:
      return count > 0 ? 1.0 : 0.0;
    case MetricKind::ndcg: {
      const std::int64_t best = std::min(metric.k, relevant);
      grow_ideal(best);
      double gain = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        gain += 1.0 / std::log2(static_cast<double>(hits_[i]) + 1.0);
      }
      return gain / ideal_[best];
    }
    case MetricKind::mrr:
      if (metric.k == 0 && first_rank) return 1.0 / static_cast<double>(*first_rank + 1);
      return count > 0 ? 1.0 / static_cast<double>(hits_.front()) : 0.0;
    case MetricKind::map:
    case MetricKind::map_min: {
      double sum = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        sum += static_cast<double>(i + 1) / static_cast<double>(hits_[i]);
      }
      const bool all = metric.kind == MetricKind::map;
      return sum / static_cast<double>(all ? relevant : std::min(metric.k, relevant));
    }
    default:
      return 0.0;  // coverage and gini are no means over users
  }
}

void RankingMetrics::add(std::span<const std::int32_t> ranked, std::span<const std::int32_t> truth,
                         std::int64_t outside, std::optional<std::int64_t> first_rank) {
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    if (!counts_items(metrics_[i].kind)) continue;
    const auto shown = std::min(static_cast<std::int64_t>(ranked.size()), metrics_[i].k);
    for (std::int64_t r = 0; r < shown; ++r) ++item_counts_[i][ranked[r]];
  }
  const std::int64_t relevant = static_cast<std::int64_t>(truth.size()) + outside;
  if (relevant == 0) return;
  hits_.clear();
  for (std::size_t r = 0; r < ranked.size(); ++r) {
    if (std::binary_search(truth.begin(), truth.end(), ranked[r])) {
      hits_.push_back(static_cast<std::int64_t>(r) + 1);
    }
  }
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    sums_[i] += value(metrics_[i], relevant, first_rank);
  }
  ++users_;
}

MetricMap RankingMetrics::result() const {
  MetricMap map;
  for (std::size_t i = 0; i < metrics_.size(); ++i) {
    const Metric& metric = metrics_[i];
    if (metric.kind == MetricKind::gini) {
      map[metric.name()] = gini(item_counts_[i]);
    } else if (metric.kind == MetricKind::coverage) {
      const auto shown = std::count_if(item_counts_[i].begin(), item_counts_[i].end(),
                                       [](std::int64_t n) { return n > 0; });
      map[metric.name()] =
          items_ > 0 ? static_cast<double>(shown) / static_cast<double>(items_) : 0.0;
    } else if (users_ > 0) {
      map[metric.name()] = sums_[i] / static_cast<double>(users_);
    }
  }
  return map;
}

float largest_component(const Context& ctx, const PackedItems& items) {
  return std::bit_cast<float>(
      largest_bits_at(ctx, items.data, PackedItems::size(items.n, items.dim)));
}

TopKAccuracy::TopKAccuracy(std::vector<std::int64_t> ks)
    : ks_(std::move(ks)), sums_(ks_.size(), 0.0) {
  require(!ks_.empty(), "TopKAccuracy: at least one k");
  for (const std::int64_t k : ks_) require(k >= 1, "TopKAccuracy: k must be at least 1");
}

void TopKAccuracy::begin(std::int64_t queries, std::span<const float> weight) {
  require(weight.empty() || static_cast<std::int64_t>(weight.size()) == queries,
          "TopKAccuracy: one weight a query");
  hits_.assign(queries * ks_.size(), 0);
}

void TopKAccuracy::record(std::int64_t row, std::int64_t rank, std::span<const float> weight) {
  const double w = weight.empty() ? 1.0 : static_cast<double>(weight[row]);
  for (std::size_t i = 0; i < ks_.size(); ++i) {
    const bool hit = rank >= 0 && rank < ks_[i];
    hits_[row * ks_.size() + i] = hit ? 1 : 0;
    if (hit) sums_[i] += w;
  }
  weight_ += w;
}

template <class RankOf>
void TopKAccuracy::scan_lists(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                              const PackedItems& candidates, std::span<const float> weight,
                              RankOf rank_of) {
  const std::int64_t n = queries.rows / heads;
  const std::int64_t k =
      std::max<std::int64_t>(1, std::min(*std::max_element(ks_.begin(), ks_.end()), candidates.n));
  const std::int64_t tile = std::clamp<std::int64_t>((std::int64_t{1} << 20) / k, 1, 1024);
  TopKStream lists(
      ctx, candidates, heads, std::min(tile, n), k, {},
      [&](std::int64_t first, Matrix<const float> scores, Matrix<const std::int32_t> rows) {
        const auto length = static_cast<std::size_t>(k);
        for (std::int64_t q = 0; q < scores.rows; ++q) {
          record(
              first + q,
              rank_of(first + q, std::span(scores.row(q), length), std::span(rows.row(q), length)),
              weight);
        }
      });
  for (std::int64_t first = 0; first < n; first += tile) {
    lists.add(first, queries.slice(first * heads, std::min(tile, n - first) * heads));
  }
  lists.finish();
}

void TopKAccuracy::update_by_score(const Context& ctx, Matrix<const float> queries,
                                   std::int64_t heads, const PackedItems& candidates,
                                   std::span<const float> positive_scores,
                                   std::span<const float> weight, std::optional<float> largest) {
  const auto n = static_cast<std::int64_t>(positive_scores.size());
  require(heads >= 1 && n * heads == queries.rows, "TopKAccuracy: one positive score a query");
  begin(n, weight);
  if (!largest) largest = largest_component(ctx, candidates);
  if (scores_stay_finite(ctx, queries, candidates.dim, *largest)) {
    // The usual case needs no lists, only how many score strictly higher.
    const std::vector<std::int32_t> no_rows(n, -1);
    const Uploaded<float> positives(ctx, positive_scores);
    const Uploaded<std::int32_t> no_row(ctx, no_rows);
    Results<std::int64_t> counts(ctx, n);
    count_above(ctx, queries, heads, candidates, {}, positives.view(), no_row.view(),
                {counts.data(), n});
    const std::int64_t* above = counts.fetch(ctx, n);
    for (std::int64_t row = 0; row < n; ++row) {
      record(row, std::isfinite(positive_scores[row]) ? above[row] : -1, weight);
    }
    return;
  }
  // As TensorFlow's in_top_k: a score among the scanned ones that is not finite makes the row a miss
  // at every k. A NaN score never enters the list, so it shows as an empty slot.
  scan_lists(ctx, queries, heads, candidates, weight,
             [&](std::int64_t row, std::span<const float> scores, std::span<const std::int32_t>) {
               const float positive = positive_scores[row];
               if (!std::isfinite(positive)) return std::int64_t{-1};
               std::int64_t above = 0;
               for (const float s : scores) {
                 if (candidates.n > 0 && !std::isfinite(s)) return std::int64_t{-1};
                 above += s > positive;
               }
               return above;
             });
}

void TopKAccuracy::update_by_id(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                                const PackedItems& candidates,
                                std::span<const std::int64_t> candidate_ids,
                                std::span<const std::int64_t> true_ids,
                                std::span<const float> weight) {
  require(static_cast<std::int64_t>(candidate_ids.size()) == candidates.n,
          "TopKAccuracy: one id a candidate");
  require(heads >= 1 && static_cast<std::int64_t>(true_ids.size()) * heads == queries.rows,
          "TopKAccuracy: one true id a query");
  begin(static_cast<std::int64_t>(true_ids.size()), weight);
  scan_lists(ctx, queries, heads, candidates, weight,
             [&](std::int64_t row, std::span<const float>, std::span<const std::int32_t> rows) {
               for (std::size_t r = 0; r < rows.size() && rows[r] >= 0; ++r) {
                 if (candidate_ids[rows[r]] == true_ids[row]) return static_cast<std::int64_t>(r);
               }
               return std::int64_t{-1};
             });
}

MetricMap TopKAccuracy::result() const {
  MetricMap map;
  for (std::size_t i = 0; i < ks_.size(); ++i) {
    map[Metric{MetricKind::top_k_accuracy, ks_[i]}.name()] =
        weight_ != 0 ? sums_[i] / weight_ : 0.0;
  }
  return map;
}

}  // namespace belfry
