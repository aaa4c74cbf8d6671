// SPDX-License-Identifier: Apache-2.0
#include "engine/topk_stream.hpp"

namespace belfry {

TopKStream::TopKStream(const Context& ctx, const PackedItems& items, std::int64_t heads,
                       std::int64_t tile, std::int64_t k, Vector<const std::uint64_t> allowed_bits,
                       Sink sink)
    : ctx_(ctx),
      items_(items),
      heads_(heads),
      tile_(tile),
      k_(k),
      allowed_bits_(ctx, {allowed_bits.data, static_cast<std::size_t>(allowed_bits.size)}),
      sink_(std::move(sink)) {
  const std::size_t slots = ctx.backend() == Backend::cpu ? 1 : 2;
  const std::int64_t n = checked_product(tile, k, "TopKStream");
  for (std::size_t i = 0; i < slots; ++i) slots_.emplace_back(ctx, n, outward_);
}

RowLists TopKStream::Lists::put(const Context& ctx, const RowLists& host, std::int64_t n) {
  if (host.offsets == nullptr || ctx.backend() == Backend::cpu) return host;
  const std::int64_t begin = host.offsets[0], end = host.offsets[n];
  rebased.assign(host.offsets, host.offsets + n + 1);
  for (std::int64_t& offset : rebased) offset -= begin;
  const std::int32_t* list = end > begin ? host.rows + begin : nullptr;
  return {offsets.put(ctx, rebased), rows.put(ctx, {list, static_cast<std::size_t>(end - begin)})};
}

void TopKStream::add(std::int64_t first, Matrix<const float> queries, const RowLists& exclude,
                     const RowLists& only) {
  const std::int64_t n = queries.rows / heads_;
  require(n <= tile_, "TopKStream::add: more queries than a tile has");
  if (n == 0) return;
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  if (slot.time) slot.time->begin.record(ctx_.stream());
  const ItemMask mask{exclude_.put(ctx_, exclude, n), only_.put(ctx_, only, n),
                      allowed_bits_.view()};
  topk_scores(ctx_, queries, heads_, items_, mask,
              {{slot.scores.data(ctx_), n, k_}, {slot.rows.data(ctx_), n, k_}});
  if (slot.time) slot.time->end.record(ctx_.stream());
  slot.scores.fetch(ctx_, n * k_);
  slot.rows.fetch(ctx_, n * k_);
  slot.first = first;
  slot.queries = n;
  hand_out(slots_[next_]);  // on the CPU the one slot that there is
}

void TopKStream::finish() {
  for (std::size_t i = 0; i < slots_.size(); ++i) hand_out(slots_[(next_ + i) % slots_.size()]);
}

void TopKStream::hand_out(Slot& slot) {
  const std::int64_t n = std::exchange(slot.queries, 0);
  if (n == 0) return;
  const float* scores = slot.scores.wait();
  const std::int32_t* rows = slot.rows.wait();
  if (slot.time) {
    slot.time->end.sync();
    device_seconds_ += slot.time->end.since(slot.time->begin) * 1e-3;
  }
  sink_(slot.first, {scores, n, k_}, {rows, n, k_});
}

}  // namespace belfry
