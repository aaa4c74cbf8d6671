// SPDX-License-Identifier: Apache-2.0
#include "engine/two_tower.hpp"

#include <algorithm>

#include "engine/error.hpp"
#include "kernels/core/transfer.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"

namespace belfry {

namespace {
/// The row that stands for unknown values of a table.
std::int32_t oov_row(const ModelData& data, const FeatureData& feature) {
  if (feature.form() != FeatureForm::row) return 0;
  const TableData& table = data.tables[static_cast<std::size_t>(feature.table)];
  if (table.buckets > 0) return 0;
  return static_cast<std::int32_t>(
      std::max<std::int64_t>(0, table.vocabulary.first_token_row() - 1));
}

/// Values of entities `at`; those of -1 are unknown.
FeatureValues taken(const FeatureData& feature, const FeatureValues& from, std::int32_t none,
                    const std::vector<std::int32_t>& at) {
  FeatureGather gather;
  gather.gather(from, feature.form(), feature.width, static_cast<std::int64_t>(at.size()), none,
                [&](std::int64_t i) { return std::int64_t{at[static_cast<std::size_t>(i)]}; });
  return gather.values(feature.form());
}

Similarity similarity_of(const Config& config) {
  const TaskConfig* task = retrieval_task(config);
  return task != nullptr ? task->similarity : Similarity::dot;
}
}  // namespace

TwoTower::TwoTower(const Context& ctx, const Config& config, const ModelData& data,
                   std::int64_t max_queries, std::int64_t max_candidates, bool training)
    : data_(data),
      registry_(ctx.backend()),
      scorer_(similarity_of(config)),
      max_queries_(max_queries),
      max_candidates_(max_candidates) {
  std::vector<int> table_parameter;
  for (const TableData& table : data.tables) {
    table_parameter.push_back(registry_.add(table.name + ".embedding", table.rows(), table.dim,
                                            true, table.init,
                                            config.train.precision == Precision::bf16));
  }
  std::vector<FeatureInput> inputs;
  const auto copies = std::make_shared<CopyQueue>();
  for (const FeatureData& f : data.features) {
    uploads_.emplace_back(copies);
    const int parameter = f.table < 0 ? -1 : table_parameter[static_cast<std::size_t>(f.table)];
    inputs.push_back({f.config.name, f.config.of, parameter, f.config.pooling, f.width});
  }
  graph_ = std::make_unique<NetworkGraph>(config.networks, std::move(inputs), registry_, plan_,
                                          max_queries, max_candidates, training,
                                          retrieval_task(config) != nullptr);
  registry_.join_dense();
  if (retrieval_task(config) != nullptr) width_ = graph_->width(graph_->find("query"));
}

template <class At>
void TwoTower::put(const Context& ctx, std::size_t f, const FeatureValues& from, std::int64_t n,
                   At&& at) {
  const FeatureData& feature = data_.features[f];
  FeatureUpload& upload = uploads_[f];
  FeatureBatch batch =
      upload.gather.gather(from, feature.form(), feature.width, n, oov_row(data_, feature), at);
  const auto span = [](const auto* data, std::int64_t size) {
    return std::span(data, static_cast<std::size_t>(size));
  };
  if (batch.numbers.data != nullptr) {
    batch.numbers.data = upload.numbers.put(ctx, span(batch.numbers.data, n * feature.width));
  } else {
    batch.ids.ids = upload.rows.put(ctx, span(batch.ids.ids, batch.ids.nnz));
    if (batch.ids.offsets != nullptr) {
      batch.ids.offsets = upload.offsets.put(ctx, span(batch.ids.offsets, n + 1));
    }
    if (batch.ids.weights != nullptr) {
      batch.ids.weights = upload.weights.put(ctx, span(batch.ids.weights, batch.ids.nnz));
    }
  }
  tile_[f] = batch;
}

void TwoTower::encode(const Context& ctx, Side side, std::int64_t first, std::int64_t limit,
                      const QueryRows* queries, Matrix<float> out) {
  const bool query = side == Side::query;
  const int network = graph_->find(query ? "query" : "candidate");
  for (std::int64_t done = 0; done < out.rows; done += limit) {
    const std::int64_t m = std::min(limit, out.rows - done);
    tile_.assign(data_.features.size(), {});
    for (std::size_t f = 0; f < tile_.size(); ++f) {
      const FeatureData& feature = data_.features[f];
      if (feature.config.of != side) continue;
      put(ctx, f, query ? queries->features[f] : feature.values, m,
          [&](std::int64_t i) { return first + done + i; });
    }
    graph_->forward(ctx, tile_, query ? m : 0, query ? 0 : m, &side);
    ArenaScope scope(ctx);
    scorer_.finish(ctx, graph_->output(network), out.slice(done, m),
                   {ctx.arena().take<float>(m), m});
  }
}

void TwoTower::encode_queries(const Context& ctx, const QueryRows& queries, std::int64_t first,
                              Matrix<float> out) {
  require(first + out.rows <= queries.size, "TwoTower: queries out of range");
  encode(ctx, Side::query, first, max_queries_, &queries, out);
}

void TwoTower::encode_items(const Context& ctx, std::int64_t first, Matrix<float> out) {
  require(first + out.rows <= data_.item_count(), "TwoTower: items out of range");
  encode(ctx, Side::candidate, first, max_candidates_, nullptr, out);
}

void TwoTower::score_pairs(const Context& ctx, int network, const QueryRows& queries,
                           std::span<const std::int32_t> items, float* out) {
  const auto n = static_cast<std::int64_t>(items.size());
  require(n <= queries.size, "TwoTower: a pair without a query");
  const std::int64_t limit = std::min(max_queries_, max_candidates_);
  for (std::int64_t first = 0; first < n; first += limit) {
    const std::int64_t m = std::min(limit, n - first);
    tile_.assign(data_.features.size(), {});
    for (std::size_t f = 0; f < tile_.size(); ++f) {
      const FeatureData& feature = data_.features[f];
      if (feature.config.of == Side::query) {
        put(ctx, f, queries.features[f], m, [&](std::int64_t i) { return first + i; });
      } else {
        put(ctx, f, feature.values, m, [&](std::int64_t i) {
          return std::int64_t{items[static_cast<std::size_t>(first + i)]};
        });
      }
    }
    graph_->forward(ctx, tile_, m, m);
    Results<float> column(ctx, m);
    copy_matrix(ctx, graph_->output(network), {column.data(), m, 1});
    std::copy_n(column.fetch(ctx, m), m, out + first);
  }
}

namespace {
/// Answers for unknown users come from OOV rows; another user's row must never stand in for one.
void require_oov_row(const ModelData& data, const FeatureData& feature) {
  if (feature.form() != FeatureForm::row) return;  // nothing known: an empty list, the mean number
  const TableData& table = data.tables[static_cast<std::size_t>(feature.table)];
  if (table.buckets > 0 || table.vocabulary.first_token_row() > 0) return;
  throw Error(ExitCode::bad_data, "feature " + feature.config.name,
              "it has no row for unknown values, so that unknown users cannot be answered",
              "train with oov = 1 for it");
}
}  // namespace

QueryRows queries_of_users(const ModelData& data, const std::vector<std::int32_t>& users) {
  return queries_of_answers(data, users, {});
}

QueryRows queries_of_answers(const ModelData& data, const std::vector<std::int32_t>& users,
                             const std::vector<FeatureValues>& contexts) {
  QueryRows out;
  out.size = static_cast<std::int64_t>(users.size());
  out.features.resize(data.features.size());
  const bool cold = std::any_of(users.begin(), users.end(), [](std::int32_t u) { return u < 0; });
  std::size_t context = 0;
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    const FeatureData& feature = data.features[f];
    if (feature.config.of != Side::query) continue;
    const std::size_t c = context;
    if (feature.context) ++context;
    if (feature.context && c < contexts.size() &&
        contexts[c].size(feature.form(), feature.width) == 1) {
      out.features[f] = taken(feature, contexts[c], 0, std::vector<std::int32_t>(users.size(), 0));
      continue;
    }
    if (cold) require_oov_row(data, feature);
    out.features[f] = taken(feature, feature.context ? data.last_context[c] : feature.values,
                            oov_row(data, feature), users);
  }
  return out;
}

QueryRows queries_of_interactions(const ModelData& data, const Interactions& interactions) {
  QueryRows out;
  out.size = interactions.size();
  out.features.resize(data.features.size());
  std::vector<std::int32_t> users = interactions.user;
  for (std::int32_t& u : users) u = u < data.user_count() ? u : -1;
  std::size_t context = 0;
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    const FeatureData& feature = data.features[f];
    if (feature.config.of != Side::query) continue;
    out.features[f] = feature.context
                          ? interactions.context[context++]
                          : taken(feature, feature.values, oov_row(data, feature), users);
  }
  return out;
}

}  // namespace belfry
