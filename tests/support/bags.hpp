// SPDX-License-Identifier: Apache-2.0
// Ids in bags, and the gradient of a table as a test wants it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/support/generate.hpp"
#include "tests/support/tested_embedding_bag.hpp"

namespace belfry::test {

inline constexpr Pooling kPoolings[] = {Pooling::sum, Pooling::mean, Pooling::sqrtn};

/// Ids in bags, with the vectors they point into.
struct Bags {
  std::vector<std::int32_t> ids;
  std::vector<std::int64_t> offsets;  // empty: one id a bag
  std::vector<float> weights;         // empty: 1 each
  Ragged ragged() const {
    const std::int64_t nnz = static_cast<std::int64_t>(ids.size());
    return {ids.data(), offsets.empty() ? nullptr : offsets.data(),
            weights.empty() ? nullptr : weights.data(),
            offsets.empty() ? nnz : static_cast<std::int64_t>(offsets.size()) - 1, nnz};
  }
  std::int64_t begin(std::int64_t b) const { return offsets.empty() ? b : offsets[b]; }
  std::int64_t end(std::int64_t b) const { return offsets.empty() ? b + 1 : offsets[b + 1]; }
  double weight(std::int64_t j) const { return weights.empty() ? 1.0 : weights[j]; }
  /// s_b w_j in float64.
  double scale(Pooling pooling, std::int64_t b) const {
    double sum = 0;
    for (std::int64_t j = begin(b); j < end(b); ++j) {
      sum += pooling == Pooling::mean ? weight(j) : weight(j) * weight(j);
    }
    if (pooling == Pooling::sum) return 1;
    return sum == 0 ? 0 : pooling == Pooling::mean ? 1 / sum : 1 / std::sqrt(sum);
  }
};

inline Bags random_bags(Random& random, std::int64_t bags, std::int64_t rows, bool ragged,
                        bool weighted, bool zipf = false) {
  Bags out;
  if (ragged) out.offsets = random.offsets(bags, 9);
  const std::int64_t nnz = ragged ? out.offsets.back() : bags;
  out.ids = zipf ? random.zipf_ids(nnz, rows, 1.3) : random.ids(nnz, rows);
  if (weighted) out.weights = random.uniforms(nnz, 0.25, 2.0);
  return out;
}

struct RowsOut {
  std::vector<std::int32_t> rows;
  HostMatrix values;
};

inline RowsOut grad(const Context& ctx, const std::vector<TableUse>& uses, std::int64_t table_rows,
                    std::int64_t width, std::int64_t padding = 0) {
  std::int64_t capacity = 0, n = -1;
  for (const TableUse& use : uses) capacity += use.ids.nnz;
  capacity = std::min(capacity, table_rows);
  RowsOut out{std::vector<std::int32_t>(capacity), HostMatrix(capacity, width, padding)};
  tested::embedding_bag_grad(ctx, uses, table_rows,
                             {out.rows.data(), out.values.view(), &n, capacity});
  EXPECT_GE(n, 0);
  EXPECT_LE(n, capacity);
  EXPECT_TRUE(out.values.padding_intact());
  out.rows.resize(n);
  std::vector<float> kept = out.values.values();
  kept.resize(n * width);
  out.values = HostMatrix(n, width, kept);
  return out;
}

}  // namespace belfry::test
