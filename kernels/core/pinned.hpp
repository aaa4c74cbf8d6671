// SPDX-License-Identifier: Apache-2.0
// Page-locked host memory, owned: the host side of copies that run beside kernels.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/core/check.hpp"
#include "kernels/core/device.hpp"

namespace belfry {

/// n uninitialised elements of T that the device copies to or from directly.
template <class T>
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(std::int64_t n)
      : size_(n),
        data_(static_cast<T*>(simt::pinned_malloc(checked_product(n, sizeof(T), "pinned")))) {}
  PinnedBuffer(PinnedBuffer&& o) noexcept
      : size_(std::exchange(o.size_, 0)), data_(std::exchange(o.data_, nullptr)) {}
  PinnedBuffer& operator=(PinnedBuffer&& o) noexcept {
    std::swap(size_, o.size_);
    std::swap(data_, o.data_);
    return *this;
  }
  ~PinnedBuffer() { simt::pinned_free(data_); }

  T* data() const { return data_; }
  T& operator[](std::int64_t i) const { return data_[i]; }
  std::int64_t size() const { return size_; }

 private:
  std::int64_t size_ = 0;
  T* data_ = nullptr;
};

}  // namespace belfry
