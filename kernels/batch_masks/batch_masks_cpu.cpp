// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "kernels/batch_masks/batch_masks.hpp"
#include "kernels/batch_masks/batch_masks_table.hpp"
#include "kernels/core/parallel.hpp"

namespace belfry::cpu {

namespace {

using batch_masks_table::Slot;
using batch_masks_table::Table;
constexpr std::int64_t kTileRows = 64;

Table make_table(const Context& ctx, Vector<const std::int32_t> items) {
  const std::int64_t slots = batch_masks_table::slots_for(items.size);
  const Table t{ctx.arena().take<Slot>(slots), ctx.arena().take<std::int32_t>(items.size),
                static_cast<std::uint32_t>(slots - 1)};
  std::memset(static_cast<void*>(t.slots), 0xFF, static_cast<std::size_t>(slots) * sizeof(Slot));
  bool outside = false;
  for (std::int64_t c = 0; c < items.size; ++c) {
    outside |= items[c] < 0;
    if (items[c] < 0) continue;
    auto& slot = const_cast<Slot&>(batch_masks_table::find(t, items[c]));
    slot.item = items[c];
    ++slot.count_less;
    t.next[c] = slot.head;
    slot.head = static_cast<std::int32_t>(c);
  }
  if (outside) ctx.raise(kStatusIdOutOfRange);
  return t;
}

/// Calls f(slot) for every other item of row i's list that the batch holds.
template <class F>
void for_known(const BatchMaskInput& in, const Table& table, std::int64_t i, F&& f) {
  const std::int32_t user = in.users[i], own = in.items[i];
  if (user < 0 || user >= in.known_offsets.size - 1) return;
  for (std::int64_t e = in.known_offsets[user]; e < in.known_offsets[user + 1]; ++e) {
    const Slot& slot = batch_masks_table::find(table, in.known[e]);
    if (slot.item != -1 && slot.item != own) f(slot);
  }
}

template <class F>
void for_rows(const Context& ctx, std::int64_t rows, F&& f) {
  parallel_for(ctx, (rows + kTileRows - 1) / kTileRows, [&](std::int64_t tile, int worker) {
    const std::int64_t end = std::min(rows, (tile + 1) * kTileRows);
    for (std::int64_t i = tile * kTileRows; i < end; ++i) f(i, worker);
  });
}

}  // namespace

void batch_masks(const Context& ctx, const BatchMaskInput& in, Vector<std::int64_t> offsets,
                 Vector<std::int32_t> columns, std::int64_t* needed) {
  ArenaScope scope(ctx);
  const Table table = make_table(ctx, in.items);
  offsets[0] = 0;
  for_rows(ctx, in.users.size, [&](std::int64_t i, int) {
    std::int64_t count = 0;
    for_known(in, table, i, [&](const Slot& slot) { count += slot.count_less + 1; });
    offsets[i + 1] = count;
    if (in.users[i] < 0 || in.users[i] >= in.known_offsets.size - 1) ctx.raise(kStatusIdOutOfRange);
  });
  std::int64_t total = 0;
  for (std::int64_t i = 1; i < offsets.size; ++i) {
    total += offsets[i];
    offsets[i] = std::min(total, columns.size);
  }
  if (needed != nullptr) *needed = total;
  if (needed == nullptr && total > columns.size) ctx.raise(kStatusOverflow);
  const std::int64_t most = in.items.size;  // of a cut row there is more than fits into its place
  std::int32_t* rows = ctx.arena().take<std::int32_t>(ctx.threads() * most);
  for_rows(ctx, in.users.size, [&](std::int64_t i, int worker) {
    std::int32_t *row = rows + worker * most, *end = row;
    for_known(in, table, i, [&](const Slot& slot) {
      for (std::int32_t c = slot.head; c != -1; c = table.next[c]) *end++ = c;
    });
    std::sort(row, end);
    std::copy_n(row, offsets[i + 1] - offsets[i], columns.data + offsets[i]);
  });
}

}  // namespace belfry::cpu
