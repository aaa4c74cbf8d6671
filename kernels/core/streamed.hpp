// SPDX-License-Identifier: Apache-2.0
// Copies that run beside a context's ops, on a queue of their own: events alone order them with the ops that
// write what is fetched or read what is put, and the host goes on. On the CPU they are no copies at all. For
// copies that are done on return see transfer.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "kernels/core/context.hpp"
#include "kernels/core/pinned.hpp"

namespace belfry {

/// A queue of copies. Arrays whose copies follow one another anyway share one; a GPU has one engine a direction.
class CopyQueue {
 public:
  /// Made when first asked for: on the CPU nobody asks.
  simt::Stream& stream() {
    if (!stream_) stream_.emplace();
    return *stream_;
  }

 private:
  std::optional<simt::Stream> stream_;
};
using SharedCopyQueue = std::shared_ptr<CopyQueue>;

namespace detail {
/// One array on both sides, with the events that order a copy between them.
template <class T>
struct Crossing {
  explicit Crossing(std::int64_t n) : pinned(n), device(Backend::cuda, n, Fill::none) {}
  ~Crossing() {  // the copy may be under way
    try {
      copied.sync();
    } catch (const DeviceError&) {  // told already, where it came up
    }
  }
  std::int64_t bytes(std::int64_t n) const { return n * std::int64_t{sizeof(T)}; }
  PinnedBuffer<T> pinned;
  Buffer<T> device;
  simt::Event used;    // the ops before the copy are done with the device's side
  simt::Event copied;  // the copy is done
};
}  // namespace detail

/// Host values for the ops queued next, refilled from time to time. On the device two arrays take turns, so that
/// values cross while ops still read those of the put before.
template <class T>
class StreamedIn {
 public:
  explicit StreamedIn(SharedCopyQueue queue = std::make_shared<CopyQueue>())
      : queue_(std::move(queue)) {}

  /// Where ops queued from now on find `values`, until the next put. On the CPU that is the values
  /// themselves, which must stay; on the device they may change at once. Waits for nothing but the copy of
  /// the put before the last (and for all queued work when an array has to grow).
  const T* put(const Context& ctx, std::span<const T> values) {
    if (ctx.backend() == Backend::cpu) return values.data();
    const auto n = static_cast<std::int64_t>(values.size());
    if (slots_[turn_]) slots_[turn_]->used.record(ctx.stream());
    turn_ ^= 1;
    if (!slots_[turn_] || n > slots_[turn_]->device.size()) grow(ctx, n);
    detail::Crossing<T>& slot = *slots_[turn_];
    slot.copied.sync();
    if (n == 0) return slot.device.data();
    std::copy(values.begin(), values.end(), slot.pinned.data());
    simt::Stream& copies = queue_->stream();
    copies.wait(slot.used);
    simt::to_device(slot.device.data(), slot.pinned.data(), slot.bytes(n), copies);
    slot.copied.record(copies);
    ctx.stream().wait(slot.copied);
    return slot.device.data();
  }

 private:
  void grow(const Context& ctx, std::int64_t n) {
    ctx.synchronise();  // queued ops may read the old array
    if (n > capacity_) capacity_ = std::max(n, capacity_ + capacity_ / 2);
    slots_[turn_].reset();
    slots_[turn_] = std::make_unique<detail::Crossing<T>>(capacity_);
  }
  SharedCopyQueue queue_;  // before what its work uses
  std::array<std::unique_ptr<detail::Crossing<T>>, 2> slots_;
  std::size_t turn_ = 0;  // of the put before
  std::int64_t capacity_ = 0;
};

/// Where ops write n results that the host then reads.
template <class T>
class StreamedOut {
 public:
  StreamedOut(const Context& ctx, std::int64_t n,
              SharedCopyQueue queue = std::make_shared<CopyQueue>())
      : queue_(std::move(queue)) {
    if (ctx.backend() == Backend::cpu) {
      host_ = Buffer<T>(Backend::cpu, n, Fill::none);
    } else {
      crossing_ = std::make_unique<detail::Crossing<T>>(n);
    }
  }
  /// Where ops queued from now on write: they start once the fetch before has read its results.
  T* data(const Context& ctx) {
    if (!crossing_) return host_.data();
    ctx.stream().wait(crossing_->copied);
    return crossing_->device.data();
  }
  /// Queues the first n results' way to the host, behind the ops queued so far and beside those queued from
  /// now on. Before the next fetch of this array comes a wait().
  void fetch(const Context& ctx, std::int64_t n) {
    if (!crossing_) return;
    simt::Stream& copies = queue_->stream();
    crossing_->used.record(ctx.stream());
    copies.wait(crossing_->used);
    simt::to_host(crossing_->pinned.data(), crossing_->device.data(), crossing_->bytes(n), copies);
    crossing_->copied.record(copies);
  }
  /// The results of the last fetch, once they are there.
  const T* wait() {
    if (!crossing_) return host_.data();
    crossing_->copied.sync();
    return crossing_->pinned.data();
  }

 private:
  SharedCopyQueue queue_;  // before what its work uses
  Buffer<T> host_;
  std::unique_ptr<detail::Crossing<T>> crossing_;
};

}  // namespace belfry
