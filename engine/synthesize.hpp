// SPDX-License-Identifier: Apache-2.0
// Made-up ratings with tastes planted in them, so that a demo has something to find: items lie in
// clusters and have Zipf popularity; a user takes most items from one cluster, some from a second
// and the rest by popularity alone. A pure function of the options.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace belfry {

struct SynthesisOptions {
  std::int64_t users = 2000;
  std::int64_t items = 1000;
  std::int64_t ratings = 100'000;  ///< exactly so many rows; at most users * items
  std::int64_t clusters = 20;      ///< at most items
  std::uint64_t seed = 42;
};

struct SyntheticRating {
  std::int32_t user = 0, item = 0;  ///< from 1; no pair twice
  float rating = 0;                 ///< 0.5, 1, .. 5: higher inside the user's clusters
  std::int64_t timestamp = 0;       ///< seconds since 1970
};

struct SyntheticRatings {
  std::vector<SyntheticRating> rows;       ///< by user, then time
  std::vector<std::int32_t> user_cluster;  ///< [users] the one of most of the user's items
  std::vector<std::int32_t> item_cluster;  ///< [items]
};

/// Error(usage) for options that cannot be met. O(users * items) time.
SyntheticRatings synthesize(const SynthesisOptions& options);

/// MovieLens's file: header userId,movieId,rating,timestamp. Ids are user_17 and item_3, or the bare
/// numbers.
void write_ratings_csv(const SyntheticRatings& ratings, const std::filesystem::path& path,
                       bool text_ids = true);

}  // namespace belfry
