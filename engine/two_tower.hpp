// SPDX-License-Identifier: Apache-2.0
// TowerNetworks: the parameters and networks of a model, and the vectors that it gives to users and items.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/config.hpp"
#include "engine/model_data.hpp"
#include "engine/network.hpp"
#include "engine/parameter_registry.hpp"
#include "engine/scorer.hpp"
#include "engine/workspace_plan.hpp"
#include "kernels/core/streamed.hpp"

namespace belfry {

/// What a model takes while it trains, found without taking it.
struct ModelSize {
  std::int64_t parameter_bytes = 0;  ///< tables and layers with gradients and optimizer slots
  std::int64_t workspace_bytes = 0;  ///< activations and their gradients in a step
};
/// For steps of `queries` rows with `extra` more candidates. Error(usage): an optimizer group fits no parameter.
ModelSize model_size(const Config& config, const ModelData& data, std::int64_t queries,
                     std::int64_t extra);

/// The features of a set of queries.
struct QueryRows {
  std::vector<FeatureValues> features;  ///< per feature of the model; candidate features: empty
  std::int64_t size = 0;
};

class TowerNetworks {
 public:
  /// Networks over the tables and features of `data`, for batches of the given sizes. Parameters are zero
  /// until registry().initialise or read_from.
  TowerNetworks(const Context& ctx, const Config& config, const ModelData& data,
                std::int64_t max_queries, std::int64_t max_candidates, bool training,
                ParameterRegistry::Expect expect = {});

  ParameterRegistry& registry() { return registry_; }
  const ParameterRegistry& registry() const { return registry_; }
  NetworkGraph& graph() { return *graph_; }
  WorkspacePlan& plan() { return plan_; }
  /// To be called once, after tasks have asked the plan for theirs.
  void commit(const Context& ctx) { plan_.commit(ctx.backend()); }
  /// Of a vector; a query has `heads` of them, and its score with an item is the maximum over them.
  std::int64_t width() const { return width_; }
  std::int64_t heads() const { return heads_; }
  const Scorer& scorer() const { return scorer_; }

  /// Finished vectors of queries first, first + 1, ..., those of a query in `heads` rows (out.rows is a multiple,
  /// and with several heads out is contiguous), and of catalogue items, into the backend's memory.
  void encode_queries(const Context& ctx, const QueryRows& queries, std::int64_t first,
                      Matrix<float> out);
  void encode_items(const Context& ctx, std::int64_t first, Matrix<float> out);

  /// The output of `network`, one column wide, for pairs of query i and catalogue item items[i] (-1: an unknown
  /// one), into `out` in the host's memory.
  void score_pairs(const Context& ctx, int network, const QueryRows& queries,
                   std::span<const std::int32_t> items, float* out);

 private:
  void encode(const Context& ctx, Side side, std::int64_t first, std::int64_t limit,
              const QueryRows* queries, Matrix<float> out);
  /// Feature f of one tile, in the backend's memory: value at(i) for i in [0, n).
  template <class At>
  void put(const Context& ctx, std::size_t f, const FeatureValues& from, std::int64_t n, At&& at);
  const ModelData& data_;
  ParameterRegistry registry_;
  WorkspacePlan plan_;
  std::unique_ptr<NetworkGraph> graph_;
  Scorer scorer_;
  struct FeatureUpload {
    explicit FeatureUpload(const std::shared_ptr<CopyQueue>& copies)
        : rows(copies),
          lengths(copies),
          offsets(copies),
          step_offsets(copies),
          weights(copies),
          numbers(copies) {}
    FeatureGather gather;
    StreamedIn<std::int32_t> rows, lengths;
    StreamedIn<std::int64_t> offsets, step_offsets;
    StreamedIn<float> weights, numbers;
  };
  std::vector<FeatureUpload> uploads_;  // of each feature
  std::vector<FeatureBatch> tile_;      // the features of the tile at work
  std::int64_t width_ = 0, heads_ = 1, max_queries_, max_candidates_;
};

/// Queries to be answered.
struct QuerySet {
  std::vector<std::int32_t> users;  ///< -1: unknown, answered by the OOV rows
  /// Per feature of the model (or nothing at all): values that replace what the model keeps of the users, one a
  /// query, or one for all; empty: none.
  std::vector<FeatureValues> given;
  std::int64_t size() const { return static_cast<std::int64_t>(users.size()); }
};
/// What the model keeps of users for query feature f: their own value, or that of the last training row; of
/// unknown ones (-1) the OOV row, Error(bad_data) where the feature has none.
FeatureValues values_of_users(const ModelData& data, std::size_t f,
                              const std::vector<std::int32_t>& users);
/// Queries at[0], at[1], ... of a set.
QueryRows queries_at(const ModelData& data, const QuerySet& set,
                     const std::vector<std::int64_t>& at);
/// Queries first .. first + n - 1 as a set of their own.
QuerySet part_of(const ModelData& data, const QuerySet& set, std::int64_t first, std::int64_t n);
/// Users with `contexts`, one for each context feature: where it holds one value, that is everybody's.
QuerySet query_set(const ModelData& data, const std::vector<std::int32_t>& users,
                   const std::vector<FeatureValues>& contexts);

/// Query rows of given users, each with its last training context.
QueryRows queries_of_users(const ModelData& data, const std::vector<std::int32_t>& users);
/// The same for answers: a user of -1 takes the OOV rows, and contexts[c], where it holds one value, replaces
/// that of context feature c for all.
QueryRows queries_of_answers(const ModelData& data, const std::vector<std::int32_t>& users,
                             const std::vector<FeatureValues>& contexts);
/// Query rows of interactions, each with its own context; a user number outside the model's users takes
/// the OOV row of the user's features.
QueryRows queries_of_interactions(const ModelData& data, const Interactions& interactions);

}  // namespace belfry
