// SPDX-License-Identifier: Apache-2.0
// Named copies between the host and a context's backend. They wait for the work queued so far and are done
// on return: for set-up, results and tests. What streams beside running work is in kernels/core/device.hpp.
#pragma once

#include <span>
#include <vector>

#include "kernels/core/context.hpp"

namespace belfry {

void upload_bytes(const Context& ctx, const void* host, void* to, std::int64_t bytes);
void download_bytes(const Context& ctx, const void* from, void* host, std::int64_t bytes);

/// n elements from the host to the backend's memory.
template <class T>
void upload(const Context& ctx, const T* host, T* to, std::int64_t n) {
  upload_bytes(ctx, host, to, checked_product(n, sizeof(T), "upload"));
}
/// n elements from the backend's memory to the host.
template <class T>
void download(const Context& ctx, const T* from, T* host, std::int64_t n) {
  download_bytes(ctx, from, host, checked_product(n, sizeof(T), "download"));
}

/// A copy of host values in the backend's memory. On the CPU: the values themselves, which must stay.
template <class T>
class Uploaded {
 public:
  Uploaded() = default;
  Uploaded(const Context& ctx, std::span<const T> values)
      : size_(static_cast<std::int64_t>(values.size())) {
    if (ctx.backend() == Backend::cpu) {
      data_ = values.data();
      return;
    }
    copy_ = Buffer<T>(ctx.backend(), size_, Fill::none);
    upload(ctx, values.data(), copy_.data(), size_);
    data_ = copy_.data();
  }
  const T* data() const { return data_; }
  Vector<const T> view() const { return {data_, size_}; }

 private:
  const T* data_ = nullptr;
  std::int64_t size_ = 0;
  Buffer<T> copy_;
};

/// Where an op is to write n results that the host then reads. On the CPU: the host's own memory.
template <class T>
class Results {
 public:
  Results(const Context& ctx, std::int64_t n) : host_(Backend::cpu, n) {
    if (ctx.backend() != Backend::cpu) device_ = Buffer<T>(ctx.backend(), n);
  }
  T* data() { return device_.size() > 0 ? device_.data() : host_.data(); }
  /// The first n results, once the work queued so far is done.
  T* fetch(const Context& ctx, std::int64_t n) {
    if (device_.size() > 0) download(ctx, device_.data(), host_.data(), n);
    return host_.data();
  }

 private:
  Buffer<T> host_, device_;
};

}  // namespace belfry
