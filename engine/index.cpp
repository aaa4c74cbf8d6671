// SPDX-License-Identifier: Apache-2.0
#include "engine/index.hpp"

#include <fmt/format.h>

#include <vector>

#include "engine/error.hpp"
#include "kernels/core/transfer.hpp"
#include "kernels/non_finite/non_finite.hpp"

namespace belfry {

ItemIndex::ItemIndex(const Context& ctx, std::int64_t n, std::int64_t d)
    : n_(n), d_(d), packed_(ctx.backend(), PackedItems::size(n, d)) {
  require(n <= INT32_MAX, "ItemIndex: row numbers are int32");
}

ItemIndex ItemIndex::build(const Context& ctx, Matrix<const float> items) {
  ItemIndex index(ctx, items.rows, items.cols);
  index.add(ctx, 0, items);
  return index;
}

void ItemIndex::add(const Context& ctx, std::int64_t first, Matrix<const float> chunk) {
  require(chunk.cols == d_, "ItemIndex::add: vectors differ in width");
  Results<std::int64_t> found(ctx, 1);
  find_non_finite(ctx, chunk, found.data());
  if (const std::int64_t bad = *found.fetch(ctx, 1); bad >= 0) {
    const std::int64_t i = bad / d_, j = bad % d_;
    float value = 0;
    download(ctx, chunk.row(i) + j, &value, 1);
    throw Error(ExitCode::bad_data, fmt::format("item vector {}", first + i),
                fmt::format("component {} is {}", j, value), "an index holds finite vectors only");
  }
  pack_items(ctx, chunk, first, packed_.data(), n_);
}

void ItemIndex::read_rows(const Context& ctx, std::int64_t first, Matrix<float> out) const {
  require(first >= 0 && out.rows <= n_ - first && out.cols == d_,
          "ItemIndex::read_rows: no such rows");
  if (out.empty()) return;
  const std::int64_t panel = kPanelItems * d_, begin = first / kPanelItems;
  const std::int64_t panels = (first + out.rows - 1) / kPanelItems + 1 - begin;
  const float* packed = packed_.data() + begin * panel;
  std::vector<float> copy;
  if (ctx.backend() != Backend::cpu) {
    copy.resize(static_cast<std::size_t>(panels * panel));
    download(ctx, packed, copy.data(), panels * panel);
    packed = copy.data();
  }
  for (std::int64_t i = 0; i < out.rows; ++i) {
    const std::int64_t slot = first + i - begin * kPanelItems;
    const float* v = packed + slot / kPanelItems * panel + slot % kPanelItems;
    for (std::int64_t j = 0; j < d_; ++j) out(i, j) = v[j * kPanelItems];
  }
}

}  // namespace belfry
