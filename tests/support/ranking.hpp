// SPDX-License-Identifier: Apache-2.0
// Data sets for the tests of rankings and their metrics.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "engine/metrics.hpp"
#include "kernels/core/transfer.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {

using Rows = std::vector<std::int32_t>;

inline std::vector<Metric> parse_all(const std::vector<std::string>& names) {
  std::vector<Metric> metrics;
  for (const auto& name : names) metrics.push_back(parse_metric(name).value());
  return metrics;
}

/// Packs rows of `items` [n, dim] on the context's backend; owns the memory.
struct Packed {
  Packed(const Context& ctx, const std::vector<float>& items, std::int64_t n, std::int64_t dim)
      : memory(ctx.backend(), PackedItems::size(n, dim)) {
    const Uploaded<float> rows(ctx, items);
    pack_items(ctx, Matrix<const float>(rows.data(), n, dim), 0, memory.data(), n);
    ctx.synchronise();
    view = {memory.data(), n, dim};
  }
  Buffer<float> memory;
  PackedItems view;
};

/// A data set of random vectors of small integers (scores exact, many ties), masks and truths.
struct World {
  World(std::uint64_t seed, std::int64_t users, std::int64_t items, std::int64_t dim,
        std::int64_t heads, bool masked, std::int64_t most_truth = 4) {
    test::Random random(seed);
    queries.resize(users * heads * dim);
    for (float& v : queries) v = static_cast<float>(random.below(5) - 2);
    vectors.resize(items * dim);
    for (float& v : vectors) v = static_cast<float>(random.below(5) - 2);
    input.queries = {queries.data(), users * heads, dim};
    input.heads = heads;
    input.truth_offsets = {0};
    if (masked) input.exclude_offsets = {0};
    std::vector<std::int32_t> order(items);
    std::iota(order.begin(), order.end(), 0);
    for (std::int64_t u = 0; u < users; ++u) {
      const std::int64_t truth = std::min(items, random.below(most_truth + 1));
      const std::int64_t mask = masked ? random.below(items - truth + 1) : 0;
      for (std::int64_t i = 0; i < truth + mask; ++i) {
        std::swap(order[i], order[i + random.below(items - i)]);
      }
      append(input.truth, order.begin(), truth);
      append(input.exclude, order.begin() + truth, mask);
      input.truth_offsets.push_back(static_cast<std::int64_t>(input.truth.size()));
      if (masked) input.exclude_offsets.push_back(static_cast<std::int64_t>(input.exclude.size()));
      input.outside.push_back(truth == 0 || u % 7 == 0 ? 1 + u % 2 : 0);
    }
  }
  static void append(Rows& to, Rows::iterator from, std::int64_t n) {
    const auto at = static_cast<std::ptrdiff_t>(to.size());
    to.insert(to.end(), from, from + n);
    std::sort(to.begin() + at, to.end());
  }
  /// Puts the queries where ops of `ctx` find them.
  void upload(const Context& ctx) {
    uploaded = Uploaded<float>(ctx, queries);
    input.queries.data = uploaded.data();
  }
  std::int64_t users() const { return static_cast<std::int64_t>(input.outside.size()); }
  std::int64_t items() const { return static_cast<std::int64_t>(vectors.size()) / dim(); }
  std::int64_t dim() const { return input.queries.cols; }

  std::vector<double> scores(std::int64_t user) const {
    std::vector<double> best(items(), -1e300);
    for (std::int64_t h = 0; h < input.heads; ++h) {
      for (std::int64_t i = 0; i < items(); ++i) {
        double s = 0;
        for (std::int64_t k = 0; k < dim(); ++k) {
          s += double{queries[(user * input.heads + h) * dim() + k]} * vectors[i * dim() + k];
        }
        best[i] = std::max(best[i], s);
      }
    }
    return best;
  }

  std::vector<float> queries, vectors;
  Uploaded<float> uploaded;
  RankingInput input;
};

}  // namespace belfry::test
