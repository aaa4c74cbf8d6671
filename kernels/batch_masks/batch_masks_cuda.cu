// SPDX-License-Identifier: Apache-2.0
// batch_masks on the device: a hash table of the columns by item, a block a row for the counts, one
// block for their prefix sums, a block a row for the columns. The order in which atomics fill the
// table's chains is open; a row's columns pass through a bitmap, which puts them in order.
#include "kernels/batch_masks/batch_masks.hpp"

#include "kernels/batch_masks/batch_masks_table.hpp"
#include "kernels/core/block.cuh"

namespace belfry::cuda {
namespace batch_masks_kernels {

using batch_masks_table::Slot;
using batch_masks_table::Table;

constexpr int kThreads = 128;
constexpr int kScanThreads = 512;
constexpr int kBitmapWords = 2048;  // columns of a pass, 32 a word

__global__ void __launch_bounds__(kThreads)
    insert(Table table, Vector<const std::int32_t> items, StepState* state) {
  const std::int64_t c = grid_thread();
  if (c >= items.size) return;
  const std::int32_t item = items[c];
  if (item < 0) return raise_status(state, kStatusIdOutOfRange);
  std::uint32_t s = batch_masks_table::first_slot(table, item);
  for (;;) {
    const std::int32_t holder = atomicCAS(&table.slots[s].item, -1, item);
    if (holder == -1 || holder == item) break;
    s = (s + 1) & table.mask;
  }
  table.next[c] = atomicExch(&table.slots[s].head, static_cast<std::int32_t>(c));
  atomicAdd(&table.slots[s].count_less, 1);
}

/// Calls f(slot) for this thread's share of the other items of row i's list that the batch holds.
template <class F>
__device__ __forceinline__ void for_known(const BatchMaskInput& in, const Table& table,
                                          std::int64_t i, F&& f) {
  const std::int32_t user = in.users[i], own = in.items[i];
  if (user < 0 || user >= in.known_offsets.size - 1) return;
  const std::int64_t end = in.known_offsets[user + 1];
  for (std::int64_t e = in.known_offsets[user] + threadIdx.x; e < end; e += kThreads) {
    const Slot& slot = batch_masks_table::find(table, in.known[e]);
    if (slot.item != -1 && slot.item != own) f(slot);
  }
}

__global__ void __launch_bounds__(kThreads)
    count(const __grid_constant__ BatchMaskInput in, Table table, std::int64_t* counts,
          StepState* state) {
  SIMT_SHARED_ARRAY(std::int64_t, scratch, [kThreads / kWarp]);
  const std::int64_t i = blockIdx.x;
  std::int64_t n = 0;
  for_known(in, table, i, [&n](const Slot& slot) { n += slot.count_less + 1; });
  n = block_reduce<kThreads>(n, Sum(), scratch);
  if (threadIdx.x != 0) return;
  counts[i] = n;
  const bool outside = in.users[i] < 0 || in.users[i] >= in.known_offsets.size - 1;
  if (outside) raise_status(state, kStatusIdOutOfRange);
}

/// counts_0 .. counts_(rows-1), which lie at offsets + 1, become offsets; one block.
__global__ void __launch_bounds__(kScanThreads)
    add_up(Vector<std::int64_t> offsets, std::int64_t capacity, std::int64_t* needed,
           StepState* state) {
  SIMT_SHARED_ARRAY(std::int64_t, scratch, [kScanThreads / kWarp]);
  std::int64_t before = 0;
  for (std::int64_t first = 1; first < offsets.size; first += kScanThreads) {
    const std::int64_t i = first + threadIdx.x;
    const std::int64_t n = i < offsets.size ? offsets[i] : 0;
    std::int64_t total;
    const std::int64_t sum = before + n + block_exclusive_sum<kScanThreads>(n, &total, scratch);
    if (i < offsets.size) offsets[i] = min(sum, capacity);
    before += total;
  }
  if (threadIdx.x != 0) return;
  offsets[0] = 0;
  if (needed != nullptr) *needed = before;
  if (needed == nullptr && before > capacity) raise_status(state, kStatusOverflow);
}

template <int kWords>
__global__ void __launch_bounds__(kThreads)
    list(const __grid_constant__ BatchMaskInput in, Table table, const std::int64_t* offsets,
         std::int32_t* columns) {
  SIMT_SHARED_ARRAY(unsigned, bits, [kWords]);
  SIMT_SHARED_ARRAY(std::int64_t, scratch, [kThreads / kWarp]);
  const std::int64_t i = blockIdx.x, end = offsets[i + 1];
  std::int64_t at = offsets[i];
  for (std::int64_t first = 0; first < in.items.size && at < end; first += 32 * kWords) {
    const int words =
        static_cast<int>(min(ceil_div(in.items.size - first, 32), std::int64_t{kWords}));
    for (int w = threadIdx.x; w < words; w += kThreads) bits[w] = 0;
    __syncthreads();
    for_known(in, table, i, [&](const Slot& slot) {
      for (std::int64_t c = slot.head; c != -1; c = table.next[c]) {
        const std::int64_t bit = c - first;
        if (bit >= 0 && bit < 32 * std::int64_t{words}) atomicOr(&bits[bit / 32], 1u << bit % 32);
      }
    });
    __syncthreads();
    // Each thread lists a run of neighbouring words.
    const int run = static_cast<int>(ceil_div(words, kThreads));
    const int from = min(words, static_cast<int>(threadIdx.x) * run), to = min(words, from + run);
    std::int64_t n = 0, total;
    for (int w = from; w < to; ++w) n += __popc(bits[w]);
    std::int64_t place = at + block_exclusive_sum<kThreads>(n, &total, scratch);
    for (int w = from; w < to; ++w) {
      for (unsigned left = bits[w]; left != 0; left &= left - 1, ++place) {
        const std::int64_t column =
            first + 32 * std::int64_t{w} + __ffs(static_cast<int>(left)) - 1;
        if (place < end) columns[place] = static_cast<std::int32_t>(column);
      }
    }
    at += total;
    __syncthreads();  // the bitmap is free again
  }
}

}  // namespace batch_masks_kernels

namespace k = batch_masks_kernels;

void batch_masks(const Context& ctx, const BatchMaskInput& in, Vector<std::int64_t> offsets,
                 Vector<std::int32_t> columns, std::int64_t* needed) {
  simt::Stream& stream = ctx.stream();
  ArenaScope scope(ctx);
  const std::int64_t slots = batch_masks_table::slots_for(in.items.size);
  const k::Table table{ctx.arena().take<k::Slot>(slots),
                       ctx.arena().take<std::int32_t>(in.items.size),
                       static_cast<std::uint32_t>(slots - 1)};
  const simt::Dims by_row{
      .grid = static_cast<unsigned>(in.users.size), .block = k::kThreads, .stream = &stream};
  if (!in.users.empty()) {
    simt::device_memset(table.slots, 0xFF, slots * std::int64_t{sizeof(k::Slot)}, stream);
    simt::launch({.grid = static_cast<unsigned>(ceil_div(in.items.size, k::kThreads)),
                  .block = k::kThreads,
                  .stream = &stream},
                 k::insert, table, in.items, ctx.state());
    simt::launch(by_row, k::count, in, table, offsets.data + 1, ctx.state());
  }
  simt::launch({.grid = 1, .block = k::kScanThreads, .stream = &stream}, k::add_up, offsets,
               columns.size, needed, ctx.state());
  if (in.users.empty()) return;
  simt::launch(by_row, k::list<k::kBitmapWords>, in, table, offsets.data, columns.data);
}

}  // namespace belfry::cuda
