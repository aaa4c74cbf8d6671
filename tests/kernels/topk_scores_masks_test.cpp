// SPDX-License-Identifier: Apache-2.0
// Exclusions, allow-lists and bitmaps of topk_scores and count_above: nothing excluded is ever returned,
// nothing eligible is lost.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/targets.hpp"
#include "tests/support/topk_oracle.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

std::vector<std::int32_t> all_rows(std::int64_t n) {
  std::vector<std::int32_t> rows(static_cast<std::size_t>(n));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

/// Ragged lists: empty, short, half of the items, all of them, and the query's best.
OwnedLists ragged_lists(Random& random, const Retrieval& r, std::int64_t best) {
  OwnedLists lists;
  for (std::int64_t q = 0; q < r.n_queries; ++q) {
    std::vector<std::int32_t> list;
    switch (q % 5) {
      case 0:
        break;
      case 1:
        list = random.ids(r.n == 0 ? 0 : 3, r.n);
        break;
      case 2:
        list = random.ids(r.n / 2, r.n);
        break;
      case 3:
        list = all_rows(r.n);
        break;
      default:
        for (const auto& [score, row] : r.ranking(q)) {
          if (static_cast<std::int64_t>(list.size()) < best) list.push_back(row);
        }
    }
    lists.add(list);
  }
  return lists;
}

std::vector<std::uint64_t> random_bits(Random& random, std::int64_t n, double share) {
  std::vector<std::uint64_t> bits(static_cast<std::size_t>((n + 63) / 64));
  for (std::int64_t i = 0; i < n; ++i) {
    if (random.uniform() < share) bits[i / 64] |= std::uint64_t{1} << (i % 64);
  }
  return bits;
}

/// topk_scores against the full sort; count_above against positions in it.
void expect_exact(const Context& ctx, const Retrieval& r, const std::vector<std::int64_t>& ks,
                  const std::string& what) {
  const Retriever retriever(ctx, r);
  for (const std::int64_t k : ks) {
    expect_same(retriever.top(k), r.expected(k), what + " k " + std::to_string(k));
  }
  std::vector<float> thresholds(r.n_queries, 0.25f);
  std::vector<std::int32_t> rows(r.n_queries, -1);
  std::vector<std::int64_t> ranks(r.n_queries), strictly(r.n_queries);
  for (std::int64_t q = 0; q < r.n_queries; ++q) {
    const auto all = r.ranking(q);
    ranks[q] = std::count_if(all.begin(), all.end(), [](auto& s) { return s.first > 0.25f; });
    if (all.empty()) continue;
    ranks[q] = static_cast<std::int64_t>(all.size()) * 2 / 3;
    thresholds[q] = all[ranks[q]].first;
    rows[q] = all[ranks[q]].second;
    strictly[q] =
        std::count_if(all.begin(), all.end(), [&](auto& s) { return s.first > thresholds[q]; });
  }
  EXPECT_EQ(retriever.above(thresholds, rows), ranks) << what;
  EXPECT_EQ(retriever.above(thresholds, std::vector<std::int32_t>(rows.size(), -1)), strictly)
      << what;
}

struct Kinds {
  bool exclude, only, bits;
};

void expect_all_masks(const Context& ctx, Retrieval r, Random& random, const std::string& what) {
  const auto plain = r;
  for (const Kinds kinds :
       {Kinds{true, false, false}, Kinds{false, true, false}, Kinds{false, false, true},
        Kinds{true, true, false}, Kinds{true, false, true}, Kinds{true, true, true}}) {
    r.exclude.reset();
    r.only.reset();
    r.allowed.clear();
    if (kinds.bits) r.allowed = random_bits(random, r.n, 0.3);
    if (kinds.exclude) r.exclude = ragged_lists(random, plain, 12);
    if (kinds.only) {
      r.only.emplace();
      for (std::int64_t q = 0; q < r.n_queries; ++q) {
        r.only->add(r.n == 0 ? std::vector<std::int32_t>{}
                             : random.ids(random.below(2) == 0 ? r.n : r.n / 40, r.n));
      }
    }
    expect_exact(ctx, r, {1, 10, r.n + 5},
                 what + (kinds.exclude ? " exclude" : "") + (kinds.only ? " only" : "") +
                     (kinds.bits ? " bits" : "") + " n " + std::to_string(r.n));
  }
}

TEST(TopKMasks, ByHand) {
  // Scores are the rows' numbers: 5, 4, .. 0 from row 5 down.
  Retrieval r(3, 1, 6, 1, {1, 1, 1}, {0, 1, 2, 3, 4, 5});
  r.exclude.emplace();
  r.exclude->add({5, 4});
  r.exclude->add({});
  r.exclude->add({0, 1, 2, 3, 4, 5});
  const Context ctx = make_context(1);
  EXPECT_EQ(Retriever(ctx, r).top(2).rows, (std::vector<std::int32_t>{3, 2, 5, 4, -1, -1}));
  EXPECT_EQ(Retriever(ctx, r).above({2, 2, 2}, {-1, -1, -1}), (std::vector<std::int64_t>{1, 3, 0}));
  r.allowed = {0b010111};
  EXPECT_EQ(Retriever(ctx, r).top(2).rows, (std::vector<std::int32_t>{2, 1, 4, 2, -1, -1}));
  r.only.emplace();
  r.only->add({1, 5});
  r.only->add({3, 5});
  r.only->add({1});
  EXPECT_EQ(Retriever(ctx, r).top(2).rows, (std::vector<std::int32_t>{1, -1, -1, -1, -1, -1}));
  r.allowed.clear();
  EXPECT_EQ(Retriever(ctx, r).top(2).rows, (std::vector<std::int32_t>{1, -1, 5, 3, -1, -1}));
}

TEST(TopKMasks, AllKindsOnNastyShapes) {
  const Context ctx = make_context(2);
  Random random(21);
  for (const std::int64_t n : {0, 1, 31, 33, 47, 48, 49, 96, 97, 1000}) {
    if (on_device() && n == 47) continue;
    const std::int64_t q = 5 + random.below(8);
    expect_all_masks(ctx, Retrieval::ties(random, q, 1, n, 3), random, "ties");
    expect_all_masks(ctx, Retrieval::normal(random, q, 2, n, 7), random, "two heads");
  }
}

TEST(TopKMasks, EveryInstructionSet) {
  for_each_target([] {
    const Context ctx = make_context(1);
    Random random(22);
    expect_all_masks(ctx, Retrieval::ties(random, 10, 1, 300, 4), random, "ties");
  });
}

/// The best items are all excluded, in scans that cut their lists: thresholds must count eligible ones only.
TEST(TopKMasks, ExcludingTheBestLeavesTheNext) {
  Random random(23);
  const Context ctx = make_context(2);
  const std::int64_t queries = by_backend(12, 9);
  auto r = Retrieval::normal(random, queries, 1, by_backend(5000, 3000), 4);
  OwnedLists lists;
  for (std::int64_t q = 0; q < queries; ++q) {
    std::vector<std::int32_t> best;
    for (const auto& [score, row] : r.ranking(q)) {
      if (static_cast<std::int64_t>(best.size()) < 150 * q) best.push_back(row);
    }
    lists.add(best);
  }
  r.exclude = lists;
  expect_exact(ctx, r, {1, 30, 400}, "best excluded");
}

/// Sampled scans (many queries) with so many exclusions, or so few allowed items, that the sample
/// promises too much or nothing.
TEST(TopKMasks, SampledScans) {
  Random random(24);
  const Context ctx = make_context(2);
  const std::int64_t n = by_backend(6300, 3200), q = by_backend(2050, 66);
  const std::int64_t distinct = 40, k = 20;
  const auto base = Retrieval::normal(random, distinct, 1, n, 2);
  for (const double share : {1.0, 0.02, 0.001}) {
    auto r = base;
    r.allowed = random_bits(random, n, share);
    r.exclude.emplace();
    for (std::int64_t i = 0; i < distinct; ++i) {
      std::vector<std::int32_t> list;
      const auto all = base.ranking(i);
      for (std::int64_t j = 0; j < i * 30; ++j) list.push_back(all[j].second);
      r.exclude->add(list);
    }
    const Listed expected = r.expected(k);
    std::vector<float> queries;
    OwnedLists lists;
    for (std::int64_t i = 0; i < q; ++i) {
      const std::int64_t s = i % distinct;
      for (std::int64_t j = 0; j < 2; ++j) queries.push_back(base.queries(s, j));
      lists.add({r.exclude->rows.begin() + r.exclude->offsets[s],
                 r.exclude->rows.begin() + r.exclude->offsets[s + 1]});
    }
    Retrieval many(q, 1, n, 2, queries, base.items.values());
    many.allowed = r.allowed;
    many.exclude = lists;
    const Listed found = Retriever(ctx, many).top(k);
    for (std::int64_t i = 0; i < q * k; ++i) {
      ASSERT_EQ(found.rows[i], expected.rows[i % (distinct * k)]) << "share " << share << " " << i;
    }
  }
}

TEST(TopKMasks, ThreadsAndSchedulesGiveEqualBits) {
  Random random(25);
  const std::int64_t n = by_backend(8000, 1600);
  auto r = Retrieval::ties(random, 37, 1, n, 3);
  r.exclude = ragged_lists(random, r, 700);
  r.only.emplace();
  for (std::int64_t q = 0; q < 37; ++q) {
    r.only->add(random.ids(q % 3 == 0 ? n / 40 : n * 3 / 4, n));
  }
  const Listed expected = r.expected(50);
  const std::vector<float> thresholds(37, 0.0f);
  const std::vector<std::int32_t> rows(37, static_cast<std::int32_t>(n / 2));
  std::vector<std::int64_t> counts;
  for_each_variant([&](const Context& ctx) {
    expect_same(Retriever(ctx, r).top(50), expected, "masked");
    const auto above = Retriever(ctx, r).above(thresholds, rows);
    if (counts.empty()) counts = above;
    EXPECT_EQ(above, counts);
  });
}

}  // namespace
}  // namespace belfry::test
