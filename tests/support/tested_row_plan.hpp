// SPDX-License-Identifier: Apache-2.0
// Plans and uses of tables with their memory on the backend under test; row_plan on host memory.
#pragma once

#include <algorithm>
#include <deque>
#include <span>
#include <vector>

#include "kernels/row_plan/row_plan.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::test {

/// A plan that owns its memory, and what it says.
class HeldPlan {
 public:
  HeldPlan(const Context& ctx, std::int64_t nnz, std::int64_t table_rows, bool scales)
      : ctx_(ctx),
        rows_(ctx.backend(), std::min(nnz, table_rows)),
        n_(ctx.backend(), 1),
        begin_(ctx.backend(), std::min(nnz, table_rows) + 1),
        bags_(ctx.backend(), nnz),
        scales_(ctx.backend(), scales ? nnz : 0),
        chunk_rows_(ctx.backend(), nnz / kEmbeddingGradChunk + 1),
        nnz_(nnz) {}
  RowPlan get() {
    return {rows_.data(),   n_.data(),          begin_.data(), bags_.data(),
            scales_.data(), chunk_rows_.data(), nnz_,          rows_.size()};
  }

  std::int64_t n() const { return host(n_)[0]; }
  std::vector<std::int32_t> rows() const { return first(host(rows_), n()); }
  std::vector<std::uint32_t> begin() const { return first(host(begin_), n() + 1); }
  std::vector<std::uint32_t> bags() const { return first(host(bags_), begin().back()); }
  std::vector<float> scales() const {
    return first(host(scales_), scales_.size() > 0 ? begin().back() : 0);
  }
  std::vector<std::uint32_t> chunk_rows() const { return host(chunk_rows_); }

 private:
  template <class T>
  std::vector<T> host(const Buffer<T>& buffer) const {
    std::vector<T> values(static_cast<std::size_t>(buffer.size()));
    download(ctx_, buffer.data(), values.data(), buffer.size());
    return values;
  }
  template <class T>
  static std::vector<T> first(std::vector<T> values, std::int64_t n) {
    values.resize(static_cast<std::size_t>(n));
    return values;
  }

  const Context& ctx_;
  Buffer<std::int32_t> rows_;
  Buffer<std::int64_t> n_;
  Buffer<std::uint32_t> begin_, bags_;
  Buffer<float> scales_;
  Buffer<std::uint32_t> chunk_rows_;
  std::int64_t nnz_;
};

/// Adds what a plan on the device says to the test's digests.
inline void record_plan(const Context& ctx, const RowPlan& plan) {
  const auto host = [&](const auto* from, std::int64_t n) {
    std::vector<std::decay_t<decltype(*from)>> values(static_cast<std::size_t>(n));
    download(ctx, from, values.data(), n);
    return values;
  };
  const std::int64_t n = host(plan.n, 1).front();
  const auto rows = host(plan.rows, n);
  const auto begin = host(plan.begin, n + 1), bags = host(plan.bags, begin.back());
  record_outputs(ctx, "row_plan", std::span(rows), std::span(begin), std::span(bags));
}

}  // namespace belfry::test

namespace belfry::tested {

inline void row_plan(const Context& ctx, std::span<const TableIds> uses, std::int64_t table_rows,
                     std::span<const RowPlan> plans) {
  if (ctx.backend() == Backend::cpu) return belfry::row_plan(ctx, uses, table_rows, plans);
  std::deque<test::RaggedTwin> twins;
  std::vector<TableIds> device;
  for (const TableIds& use : uses) {
    device.push_back({twins.emplace_back(ctx, use.ids).view(), use.pooling});
  }
  belfry::row_plan(ctx, device, table_rows, plans);
  for (const RowPlan& plan : plans) test::record_plan(ctx, plan);
}

}  // namespace belfry::tested
