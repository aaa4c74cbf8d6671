// SPDX-License-Identifier: Apache-2.0
// The device's paths of topk_scores, each named: all give the answer of the full sort, to the bit. The tensor path
// is attacked where its bound may fail: norms far apart, subnormal, huge and non-finite vectors, cancellation, ties.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "kernels/topk_scores/topk_scores_paths.hpp"
#include "tests/support/topk_oracle.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

using cuda::TopKLimits;
using cuda::TopKPath;

constexpr TopKPath kPaths[] = {TopKPath::few, TopKPath::many, TopKPath::tensor, TopKPath::matrix};
constexpr float kInf = std::numeric_limits<float>::infinity();

std::string name_of(TopKPath path) {
  constexpr const char* kNames[] = {"few", "many", "tensor", "matrix"};
  return kNames[static_cast<int>(path)];
}

Listed top_by(TopKPath path, const Context& ctx, const Retrieval& r, std::int64_t k,
              const TopKLimits& limits = {}) {
  const Retriever retriever(ctx, r);
  Listed out{std::vector<float>(r.n_queries * k), std::vector<std::int32_t>(r.n_queries * k)};
  tested::topk_on_device(ctx, r.queries.view(), r.heads, retriever.items(), r.mask(),
                         {{out.scores.data(), r.n_queries, k}, {out.rows.data(), r.n_queries, k}},
                         [&](const Context& c, Matrix<const float> queries, std::int64_t heads,
                             const PackedItems& items, const ItemMask& mask, TopK top) {
                           cuda::topk_scores_by(path, c, queries, heads, items, mask, top, limits);
                         });
  return out;
}

bool takes(TopKPath path, const Retrieval& r, std::int64_t k) {
  return cuda::path_takes(path, {r.n_queries * r.heads, r.heads, r.n, r.dim, k});
}

void expect_all_paths(const Context& ctx, const Retrieval& r, std::int64_t k,
                      const std::string& what) {
  const Listed expected = r.expected(k);
  for (const TopKPath path : kPaths) {
    if (!takes(path, r, k)) continue;
    expect_same(top_by(path, ctx, r, k), expected, what + " by " + name_of(path));
  }
}

/// The tensor path's answer is right; returns how many queries it has left to the fp32 scan.
int left_by_tensor(const Context& ctx, const Retrieval& r, std::int64_t k,
                   const std::string& what) {
  EXPECT_TRUE(takes(TopKPath::tensor, r, k));
  Held<int> left(ctx, {-1});
  expect_same(top_by(TopKPath::tensor, ctx, r, k, {.rescanned = left.data()}), r.expected(k), what);
  return left.get()[0];
}

TEST(TopKPaths, NastyShapes) {
  const Context ctx = make_context();
  Random random(1);
  for (const std::int64_t n : {1, 31, 33, 48, 97, 129, 300}) {
    for (const std::int64_t d : {1, 2, 16, 17, 31, 33, 65}) {
      if ((n + d) % 3 != 0) continue;
      const std::int64_t q = 1 + random.below(70);
      const auto r = Retrieval::normal(random, q, 1, n, d);
      const std::string what =
          "q " + std::to_string(q) + " n " + std::to_string(n) + " d " + std::to_string(d);
      for (const std::int64_t k : {1 + n / 10, n + 3}) expect_all_paths(ctx, r, k, what);
    }
  }
}

/// Every instantiation of the tensor path, whole and partial tiles of rows.
TEST(TopKPaths, EveryTensorShape) {
  const Context ctx = make_context();
  Random random(2);
  for (const std::int64_t d : {20, 32, 64, 100, 128, 200, 256}) {
    const auto r = Retrieval::normal(random, 3 + d % 40, 1, 400, d);
    EXPECT_EQ(left_by_tensor(ctx, r, 7, std::to_string(d)), 0);
  }
  const auto full = Retrieval::normal(random, 256, 1, 260, 24);
  EXPECT_EQ(left_by_tensor(ctx, full, 5, "a full tile of rows"), 0);
  const auto more = Retrieval::normal(random, 257, 1, 130, 17);
  EXPECT_EQ(left_by_tensor(ctx, more, 5, "one row more"), 0);
  const auto heads = Retrieval::normal(random, 10, 3, 500, 40);
  EXPECT_EQ(left_by_tensor(ctx, heads, 9, "heads"), 0);
}

TEST(TopKPaths, Heads) {
  const Context ctx = make_context();
  Random random(3);
  for (const std::int64_t heads : {2, 3, 5}) {
    expect_all_paths(ctx, Retrieval::normal(random, 9, heads, 300, 9), 12, "heads");
    expect_all_paths(ctx, Retrieval::ties(random, 9, heads, 200, 3), 12, "heads, ties");
  }
  // An item whose score is NaN for one head is no candidate for another.
  auto r = Retrieval::normal(random, 6, 2, 300, 4);
  for (std::int64_t i = 0; i < 300; i += 3) r.items(i, 1) = kInf;
  for (std::int64_t q = 0; q < 12; q += 2) r.queries(q, 1) = 0;
  expect_all_paths(ctx, r, 40, "a NaN head");
  for (std::int64_t i = 0; i < 300; i += 2) r.items(i, 2) = i % 4 == 0 ? -3e38f : 2e38f;
  expect_all_paths(ctx, r, 200, "huge items and a NaN head");
}

/// Norms from 2^-140 to 2^120: bounds are each tile's and each row's own.
TEST(TopKPaths, NormsFarApart) {
  const Context ctx = make_context();
  Random random(4);
  for (const int spread : {3, 30, 120}) {
    auto r = Retrieval::normal(random, 20, 1, 400, 20);
    for (std::int64_t i = 0; i < r.n; ++i) {
      const int e =
          static_cast<int>(random.below(2 * spread + 1)) - spread - (spread > 100 ? 20 : 0);
      for (std::int64_t j = 0; j < r.dim; ++j) r.items(i, j) = std::ldexp(r.items(i, j), e);
    }
    for (std::int64_t q = 0; q < r.n_queries; ++q) {
      const int e = static_cast<int>(random.below(2 * spread + 1)) - spread;
      for (std::int64_t j = 0; j < r.dim; ++j) r.queries(q, j) = std::ldexp(r.queries(q, j), e);
    }
    expect_all_paths(ctx, r, 15, "spread " + std::to_string(spread));
  }
}

TEST(TopKPaths, SubnormalVectors) {
  const Context ctx = make_context();
  Random random(5);
  auto r = Retrieval::normal(random, 12, 1, 300, 18);
  for (std::int64_t i = 0; i < r.n; i += 2) {
    for (std::int64_t j = 0; j < r.dim; ++j) r.items(i, j) = std::ldexp(r.items(i, j), -135);
  }
  expect_all_paths(ctx, r, 200, "subnormal items");
  for (std::int64_t q = 0; q < 12; q += 2) {
    for (std::int64_t j = 0; j < r.dim; ++j) r.queries(q, j) = std::ldexp(r.queries(q, j), 126);
  }
  expect_all_paths(ctx, r, 200, "subnormal items, huge queries");
}

TEST(TopKPaths, OneHugeItem) {
  const Context ctx = make_context();
  Random random(6);
  for (const float scale : {1e4f, 1e18f, 1e30f, 3e38f}) {
    auto r = Retrieval::normal(random, 30, 1, 600, 16);
    for (std::int64_t j = 0; j < r.dim; ++j) r.items(123, j) = scale * (j % 2 == 0 ? 1.0f : -0.5f);
    EXPECT_EQ(left_by_tensor(ctx, r, 20, "scale " + std::to_string(scale)), 0);
  }
}

TEST(TopKPaths, OverflowingAndNonFiniteScores) {
  const Context ctx = make_context();
  Random random(7);
  auto r = Retrieval::normal(random, 20, 1, 300, 16);
  for (std::int64_t i = 0; i < r.n; i += 5) {
    for (std::int64_t j = 0; j < r.dim; ++j) r.items(i, j) *= 1e30f;
  }
  for (std::int64_t q = 0; q < r.n_queries; q += 3) {
    for (std::int64_t j = 0; j < r.dim; ++j) r.queries(q, j) *= 3e15f;
  }
  expect_all_paths(ctx, r, 100, "overflow");
  for (std::int64_t i = 1; i < r.n; i += 7) r.items(i, i % 16) = i % 2 == 0 ? kInf : -kInf;
  for (std::int64_t i = 2; i < r.n; i += 31) r.items(i, 3) = std::nanf("");
  for (std::int64_t q = 1; q < r.n_queries; q += 4) r.queries(q, 2) = q % 8 == 1 ? kInf : 0.0f;
  expect_all_paths(ctx, r, 150, "not finite");
}

/// All scores of a query tie, or almost: below what bf16 can tell apart, and in the last bit.
TEST(TopKPaths, TiesAndNearTies) {
  const Context ctx = make_context();
  Random random(8);
  auto r = Retrieval::normal(random, 10, 1, 700, 16);
  for (std::int64_t j = 0; j < r.dim; ++j) r.queries(4, j) = 0;  // a query without a past
  EXPECT_EQ(left_by_tensor(ctx, r, 30, "a zero query"), 1);
  for (std::int64_t i = 0; i < r.n; ++i) {
    for (std::int64_t j = 0; j < r.dim; ++j) {
      r.items(i, j) = 1.0f + (j == 0 ? static_cast<float>(random.below(40)) * 0x1p-23f : 0.0f);
    }
  }
  EXPECT_EQ(left_by_tensor(ctx, r, 30, "differences in the last bits"), 10);
  left_by_tensor(ctx, Retrieval::ties(random, 40, 1, 700, 12), 25, "small integers");
}

/// Large components cancel, so the rounding to bf16 is larger than the scores.
TEST(TopKPaths, Cancellation) {
  const Context ctx = make_context();
  Random random(9);
  auto r = Retrieval::normal(random, 25, 1, 600, 18);
  for (std::int64_t i = 0; i < r.n; ++i) {
    r.items(i, 0) = 300.0f + r.items(i, 0);
    r.items(i, 17) = r.items(i, 0);
  }
  for (std::int64_t q = 0; q < r.n_queries; ++q) {
    r.queries(q, 0) = 77.7f;
    r.queries(q, 17) = -77.7f;
  }
  EXPECT_GT(left_by_tensor(ctx, r, 20, "cancellation"), 0);
}

/// Enough tiles for a sample, which finds the best items or misses all of them.
TEST(TopKPaths, SamplesOfTheTensorPath) {
  const Context ctx = make_context();
  Random random(10);
  auto r = Retrieval::normal(random, 20, 1, 2600, 2);
  EXPECT_LE(left_by_tensor(ctx, r, 60, "random order"), 2);
  for (std::int64_t i = 0; i < r.n; ++i) {
    r.items(i, 0) = std::cos(static_cast<float>(i / 128));
    r.items(i, 1) = std::sin(static_cast<float>(i / 128));
  }
  for (std::int64_t q = 0; q < r.n_queries; ++q) {
    r.queries(q, 0) = std::cos(static_cast<float>(q));
    r.queries(q, 1) = std::sin(static_cast<float>(q));
  }
  EXPECT_GT(left_by_tensor(ctx, r, 60, "each query's best in one tile"), 0);
}

/// Items cut into ranges, whose lists are merged and whose counts are added up.
TEST(TopKPaths, Ranges) {
  const Context ctx = make_context();
  Random random(11);
  for (const std::int64_t q : {5, 12}) {
    const auto r = Retrieval::normal(random, q, 1, 7000, 4);
    const Listed expected = r.expected(33);
    for (const TopKPath path : {TopKPath::few, TopKPath::many, TopKPath::tensor}) {
      expect_same(top_by(path, ctx, r, 33), expected, "ranges by " + name_of(path));
    }
    std::vector<float> scores;
    std::vector<std::int32_t> rows;
    for (std::int64_t i = 0; i < q; ++i) {
      scores.push_back(expected.scores[i * 33 + 32]);
      rows.push_back(expected.rows[i * 33 + 32]);
    }
    EXPECT_EQ(Retriever(ctx, r).above(scores, rows), std::vector<std::int64_t>(q, 32));
  }
}

Retrieval masked(Random& random, std::int64_t q, std::int64_t heads, std::int64_t n) {
  auto r = Retrieval::normal(random, q, heads, n, 6);
  const auto plain = r;
  r.exclude.emplace();
  r.only.emplace();
  for (std::int64_t i = 0; i < q; ++i) {
    std::vector<std::int32_t> best;
    for (const auto& [score, row] : plain.ranking(i)) {
      if (static_cast<std::int64_t>(best.size()) < i * 9) best.push_back(row);
    }
    r.exclude->add(best);
    r.only->add(random.ids(i % 4 == 0 ? n / 40 : n, n));
  }
  r.allowed.assign((n + 63) / 64, 0);
  for (std::int64_t i = 0; i < n; ++i) {
    if (random.below(4) != 0) r.allowed[i / 64] |= std::uint64_t{1} << (i % 64);
  }
  return r;
}

TEST(TopKPaths, Masks) {
  const Context ctx = make_context();
  Random random(12);
  for (const std::int64_t heads : {1, 2}) {
    auto r = masked(random, 24, heads, 500);
    expect_all_paths(ctx, r, 12, "all masks");
    r.only.reset();
    expect_all_paths(ctx, r, 12, "exclusions and a bitmap");
    r.allowed.clear();
    expect_all_paths(ctx, r, 120, "exclusions");
    r.exclude.reset();
    r.allowed.assign(8, 0);
    r.allowed[3] = 1 << 5 | 1 << 6;
    expect_all_paths(ctx, r, 12, "two allowed items");
  }
}

/// Scratch limits cut the queries into chunks, down to one tile each.
TEST(TopKPaths, Chunks) {
  const Context ctx = make_context();
  Random random(13);
  auto r = masked(random, 150, 1, 200);
  const Listed expected = r.expected(9);
  for (const TopKPath path : kPaths) {
    expect_same(top_by(path, ctx, r, 9, {1, 1, 1}), expected, "chunks by " + name_of(path));
  }
  r = Retrieval::normal(random, 300, 2, 150, 3);
  expect_same(top_by(TopKPath::tensor, ctx, r, 9, {1, 1, 1}), r.expected(9), "two chunks of heads");
}

TEST(TopKPaths, LargestK) {
  const Context ctx = make_context();
  Random random(14);
  const auto r = Retrieval::ties(random, 3, 1, 2500, 4);
  for (const std::int64_t k : {1024, 1025}) expect_all_paths(ctx, r, k, std::to_string(k));
}

TEST(TopKPaths, SchedulesGiveEqualBits) {
  Random random(15);
  const auto plain = Retrieval::ties(random, 70, 1, 260, 16);
  auto restricted = masked(random, 12, 2, 300);
  const auto cut = Retrieval::normal(random, 3, 1, 6200, 2);
  const Listed a = plain.expected(11), b = restricted.expected(11), c = cut.expected(11);
  for_each_variant([&](const Context& ctx) {
    for (const TopKPath path : kPaths) {
      expect_same(top_by(path, ctx, plain, 11), a, name_of(path));
      expect_same(top_by(path, ctx, restricted, 11), b, name_of(path) + ", masked");
      if (path != TopKPath::matrix) expect_same(top_by(path, ctx, cut, 11), c, name_of(path));
    }
  });
}

/// A row of an `only` list that lies just outside: every path tells, and none reads or writes there.
TEST(TopKPaths, ListedRowsOutsideAreReported) {
  Random random(17);
  for (const std::int32_t outside : {-1, 60}) {
    auto r = Retrieval::normal(random, 3, 1, 60, 4);
    r.only.emplace();
    r.only->add({5});
    r.only->add({outside});
    r.only->add({7});
    for (const TopKPath path : kPaths) {
      const Context ctx = make_context();
      const Listed got = top_by(path, ctx, r, 1);
      EXPECT_EQ(got.rows, (std::vector<std::int32_t>{5, -1, 7})) << name_of(path);
      EXPECT_EQ(ctx.read_state().status, std::uint32_t{kStatusIdOutOfRange}) << name_of(path);
    }
  }
}

/// Captured once, replayed with other queries, items and masks.
TEST(TopKPaths, CanBeReplayed) {
  Random random(16);
  const std::int64_t q = 40, n = 300, k = 10;
  const auto first = masked(random, q, 1, n), second = masked(random, q, 1, n);
  const Context ctx = make_context();
  const auto dense = [](const HostMatrix& m) { return m.values(); };
  const auto padded = [](std::vector<std::int32_t> rows, std::size_t size) {
    rows.resize(size);
    return rows;
  };
  const std::size_t most = static_cast<std::size_t>(q * n);
  Held<float> queries(ctx, dense(first.queries)), items(ctx, dense(first.items));
  Held<std::int64_t> exclude_at(ctx, first.exclude->offsets), only_at(ctx, first.only->offsets);
  Held<std::int32_t> exclude(ctx, padded(first.exclude->rows, most));
  Held<std::int32_t> only(ctx, padded(first.only->rows, most));
  Held<std::uint64_t> bits(ctx, first.allowed);
  Held<float> packed(ctx, std::vector<float>(PackedItems::size(n, 6)));
  Held<float> scores(ctx, std::vector<float>(q * k)), pairs(ctx, std::vector<float>(q));
  Held<std::int32_t> rows(ctx, std::vector<std::int32_t>(q * k));
  Held<std::int32_t> pair_rows(ctx, std::vector<std::int32_t>(q, 7));
  Held<std::int64_t> counts(ctx, std::vector<std::int64_t>(q));
  for (const TopKPath path : kPaths) {
    SCOPED_TRACE(name_of(path));
    Replay replay(ctx, [&] {
      ItemMask mask;
      mask.exclude = {exclude_at.data(), exclude.data()};
      mask.only = {only_at.data(), only.data()};
      mask.allowed_bits = {bits.data(), bits.vector().size};
      pack_items(ctx, items.matrix(n, 6), 0, packed.data(), n);
      const PackedItems view{packed.data(), n, 6};
      cuda::topk_scores_by(path, ctx, queries.matrix(q, 6), 1, view, mask,
                           {scores.matrix(q, k), rows.matrix(q, k)});
      pair_scores(ctx, queries.matrix(q, 6), 1, view, pair_rows.vector(), pairs.vector());
      count_above(ctx, queries.matrix(q, 6), 1, view, mask, pairs.vector(), pair_rows.vector(),
                  counts.vector());
    });
    for (const Retrieval* r : {&second, &first}) {
      queries.set(dense(r->queries));
      items.set(dense(r->items));
      exclude_at.set(r->exclude->offsets);
      only_at.set(r->only->offsets);
      exclude.set(padded(r->exclude->rows, most));
      only.set(padded(r->only->rows, most));
      bits.set(r->allowed);
      replay.run();
      expect_same({scores.get(), rows.get()}, r->expected(k), "replayed");
      const Retriever eager(ctx, *r);
      const auto scored = eager.pairs(std::vector<std::int32_t>(q, 7));
      expect_equal_bits(pairs.get(), scored, "pairs");
      EXPECT_EQ(counts.get(), eager.above(scored, std::vector<std::int32_t>(q, 7)));
    }
  }
}

TEST(TopKPaths, AreChosenByShape) {
  const auto path = [](std::int64_t q, std::int64_t n, std::int64_t d, std::int64_t k) {
    return cuda::path_of({q, 1, n, d, k});
  };
  EXPECT_EQ(path(1, 1000000, 64, 100), TopKPath::few);
  EXPECT_EQ(path(8, 1000000, 64, 100), TopKPath::few);
  EXPECT_EQ(path(9, 1000000, 64, 100), TopKPath::many);
  EXPECT_EQ(path(10000, 62423, 64, 100), TopKPath::tensor);
  EXPECT_EQ(path(10000, 62423, 128, 1024), TopKPath::tensor);
  EXPECT_EQ(path(10000, 62423, 64, 1025), TopKPath::matrix);
  EXPECT_EQ(path(10000, 62423, 300, 100), TopKPath::many);
  EXPECT_EQ(path(10000, 1000, 64, 100), TopKPath::many);
  EXPECT_EQ(path(3, 20, 300, 5000), TopKPath::few);  // a list of 20
}

/// The documented shape that takes the tensor path by itself, at a size that the executor can bear.
TEST(TopKPaths, TensorPathIsTakenByTheOp) {
  Random random(17);
  const Context ctx = make_context();
  const auto r = Retrieval::normal(random, 512, 1, 4096, 12);
  ASSERT_EQ(cuda::path_of({512, 1, 4096, 12, 5}), TopKPath::tensor);
  const Listed top = Retriever(ctx, r).top(5);
  expect_same(top, top_by(TopKPath::tensor, ctx, r, 5), "by name");
  for (const std::int64_t q : {0, 100, 511}) {
    const auto best = r.ranking(q);
    for (std::int64_t i = 0; i < 5; ++i) ASSERT_EQ(top.rows[q * 5 + i], best[i].second);
  }
}

TEST(TopKPaths, RepeatedCallsAllocateNothing) {
  Random random(18);
  const Context ctx = make_context();
  const auto r = Retrieval::normal(random, 70, 1, 200, 4);
  for (const TopKPath path : kPaths) top_by(path, ctx, r, 10);
  for (const TopKPath path : kPaths) top_by(path, ctx, r, 10);
  const std::int64_t before = ctx.arena().allocations();
  for (const TopKPath path : kPaths) top_by(path, ctx, r, 10);
  EXPECT_EQ(ctx.arena().allocations(), before);
}

}  // namespace
}  // namespace belfry::test
