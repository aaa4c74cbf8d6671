// SPDX-License-Identifier: Apache-2.0
// BruteForce: the k best items of users, exact (tfrs.layers.factorized_top_k.BruteForce).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "belfry/two_tower.hpp"

namespace belfry {

struct ScoredItem {
  std::string item;
  float score;
};

/// A list a query, best first, equal scores by the item's row.
class Answers {
 public:
  explicit Answers(std::vector<std::vector<ScoredItem>> lists) : lists_(std::move(lists)) {}
  std::size_t size() const { return lists_.size(); }
  auto begin() const { return lists_.begin(); }
  auto end() const { return lists_.end(); }
  const std::vector<ScoredItem>& operator[](std::size_t query) const& { return lists_[query]; }
  /// By value, so that `for (.. : index(users)[0])` is no walk over what is gone.
  std::vector<ScoredItem> operator[](std::size_t query) && { return std::move(lists_[query]); }

 private:
  std::vector<std::vector<ScoredItem>> lists_;
};

struct QueryOptions {
  std::int64_t k = 10;
  std::optional<bool> exclude_seen =
      {};  ///< the user's training items; default: as the model's metrics
  std::vector<std::string> exclude = {};  ///< items that nobody gets; unknown ones do nothing
  bool cold = false;                      ///< unknown users get the answer of the OOV row
};

/// Refers to the model, whose present weights it answers with: a fit in between changes the answers.
class BruteForce {
 public:
  explicit BruteForce(TwoTower& model) : model_(model) {}

  /// Answers are of these items alone; without it, of the whole catalogue. An item without a vector cannot be
  /// an answer and is left out; none with one: Error(bad_data).
  void index(const data::Column& candidates);
  std::int64_t size() const;  ///< items that can be answers

  /// Users with the context of their last training row. A user that the model does not know is Error(bad_data)
  /// unless `cold`. Exact; costs users x items x width, in tiles.
  Answers operator()(std::span<const std::string> users, const QueryOptions& options = {}) const;
  /// The items most similar by the cosine of their vectors, itself left out. Error(bad_data): unknown.
  std::vector<ScoredItem> similar(const std::string& item, std::int64_t k = 10) const;

  /// The vectors as a file of faiss.read_index (IndexFlatIP), and beside it PATH.ids, the item of each row, one a
  /// line. A model whose queries have several vectors, or that ranks only: Error(usage).
  void write_faiss(const std::string& path) const;

 private:
  TwoTower& model_;
  std::optional<std::vector<std::int32_t>> only_;  ///< catalogue rows, ascending
};

}  // namespace belfry
