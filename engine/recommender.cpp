// SPDX-License-Identifier: Apache-2.0
#include "engine/recommender.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/error.hpp"
#include "engine/topk_stream.hpp"
#include "kernels/core/streamed.hpp"
#include "kernels/l2_normalize/l2_normalize.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"

namespace belfry {

namespace {

constexpr std::int64_t kTile = 4096;

/// Users answered at a time: enough to fill a device, on the CPU what stays in cache; fewer where lists are
/// long, so that memory stays bounded.
std::int64_t tile_of(const Context& ctx, std::int64_t k) {
  const std::int64_t most = ctx.backend() == Backend::cpu ? 1024 : kTile;
  return std::max<std::int64_t>(1, std::min(most, (std::int64_t{1} << 23) / k));
}

/// Lists without their empty slots, one by one.
TopKStream::Sink answers_to(const AnswerSink& sink) {
  return [&sink](std::int64_t first, Matrix<const float> scores, Matrix<const std::int32_t> rows) {
    for (std::int64_t q = 0; q < rows.rows; ++q) {
      const std::int32_t* list = rows.row(q);
      const auto found = static_cast<std::size_t>(std::find(list, list + rows.cols, -1) - list);
      sink(first + q, {list, found}, {scores.row(q), found});
    }
  };
}

void sort_unique(std::vector<std::int32_t>& v, std::size_t first) {
  const auto begin = v.begin() + static_cast<std::ptrdiff_t>(first);
  std::sort(begin, v.end());
  v.erase(std::unique(begin, v.end()), v.end());
}

/// Items paired with `user` in a list of pairs that is sorted (-1: an unknown item).
template <class F>
void each_pair(const std::vector<std::pair<std::int32_t, std::int32_t>>& pairs, std::int32_t user,
               F&& f) {
  auto at = std::lower_bound(pairs.begin(), pairs.end(), std::pair{user, std::int32_t{-1}});
  for (; at != pairs.end() && at->first == user; ++at) f(at->second);
}

}  // namespace

Recommender::Recommender(const Context& ctx, const ModelView& model, RecommendFilter filter)
    : ctx_(ctx), model_(model), filter_(std::move(filter)) {
  std::sort(filter_.exclude_pairs.begin(), filter_.exclude_pairs.end());
  std::sort(filter_.only_pairs.begin(), filter_.only_pairs.end());
  filter_.has_only = filter_.has_only || !filter_.only.empty();
  if (!filter_.exclude.empty() || filter_.has_only) bits_ = allowed_bits();
}

std::vector<std::uint64_t> Recommender::allowed_bits() const {
  const std::int64_t n = model_.data.item_count();
  // With pairs the allowed items differ from user to user: add_allowed lists them.
  const bool few = filter_.has_only && filter_.only_pairs.empty();
  std::vector<std::uint64_t> bits(static_cast<std::size_t>((n + 63) / 64),
                                  few ? 0 : ~std::uint64_t{0});
  for (const std::int32_t i : filter_.only)
    bits[static_cast<std::size_t>(i / 64)] |= std::uint64_t{1} << (i % 64);
  for (const std::int32_t i : filter_.exclude)
    bits[static_cast<std::size_t>(i / 64)] &= ~(std::uint64_t{1} << (i % 64));
  return bits;
}

void Recommender::add_exclusions(std::int32_t user, Lists& lists) const {
  const std::size_t first = lists.rows.size();
  if (user >= 0 && filter_.exclude_seen) {
    const auto u = static_cast<std::size_t>(user);
    lists.rows.insert(lists.rows.end(), model_.seen.items.begin() + model_.seen.offsets[u],
                      model_.seen.items.begin() + model_.seen.offsets[u + 1]);
  }
  if (user >= 0) {
    each_pair(filter_.exclude_pairs, user, [&](std::int32_t i) {
      if (i >= 0) lists.rows.push_back(i);
    });
  }
  sort_unique(lists.rows, first);
  lists.offsets.push_back(static_cast<std::int64_t>(lists.rows.size()));
}

void Recommender::add_allowed(std::int32_t user, Lists& lists) const {
  const std::size_t first = lists.rows.size();
  bool restricted = filter_.has_only;
  lists.rows.insert(lists.rows.end(), filter_.only.begin(), filter_.only.end());
  if (user >= 0) {
    each_pair(filter_.only_pairs, user, [&](std::int32_t i) {
      restricted = true;  // by an unknown item too: it must not open the whole catalogue
      if (i >= 0) lists.rows.push_back(i);
    });
  }
  if (!restricted) {
    lists.rows.resize(first + static_cast<std::size_t>(model_.data.item_count()));
    std::iota(lists.rows.begin() + static_cast<std::ptrdiff_t>(first), lists.rows.end(), 0);
  }
  sort_unique(lists.rows, first);
  lists.offsets.push_back(static_cast<std::int64_t>(lists.rows.size()));
}

namespace {
/// The network whose output orders the answers; empty: none.
std::string ranking_network(const Config& config) {
  if (!config.index.rank_by.empty() || retrieval_task(config) != nullptr) {
    return config.index.rank_by;
  }
  return config.tasks.front().score;
}
}  // namespace

void Recommender::recommend(const std::vector<std::int32_t>& users, std::int64_t k,
                            const std::vector<FeatureValues>& contexts, const AnswerSink& sink) {
  recommend(query_set(model_.data, users, contexts), k, sink);
}

void Recommender::recommend(const QuerySet& queries, std::int64_t k, const AnswerSink& sink) {
  k = std::min(k, std::max<std::int64_t>(1, model_.data.item_count()));
  if (ranking_network(model_.config).empty()) return retrieve(queries, k, sink);
  const AnswerSink rank = ranked(queries, k, sink);
  if (model_.index == nullptr) return offer_all(queries.users, rank);
  const std::int64_t most = std::min(std::max(k, model_.config.index.retrieve),
                                     std::max<std::int64_t>(1, model_.data.item_count()));
  retrieve(queries, most, rank);
}

/// Orders lists of candidates by the ranking network, and hands on the k best.
AnswerSink Recommender::ranked(const QuerySet& queries, std::int64_t k, const AnswerSink& sink) {
  const int network = model_.model->graph().find(ranking_network(model_.config));
  return [this, &queries, k, &sink, network](
             std::int64_t query, std::span<const std::int32_t> items, std::span<const float>) {
    std::vector<std::pair<float, std::int32_t>> order(items.size());
    std::vector<float> scores(items.size());
    const QueryRows rows =
        queries_at(model_.data, queries, std::vector<std::int64_t>(items.size(), query));
    model_.model->score_pairs(ctx_, network, rows, items, scores.data());
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (!std::isfinite(scores[i])) {  // it has no place in an order
        throw Error(ExitCode::numerical, "the ranking network", "its score is not finite");
      }
      order[i] = {-scores[i], items[i]};
    }
    std::sort(order.begin(), order.end());  // equal scores: the smaller row first
    order.resize(std::min(order.size(), static_cast<std::size_t>(k)));
    std::vector<std::int32_t> best;
    scores.clear();
    for (const auto& [score, item] : order) {
      best.push_back(item);
      scores.push_back(-score);
    }
    sink(query, best, scores);
  };
}

/// Everything that the filter leaves, to be ranked.
void Recommender::offer_all(const std::vector<std::int32_t>& users, const AnswerSink& sink) const {
  std::vector<std::int32_t> items;
  for (std::size_t q = 0; q < users.size(); ++q) {
    Lists exclude, only;
    add_exclusions(users[q], exclude);
    add_allowed(users[q], only);
    items.clear();
    std::set_difference(only.rows.begin(), only.rows.end(), exclude.rows.begin(),
                        exclude.rows.end(), std::back_inserter(items));
    const auto excluded = [&](std::int32_t i) {
      return !bits_.empty() && (bits_[static_cast<std::size_t>(i / 64)] >> (i % 64) & 1) == 0;
    };
    std::erase_if(items, excluded);
    sink(static_cast<std::int64_t>(q), items, {});
  }
}

void Recommender::retrieve(const QuerySet& queries, std::int64_t k, const AnswerSink& sink) {
  const std::int64_t n = queries.size(), heads = model_.model->heads();
  if (n == 0) return;
  const std::int64_t most = std::min(n, tile_of(ctx_, k));
  Buffer<float> vectors(ctx_.backend(), most * heads * model_.model->width());
  TopKStream lists(ctx_, model_.index->view(), heads, most, k,
                   {bits_.data(), static_cast<std::int64_t>(bits_.size())}, answers_to(sink));
  for (std::int64_t first = 0; first < n; first += most) {
    const std::int64_t m = std::min(most, n - first);
    std::vector<std::int64_t> at(static_cast<std::size_t>(m));
    std::iota(at.begin(), at.end(), first);
    const Matrix<float> q = vectors.matrix(m * heads, model_.model->width());
    model_.model->encode_queries(ctx_, queries_at(model_.data, queries, at), 0, q);
    Lists exclude, only;
    for (std::int64_t i = first; i < first + m; ++i) {
      const std::int32_t u = queries.users[static_cast<std::size_t>(i)];
      add_exclusions(u, exclude);
      if (!filter_.only_pairs.empty()) add_allowed(u, only);
    }
    lists.add(first, q, exclude.view(), filter_.only_pairs.empty() ? RowLists{} : only.view());
  }
  lists.finish();
}

void Recommender::similar(std::int32_t item, std::int64_t k, const AnswerSink& sink) {
  if (model_.index == nullptr) {
    throw Error(ExitCode::bad_model, "the model", "it ranks only: its items have no vectors");
  }
  const std::int64_t n = model_.index->size(), d = model_.index->dim();
  // Cosine whatever the model's similarity: unit vectors in an index of their own.
  ItemIndex unit(ctx_, n, d);
  const std::int64_t tile = std::min(n, kTile);
  Buffer<float> host(Backend::cpu, tile * d), inverse(ctx_.backend(), tile),
      vectors(ctx_.backend(), tile * d), query(ctx_.backend(), d);
  StreamedIn<float> upload;
  for (std::int64_t first = 0; first < n; first += tile) {
    const std::int64_t m = std::min(tile, n - first);
    model_.index->read_rows(ctx_, first, host.matrix(m, d));
    const float* rows = upload.put(ctx_, {host.data(), static_cast<std::size_t>(m * d)});
    const Matrix<float> v = vectors.matrix(m, d);
    l2_normalize(ctx_, {rows, m, d}, v, {inverse.data(), m});
    unit.add(ctx_, first, v);
    if (item >= first && item < first + m) {
      copy_matrix(ctx_, v.slice(item - first, 1), query.matrix(1, d));
    }
  }
  const std::int64_t offsets[] = {0, 1};
  TopKStream lists(ctx_, unit.view(), 1, 1, std::min(k, std::max<std::int64_t>(1, n)), {},
                   answers_to(sink));
  lists.add(0, query.matrix(1, d), {offsets, &item});
  lists.finish();
}

}  // namespace belfry
