// SPDX-License-Identifier: Apache-2.0
#include "engine/two_tower.hpp"

#include <algorithm>

#include "engine/error.hpp"

namespace belfry {

TwoTower::TwoTower(const Context& ctx, const Config& config, const ModelData& data,
                   std::int64_t max_queries, std::int64_t max_candidates, bool training)
    : data_(data),
      registry_(ctx.backend()),
      scorer_(config.tasks.front().similarity),
      max_queries_(max_queries),
      max_candidates_(max_candidates) {
  std::vector<int> table_parameter;
  for (const TableData& table : data.tables) {
    table_parameter.push_back(registry_.add(table.name + ".embedding", table.vocabulary.rows(),
                                            table.dim, true, table.init,
                                            config.train.precision == Precision::bf16));
  }
  std::vector<FeatureInput> inputs;
  const auto copies = std::make_shared<CopyQueue>();
  for (const FeatureData& f : data.features) {
    ids_.emplace_back(copies);
    inputs.push_back({f.config.name, f.config.of,
                      table_parameter[static_cast<std::size_t>(f.table)], Pooling::sum});
  }
  graph_ = std::make_unique<NetworkGraph>(config.networks, std::move(inputs), registry_, plan_,
                                          max_queries, max_candidates, training);
  registry_.join_dense();
  width_ = graph_->width(graph_->find("query"));
}

void TwoTower::encode(const Context& ctx, Side side, std::int64_t n, std::int64_t limit,
                      const std::function<const std::int32_t*(std::size_t feature)>& rows,
                      Matrix<float> out, std::int64_t first) {
  std::vector<Ragged> ids(data_.features.size());
  const int network = graph_->find(side == Side::query ? "query" : "candidate");
  for (std::int64_t done = 0; done < n; done += limit) {
    const std::int64_t m = std::min(limit, n - done);
    for (std::size_t f = 0; f < ids.size(); ++f) {
      if (data_.features[f].config.of != side) continue;
      const std::span<const std::int32_t> part(rows(f) + first + done, static_cast<std::size_t>(m));
      ids[f] = {ids_[f].put(ctx, part), nullptr, nullptr, m, m};
    }
    const bool query = side == Side::query;
    graph_->forward(ctx, ids, query ? m : 0, query ? 0 : m, &side);
    ArenaScope scope(ctx);
    scorer_.finish(ctx, graph_->output(network), out.slice(done, m),
                   {ctx.arena().take<float>(m), m});
  }
}

void TwoTower::encode_queries(const Context& ctx, const QueryRows& queries, std::int64_t first,
                              Matrix<float> out) {
  require(first + out.rows <= queries.size, "TwoTower: queries out of range");
  encode(
      ctx, Side::query, out.rows, max_queries_,
      [&](std::size_t f) { return queries.rows[f].data(); }, out, first);
}

void TwoTower::encode_items(const Context& ctx, std::int64_t first, Matrix<float> out) {
  require(first + out.rows <= data_.item_count(), "TwoTower: items out of range");
  encode(
      ctx, Side::candidate, out.rows, max_candidates_,
      [&](std::size_t f) { return data_.features[f].rows.data(); }, out, first);
}

namespace {
/// The row that stands for unknown values of a table.
std::int32_t oov_row(const ModelData& data, const FeatureData& feature) {
  const Vocabulary& v = data.tables[static_cast<std::size_t>(feature.table)].vocabulary;
  return static_cast<std::int32_t>(std::max<std::int64_t>(0, v.first_token_row() - 1));
}

/// Answers for unknown users come from OOV rows; another user's row must never stand in for one.
void require_oov_row(const ModelData& data, const FeatureData& feature) {
  const Vocabulary& v = data.tables[static_cast<std::size_t>(feature.table)].vocabulary;
  if (v.first_token_row() > 0) return;
  throw Error(ExitCode::bad_data, "feature " + feature.config.name,
              "it has no row for unknown values, so that unknown users cannot be answered",
              "train with oov = 1 for it");
}
}  // namespace

QueryRows queries_of_users(const ModelData& data, const std::vector<std::int32_t>& users) {
  return queries_of_answers(data, users, {});
}

QueryRows queries_of_answers(const ModelData& data, const std::vector<std::int32_t>& users,
                             const std::vector<std::int32_t>& contexts) {
  QueryRows out;
  out.size = static_cast<std::int64_t>(users.size());
  out.rows.resize(data.features.size());
  std::size_t context = 0;
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    const FeatureData& feature = data.features[f];
    if (feature.config.of != Side::query) continue;
    const auto& rows = feature.context ? data.last_context[context] : feature.rows;
    const bool replaced = feature.context && context < contexts.size() && contexts[context] >= 0;
    const std::int32_t oov = oov_row(data, feature);
    const bool cold = std::any_of(users.begin(), users.end(), [](std::int32_t u) { return u < 0; });
    if (cold && !replaced) require_oov_row(data, feature);
    for (const std::int32_t u : users) {
      out.rows[f].push_back(replaced ? contexts[context]
                                     : (u < 0 ? oov : rows[static_cast<std::size_t>(u)]));
    }
    if (feature.context) ++context;
  }
  return out;
}

QueryRows queries_of_interactions(const ModelData& data, const Interactions& interactions) {
  QueryRows out;
  out.size = interactions.size();
  out.rows.resize(data.features.size());
  std::size_t context = 0;
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    const FeatureData& feature = data.features[f];
    if (feature.config.of != Side::query) continue;
    if (feature.context) {
      out.rows[f] = interactions.context[context++];
      continue;
    }
    const std::int32_t oov = oov_row(data, feature);
    for (const std::int32_t u : interactions.user) {
      out.rows[f].push_back(u < data.user_count() ? feature.rows[static_cast<std::size_t>(u)]
                                                  : oov);
    }
  }
  return out;
}

}  // namespace belfry
