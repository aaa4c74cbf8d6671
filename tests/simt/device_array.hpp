// SPDX-License-Identifier: Apache-2.0
// For kernel tests on the executor and on a GPU alike: owned device memory, and all schedules.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/core/device.hpp"
#if defined(BELFRY_SIMT)
#include "host/options.hpp"
#endif

namespace belfry::test {

/// n elements in device memory.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::int64_t n)
      : size_(n), data_(static_cast<T*>(simt::device_malloc(n * std::int64_t{sizeof(T)}))) {}
  explicit DeviceArray(const std::vector<T>& values)
      : DeviceArray(static_cast<std::int64_t>(values.size())) {
    simt::to_device(data_, values.data(), bytes());
  }
  static DeviceArray zeros(std::int64_t n) {
    return DeviceArray(std::vector<T>(static_cast<std::size_t>(n)));
  }
  DeviceArray(DeviceArray&& o) noexcept : size_(o.size_), data_(std::exchange(o.data_, nullptr)) {}
  DeviceArray& operator=(DeviceArray&&) = delete;
  ~DeviceArray() { simt::device_free(data_); }

  T* data() const { return data_; }
  std::int64_t size() const { return size_; }
  std::int64_t bytes() const { return size_ * std::int64_t{sizeof(T)}; }
  std::vector<T> host() const {
    std::vector<T> values(static_cast<std::size_t>(size_));
    simt::to_host(values.data(), data_, bytes());
    return values;
  }

 private:
  std::int64_t size_;
  T* data_;
};

/// Page-locked host memory of n elements.
template <class T>
class PinnedArray {
 public:
  explicit PinnedArray(std::int64_t n)
      : size_(n), data_(static_cast<T*>(simt::pinned_malloc(n * std::int64_t{sizeof(T)}))) {}
  PinnedArray(const PinnedArray&) = delete;
  PinnedArray& operator=(const PinnedArray&) = delete;
  ~PinnedArray() { simt::pinned_free(data_); }
  T* data() const { return data_; }
  T& operator[](std::int64_t i) const { return data_[i]; }
  std::int64_t bytes() const { return size_ * std::int64_t{sizeof(T)}; }

 private:
  std::int64_t size_;
  T* data_;
};

/// Runs a test under the schedules at which wrong kernels show: fifo, lifo, random mixes with several
/// resident blocks and threads interrupted at atomics. On a GPU: once.
template <class F>
void for_each_schedule(F&& body) {
#if defined(BELFRY_SIMT)
  using simt::Options;
  using simt::Order;
  std::vector<Options> schedules(5);
  schedules[1].order = Order::lifo;
  schedules[1].resident_blocks = 2;
  for (int i = 0; i < 3; ++i) {
    Options& o = schedules[2 + i];
    o.order = Order::random;
    o.seed = 1 + i;  // one of each mix
    o.resident_blocks = i == 0 ? 1 : 2 + i;
    o.atomic_yield = 4 >> i;
  }
  for (std::size_t i = 0; i < schedules.size(); ++i) {
    SCOPED_TRACE("schedule " + std::to_string(i));
    schedules[i].architecture = simt::options().architecture;
    const simt::ScopedOptions scope(schedules[i]);
    body();
  }
#else
  body();
#endif
}

}  // namespace belfry::test
