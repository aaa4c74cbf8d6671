// SPDX-License-Identifier: Apache-2.0
// Batches made by the host, chunk by chunk, while the device trains on the chunk before: packed into pinned
// memory and copied on the stream that runs ahead. Any training data fits, and any option of a batch.
#include <algorithm>

#include "engine/batch_source.hpp"
#include "kernels/step/step.hpp"

namespace belfry {

namespace {

class StreamedBatches : public BatchSource {
 public:
  StreamedBatches(BatchStream& stream, int threads)
      : stream_(stream), layout_(stream.data(), stream), host_(Backend::cpu, threads) {}

  const BatchLayout& layout() const override { return layout_; }

  void fill(const Context& ahead, ChunkSlot& slot) override {
    Pinned& pinned = pinned_[&slot];
    if (pinned.blocks.size() == 0) pinned.blocks = PinnedBuffer<std::byte>(slot.blocks.size());
    columns_.clear();
    for (std::int64_t i = 0; i < slot.chunk.count; ++i) {
      begin_step(host_, &slot.host_states[i]);
      const Batch& batch = stream_.make(host_, slot.chunk.epoch, slot.chunk.first + i);
      layout_.pack(batch, pinned.blocks.data() + i * layout_.bytes(), columns_);
    }
    copy(ahead.stream(), slot, pinned);
  }

 private:
  struct Pinned {
    PinnedBuffer<std::byte> blocks;
    PinnedBuffer<std::int32_t> columns;
  };

  void copy(simt::Stream& copies, ChunkSlot& slot, Pinned& pinned) {
    const auto masked = static_cast<std::int64_t>(columns_.size());
    if (masked > pinned.columns.size()) {
      slot.grow_masks(masked + masked / 2);
      pinned.columns = PinnedBuffer<std::int32_t>(masked + masked / 2);
    }
    std::copy(columns_.begin(), columns_.end(), pinned.columns.data());
    simt::to_device(slot.blocks.data(), pinned.blocks.data(), slot.chunk.count * layout_.bytes(),
                    copies);
    simt::to_device(slot.mask_columns.data(), pinned.columns.data(),
                    masked * std::int64_t{sizeof(std::int32_t)}, copies);
  }

  BatchStream& stream_;
  BatchLayout layout_;
  Context host_;  // makes the batches
  std::map<const ChunkSlot*, Pinned> pinned_;
  std::vector<std::int32_t> columns_;
};

}  // namespace

std::unique_ptr<BatchSource> make_streamed_batches(BatchStream& stream, int threads) {
  return std::make_unique<StreamedBatches>(stream, threads);
}

}  // namespace belfry
