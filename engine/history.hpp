// SPDX-License-Identifier: Apache-2.0
// What a user had before: the items of the user's earlier interactions in order of time, ties in order of
// rows. Test rows are in nobody's history.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/feature_values.hpp"

namespace belfry {

/// One interaction. Without times all are 0.
struct Moment {
  std::int32_t user = 0, item = 0;
  double time = 0;
  std::int64_t row = 0;  ///< of the file
};

class Histories {
 public:
  /// Of interactions in any order. Items are entities of the catalogue; their users are < `users`.
  Histories(std::int64_t users, std::vector<Moment> moments);

  /// Per interaction the last `longest` (0: all) items that its user had before it, as rows row_of_item[item]
  /// of a table. A user outside: none. The lists are parts of one.
  FeatureValues before(std::span<const Moment> of, std::int64_t longest,
                       const std::vector<std::int32_t>& row_of_item) const;
  /// The same of each user, after all of them.
  FeatureValues last(std::int64_t longest, const std::vector<std::int32_t>& row_of_item) const;

 private:
  std::vector<Moment> moments_;        // by user, time, row
  std::vector<std::int64_t> offsets_;  // [users + 1]
};

/// Lists of values of a model's users for interactions of `users` (-1 or outside: none), stored once.
FeatureValues lists_of_users(const FeatureValues& of_users, std::span<const std::int32_t> users);

}  // namespace belfry
