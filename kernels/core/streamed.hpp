// SPDX-License-Identifier: Apache-2.0
// Copies that are queued between a context's ops: the host goes on while the device works. On the CPU they
// are no copies at all. For copies that are done on return see transfer.hpp.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include "kernels/core/context.hpp"
#include "kernels/core/pinned.hpp"

namespace belfry {

namespace detail {
/// One array on both sides, and the event that says when the copy between them is done.
template <class T>
struct Crossing {
  explicit Crossing(std::int64_t n) : pinned(n), device(Backend::cuda, n, Fill::none) {}
  ~Crossing() {  // the copy may be under way
    try {
      copied.sync();
    } catch (const DeviceError&) {  // told already, where it came up
    }
  }
  PinnedBuffer<T> pinned;
  Buffer<T> device;
  simt::Event copied;
};
}  // namespace detail

/// Host values for the ops queued next. One array that is refilled from time to time.
template <class T>
class StreamedIn {
 public:
  /// Where ops queued from now on find `values`, until the next put. On the CPU that is the values
  /// themselves, which must stay; on the device they may change at once. Waits for nothing but the copy of
  /// the put before (and for all queued work when the array has to grow).
  const T* put(const Context& ctx, std::span<const T> values) {
    if (ctx.backend() == Backend::cpu) return values.data();
    const auto n = static_cast<std::int64_t>(values.size());
    if (!crossing_ || n > crossing_->device.size()) grow(ctx, n);
    crossing_->copied.sync();
    if (n == 0) return crossing_->device.data();
    std::copy(values.begin(), values.end(), crossing_->pinned.data());
    simt::to_device(crossing_->device.data(), crossing_->pinned.data(), n * std::int64_t{sizeof(T)},
                    ctx.stream());
    crossing_->copied.record(ctx.stream());
    return crossing_->device.data();
  }

 private:
  void grow(const Context& ctx, std::int64_t n) {
    ctx.synchronise();  // queued ops may read the old array
    const std::int64_t old = crossing_ ? crossing_->device.size() : 0;
    crossing_.reset();
    crossing_ = std::make_unique<detail::Crossing<T>>(std::max(n, old + old / 2));
  }
  std::unique_ptr<detail::Crossing<T>> crossing_;
};

/// Where ops write n results that the host then reads.
template <class T>
class StreamedOut {
 public:
  StreamedOut(const Context& ctx, std::int64_t n) {
    if (ctx.backend() == Backend::cpu) {
      host_ = Buffer<T>(Backend::cpu, n, Fill::none);
    } else {
      crossing_ = std::make_unique<detail::Crossing<T>>(n);
    }
  }
  T* data() { return crossing_ ? crossing_->device.data() : host_.data(); }
  /// Queues the first n results' way to the host. Before the next fetch of this array comes a wait().
  void fetch(const Context& ctx, std::int64_t n) {
    if (!crossing_) return;
    simt::to_host(crossing_->pinned.data(), crossing_->device.data(), n * std::int64_t{sizeof(T)},
                  ctx.stream());
    crossing_->copied.record(ctx.stream());
  }
  /// The results of the last fetch, once they are there.
  const T* wait() {
    if (!crossing_) return host_.data();
    crossing_->copied.sync();
    return crossing_->pinned.data();
  }

 private:
  Buffer<T> host_;
  std::unique_ptr<detail::Crossing<T>> crossing_;
};

}  // namespace belfry
