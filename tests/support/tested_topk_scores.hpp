// SPDX-License-Identifier: Apache-2.0
// topk_scores and its kin on host memory, for the backend under test.
#pragma once

#include "kernels/topk_scores/topk_scores.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::tested {

class PackedItemsTwin {
 public:
  PackedItemsTwin(const Context& ctx, const PackedItems& host)
      : memory_(ctx, Vector<const float>(host.data, PackedItems::size(host.n, host.dim))),
        view_{memory_.data(), host.n, host.dim} {}
  const PackedItems& view() const { return view_; }

 private:
  test::Twin<const float> memory_;
  PackedItems view_;
};

class ItemMaskTwin {
 public:
  ItemMaskTwin(const Context& ctx, const ItemMask& host, std::int64_t queries)
      : exclude_(ctx, host.exclude, queries),
        only_(ctx, host.only, queries),
        bits_(ctx, host.allowed_bits) {
    view_.exclude = exclude_.view();
    view_.only = only_.view();
    view_.allowed_bits = bits_.vector();
  }
  const ItemMask& view() const { return view_; }

 private:
  test::RowListsTwin exclude_, only_;
  test::Twin<const std::uint64_t> bits_;
  ItemMask view_;
};

inline void pack_items(const Context& ctx, Matrix<const float> items, std::int64_t first,
                       float* packed, std::int64_t n) {
  if (ctx.backend() == Backend::cpu) return belfry::pack_items(ctx, items, first, packed, n);
  test::Twin rows(ctx, items);
  test::Twin all(ctx, Vector<float>(packed, PackedItems::size(n, items.cols)));
  belfry::pack_items(ctx, rows.matrix(), first, all.data(), n);
  all.fetch(ctx);
  test::record_outputs(ctx, "pack_items",
                       Vector<const float>(packed, PackedItems::size(n, items.cols)));
}

/// f(ctx, queries, heads, items, mask, out) on device memory.
template <class F>
void topk_on_device(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                    const PackedItems& items, const ItemMask& mask, TopK out, F&& f) {
  test::Twin q(ctx, queries);
  const PackedItemsTwin packed(ctx, items);
  const ItemMaskTwin masks(ctx, mask, out.scores.rows);
  test::Twin scores(ctx, out.scores, test::Use::out);
  test::Twin rows(ctx, out.rows, test::Use::out);
  f(ctx, q.matrix(), heads, packed.view(), masks.view(), TopK{scores.matrix(), rows.matrix()});
  scores.fetch(ctx);
  rows.fetch(ctx);
  test::record_outputs(ctx, "topk_scores", out.scores, out.rows);
}

inline void topk_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                        const PackedItems& items, const ItemMask& mask, TopK out) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::topk_scores(ctx, queries, heads, items, mask, out);
  }
  topk_on_device(ctx, queries, heads, items, mask, out, belfry::topk_scores);
}

inline void pair_scores(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                        const PackedItems& items, Vector<const std::int32_t> rows,
                        Vector<float> out) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::pair_scores(ctx, queries, heads, items, rows, out);
  }
  test::Twin q(ctx, queries);
  const PackedItemsTwin packed(ctx, items);
  test::Twin r(ctx, rows);
  test::Twin scores(ctx, out, test::Use::out);
  belfry::pair_scores(ctx, q.matrix(), heads, packed.view(), r.vector(), scores.vector());
  scores.fetch(ctx);
  test::record_outputs(ctx, "pair_scores", out);
}

inline void count_above(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                        const PackedItems& items, const ItemMask& mask,
                        Vector<const float> threshold, Vector<const std::int32_t> row,
                        Vector<std::int64_t> out) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::count_above(ctx, queries, heads, items, mask, threshold, row, out);
  }
  test::Twin q(ctx, queries);
  const PackedItemsTwin packed(ctx, items);
  const ItemMaskTwin masks(ctx, mask, out.size);
  test::Twin t(ctx, threshold);
  test::Twin r(ctx, row);
  test::Twin counts(ctx, out, test::Use::out);
  belfry::count_above(ctx, q.matrix(), heads, packed.view(), masks.view(), t.vector(), r.vector(),
                      counts.vector());
  counts.fetch(ctx);
  test::record_outputs(ctx, "count_above", out);
}

}  // namespace belfry::tested
