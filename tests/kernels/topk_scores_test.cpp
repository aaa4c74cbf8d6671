// SPDX-License-Identifier: Apache-2.0
// Exact top-K without masks, single scores, the packing. Everything is compared by equality.
#include <gtest/gtest.h>

#include "tests/support/targets.hpp"
#include "tests/support/topk_oracle.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

std::string name(const Retrieval& r, std::int64_t k) {
  return "Q " + std::to_string(r.n_queries) + " heads " + std::to_string(r.heads) + " n " +
         std::to_string(r.n) + " d " + std::to_string(r.dim) + " k " + std::to_string(k);
}

void expect_exact(const Context& ctx, const Retrieval& r, std::int64_t k) {
  expect_same(Retriever(ctx, r).top(k), r.expected(k), name(r, k));
}

TEST(TopKScores, ByHand) {
  // Scores of query (1, 2): 5, 1, 5, -3. The tie goes to row 0.
  const Retrieval r(2, 1, 4, 2, {1, 2, 0, -1}, {1, 2, 1, 0, 5, 0, 1, -2});
  const Context ctx = make_context(1);
  const Listed top = Retriever(ctx, r).top(3);
  EXPECT_EQ(top.rows, (std::vector<std::int32_t>{0, 2, 1, 3, 1, 2}));
  EXPECT_EQ(top.scores, (std::vector<float>{5, 5, 1, 2, 0, 0}));
  EXPECT_EQ(Retriever(ctx, r).pairs({2, 3}), (std::vector<float>{5, 2}));
  EXPECT_EQ(Retriever(ctx, r).above({5, 0}, {2, -1}), (std::vector<std::int64_t>{1, 1}));
}

TEST(TopKScores, ByHandWithHeads) {
  // One query with heads (1, 0) and (0, 1): the score is the larger coordinate.
  const Retrieval r(1, 2, 3, 2, {1, 0, 0, 1}, {3, -1, 0, 4, 2, 2});
  const Context ctx = make_context(1);
  const Listed top = Retriever(ctx, r).top(3);
  EXPECT_EQ(top.rows, (std::vector<std::int32_t>{1, 0, 2}));
  EXPECT_EQ(top.scores, (std::vector<float>{4, 3, 2}));
}

TEST(TopKScores, EqualsAFullSortOnNastyShapes) {
  const Context ctx = make_context(2);
  Random random(1);
  for (const std::int64_t n : {0, 1, 31, 32, 33, 47, 48, 49, 95, 96, 97, 1000}) {
    for (const std::int64_t d : {1, 2, 3, 15, 16, 17, 64}) {
      if (on_device() && (n + d) % 3 != 0) continue;
      const std::int64_t q = 1 + random.below(19);
      const auto r = Retrieval::normal(random, q, 1, n, d);
      const auto tied = Retrieval::ties(random, q, 1, n, d);
      for (const std::int64_t k : {std::int64_t{1}, std::int64_t{2}, std::int64_t{10}, n, n + 5}) {
        if (k < 1) continue;
        expect_exact(ctx, r, k);
        expect_exact(ctx, tied, k);
      }
    }
  }
}

TEST(TopKScores, EveryNumberOfQueriesAndHeads) {
  const Context ctx = make_context(2);
  Random random(2);
  for (std::int64_t q = 0; q <= 18; ++q) {
    for (const std::int64_t heads : {1, 2, 3, 4}) {
      expect_exact(ctx, Retrieval::normal(random, q, heads, 100, 5), 7);
      expect_exact(ctx, Retrieval::ties(random, q, heads, 100, 2), 7);
    }
  }
  expect_exact(ctx, Retrieval::ties(random, 257, 1, 60, 3), 9);
  expect_exact(ctx, Retrieval::normal(random, 2, 1, 50, 0), 60);  // no dimension: all scores are 0
}

TEST(TopKScores, SameBitsOnEveryInstructionSet) {
  Random random(3);
  const auto one = Retrieval::normal(random, 21, 1, 1000, 33);
  const auto many = Retrieval::normal(random, 11, 3, 500, 17);
  const Listed top = one.expected(40), top_of_many = many.expected(20);
  for_each_target([&] {
    const Context ctx = make_context(1);
    expect_same(Retriever(ctx, one).top(40), top, "one head");
    expect_same(Retriever(ctx, many).top(20), top_of_many, "three heads");
    std::vector<std::int32_t> rows;
    std::vector<float> scores;
    for (std::int64_t q = 0; q < one.n_queries; ++q) {
      rows.push_back(top.rows[q * 40 + 39]);
      scores.push_back(top.scores[q * 40 + 39]);
    }
    expect_equal_bits(Retriever(ctx, one).pairs(rows), scores, "pairs");
    EXPECT_EQ(Retriever(ctx, one).above(scores, rows), std::vector<std::int64_t>(21, 39));
  });
}

TEST(TopKScores, FusesEveryStep) {
  // (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24; a rounded product would give 0.
  const float e = 0x1p-12f;
  const Retrieval r(1, 1, 1, 2, {1, 1 + e}, {-(1 + 2 * e), 1 + e});
  for_each_target([&] {
    const Context ctx = make_context(1);
    EXPECT_EQ(Retriever(ctx, r).top(1).scores[0], 0x1p-24f);
    EXPECT_EQ(Retriever(ctx, r).pairs({0})[0], 0x1p-24f);
  });
}

/// Large enough for a sample, for several shrinks of the lists and for item ranges.
TEST(TopKScores, LargeScansEqualAFullSort) {
  Random random(4);
  const Context ctx = make_context(2);
  const std::int64_t n = by_backend(20000, 7000);
  const auto few = Retrieval::normal(random, by_backend(5, 3), 1, n, 4);  // cut into item ranges
  const auto many = Retrieval::normal(random, by_backend(2050, 70), 1, 6200, 2);  // sampled
  const auto blocks = Retrieval::normal(random, 2, 1, by_backend(50000, 13000),
                                        2);  // visited in runs, the last is short
  for (const std::int64_t k :
       {std::int64_t{1}, std::int64_t{17}, std::int64_t{100}, std::int64_t{1500}, n, n + 7}) {
    expect_exact(ctx, few, k);
  }
  for (const std::int64_t k : {std::int64_t{9}, blocks.n + 1}) expect_exact(ctx, blocks, k);
  for (const std::int64_t k : {1, 40}) expect_exact(ctx, many, k);
}

/// Items in ascending, descending and clustered order, so that samples mislead.
TEST(TopKScores, OrderOfItemsDoesNotMatter) {
  Random random(5);
  const Context ctx = make_context(2);
  const std::int64_t n = 6200, q = by_backend(2048, 66);
  for (const int order : {0, 1, 2, 3}) {
    std::vector<float> items(n);
    for (std::int64_t i = 0; i < n; ++i) {
      const float by_row[] = {
          static_cast<float>(i), static_cast<float>(-i),
          // The best 48 fill one panel, which a sample may hold: it promises 16 times as many.
          static_cast<float>(i < 48 ? 1000 : i % 10), 1.0f};
      items[i] = by_row[order];
    }
    auto r = Retrieval(q, 1, n, 1, std::vector<float>(q, 1.0f), items);
    const Listed all = Retriever(ctx, r).top(100);
    r = Retrieval(1, 1, n, 1, {1.0f}, items);
    const Listed one = r.expected(100);
    for (std::int64_t i = 0; i < q; ++i) {
      ASSERT_TRUE(std::equal(one.rows.begin(), one.rows.end(), all.rows.begin() + i * 100))
          << "order " << order << " query " << i;
      ASSERT_TRUE(std::equal(one.scores.begin(), one.scores.end(), all.scores.begin() + i * 100));
    }
  }
}

/// Whatever panel the sample holds: the best items move through the whole catalogue.
TEST(TopKScores, MisledSamplesAreScannedAgain) {
  const Context ctx = make_context(2);
  const std::int64_t panels = 130, n = panels * 48, q = by_backend(2048, 130);
  std::vector<float> items(n * 2), queries(q * 2);
  for (std::int64_t i = 0; i < n; ++i) {
    items[2 * i] = std::cos(static_cast<float>(i / 48));
    items[2 * i + 1] = std::sin(static_cast<float>(i / 48));
  }
  for (std::int64_t i = 0; i < q; ++i) {
    queries[2 * i] = std::cos(static_cast<float>(i % panels));
    queries[2 * i + 1] = std::sin(static_cast<float>(i % panels));
  }
  const Retrieval r(q, 1, n, 2, queries, items);
  const Retrieval first(panels, 1, n, 2, {queries.begin(), queries.begin() + 2 * panels}, items);
  const Listed all = Retriever(ctx, r).top(60), expected = first.expected(60);
  for (std::int64_t i = 0; i < q * 60; ++i) {
    ASSERT_EQ(all.rows[i], expected.rows[i % (panels * 60)]) << i;
  }
}

TEST(TopKScores, ThreadsAndSchedulesGiveEqualBits) {
  Random random(6);
  const auto few = Retrieval::ties(random, 3, 1, by_backend(13000, 6500), 4);
  const auto many = Retrieval::ties(random, by_backend(2100, 70), 1, 700, 3);
  for (const std::int64_t k : {5, 300}) {
    const Listed a = few.expected(k), b = many.expected(k);
    for_each_variant([&](const Context& ctx) {
      expect_same(Retriever(ctx, few).top(k), a, "few queries");
      expect_same(Retriever(ctx, many).top(k), b, "many queries");
    });
  }
}

TEST(TopKScores, UnionOfShardsIsTheWhole) {
  Random random(7);
  const Context ctx = make_context(1);
  const std::int64_t n = 500, cut = 213, k = 20;
  const auto whole = Retrieval::ties(random, 6, 1, n, 3);
  const auto part = [&](std::int64_t first, std::int64_t count) {
    const auto values = whole.items.values();
    return Retrieval(6, 1, count, 3, whole.queries.values(),
                     {values.begin() + first * 3, values.begin() + (first + count) * 3});
  };
  const auto left = part(0, cut), right = part(cut, n - cut);
  const Listed a = Retriever(ctx, left).top(k), b = Retriever(ctx, right).top(k);
  Listed merged;
  for (std::int64_t q = 0; q < 6; ++q) {
    std::vector<std::pair<float, std::int32_t>> both;
    for (std::int64_t i = 0; i < k; ++i) {
      both.emplace_back(a.scores[q * k + i], a.rows[q * k + i]);
      both.emplace_back(b.scores[q * k + i], b.rows[q * k + i] + static_cast<std::int32_t>(cut));
    }
    std::sort(both.begin(), both.end(), [](auto& x, auto& y) {
      return x.first != y.first ? x.first > y.first : x.second < y.second;
    });
    for (std::int64_t i = 0; i < k; ++i) {
      merged.scores.push_back(both[i].first);
      merged.rows.push_back(both[i].second);
    }
  }
  expect_same(Retriever(ctx, whole).top(k), merged, "union");
}

TEST(TopKScores, PermutingQueriesPermutesAnswers) {
  Random random(8);
  const Context ctx = make_context(1);
  const std::int64_t q = 150, d = 6, k = 11;
  const auto r = Retrieval::normal(random, q, 1, 400, d);
  std::vector<float> reversed;
  for (std::int64_t i = q - 1; i >= 0; --i) {
    for (std::int64_t j = 0; j < d; ++j) reversed.push_back(r.queries(i, j));
  }
  const Retrieval back(q, 1, 400, d, reversed, r.items.values());
  const Listed a = Retriever(ctx, r).top(k), b = Retriever(ctx, back).top(k);
  for (std::int64_t i = 0; i < q; ++i) {
    for (std::int64_t j = 0; j < k; ++j) {
      ASSERT_EQ(a.rows[i * k + j], b.rows[(q - 1 - i) * k + j]);
      ASSERT_EQ(a.scores[i * k + j], b.scores[(q - 1 - i) * k + j]);
    }
  }
}

TEST(TopKScores, NonFiniteScores) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Retrieval r(1, 1, 7, 1, {1}, {1, nan, inf, -inf, nan, inf, -0.0f});
  const Retrieval heads(1, 2, 3, 2, {1, 0, 0, 1}, {inf, 5, 5, inf, 3, 1});  // 0 * inf is NaN
  for_each_target([&] {
    const Context ctx = make_context(1);
    const Listed top = Retriever(ctx, r).top(7);
    EXPECT_EQ(top.rows, (std::vector<std::int32_t>{2, 5, 0, 6, 3, -1, -1}));
    expect_same(top, r.expected(7), "one head");
    expect_same(Retriever(ctx, r).top(1), r.expected(1), "k = 1");
    EXPECT_EQ(Retriever(ctx, heads).top(3).rows, (std::vector<std::int32_t>{2, -1, -1}));
    EXPECT_EQ(Retriever(ctx, r).above({nan}, {6}), std::vector<std::int64_t>{0});
    EXPECT_EQ(Retriever(ctx, r).above({-inf}, {3}), std::vector<std::int64_t>{4});
    EXPECT_TRUE(std::isnan(Retriever(ctx, r).pairs({4})[0]));
    EXPECT_TRUE(std::isnan(Retriever(ctx, r).pairs({-1})[0]));
    EXPECT_FALSE(std::signbit(Retriever(ctx, r).pairs({6})[0]));
  });
  // -1e-60 rounds to -0, which counts, and is given, as +0.
  const Retrieval tiny(1, 1, 3, 1, {1e-30f}, {-1e-30f, 1e-30f, 0});
  const Context ctx = make_context(1);
  const Listed zeros = Retriever(ctx, tiny).top(3);
  EXPECT_EQ(zeros.rows, (std::vector<std::int32_t>{0, 1, 2}));
  expect_equal_bits(zeros.scores, std::vector<float>(3, 0.0f), "zeros");
  expect_equal_bits(Retriever(ctx, tiny).pairs({0}), std::vector<float>(1, 0.0f), "zero");
  // Among NaN in every lane, in a scan long enough to cut its lists.
  Random random(9);
  auto dirty = Retrieval::normal(random, 9, 1, 3000, 2);
  for (std::int64_t i = 0; i < 3000; i += 2) dirty.items(i, 1) = i % 6 == 0 ? inf : nan;
  expect_exact(ctx, dirty, 25);
}

TEST(TopKScores, PairScoresAreTheListsScores) {
  Random random(10);
  const Context ctx = make_context(2);
  for (const std::int64_t heads : {1, 3}) {
    const auto r = Retrieval::normal(random, 200, heads, 300, 19);
    const Retriever retriever(ctx, r);
    const Listed top = retriever.top(300);
    for (const std::int64_t rank : {0, 150, 299}) {
      std::vector<std::int32_t> rows;
      std::vector<float> scores;
      for (std::int64_t q = 0; q < 200; ++q) {
        rows.push_back(top.rows[q * 300 + rank]);
        scores.push_back(top.scores[q * 300 + rank]);
      }
      expect_equal_bits(retriever.pairs(rows), scores, "pair scores");
      EXPECT_EQ(retriever.above(scores, rows), std::vector<std::int64_t>(200, rank));
    }
  }
}

TEST(TopKScores, PacksInChunks) {
  Random random(11);
  const Context ctx = make_context(2);
  for (const std::int64_t n : {1, 47, 48, 49, 200}) {
    const auto items = HostMatrix::normal(random, n, 19, 1, 4);
    Buffer<float> whole(Backend::cpu, PackedItems::size(n, 19));
    Buffer<float> chunked(Backend::cpu, PackedItems::size(n, 19));
    tested::pack_items(ctx, items.view(), 0, whole.data(), n);
    for (std::int64_t i = 0; i < n; i += 7) {
      tested::pack_items(ctx, items.view().slice(i, std::min<std::int64_t>(7, n - i)), i,
                         chunked.data(), n);
    }
    for (std::int64_t i = 0; i < whole.size(); ++i) {
      ASSERT_EQ(whole.data()[i], chunked.data()[i]);
      const std::int64_t row = i / (48 * 19) * 48 + i % 48, column = i / 48 % 19;
      ASSERT_EQ(whole.data()[i], row < n ? items(row, column) : 0.0f);
    }
  }
}

TEST(TopKScores, RepeatedCallsAllocateNothing) {
  Random random(12);
  const Context ctx = make_context(1);
  const auto r = Retrieval::normal(random, 40, 1, 2000, 4);
  const Retriever retriever(ctx, r);
  retriever.top(10);
  retriever.top(10);
  const std::int64_t before = ctx.arena().allocations();
  retriever.top(10);
  EXPECT_EQ(ctx.arena().allocations(), before);
}

TEST(TopKScores, MemoryStaysBoundedForLargeK) {
  Random random(13);
  const Context ctx = make_context(1);
  const auto r = Retrieval::normal(random, by_backend(300, 30), 1, by_backend(30000, 3000), 1);
  Retriever(ctx, r).top(r.n);
  EXPECT_LT(ctx.arena().peak_bytes(), std::int64_t{40} << 20);
}

TEST(TopKScores, BrokenContractsAreRefused) {
  Random random(14);
  const Context ctx = make_context(1);
  const auto r = Retrieval::normal(random, 2, 1, 10, 4);
  const Retriever retriever(ctx, r);
  std::vector<float> s(6);
  std::vector<std::int32_t> rows(6);
  const auto q = r.queries.view();
  const Matrix<float> scores(s.data(), 2, 3);
  const Matrix<std::int32_t> found(rows.data(), 2, 3);
  const PackedItems items = retriever.items();
  const auto top = [&](Matrix<const float> queries, std::int64_t heads, const ItemMask& mask,
                       TopK out) { tested::topk_scores(ctx, queries, heads, items, mask, out); };
  EXPECT_THROW(top(q, 0, {}, {scores, found}), ContractError);
  EXPECT_THROW(top(q, 2, {}, {scores, found}), ContractError);
  EXPECT_THROW(top(q.columns(0, 3), 1, {}, {scores, found}), ContractError);
  EXPECT_THROW(top(q, 1, {}, {scores.columns(0, 0), found.columns(0, 0)}), ContractError);
  EXPECT_THROW(top(q, 1, {}, {scores, found.columns(0, 2)}), ContractError);
  const std::vector<std::uint64_t> bits(2, ~std::uint64_t{0});
  ItemMask mask;
  mask.allowed_bits = view(bits);
  EXPECT_THROW(top(q, 1, mask, {scores, found}), ContractError);
  EXPECT_THROW(tested::count_above(ctx, q, 1, items, mask, {s.data(), 2}, {rows.data(), 2}, {}),
               ContractError);
  EXPECT_THROW(retriever.pairs({0}), ContractError);
  EXPECT_THROW(retriever.above({0}, {0}), ContractError);
  Buffer<float> packed(Backend::cpu, PackedItems::size(10, 4));
  EXPECT_THROW(tested::pack_items(ctx, r.items.view(), 1, packed.data(), 10), ContractError);
  EXPECT_THROW(tested::pack_items(ctx, r.items.view(), -1, packed.data(), 10), ContractError);
}

/// What only the data shows: the CPU refuses it, the device sets a bit and leaves such rows out.
TEST(TopKScores, RowsOutsideOfTheItemsAreFound) {
  Random random(15);
  const auto r = Retrieval::normal(random, 2, 1, 10, 4);
  std::vector<float> s(6);
  std::vector<std::int32_t> rows(6);
  std::vector<std::int64_t> counts(2);
  const TopK out{{s.data(), 2, 3}, {rows.data(), 2, 3}};
  const auto expect_found = [](auto&& call) {
    const Context ctx = make_context(1);
    if (!on_device()) {
      EXPECT_THROW(call(ctx), ContractError);
      return;
    }
    EXPECT_EQ(ctx.read_state().status, 0u);
    call(ctx);
    EXPECT_EQ(ctx.read_state().status, std::uint32_t{kStatusIdOutOfRange});
  };
  for (const std::int32_t outside : {-1, 10}) {
    OwnedLists lists;
    lists.add({outside});
    lists.add({});
    ItemMask mask;
    mask.only = lists.view();
    expect_found([&](const Context& ctx) {
      const Retriever retriever(ctx, r);
      tested::topk_scores(ctx, r.queries.view(), 1, retriever.items(), mask, out);
      EXPECT_EQ(rows, std::vector<std::int32_t>(6, -1));
    });
    expect_found([&](const Context& ctx) {
      const Retriever retriever(ctx, r);
      tested::count_above(ctx, r.queries.view(), 1, retriever.items(), mask, {s.data(), 2},
                          {rows.data(), 2}, view(counts));
      EXPECT_EQ(counts, std::vector<std::int64_t>(2, 0));
    });
  }
  expect_found([&](const Context& ctx) { Retriever(ctx, r).pairs({10, 0}); });
  expect_found([&](const Context& ctx) { Retriever(ctx, r).pairs({0, -2}); });
}

}  // namespace
}  // namespace belfry::test
