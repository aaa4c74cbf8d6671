// SPDX-License-Identifier: Apache-2.0
// The per-user family: metrics of the model and of two baselines over the same users and masks.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_set>

#include "engine/metrics.hpp"
#include "engine/topk_stream.hpp"
#include "kernels/core/buffer.hpp"
#include "kernels/core/check.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/core/transfer.hpp"
#include "kernels/embedding_bag/embedding_bag.hpp"

namespace belfry {
namespace {

constexpr std::int64_t kTileUsers = 1024;
constexpr std::int64_t kTileSlots = std::int64_t{1} << 20;  // bounds a tile's lists at large k
constexpr std::int64_t kPairChunk = 4096;
constexpr std::int64_t kProbe = 20;  // list length when only the whole ranking's mrr is asked for

std::int64_t users_of(const RankingInput& in) {
  require(!in.truth_offsets.empty(), "RankingInput: truth_offsets needs users + 1 entries");
  return static_cast<std::int64_t>(in.truth_offsets.size()) - 1;
}

void check(const RankingInput& in) {
  const std::int64_t users = users_of(in);
  require(in.truth_offsets.back() == static_cast<std::int64_t>(in.truth.size()),
          "RankingInput: truth_offsets must end at the number of truth items");
  require(static_cast<std::int64_t>(in.outside.size()) == users,
          "RankingInput: outside needs one entry a user");
  require(in.exclude_offsets.empty() ||
              (in.exclude_offsets.size() == in.truth_offsets.size() &&
               in.exclude_offsets.back() == static_cast<std::int64_t>(in.exclude.size())),
          "RankingInput: exclude_offsets must be empty or have users + 1 entries");
}

std::span<const std::int32_t> truth_of(const RankingInput& in, std::int64_t user) {
  return std::span(in.truth).subspan(in.truth_offsets[user],
                                     in.truth_offsets[user + 1] - in.truth_offsets[user]);
}

std::span<const std::int32_t> excluded_of(const RankingInput& in, std::int64_t user) {
  if (in.exclude_offsets.empty()) return {};
  return std::span(in.exclude)
      .subspan(in.exclude_offsets[user], in.exclude_offsets[user + 1] - in.exclude_offsets[user]);
}

/// Slots that a user's list needs; more than the catalogue's items cannot be filled.
std::int64_t list_length(const std::vector<Metric>& metrics, std::int64_t items) {
  std::int64_t k = 0;
  for (const Metric& m : metrics) {
    if (m.kind != MetricKind::top_k_accuracy) k = std::max(k, m.k);
  }
  return std::max<std::int64_t>(1, std::min(k == 0 ? kProbe : k, items));
}

bool wants_whole_ranking(const std::vector<Metric>& metrics) {
  return std::any_of(metrics.begin(), metrics.end(),
                     [](const Metric& m) { return m.kind == MetricKind::mrr && m.k == 0; });
}

bool has_hit(std::span<const std::int32_t> ranked, std::span<const std::int32_t> truth) {
  return std::any_of(ranked.begin(), ranked.end(), [&](std::int32_t row) {
    return std::binary_search(truth.begin(), truth.end(), row);
  });
}

/// Ranks of first truth items that lie beyond the lists: only for the users who need them.
class RankFinder {
 public:
  RankFinder(const Context& ctx, const RankingInput& in) : ctx_(ctx), in_(in) {}

  /// rank[i]: 0-based rank of users[i]'s best-scored truth item, nullopt when none has a score.
  std::vector<std::optional<std::int64_t>> find(const std::vector<std::int64_t>& users) {
    best_score_.assign(users.size(), std::numeric_limits<float>::quiet_NaN());
    best_row_.assign(users.size(), -1);
    score_truth(users);
    return count(users);
  }

 private:
  /// The query rows of users, one user after the other.
  Matrix<const float> queries_of(const std::vector<std::int64_t>& users) {
    rows_.clear();
    for (const std::int64_t user : users) {
      for (std::int64_t h = 0; h < in_.heads; ++h)
        rows_.push_back(static_cast<std::int32_t>(user * in_.heads + h));
    }
    const auto n = static_cast<std::int64_t>(rows_.size());
    if (n * in_.queries.cols > queries_.size()) {
      queries_ = Buffer<float>(ctx_.backend(), n * in_.queries.cols, Fill::none);
    }
    const Matrix<float> out = queries_.matrix(n, in_.queries.cols);
    const Uploaded<std::int32_t> rows(ctx_, rows_);
    embedding_bag(ctx_, in_.queries, {rows.data(), nullptr, nullptr, n, n}, Pooling::sum, out);
    return out;
  }

  void score_truth(const std::vector<std::int64_t>& users) {
    std::vector<std::int64_t> slot, asked;  // of each pair: index into users, and the user
    std::vector<std::int32_t> rows;
    const auto flush = [&] {
      const auto n = static_cast<std::int64_t>(rows.size());
      const Matrix<const float> queries = queries_of(asked);
      const Uploaded<std::int32_t> items(ctx_, rows);
      Results<float> found(ctx_, n);
      pair_scores(ctx_, queries, in_.heads, in_.items, items.view(), {found.data(), n});
      const float* scores = found.fetch(ctx_, n);
      for (std::int64_t i = 0; i < n; ++i) {
        // Rows ascend within a user, so that a tie keeps the smaller one; NaN never wins.
        if (best_row_[slot[i]] < 0 ? !std::isnan(scores[i]) : scores[i] > best_score_[slot[i]]) {
          best_score_[slot[i]] = scores[i];
          best_row_[slot[i]] = rows[i];
        }
      }
      slot.clear();
      asked.clear();
      rows.clear();
    };
    for (std::size_t i = 0; i < users.size(); ++i) {
      for (const std::int32_t row : truth_of(in_, users[i])) {
        slot.push_back(static_cast<std::int64_t>(i));
        asked.push_back(users[i]);
        rows.push_back(row);
        if (static_cast<std::int64_t>(rows.size()) == kPairChunk) flush();
      }
    }
    if (!rows.empty()) flush();
  }

  std::vector<std::optional<std::int64_t>> count(const std::vector<std::int64_t>& users) {
    const auto n = static_cast<std::int64_t>(users.size());
    std::vector<std::int64_t> offsets{0};
    std::vector<std::int32_t> exclude;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto rows = excluded_of(in_, users[i]);
      exclude.insert(exclude.end(), rows.begin(), rows.end());
      offsets.push_back(static_cast<std::int64_t>(exclude.size()));
    }
    const Matrix<const float> queries = queries_of(users);
    const Uploaded<std::int64_t> list_offsets(ctx_, offsets);
    const Uploaded<std::int32_t> list_rows(ctx_, exclude), best_row(ctx_, best_row_);
    const Uploaded<float> best_score(ctx_, best_score_);
    ItemMask mask;
    if (!in_.exclude_offsets.empty()) mask.exclude = {list_offsets.data(), list_rows.data()};
    Results<std::int64_t> counts(ctx_, n);
    count_above(ctx_, queries, in_.heads, in_.items, mask, best_score.view(), best_row.view(),
                {counts.data(), n});
    const std::int64_t* above = counts.fetch(ctx_, n);
    std::vector<std::optional<std::int64_t>> ranks(n);
    for (std::int64_t i = 0; i < n; ++i) {
      if (best_row_[i] >= 0) ranks[i] = above[i];
    }
    return ranks;
  }

  const Context& ctx_;
  const RankingInput& in_;
  std::vector<float> best_score_;
  std::vector<std::int32_t> best_row_, rows_;
  Buffer<float> queries_;
};

/// Distinct uniform draws for one user: a stream of its own, whatever the order of the users.
class Draws {
 public:
  Draws(std::uint64_t seed, std::int64_t user)
      : seed_(seed), user_(static_cast<std::uint64_t>(user)) {}
  std::int64_t below(std::int64_t n) {
    if (used_ == 0) words_ = random_words(seed_, RandomStream::baseline, user_, index_++);
    const std::uint32_t hi = words_.v[2 * used_], lo = words_.v[2 * used_ + 1];
    used_ ^= 1;
    return static_cast<std::int64_t>(uniform_below(hi, lo, static_cast<std::uint64_t>(n)));
  }

 private:
  std::uint64_t seed_, user_, index_ = 0;
  Philox4 words_{};
  int used_ = 0;
};

/// The first `take` of a uniformly random order of the eligible items. taken[i] == mark: item i is
/// not eligible, or drawn already.
void draw_list(Draws& draws, std::int64_t take, std::int64_t eligible, std::int32_t mark,
               std::vector<std::int32_t>& taken, std::vector<std::int32_t>& list) {
  list.clear();
  const auto items = static_cast<std::int64_t>(taken.size());
  if (eligible - take >= items / 4) {  // a draw is refused at most three times out of four
    while (static_cast<std::int64_t>(list.size()) < take) {
      const auto row = static_cast<std::int32_t>(draws.below(items));
      if (taken[row] == mark) continue;
      taken[row] = mark;
      list.push_back(row);
    }
    return;
  }
  for (std::int64_t row = 0; row < items; ++row) {
    if (taken[row] != mark) list.push_back(static_cast<std::int32_t>(row));
  }
  for (std::int64_t i = 0; i < take; ++i) {
    std::swap(list[i], list[i + draws.below(eligible - i)]);
  }
  list.resize(take);
}

/// Smallest of `count` distinct uniform positions in [0, n): Floyd's sampling without replacement.
std::int64_t smallest_position(Draws& draws, std::int64_t count, std::int64_t n) {
  std::unordered_set<std::int64_t> chosen;
  std::int64_t smallest = n;
  for (std::int64_t j = n - count; j < n; ++j) {
    std::int64_t position = draws.below(j + 1);
    if (!chosen.insert(position).second) {
      position = j;
      chosen.insert(j);
    }
    smallest = std::min(smallest, position);
  }
  return smallest;
}

}  // namespace

MetricMap evaluate_ranking(const Context& ctx, const RankingInput& input,
                           const std::vector<Metric>& metrics) {
  check(input);
  const std::int64_t users = users_of(input);
  require(input.heads >= 1 && input.queries.rows == users * input.heads,
          "evaluate_ranking: one query a user");
  const std::int64_t k = list_length(metrics, input.items.n);
  const std::int64_t tile =
      std::min(std::clamp<std::int64_t>(kTileSlots / k, 1, kTileUsers), users);
  const bool whole = wants_whole_ranking(metrics);
  RankingMetrics sums(metrics, input.items.n);
  RankFinder finder(ctx, input);
  std::vector<std::int64_t> unknown;
  std::vector<std::optional<std::int64_t>> first_rank(tile);
  TopKStream lists(ctx, input.items, input.heads, tile, k, {},
                   [&](std::int64_t first, Matrix<const float>, Matrix<const std::int32_t> rows) {
                     const auto list_of = [&](std::int64_t q) {
                       const std::int32_t* list = rows.row(q);
                       return std::span<const std::int32_t>(list, std::find(list, list + k, -1));
                     };
                     unknown.clear();
                     for (std::int64_t q = 0; q < rows.rows; ++q) {
                       first_rank[q].reset();
                       // A list with empty slots holds every item that has a rank at all.
                       if (whole && static_cast<std::int64_t>(list_of(q).size()) == k &&
                           !truth_of(input, first + q).empty() &&
                           !has_hit(list_of(q), truth_of(input, first + q))) {
                         unknown.push_back(first + q);
                       }
                     }
                     if (!unknown.empty()) {
                       const auto found = finder.find(unknown);
                       for (std::size_t i = 0; i < unknown.size(); ++i)
                         first_rank[unknown[i] - first] = found[i];
                     }
                     for (std::int64_t q = 0; q < rows.rows; ++q) {
                       sums.add(list_of(q), truth_of(input, first + q), input.outside[first + q],
                                first_rank[q]);
                     }
                   });
  for (std::int64_t first = 0; first < users; first += tile) {
    const std::int64_t n = std::min(tile, users - first);
    RowLists exclude;
    if (!input.exclude_offsets.empty())
      exclude = {input.exclude_offsets.data() + first, input.exclude.data()};
    lists.add(first, input.queries.slice(first * input.heads, n * input.heads), exclude);
  }
  lists.finish();
  return sums.result();
}

MetricMap popularity_baseline(const RankingInput& input,
                              const std::vector<std::int64_t>& item_counts,
                              const std::vector<Metric>& metrics) {
  check(input);
  const std::int64_t users = users_of(input), items = input.items.n;
  require(static_cast<std::int64_t>(item_counts.size()) == items,
          "popularity_baseline: one count an item");
  std::vector<std::int32_t> order(items), place(items), masked(items, -1), list;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return item_counts[a] > item_counts[b]; });
  for (std::int64_t i = 0; i < items; ++i) place[order[i]] = static_cast<std::int32_t>(i);
  const std::int64_t k = list_length(metrics, items);
  RankingMetrics sums(metrics, items);
  for (std::int64_t user = 0; user < users; ++user) {
    const auto excluded = excluded_of(input, user);
    const auto truth = truth_of(input, user);
    for (const std::int32_t row : excluded) masked[row] = static_cast<std::int32_t>(user);
    list.clear();
    for (std::int64_t i = 0; i < items && static_cast<std::int64_t>(list.size()) < k; ++i) {
      if (masked[order[i]] != user) list.push_back(order[i]);
    }
    std::optional<std::int64_t> first;
    if (!truth.empty()) {
      std::int32_t best = place[truth[0]];
      for (const std::int32_t row : truth) best = std::min(best, place[row]);
      first = best - std::count_if(excluded.begin(), excluded.end(),
                                   [&](std::int32_t row) { return place[row] < best; });
    }
    sums.add(list, truth, input.outside[user], first);
  }
  return sums.result();
}

MetricMap random_baseline(const RankingInput& input, std::uint64_t seed,
                          const std::vector<Metric>& metrics) {
  check(input);
  const std::int64_t users = users_of(input), items = input.items.n;
  const std::int64_t k = list_length(metrics, items);
  const bool whole = wants_whole_ranking(metrics);
  std::vector<std::int32_t> taken(items, -1), list;
  RankingMetrics sums(metrics, items);
  for (std::int64_t user = 0; user < users; ++user) {
    const auto excluded = excluded_of(input, user);
    const auto truth = truth_of(input, user);
    for (const std::int32_t row : excluded) taken[row] = static_cast<std::int32_t>(user);
    const std::int64_t eligible = items - static_cast<std::int64_t>(excluded.size());
    const std::int64_t take = std::min(k, eligible);
    Draws draws(seed, user);
    draw_list(draws, take, eligible, static_cast<std::int32_t>(user), taken, list);
    std::optional<std::int64_t> first;
    if (whole && take < eligible && !truth.empty() && !has_hit(list, truth)) {
      // Given that the list missed them, the truth items lie anywhere behind it.
      const auto left = static_cast<std::int64_t>(truth.size());
      first = take + smallest_position(draws, std::min(left, eligible - take), eligible - take);
    }
    sums.add(list, truth, input.outside[user], first);
  }
  return sums.result();
}

}  // namespace belfry
