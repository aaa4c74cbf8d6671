// SPDX-License-Identifier: Apache-2.0
#include "engine/two_tower.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

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

/// Adds the tables of a model, and says what its features look up in them.
std::vector<FeatureInput> register_tables(const Config& config, const ModelData& data,
                                          ParameterRegistry& registry) {
  std::vector<int> table_parameter;
  for (const TableData& table : data.tables) {
    table_parameter.push_back(registry.add(table.name + ".embedding", table.rows(), table.dim, true,
                                           table.init, config.train.precision == Precision::bf16));
  }
  std::vector<FeatureInput> inputs;
  for (const FeatureData& f : data.features) {
    const int parameter = f.table < 0 ? -1 : table_parameter[static_cast<std::size_t>(f.table)];
    if (parameter >= 0) {
      Parameter& table = registry.at(parameter);
      table.penalty = penalty_of(f.config.penalty);
      table.penalty_rows = f.config.penalty_rows.value_or(default_penalty_rows(config.preset));
    }
    inputs.push_back({f.config.name, f.config.of, parameter, f.config.pooling, f.width, f.steps});
  }
  return inputs;
}
}  // namespace

ModelSize model_size(const Config& config, const ModelData& data, std::int64_t queries,
                     std::int64_t extra) {
  ParameterRegistry registry(Backend::cpu);
  registry.measure_only();
  WorkspacePlan plan;
  const std::int64_t candidates = queries + extra;
  std::vector<FeatureInput> inputs = register_tables(config, data, registry);
  const NetworkGraph graph(config.networks, std::move(inputs), registry, plan, queries, candidates,
                           true, retrieval_task(config) != nullptr);
  registry.check_groups(config.optimizer);
  return {registry.training_bytes(config.optimizer), plan.bytes()};
}

TowerNetworks::TowerNetworks(const Context& ctx, const Config& config, const ModelData& data,
                             std::int64_t max_queries, std::int64_t max_candidates, bool training,
                             ParameterRegistry::Expect expect)
    : data_(data),
      registry_(ctx.backend(), std::move(expect)),
      scorer_(similarity_of(config)),
      max_queries_(max_queries),
      max_candidates_(max_candidates) {
  const auto copies = std::make_shared<CopyQueue>();
  for (std::size_t f = 0; f < data.features.size(); ++f) uploads_.emplace_back(copies);
  std::vector<FeatureInput> inputs = register_tables(config, data, registry_);
  graph_ = std::make_unique<NetworkGraph>(config.networks, std::move(inputs), registry_, plan_,
                                          max_queries, max_candidates, training,
                                          retrieval_task(config) != nullptr);
  registry_.join_dense();
  if (retrieval_task(config) != nullptr) {
    width_ = graph_->width(graph_->find("candidate"));
    heads_ = query_heads(config);
    require(graph_->width(graph_->find("query")) == width_ * heads_,
            "TowerNetworks: the towers differ in width");
  }
}

template <class At>
void TowerNetworks::put(const Context& ctx, std::size_t f, const FeatureValues& from,
                        std::int64_t n, At&& at) {
  const FeatureData& feature = data_.features[f];
  FeatureUpload& upload = uploads_[f];
  FeatureBatch batch = upload.gather.gather(from, feature.form(), feature.width, n,
                                            oov_row(data_, feature), at, feature.steps);
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
    if (batch.lengths != nullptr) {
      batch.step_offsets =
          upload.step_offsets.put(ctx, span(batch.step_offsets, n * feature.steps + 1));
      batch.lengths = upload.lengths.put(ctx, span(batch.lengths, n));
    }
    if (batch.ids.weights != nullptr) {
      batch.ids.weights = upload.weights.put(ctx, span(batch.ids.weights, batch.ids.nnz));
    }
  }
  tile_[f] = batch;
}

void TowerNetworks::encode(const Context& ctx, Side side, std::int64_t first, std::int64_t limit,
                           const QueryRows* queries, Matrix<float> out) {
  const bool query = side == Side::query;
  const int network = graph_->find(query ? "query" : "candidate");
  const std::int64_t heads = query ? heads_ : 1, n = out.rows / heads;
  for (std::int64_t done = 0; done < n; done += limit) {
    const std::int64_t m = std::min(limit, n - done);
    tile_.assign(data_.features.size(), {});
    for (std::size_t f = 0; f < tile_.size(); ++f) {
      const FeatureData& feature = data_.features[f];
      if (feature.config.of != side) continue;
      put(ctx, f, query ? queries->features[f] : feature.values, m,
          [&](std::int64_t i) { return first + done + i; });
    }
    graph_->forward(ctx, tile_, query ? m : 0, query ? 0 : m, &side);
    ArenaScope scope(ctx);
    scorer_.finish(ctx, graph_->output(network), heads, out.slice(done * heads, m * heads),
                   {ctx.arena().take<float>(m * heads), m * heads});
  }
}

void TowerNetworks::encode_queries(const Context& ctx, const QueryRows& queries, std::int64_t first,
                                   Matrix<float> out) {
  require(out.rows % heads_ == 0 && first + out.rows / heads_ <= queries.size,
          "TowerNetworks: queries out of range");
  encode(ctx, Side::query, first, max_queries_, &queries, out);
}

void TowerNetworks::encode_items(const Context& ctx, std::int64_t first, Matrix<float> out) {
  require(first + out.rows <= data_.item_count(), "TowerNetworks: items out of range");
  encode(ctx, Side::candidate, first, max_candidates_, nullptr, out);
}

void TowerNetworks::score_pairs(const Context& ctx, int network, const QueryRows& queries,
                                std::span<const std::int32_t> items, float* out) {
  const auto n = static_cast<std::int64_t>(items.size());
  require(n <= queries.size, "TowerNetworks: a pair without a query");
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
  std::vector<std::int64_t> all(users.size());
  std::iota(all.begin(), all.end(), 0);
  return queries_at(data, query_set(data, users, contexts), all);
}

QuerySet query_set(const ModelData& data, const std::vector<std::int32_t>& users,
                   const std::vector<FeatureValues>& contexts) {
  QuerySet out{users, std::vector<FeatureValues>(data.features.size())};
  std::size_t c = 0;
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    if (!data.features[f].context) continue;
    if (c < contexts.size()) out.given[f] = contexts[c];
    ++c;
  }
  return out;
}

FeatureValues values_of_users(const ModelData& data, std::size_t f,
                              const std::vector<std::int32_t>& users) {
  const FeatureData& feature = data.features[f];
  if (std::any_of(users.begin(), users.end(), [](std::int32_t u) { return u < 0; })) {
    require_oov_row(data, feature);
  }
  std::size_t context = 0;
  for (std::size_t g = 0; g < f; ++g) context += data.features[g].context ? 1 : 0;
  return taken(feature, feature.context ? data.last_context[context] : feature.values,
               oov_row(data, feature), users);
}

namespace {
/// The given values of feature f for queries `at`; nullopt: none are given.
std::optional<FeatureValues> given_at(const FeatureData& feature, const QuerySet& set,
                                      std::size_t f, const std::vector<std::int64_t>& at) {
  if (f >= set.given.size()) return std::nullopt;
  const std::int64_t n = set.given[f].size(feature.form(), feature.width);
  if (n == 0) return std::nullopt;
  require(n == 1 || n == set.size(), "QuerySet: one value for all, or one a query");
  std::vector<std::int32_t> from(at.size(), 0);
  if (n > 1) from.assign(at.begin(), at.end());
  return taken(feature, set.given[f], 0, from);
}
}  // namespace

QueryRows queries_at(const ModelData& data, const QuerySet& set,
                     const std::vector<std::int64_t>& at) {
  QueryRows out;
  out.size = static_cast<std::int64_t>(at.size());
  out.features.resize(data.features.size());
  std::vector<std::int32_t> users;
  users.reserve(at.size());
  for (const std::int64_t i : at) users.push_back(set.users[static_cast<std::size_t>(i)]);
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    const FeatureData& feature = data.features[f];
    if (feature.config.of != Side::query) continue;
    auto given = given_at(feature, set, f, at);
    out.features[f] = given ? std::move(*given) : values_of_users(data, f, users);
  }
  return out;
}

QuerySet part_of(const ModelData& data, const QuerySet& set, std::int64_t first, std::int64_t n) {
  QuerySet out;
  out.users.assign(set.users.begin() + first, set.users.begin() + first + n);
  out.given.resize(set.given.size());
  std::vector<std::int64_t> at(static_cast<std::size_t>(n));
  std::iota(at.begin(), at.end(), first);
  for (std::size_t f = 0; f < out.given.size(); ++f) {
    const FeatureData& feature = data.features[f];
    if (set.given[f].size(feature.form(), feature.width) == 1 && set.size() != 1) {
      out.given[f] = set.given[f];
    } else if (auto given = given_at(feature, set, f, at)) {
      out.given[f] = std::move(*given);
    }
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
