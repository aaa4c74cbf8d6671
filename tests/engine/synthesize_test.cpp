// SPDX-License-Identifier: Apache-2.0
#include "engine/synthesize.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <set>

#include "engine/error.hpp"
#include "engine/file_io.hpp"
#include "engine/metrics.hpp"
#include "tests/support/ranking.hpp"

namespace belfry {
namespace {

SynthesisOptions small(std::uint64_t seed = 42) {
  SynthesisOptions o;
  o.users = 200;
  o.items = 300;
  o.ratings = 6000;
  o.clusters = 10;
  o.seed = seed;
  return o;
}

std::string csv(const SynthesisOptions& o, bool text_ids) {
  const auto path = std::filesystem::path(testing::TempDir()) / "belfry_synthesize_test.csv";
  write_ratings_csv(synthesize(o), path, text_ids);
  std::string text = read_file(path);
  std::filesystem::remove(path);
  return text;
}

TEST(Synthesize, SameSeedSameBytes) {
  EXPECT_EQ(csv(small(), true), csv(small(), true));
  EXPECT_NE(csv(small(), true), csv(small(43), true));
}

TEST(Synthesize, FileHasTheShapeOfMovieLens) {
  SyntheticRatings r;
  r.rows = {{17, 3, 4.5f, 1'500'000'001}, {18, 2, 0.5f, 7}, {18, 1000, 5.0f, 1'600'000'000}};
  const auto path = std::filesystem::path(testing::TempDir()) / "belfry_synthesize_shape.csv";
  write_ratings_csv(r, path, true);
  EXPECT_EQ(read_file(path),
            "userId,movieId,rating,timestamp\nuser_17,item_3,4.5,1500000001\n"
            "user_18,item_2,0.5,7\nuser_18,item_1000,5.0,1600000000\n");
  write_ratings_csv(r, path, false);
  EXPECT_EQ(read_file(path),
            "userId,movieId,rating,timestamp\n17,3,4.5,1500000001\n18,2,0.5,7\n"
            "18,1000,5.0,1600000000\n");
  std::filesystem::remove(path);
}

TEST(Synthesize, RowsAreValid) {
  std::vector<SynthesisOptions> all = {
      small(),         {}, {1, 1, 1, 1, 5}, {3, 4, 12, 2, 6}, {7, 50, 0, 3, 7}, {100, 5, 99, 5, 8},
      {5, 9, 41, 1, 9}};
  for (const SynthesisOptions& o : all) {
    SCOPED_TRACE(testing::Message() << o.users << " users, " << o.ratings << " ratings");
    const auto data = synthesize(o);
    ASSERT_EQ(static_cast<std::int64_t>(data.rows.size()), o.ratings);
    ASSERT_EQ(static_cast<std::int64_t>(data.user_cluster.size()), o.users);
    ASSERT_EQ(static_cast<std::int64_t>(data.item_cluster.size()), o.items);
    std::set<std::pair<int, int>> pairs;
    for (std::size_t i = 0; i < data.rows.size(); ++i) {
      const SyntheticRating& r = data.rows[i];
      ASSERT_TRUE(r.user >= 1 && r.user <= o.users && r.item >= 1 && r.item <= o.items);
      ASSERT_TRUE(r.rating >= 0.5f && r.rating <= 5.0f);
      ASSERT_EQ(std::floor(2 * r.rating), 2 * r.rating);
      ASSERT_TRUE(pairs.emplace(r.user, r.item).second) << "a pair twice";
      if (i == 0) continue;
      const SyntheticRating& before = data.rows[i - 1];
      ASSERT_LE(before.user, r.user);
      if (before.user == r.user) {
        ASSERT_LT(before.timestamp, r.timestamp);
      }
    }
  }
}

TEST(Synthesize, ClustersMatter) {
  const auto data = synthesize({});
  double inside = 0, rating_inside = 0, rating_outside = 0;
  std::set<int> clusters(data.item_cluster.begin(), data.item_cluster.end());
  EXPECT_EQ(clusters.size(), 20u);
  for (const auto& r : data.rows) {
    const bool mine = data.item_cluster[r.item - 1] == data.user_cluster[r.user - 1];
    inside += mine;
    (mine ? rating_inside : rating_outside) += double{r.rating};
  }
  const auto n = static_cast<double>(data.rows.size());
  EXPECT_GT(inside / n, 0.35);  // one of 20 clusters: 0.05 without a taste
  EXPECT_LT(inside / n, 0.8);
  EXPECT_GT(rating_inside / inside, rating_outside / (n - inside) + 0.5);
}

TEST(Synthesize, TimeTellsNothingAboutItems) {
  const auto data = synthesize(small());
  double rising = 0, pairs = 0;
  for (std::size_t i = 1; i < data.rows.size(); ++i) {
    if (data.rows[i].user != data.rows[i - 1].user) continue;
    rising += data.rows[i].item > data.rows[i - 1].item;
    ++pairs;
  }
  EXPECT_NEAR(rising / pairs, 0.5, 0.05);
}

TEST(Synthesize, PopularityHasALongTail) {
  const auto data = synthesize({});
  std::vector<std::int64_t> items(1000), users(2000);
  for (const auto& r : data.rows) {
    ++items[r.item - 1];
    ++users[r.user - 1];
  }
  std::sort(items.rbegin(), items.rend());
  const auto top = std::accumulate(items.begin(), items.begin() + 100, std::int64_t{0});
  EXPECT_GT(top, 100'000 * 2 / 10);  // a tenth of the items, at least a fifth of the ratings
  EXPECT_GT(items[0], 8 * std::max<std::int64_t>(1, items[900]));
  EXPECT_GE(*std::min_element(users.begin(), users.end()), 10);
  EXPECT_GT(*std::max_element(users.begin(), users.end()), 200);
}

/// A model that has found the planted clusters, held to the metrics of a random tenth.
TEST(Synthesize, TheTasteIsWorthLearning) {
  const auto data = synthesize({});
  const std::int64_t users = 2000, items = 1000;
  test::Random random(3);
  std::vector<std::vector<std::int32_t>> train(users), held(users);
  std::vector<std::int64_t> counts(items);
  std::vector<double> popular(20 * items);
  for (const auto& r : data.rows) {
    if (random.uniform() < 0.1) {
      held[r.user - 1].push_back(r.item - 1);
      continue;
    }
    train[r.user - 1].push_back(r.item - 1);
    ++counts[r.item - 1];
    ++popular[data.user_cluster[r.user - 1] * items + r.item - 1];
  }
  RankingInput in;
  in.items.n = items;
  in.truth_offsets = in.exclude_offsets = {0};
  const std::vector<Metric> metrics = {{MetricKind::recall, 20}};
  RankingMetrics oracle(metrics, items);
  for (std::int64_t u = 0; u < users; ++u) {
    if (held[u].empty()) continue;
    std::sort(held[u].begin(), held[u].end());
    std::sort(train[u].begin(), train[u].end());
    in.truth.insert(in.truth.end(), held[u].begin(), held[u].end());
    in.truth_offsets.push_back(static_cast<std::int64_t>(in.truth.size()));
    in.exclude.insert(in.exclude.end(), train[u].begin(), train[u].end());
    in.exclude_offsets.push_back(static_cast<std::int64_t>(in.exclude.size()));
    in.outside.push_back(0);
    test::Rows list;  // what the users of this user's cluster take
    for (std::int32_t i = 0; i < items; ++i) {
      if (!std::binary_search(train[u].begin(), train[u].end(), i)) list.push_back(i);
    }
    const double* score = &popular[data.user_cluster[u] * items];
    std::stable_sort(list.begin(), list.end(), [&](int a, int b) { return score[a] > score[b]; });
    list.resize(20);
    oracle.add(list, held[u], 0, std::nullopt);
  }
  const double best = oracle.result().at("recall@20");
  const double baseline = popularity_baseline(in, counts, metrics).at("recall@20");
  const double chance = random_baseline(in, 1, metrics).at("recall@20");
  RecordProperty("oracle_recall_20", std::to_string(best));
  RecordProperty("popularity_recall_20", std::to_string(baseline));
  EXPECT_GT(best, 3 * baseline) << best << " against " << baseline;
  EXPECT_GT(best, 0.3);
  EXPECT_GT(baseline, 1.5 * chance) << baseline << " against " << chance;
}

TEST(Synthesize, ImpossibleOptions) {
  for (const SynthesisOptions& o :
       {SynthesisOptions{0, 5, 5, 1, 1}, SynthesisOptions{5, 0, 5, 1, 1},
        SynthesisOptions{5, 5, 26, 1, 1}, SynthesisOptions{5, 5, -1, 1, 1},
        SynthesisOptions{5, 5, 5, 0, 1}, SynthesisOptions{5, 5, 5, 6, 1},
        SynthesisOptions{std::int64_t{1} << 40, std::int64_t{1} << 40, 5, 1, 1}}) {
    EXPECT_THROW(synthesize(o), Error);
  }
}

}  // namespace
}  // namespace belfry
