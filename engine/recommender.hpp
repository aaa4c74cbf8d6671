// SPDX-License-Identifier: Apache-2.0
// Recommender: the k best items of users, exact, with exclusions and allow-lists tested before the cut.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/id_list.hpp"
#include "engine/model_file.hpp"

namespace belfry {

/// Restrictions on answers; all may be empty.
struct RecommendFilter {
  bool exclude_seen = true;
  std::vector<std::int32_t> exclude;  ///< items that nobody gets
  std::vector<std::int32_t> only;     ///< items that alone may be given
  bool has_only = false;              ///< an allow-list was given: only, and only_pairs of the user
  /// (user, item); an item of -1 is unknown.
  std::vector<std::pair<std::int32_t, std::int32_t>> exclude_pairs;
  /// What a user may be given beside `only`; users without a pair: no restriction by pairs.
  std::vector<std::pair<std::int32_t, std::int32_t>> only_pairs;
};

/// One user's answer, best first; fewer than k items when fewer are eligible.
using AnswerSink = std::function<void(std::int64_t query, std::span<const std::int32_t> items,
                                      std::span<const float> scores)>;

class Recommender {
 public:
  /// What `model` refers to must outlive it.
  Recommender(const Context& ctx, const ModelView& model, RecommendFilter filter);

  /// With index.rank_by its network orders the index.retrieve best; a model that ranks only orders all items that
  /// the filter leaves.
  /// Answers for users with their last training context, in the order given, in tiles: memory does not
  /// grow with the number of users. A user of -1 is unknown and gets the OOV rows (--cold).
  /// contexts: a value each that replaces the users' own, per context feature (empty: keep).
  void recommend(const std::vector<std::int32_t>& users, std::int64_t k,
                 const std::vector<FeatureValues>& contexts, const AnswerSink& sink);
  /// The same for queries that say more of themselves; restrictions are those of a query's user.
  void recommend(const QuerySet& queries, std::int64_t k, const AnswerSink& sink);

  /// The k items most similar to `item` by the cosine of their vectors, the item itself left out.
  void similar(std::int32_t item, std::int64_t k, const AnswerSink& sink);

 private:
  struct Lists {
    std::vector<std::int64_t> offsets{0};
    std::vector<std::int32_t> rows;
    RowLists view() const { return {offsets.data(), rows.data()}; }
  };
  void retrieve(const QuerySet& queries, std::int64_t k, const AnswerSink& sink);
  void offer_all(const std::vector<std::int32_t>& users, const AnswerSink& sink) const;
  AnswerSink ranked(const QuerySet& queries, std::int64_t k, const AnswerSink& sink);
  void add_exclusions(std::int32_t user, Lists& lists) const;
  void add_allowed(std::int32_t user, Lists& lists) const;
  std::vector<std::uint64_t> allowed_bits() const;

  const Context& ctx_;
  ModelView model_;
  RecommendFilter filter_;
  std::vector<std::uint64_t> bits_;
};

}  // namespace belfry
