// SPDX-License-Identifier: Apache-2.0
#include "engine/index.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "engine/error.hpp"

namespace belfry {

namespace {

/// Column of the first value that is not finite, or -1. The usual pass has no exit, so that it vectorises.
std::int64_t non_finite_column(const float* v, std::int64_t d) {
  constexpr std::uint32_t kExponent = 0x7F800000;  // all ones: NaN or infinity
  std::uint32_t bad = 0;
  for (std::int64_t j = 0; j < d; ++j) {
    bad |= (std::bit_cast<std::uint32_t>(v[j]) & kExponent) == kExponent ? 1u : 0u;
  }
  if (bad == 0) return -1;
  std::int64_t j = 0;
  while (std::isfinite(v[j])) ++j;
  return j;
}

}  // namespace

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
  for (std::int64_t i = 0; i < chunk.rows; ++i) {
    const std::int64_t j = non_finite_column(chunk.row(i), d_);
    if (j < 0) continue;
    throw Error(ExitCode::bad_data, fmt::format("item vector {}", first + i),
                fmt::format("component {} is {}", j, chunk(i, j)),
                "an index holds finite vectors only");
  }
  pack_items(ctx, chunk, first, packed_.data(), n_);
}

void ItemIndex::row(std::int64_t i, float* out) const {
  require(i >= 0 && i < n_, "ItemIndex::row: no such row");
  const float* v = packed_.data() + i / kPanelItems * kPanelItems * d_ + i % kPanelItems;
  for (std::int64_t j = 0; j < d_; ++j) out[j] = v[j * kPanelItems];
}

}  // namespace belfry
