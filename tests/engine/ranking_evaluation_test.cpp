// SPDX-License-Identifier: Apache-2.0
#include "engine/metrics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "kernels/core/check.hpp"
#include "tests/support/ranking.hpp"

namespace belfry {
namespace {

using test::Packed;
using test::parse_all;
using test::World;

const std::vector<std::string> kAll = {"recall@1",   "recall@5",   "recall@20", "precision@5",
                                       "hit_rate@5", "ndcg@1",     "ndcg@5",    "ndcg@20",
                                       "mrr",        "mrr@5",      "map@5",     "map@20",
                                       "coverage@1", "coverage@5", "gini@5",    "recall@999"};

/// The definitions, written down again from whole rankings.
MetricMap oracle(const World& w, const std::vector<Metric>& metrics,
                 const std::function<std::vector<double>(std::int64_t)>& scores) {
  MetricMap sum;
  std::map<std::string, std::vector<double>> counts;
  const auto& in = w.input;
  for (std::int64_t u = 0; u < w.users(); ++u) {
    const std::vector<double> s = scores(u);
    std::set<int> out, good;
    if (!in.exclude_offsets.empty()) {
      out.insert(in.exclude.begin() + in.exclude_offsets[u],
                 in.exclude.begin() + in.exclude_offsets[u + 1]);
    }
    good.insert(in.truth.begin() + in.truth_offsets[u], in.truth.begin() + in.truth_offsets[u + 1]);
    std::vector<int> rank;
    for (int i = 0; i < w.items(); ++i) {
      if (out.count(i) == 0) rank.push_back(i);
    }
    std::stable_sort(rank.begin(), rank.end(), [&](int a, int b) { return s[a] > s[b]; });
    const double relevant = static_cast<double>(good.size()) + static_cast<double>(in.outside[u]);
    for (const Metric& m : metrics) {
      const std::size_t k = m.k == 0 ? rank.size() : m.k;
      auto& c = counts[m.name()];
      c.resize(w.items());
      double hits = 0, gain = 0, ideal = 0, first = 0, average = 0;
      for (std::size_t r = 0; r < std::min(k, rank.size()); ++r) {
        ++c[rank[r]];
        if (good.count(rank[r]) == 0) continue;
        ++hits;
        const double place = static_cast<double>(r + 1);
        gain += 1 / std::log2(place + 1);
        average += hits / place;
        if (first == 0) first = 1 / place;
      }
      for (std::size_t r = 0; r < k && static_cast<double>(r) < relevant; ++r) {
        ideal += 1 / std::log2(static_cast<double>(r) + 2);
      }
      double& v = sum[m.name()];
      switch (m.kind) {
        case MetricKind::recall:
          v += hits / relevant;
          break;
        case MetricKind::precision:
          v += hits / static_cast<double>(k);
          break;
        case MetricKind::hit_rate:
          v += hits > 0;
          break;
        case MetricKind::ndcg:
          v += gain / ideal;
          break;
        case MetricKind::mrr:
          v += first;
          break;
        case MetricKind::map:
          v += average / relevant;
          break;
        default:
          break;
      }
    }
  }
  for (const Metric& m : metrics) {
    auto& c = counts[m.name()];
    if (m.kind == MetricKind::coverage) {
      sum[m.name()] =
          static_cast<double>(std::count_if(c.begin(), c.end(), [](double x) { return x > 0; })) /
          static_cast<double>(w.items());
    } else if (m.kind == MetricKind::gini) {  // mean absolute difference over twice the mean
      double difference = 0, total = 0;
      for (const double a : c) {
        total += a;
        for (const double b : c) difference += std::abs(a - b);
      }
      sum[m.name()] = difference / (2 * static_cast<double>(w.items()) * total);
    } else {
      sum[m.name()] /= static_cast<double>(w.users());
    }
  }
  return sum;
}

void expect_equal(const MetricMap& actual, const MetricMap& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, value] : expected) {
    ASSERT_TRUE(actual.count(name)) << name;
    EXPECT_NEAR(actual.at(name), value, 1e-12) << name;
  }
}

struct Size {
  std::int64_t users, items, dim, heads;
  bool masked;
  std::int64_t most_truth;
};
const std::vector<Size> kSizes = {{1, 1, 1, 1, false, 1},   {7, 3, 2, 1, true, 2},
                                  {31, 33, 3, 1, true, 4},  {40, 129, 4, 3, true, 6},
                                  {50, 64, 1, 2, false, 3}, {1500, 40, 3, 1, true, 30}};

TEST(EvaluateRanking, MatchesWholeSortedRankings) {
  const Context ctx = test::make_context(2);
  const auto metrics = parse_all(kAll);
  for (const Size& s : kSizes) {
    SCOPED_TRACE(testing::Message() << s.users << " users, " << s.items << " items");
    World w(s.users * 31 + s.items, s.users, s.items, s.dim, s.heads, s.masked, s.most_truth);
    const Packed packed(ctx, w.vectors, s.items, s.dim);
    w.upload(ctx);
    w.input.items = packed.view;
    const MetricMap expected = oracle(w, metrics, [&](std::int64_t u) { return w.scores(u); });
    expect_equal(evaluate_ranking(ctx, w.input, metrics), expected);
    expect_equal(evaluate_ranking(ctx, w.input, parse_all({"mrr"})), {{"mrr", expected.at("mrr")}});
  }
}

TEST(EvaluateRanking, OneUserWithMoreTruthThanAChunk) {
  const Context ctx = test::make_context(2);
  const std::int64_t items = 9000;
  World w(5, 3, items, 2, 1, false, 0);
  w.input.truth_offsets = {0, 5000, 5000, 5001};
  w.input.truth.resize(5001, 8999);
  std::iota(w.input.truth.begin(), w.input.truth.begin() + 5000, 2000);
  const Packed packed(ctx, w.vectors, items, 2);
  w.upload(ctx);
  w.input.items = packed.view;
  const auto metrics = parse_all({"mrr", "mrr@1"});
  expect_equal(evaluate_ranking(ctx, w.input, metrics),
               oracle(w, metrics, [&](std::int64_t u) { return w.scores(u); }));
}

TEST(EvaluateRanking, SameBitsForAnyThreadCount) {
  World w(99, 1100, 200, 8, 2, true, 5);
  MetricMap first;
  for (const int threads : {1, 2, 4}) {
    const Context ctx = test::make_context(threads);
    const Packed packed(ctx, w.vectors, 200, 8);
    w.upload(ctx);
    w.input.items = packed.view;
    const MetricMap m = evaluate_ranking(ctx, w.input, parse_all(kAll));
    if (first.empty()) first = m;
    EXPECT_EQ(m, first) << threads << " threads";
  }
}

TEST(EvaluateRanking, AnItemWithoutAScoreHasNoRank) {
  const Context ctx = test::make_context(1);
  World w(1, 1, 30, 1, 1, false, 0);
  w.queries[0] = 1;
  for (std::int64_t i = 0; i < 30; ++i) w.vectors[i] = static_cast<float>(-i);
  w.vectors[29] = std::numeric_limits<float>::quiet_NaN();
  const Packed packed(ctx, w.vectors, 30, 1);
  w.upload(ctx);
  w.input.items = packed.view;
  w.input.outside = {0};
  w.input.truth_offsets = {0, 1};
  w.input.truth = {29};
  EXPECT_EQ(evaluate_ranking(ctx, w.input, parse_all({"mrr"})).at("mrr"), 0.0);
  EXPECT_EQ(evaluate_ranking(ctx, w.input, parse_all({"mrr", "ndcg@50"})).at("mrr"), 0.0);
  w.input.truth = {28, 29};
  w.input.truth_offsets = {0, 2};
  EXPECT_EQ(evaluate_ranking(ctx, w.input, parse_all({"mrr"})).at("mrr"), 1.0 / 29);
}

TEST(EvaluateRanking, NoUsers) {
  const Context ctx = test::make_context(1);
  World w(1, 0, 3, 2, 1, true);
  const Packed packed(ctx, w.vectors, 3, 2);
  w.upload(ctx);
  w.input.items = packed.view;
  EXPECT_TRUE(evaluate_ranking(ctx, w.input, parse_all({"recall@5", "mrr"})).empty());
}

TEST(EvaluateRanking, BrokenContracts) {
  const Context ctx = test::make_context(1);
  World w(1, 4, 6, 2, 1, true);
  const Packed packed(ctx, w.vectors, 6, 2);
  w.upload(ctx);
  w.input.items = packed.view;
  const auto metrics = parse_all({"recall@5"});
  const auto broken = [&](auto change) {
    RankingInput in = w.input;
    change(in);
    EXPECT_THROW(evaluate_ranking(ctx, in, metrics), ContractError);
  };
  broken([](RankingInput& in) { in.truth_offsets.clear(); });
  broken([](RankingInput& in) { in.truth_offsets.back() += 1; });
  broken([](RankingInput& in) { in.outside.pop_back(); });
  broken([](RankingInput& in) { in.exclude_offsets.pop_back(); });
  broken([](RankingInput& in) { in.exclude_offsets.back() += 1; });
  broken([](RankingInput& in) { in.heads = 2; });
  EXPECT_THROW(popularity_baseline(w.input, {1, 2}, metrics), ContractError);
}

// ------------------------------------------------------------------ baselines

TEST(PopularityBaseline, MatchesWholeSortedRankings) {
  const auto metrics = parse_all(kAll);
  for (const Size& s : kSizes) {
    SCOPED_TRACE(testing::Message() << s.users << " users, " << s.items << " items");
    World w(s.users + 3 * s.items, s.users, s.items, s.dim, 1, s.masked, s.most_truth);
    w.input.items = {nullptr, s.items, s.dim};
    test::Random random(4);
    std::vector<std::int64_t> counts(s.items);
    for (auto& c : counts) c = random.below(6);
    expect_equal(popularity_baseline(w.input, counts, metrics),
                 oracle(w, metrics, [&](std::int64_t) {
                   return std::vector<double>(counts.begin(), counts.end());
                 }));
  }
}

TEST(PopularityBaseline, ByHand) {
  RankingInput in;
  in.items.n = 5;
  in.truth_offsets = {0, 1, 2};
  in.truth = {0, 4};
  in.outside = {0, 0};
  in.exclude_offsets = {0, 2, 2};
  in.exclude = {1, 3};
  // Order 3, 1, 2, 0, 4 (a tie of 1 and 2; of 0 and 4). User 0 sees 2, 0, 4.
  const MetricMap m =
      popularity_baseline(in, {1, 5, 5, 9, 1}, parse_all({"mrr", "mrr@1", "recall@2"}));
  EXPECT_DOUBLE_EQ(m.at("mrr"), (1.0 / 2 + 1.0 / 5) / 2);
  EXPECT_DOUBLE_EQ(m.at("mrr@1"), 0);
  EXPECT_DOUBLE_EQ(m.at("recall@2"), 0.5);
}

/// Users with one relevant item each among `items`, the first `masked` items masked.
RankingInput one_each(std::int64_t users, std::int64_t items, std::int64_t masked) {
  RankingInput in;
  in.items.n = items;
  in.truth_offsets = {0};
  in.exclude_offsets = {0};
  for (std::int64_t u = 0; u < users; ++u) {
    in.truth.push_back(static_cast<std::int32_t>(masked + u % (items - masked)));
    in.truth_offsets.push_back(u + 1);
    for (std::int64_t i = 0; i < masked; ++i) in.exclude.push_back(static_cast<std::int32_t>(i));
    in.exclude_offsets.push_back(static_cast<std::int64_t>(in.exclude.size()));
    in.outside.push_back(0);
  }
  return in;
}

TEST(RandomBaseline, IsUniformOverEligibleItems) {
  // Both ways of drawing: by rejection (10 of 200), from a list (150 of 200 are masked).
  for (const std::int64_t masked : {10, 150}) {
    SCOPED_TRACE(masked);
    const std::int64_t users = 20000, items = 200, eligible = items - masked;
    const auto in = one_each(users, items, masked);
    const auto m = random_baseline(in, 7, parse_all({"recall@10", "mrr", "mrr@10", "coverage@10"}));
    const double p = 10.0 / static_cast<double>(eligible);
    EXPECT_NEAR(m.at("recall@10"), p, 5 * std::sqrt(p / users));
    double whole = 0, ten = 0;  // the rank of one item is uniform
    for (std::int64_t r = 1; r <= eligible; ++r) {
      whole += 1.0 / static_cast<double>(r * eligible);
      if (r <= 10) ten += 1.0 / static_cast<double>(r * eligible);
    }
    EXPECT_NEAR(m.at("mrr"), whole, 0.007);
    EXPECT_NEAR(m.at("mrr@10"), ten, 0.007);
    EXPECT_GT(m.at("mrr"), m.at("mrr@10"));
    EXPECT_DOUBLE_EQ(m.at("coverage@10"), static_cast<double>(eligible) / items);
  }
}

TEST(RandomBaseline, FirstOfSeveralTruthItems) {
  // Five relevant items of 50 and a list of one: the mean reciprocal rank of the first is known.
  RankingInput in;
  in.items.n = 50;
  in.truth_offsets = {0};
  for (int u = 0; u < 20000; ++u) {
    for (int i = 0; i < 5; ++i) in.truth.push_back(10 * i + u % 10);
    in.truth_offsets.push_back(static_cast<std::int64_t>(in.truth.size()));
    in.outside.push_back(0);
  }
  double expected = 0, none_before = 1;
  for (int r = 0; r <= 45; ++r) {
    const double here = 5.0 / (50 - r);
    expected += none_before * here / (r + 1);
    none_before *= 1 - here;
  }
  EXPECT_NEAR(random_baseline(in, 3, parse_all({"mrr", "hit_rate@1"})).at("mrr"), expected, 0.01);
}

TEST(RandomBaseline, SeedDecides) {
  const auto in = one_each(500, 100, 5);
  const auto metrics = parse_all({"recall@20", "ndcg@20", "mrr"});
  EXPECT_EQ(random_baseline(in, 1, metrics), random_baseline(in, 1, metrics));
  EXPECT_NE(random_baseline(in, 1, metrics), random_baseline(in, 2, metrics));
}

TEST(RandomBaseline, AListHoldsNoItemTwice) {
  const auto in = one_each(1, 40, 0);
  EXPECT_DOUBLE_EQ(random_baseline(in, 4, parse_all({"coverage@20"})).at("coverage@20"), 0.5);
  EXPECT_DOUBLE_EQ(random_baseline(in, 4, parse_all({"coverage@35"})).at("coverage@35"), 35.0 / 40);
}

TEST(RandomBaseline, FewerEligibleItemsThanK) {
  const auto in = one_each(50, 30, 25);
  const auto m = random_baseline(in, 1, parse_all({"recall@20", "precision@20", "mrr"}));
  EXPECT_DOUBLE_EQ(m.at("recall@20"), 1.0);  // masked items never take a place
  EXPECT_DOUBLE_EQ(m.at("precision@20"), 0.05);
  EXPECT_GT(m.at("mrr"), 0.2);
}

}  // namespace
}  // namespace belfry
