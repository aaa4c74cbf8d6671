// SPDX-License-Identifier: Apache-2.0
#include "engine/step_queue.hpp"

#include <chrono>
#include <cstddef>
#include <deque>
#include <thread>

#include "engine/batch_source.hpp"
#include "engine/error.hpp"
#include "kernels/step/step.hpp"

namespace belfry {

namespace {

/// The CPU: a step is done when it is submitted.
class HostSteps : public StepQueue {
 public:
  HostSteps(const Context& ctx, StepParts parts) : ctx_(ctx), parts_(std::move(parts)) {}
  std::int64_t chunk_steps() const override { return 1; }
  bool has_room() const override { return done_.empty(); }
  std::int64_t under_way() const override { return static_cast<std::int64_t>(done_.size()); }

  void submit(const Chunk& chunk) override {
    ChunkResult result{chunk, {}, 0};
    for (std::int64_t i = 0; i < chunk.count; ++i) {
      const StepState next = parts_.state(chunk.epoch, chunk.first + i, chunk.update + i);
      begin_step(ctx_, &next);  // the draws of the batch are this step's
      const Batch& batch = parts_.stream.make(ctx_, chunk.epoch, chunk.first + i);
      parts_.step(ctx_, batch, &next, &result.losses.emplace_back(0.0));
    }
    result.status = ctx_.read_state().status;
    done_.push_back(std::move(result));
  }
  ChunkResult collect() override {
    require(!done_.empty(), "StepQueue::collect: nothing was submitted");
    ChunkResult result = std::move(done_.front());
    done_.pop_front();
    return result;
  }

 private:
  const Context& ctx_;
  StepParts parts_;
  std::deque<ChunkResult> done_;
};

/// The device: chunks of steps as graphs, in two slots, so that the next chunk's batches are made, copied and
/// sorted by row on a queue that runs ahead while the device trains on this one's.
class DeviceSteps : public StepQueue {
 public:
  DeviceSteps(const Context& ctx, DataPlacement placement, StepParts parts)
      : ctx_(ctx),
        parts_(std::move(parts)),
        ahead_(Backend::cuda, ctx.threads()),
        source_(make_source(placement)),
        slots_{ChunkSlot(source_->layout(), kChunkSteps),
               ChunkSlot(source_->layout(), kChunkSteps)} {
    for (ChunkSlot& slot : slots_) take_plans(slot);
  }
  ~DeviceSteps() override {  // queued work uses the slots
    try {
      simt::device_sync();
    } catch (const DeviceError&) {  // told already, where it came up
    }
  }
  std::int64_t chunk_steps() const override { return kChunkSteps; }
  bool has_room() const override { return submitted_ - collected_ < kSlots; }
  std::int64_t under_way() const override { return submitted_ - collected_; }

  void submit(const Chunk& chunk) override {
    require(has_room() && chunk.count >= 1 && chunk.count <= kChunkSteps,
            "StepQueue::submit: no room for the chunk");
    ChunkSlot& slot = slots_[submitted_ % kSlots];
    slot.chunk = chunk;
    for (std::int64_t i = 0; i < chunk.count; ++i) {
      slot.host_states[i] = parts_.state(chunk.epoch, chunk.first + i, chunk.update + i);
    }
    prepare(slot);
    ctx_.stream().wait(slot.ready);
    run_or_replay(slot.train, shape_of(slot), ctx_.stream(), [&] {
      for (std::int64_t i = 0; i < slot.chunk.count; ++i) {
        parts_.step(ctx_, slot.batches[i], slot.states.data() + i, slot.losses.data() + i);
      }
    });
    fetch(slot);
    ++submitted_;
  }

  ChunkResult collect() override {
    require(under_way() > 0, "StepQueue::collect: nothing was submitted");
    ChunkSlot& slot = slots_[collected_ % kSlots];
    // Asking leaves the device alone, where waiting would be a synchronisation inside the epoch.
    while (!slot.done.done()) std::this_thread::sleep_for(std::chrono::microseconds(20));
    ++collected_;
    ChunkResult result{slot.chunk, {}, slot.host_status[0] | slot.host_status[1]};
    result.losses.assign(slot.host_losses.data(), slot.host_losses.data() + slot.chunk.count);
    return result;
  }

 private:
  static constexpr std::int64_t kSlots = 2, kChunkSteps = 32;

  std::unique_ptr<BatchSource> make_source(DataPlacement placement) const {
    BatchStream& stream = parts_.stream;
    // Of what the model and other programs leave: half of it stays for chunks of batches and scratch.
    const std::int64_t left = simt::free_memory();
    const bool possible = can_be_resident(stream);
    if (!possible && placement == DataPlacement::resident) {
      throw Error(ExitCode::usage, "train.device_data",
                  "lists and vectors cannot lie on the device", "\"streamed\" passes them through");
    }
    const std::int64_t masks = kSlots * kChunkSteps * stream.mask_capacity();
    const bool fits = possible && stream.data_bytes() + masks * 4 <= left / 2;
    if (placement == DataPlacement::streamed || (placement == DataPlacement::automatic && !fits)) {
      return make_streamed_batches(stream, ctx_.threads());
    }
    return make_resident_batches(ahead_, stream);
  }

  /// What graphs of a slot differ by: all batches but the last are full.
  static std::pair<std::int64_t, std::int64_t> shape_of(const ChunkSlot& slot) {
    return {slot.chunk.count, slot.host_states[slot.chunk.count - 1].batch_rows};
  }

  /// Memory for the plans of a slot's batches, as large as they get.
  void take_plans(ChunkSlot& slot) {
    const Batch largest =
        source_->layout().batch(slot.blocks.data(), parts_.stream.batch_size(), nullptr);
    slot.plans.resize(kChunkSteps);
    for (std::vector<RowPlan>& step : slot.plans) {
      step.resize(static_cast<std::size_t>(parts_.registry.size()));
      for (int p = 0; p < parts_.registry.size(); ++p) {
        if (!parts_.registry.at(p).table) continue;
        std::int64_t nnz = 0;
        bool scales = false;
        for (const TableIds& use : parts_.table_ids(p, largest)) {
          nnz += use.ids.nnz;
          scales |= has_scales(use);
        }
        step[static_cast<std::size_t>(p)] =
            take_row_plan(slot.plan_memory, nnz, parts_.registry.at(p).rows, scales);
      }
    }
  }

  /// Batches, states and plans of the slot's chunk, on the queue that runs ahead.
  void prepare(ChunkSlot& slot) {
    simt::to_device(slot.states.data(), slot.host_states.data(),
                    slot.chunk.count * std::int64_t{sizeof(StepState)}, ahead_.stream());
    source_->fill(ahead_, slot);
    slot.batches.clear();
    for (std::int64_t i = 0; i < slot.chunk.count; ++i) {
      slot.batches.push_back(source_->layout().batch(
          slot.blocks.data() + i * source_->layout().bytes(), slot.host_states[i].batch_rows,
          slot.mask_columns.data() + i * slot.mask_stride));
      slot.batches.back().plans = slot.plans[static_cast<std::size_t>(i)];
    }
    run_or_replay(slot.plan, shape_of(slot), ahead_.stream(), [&] { plan_updates(slot); });
    simt::to_host(slot.host_status.data() + 1, status_of(ahead_), sizeof(std::uint32_t),
                  ahead_.stream());
    slot.ready.record(ahead_.stream());
  }

  /// One sort a table for all steps of the chunk: it depends on ids alone.
  void plan_updates(ChunkSlot& slot) {
    for (int p = 0; p < parts_.registry.size(); ++p) {
      if (!parts_.registry.at(p).table) continue;
      std::vector<TableIds> uses;
      std::vector<RowPlan> plans;
      for (Batch& batch : slot.batches) {
        RowPlan& plan = batch.plans[static_cast<std::size_t>(p)];
        plan.nnz = 0;
        for (const TableIds& use : parts_.table_ids(p, batch)) {
          uses.push_back(use);
          plan.nnz += use.ids.nnz;
        }
        plan.capacity = std::min(plan.nnz, parts_.registry.at(p).rows);
        plans.push_back(plan);
      }
      row_plan(ahead_, uses, parts_.registry.at(p).rows, plans);
    }
  }

  /// Where a context's status word lies, in the device's memory.
  static const std::byte* status_of(const Context& ctx) {
    return reinterpret_cast<const std::byte*>(ctx.state()) + offsetof(StepState, status);
  }

  void fetch(ChunkSlot& slot) {
    simt::to_host(slot.host_losses.data(), slot.losses.data(),
                  slot.chunk.count * std::int64_t{sizeof(double)}, ctx_.stream());
    simt::to_host(slot.host_status.data(), status_of(ctx_), sizeof(std::uint32_t), ctx_.stream());
    slot.done.record(ctx_.stream());
  }

  const Context& ctx_;
  StepParts parts_;
  Context ahead_;
  std::unique_ptr<BatchSource> source_;
  ChunkSlot slots_[kSlots];
  std::int64_t submitted_ = 0, collected_ = 0;
};

}  // namespace

void run_or_replay(ChunkSlot::Graphs& graphs, std::pair<std::int64_t, std::int64_t> key,
                   simt::Stream& stream, const std::function<void()>& body) {
  const auto [at, first] = graphs.try_emplace(key);
  if (first) return body();
  if (!at->second) at->second = simt::Graph::capture(stream, body);
  at->second.launch(stream);
}

std::unique_ptr<StepQueue> make_step_queue(const Context& ctx, DataPlacement placement,
                                           StepParts parts) {
  if (ctx.backend() == Backend::cpu) return std::make_unique<HostSteps>(ctx, std::move(parts));
  return std::make_unique<DeviceSteps>(ctx, placement, std::move(parts));
}

}  // namespace belfry
