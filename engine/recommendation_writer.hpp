// SPDX-License-Identifier: Apache-2.0
// Recommendation lists to a file, user by user. The form goes by the file's ending:
//   .csv .tsv   header user,rank,item,score; rank from 1; ids quoted as RFC 4180 where they need it
//   .jsonl      {"user":"..","items":[..],"scores":[..]} a line
//   .npy        X.npy stands for X.items.npy (int64 [users, k], rows of the catalogue), X.scores.npy
//               (float32), X.users.txt and X.item_ids.txt (one id a line; item_ids holds the whole
//               catalogue in row order); slots without an item hold -1 and NaN
// Scores have 9 significant digits, which give every float32 back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace belfry {

struct Recommendation {
  std::string_view user;
  std::span<const std::int32_t> rows;  ///< catalogue rows, best first; negative ones are no items
  std::span<const float> scores;       ///< one for each row
};

class RecommendationWriter {
 public:
  virtual ~RecommendationWriter() = default;
  /// The next user's list, of at most k rows.
  virtual void write(const Recommendation& list) = 0;
  /// Lets the file, or the set of files, appear under its name; without it nothing is left. All users
  /// must have been written.
  virtual void commit() = 0;
};

/// Error(usage) for an ending that is none of these; Error(io) where the file cannot be opened.
/// item_ids: the catalogue's ids by row.
std::unique_ptr<RecommendationWriter> make_recommendation_writer(
    const std::filesystem::path& path, std::int64_t users, std::int64_t k,
    const std::vector<std::string>& item_ids);

}  // namespace belfry
