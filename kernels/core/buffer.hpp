// SPDX-License-Identifier: Apache-2.0
// Buffer: owning memory of one backend. Moves, never copies silently.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/core/backend.hpp"
#include "kernels/core/check.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

enum class Fill { zeros, none };

/// `bytes` of memory of `backend`, aligned to 64 bytes (cuda: 256), zero-filled unless asked otherwise.
/// Throws std::bad_alloc or simt::DeviceFailure(out_of_memory) when there is none, DeviceError for a
/// backend that this build lacks. Large host blocks ask for huge pages. Waits for nothing but its own fill.
void* allocate_bytes(Backend backend, std::int64_t bytes, Fill fill = Fill::zeros);
void free_bytes(Backend backend, void* data) noexcept;

/// n elements of T in one backend's memory, zero-filled at construction unless asked otherwise. The
/// host may read and write data() of the CPU's alone; kernels/core/transfer.hpp copies.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend backend, std::int64_t n, Fill fill = Fill::zeros)
      : backend_(backend),
        size_(n),
        data_(static_cast<T*>(
            allocate_bytes(backend, checked_product(n, sizeof(T), "Buffer"), fill))) {}
  /// A part of another buffer, which must outlive it: elements [first, first + n).
  static Buffer part_of(Buffer& whole, std::int64_t first, std::int64_t n) {
    require(first >= 0 && n >= 0 && first + n <= whole.size_, "Buffer::part_of: outside of it");
    Buffer part;
    part.backend_ = whole.backend_;
    part.size_ = n;
    part.data_ = whole.data_ + first;
    part.owned_ = false;
    return part;
  }
  Buffer(Buffer&& o) noexcept
      : backend_(o.backend_),
        size_(std::exchange(o.size_, 0)),
        data_(std::exchange(o.data_, nullptr)),
        owned_(o.owned_) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(backend_, o.backend_);
    std::swap(size_, o.size_);
    std::swap(data_, o.data_);
    std::swap(owned_, o.owned_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (owned_) free_bytes(backend_, data_);
  }

  Backend backend() const { return backend_; }
  std::int64_t size() const { return size_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  Vector<T> view() { return {data_, size_}; }
  Vector<const T> view() const { return {data_, size_}; }
  Matrix<T> matrix(std::int64_t rows, std::int64_t cols) {
    require(checked_product(rows, cols, "Buffer::matrix") <= size_,
            "Buffer::matrix: larger than the buffer");
    return {data_, rows, cols};
  }
  Matrix<const T> matrix(std::int64_t rows, std::int64_t cols) const {
    require(checked_product(rows, cols, "Buffer::matrix") <= size_,
            "Buffer::matrix: larger than the buffer");
    return {data_, rows, cols};
  }

 private:
  Backend backend_ = Backend::cpu;
  std::int64_t size_ = 0;
  T* data_ = nullptr;
  bool owned_ = true;
};

}  // namespace belfry
