// SPDX-License-Identifier: Apache-2.0
// BatchSource: how the batches of a chunk of steps come into a slot of device memory, beside the chunk that
// is being trained on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "engine/batch_layout.hpp"
#include "engine/step_queue.hpp"
#include "kernels/core/device.hpp"
#include "kernels/core/pinned.hpp"

namespace belfry {

/// One chunk's place on the device: its batches and states, what comes back, and the graphs that know these
/// addresses.
struct ChunkSlot {
  ChunkSlot(const BatchLayout& layout, std::int64_t steps)
      : blocks(Backend::cuda, layout.bytes() * steps, Fill::none),
        states(Backend::cuda, steps, Fill::none),
        losses(Backend::cuda, steps),
        host_states(steps),
        host_losses(steps),
        host_status(2) {}

  Buffer<std::byte> blocks;    ///< [steps] of BatchLayout
  Buffer<StepState> states;    ///< [steps]
  Buffer<double> losses;       ///< [steps]
  std::vector<Batch> batches;  ///< of the chunk: views of blocks, and the plans made for them
  Arena plan_memory{Backend::cuda};
  std::vector<std::vector<RowPlan>> plans;  ///< per step and parameter, for the largest batch
  /// Of all batches: batch i's offsets count from i * mask_stride.
  Buffer<std::int32_t> mask_columns;
  std::int64_t mask_stride = 0;
  PinnedBuffer<StepState> host_states;
  PinnedBuffer<double> host_losses;
  PinnedBuffer<std::uint32_t> host_status;  ///< of the steps, and of what ran ahead
  simt::Event ready;                        ///< batches and states are there
  simt::Event done;                         ///< losses and status are back: the slot is free
  Chunk chunk;
  /// By (steps, rows of the last batch); an empty graph stands for a shape that ran once, uncaptured.
  using Graphs = std::map<std::pair<std::int64_t, std::int64_t>, simt::Graph>;
  Graphs fill, plan, train;

  /// Room for `columns` masked columns in a free slot, whose graphs know the old address.
  void grow_masks(std::int64_t columns) {
    train.clear();
    fill.clear();
    mask_columns = Buffer<std::int32_t>(Backend::cuda, columns, Fill::none);
  }
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual const BatchLayout& layout() const = 0;
  /// Queues on `ahead` what brings the batches of slot.chunk to slot.blocks. slot.host_states is written,
  /// and on its way to slot.states; the slot is free.
  virtual void fill(const Context& ahead, ChunkSlot& slot) = 0;
};

/// Batches made by the host, on `threads` threads.
std::unique_ptr<BatchSource> make_streamed_batches(BatchStream& stream, int threads);
/// Whether a device can make the batches itself: no lists, neither as a feature nor as what is ranked, and
/// no vectors.
bool can_be_resident(const BatchStream& stream);
/// Batches made by the device from training data that is copied there now.
std::unique_ptr<BatchSource> make_resident_batches(const Context& ahead, BatchStream& stream);

/// Queues `body` on `stream`: as it is the first time that a key is seen (so that the arena grows and
/// libraries choose their algorithms), captured the second time, as a graph from then on.
void run_or_replay(ChunkSlot::Graphs& graphs, std::pair<std::int64_t, std::int64_t> key,
                   simt::Stream& stream, const std::function<void()>& body);

}  // namespace belfry
