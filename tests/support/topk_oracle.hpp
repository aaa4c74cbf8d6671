// SPDX-License-Identifier: Apache-2.0
// The definition of top-K, written down slowly: the fma chain by std::fma, one full sort.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_topk_scores.hpp"

namespace belfry::test {

/// Ragged ascending lists that own their rows.
struct OwnedLists {
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> rows;

  void add(std::vector<std::int32_t> list) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    rows.insert(rows.end(), list.begin(), list.end());
    offsets.push_back(static_cast<std::int64_t>(rows.size()));
  }
  bool has(std::int64_t query, std::int32_t row) const {
    return std::count(rows.begin() + offsets[query], rows.begin() + offsets[query + 1], row) != 0;
  }
  RowLists view() const { return {offsets.data(), rows.data()}; }
};

struct Listed {
  std::vector<float> scores;
  std::vector<std::int32_t> rows;
};

/// One retrieval problem with everything that may restrict it.
struct Retrieval {
  std::int64_t n_queries, heads, n, dim;
  HostMatrix queries, items;
  std::optional<OwnedLists> exclude, only;
  std::vector<std::uint64_t> allowed;

  Retrieval(std::int64_t q, std::int64_t h, std::int64_t items_n, std::int64_t d,
            std::vector<float> query_values, std::vector<float> item_values)
      : n_queries(q),
        heads(h),
        n(items_n),
        dim(d),
        queries(q * h, d, query_values, 3),
        items(items_n, d, item_values, 2) {}

  static Retrieval normal(Random& random, std::int64_t q, std::int64_t h, std::int64_t n,
                          std::int64_t d) {
    auto query_values = random.normals(q * h * d);
    return {q, h, n, d, std::move(query_values), random.normals(n * d)};
  }
  /// Small integers: scores are exact and most of them tied.
  static Retrieval ties(Random& random, std::int64_t q, std::int64_t h, std::int64_t n,
                        std::int64_t d) {
    const auto values = [&](std::int64_t count) {
      std::vector<float> v(static_cast<std::size_t>(count));
      for (float& x : v) x = static_cast<float>(random.below(3) - 1);
      return v;
    };
    auto query_values = values(q * h * d);
    return {q, h, n, d, std::move(query_values), values(n * d)};
  }

  ItemMask mask() const {
    ItemMask m;
    if (exclude) m.exclude = exclude->view();
    if (only) m.only = only->view();
    m.allowed_bits = test::view(allowed);
    return m;
  }
  bool eligible(std::int64_t q, std::int32_t row) const {
    if (!allowed.empty() && ((allowed[row / 64] >> (row % 64)) & 1) == 0) return false;
    return !(exclude && exclude->has(q, row)) && (!only || only->has(q, row));
  }
  float score(std::int64_t q, std::int32_t row) const {
    float best = 0;
    for (std::int64_t h = 0; h < heads; ++h) {
      float s = 0;
      for (std::int64_t j = 0; j < dim; ++j) {
        s = std::fma(queries(q * heads + h, j), items(row, j), s);
      }
      if (h == 0 || s > best || std::isnan(s)) best = s;
    }
    return best + 0.0f;
  }
  /// All that query q may get, best first.
  std::vector<std::pair<float, std::int32_t>> ranking(std::int64_t q) const {
    std::vector<std::pair<float, std::int32_t>> all;
    for (std::int32_t row = 0; row < n; ++row) {
      const float s = score(q, row);
      if (eligible(q, row) && !std::isnan(s)) all.emplace_back(s, row);
    }
    std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.first > b.first; });
    return all;
  }
  Listed expected(std::int64_t k) const {
    Listed out;
    for (std::int64_t q = 0; q < n_queries; ++q) {
      const auto all = ranking(q);
      for (std::int64_t i = 0; i < k; ++i) {
        const bool there = i < static_cast<std::int64_t>(all.size());
        out.scores.push_back(there ? all[i].first : std::numeric_limits<float>::quiet_NaN());
        out.rows.push_back(there ? all[i].second : -1);
      }
    }
    return out;
  }
};

/// Retrieval on a context, items packed once.
class Retriever {
 public:
  Retriever(const Context& ctx, const Retrieval& r)
      : ctx_(ctx), r_(r), packed_(Backend::cpu, PackedItems::size(r.n, r.dim)) {
    tested::pack_items(ctx, r.items.view(), 0, packed_.data(), r.n);
  }
  PackedItems items() const { return {packed_.data(), r_.n, r_.dim}; }
  Listed top(std::int64_t k) const {
    Listed out{std::vector<float>(r_.n_queries * k, 777.0f),
               std::vector<std::int32_t>(r_.n_queries * k, 777)};
    tested::topk_scores(ctx_, r_.queries.view(), r_.heads, items(), r_.mask(),
                        {{out.scores.data(), r_.n_queries, k}, {out.rows.data(), r_.n_queries, k}});
    return out;
  }
  std::vector<float> pairs(const std::vector<std::int32_t>& rows) const {
    std::vector<float> out(rows.size());
    tested::pair_scores(ctx_, r_.queries.view(), r_.heads, items(), test::view(rows),
                        test::view(out));
    return out;
  }
  std::vector<std::int64_t> above(const std::vector<float>& threshold,
                                  const std::vector<std::int32_t>& rows) const {
    std::vector<std::int64_t> out(rows.size(), -5);
    tested::count_above(ctx_, r_.queries.view(), r_.heads, items(), r_.mask(),
                        test::view(threshold), test::view(rows), test::view(out));
    return out;
  }

 private:
  const Context& ctx_;
  const Retrieval& r_;
  Buffer<float> packed_;
};

inline void expect_same(const Listed& actual, const Listed& expected, const std::string& what) {
  expect_equal_bits(actual.rows, expected.rows, what + ": rows");
  expect_equal_bits(actual.scores, expected.scores, what + ": scores");
}

}  // namespace belfry::test
