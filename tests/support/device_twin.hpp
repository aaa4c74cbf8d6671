// SPDX-License-Identifier: Apache-2.0
// One test source for the CPU and the device. Tests hold host memory and call tested::OP (the files
// tested_OP.hpp beside this one); on the device that makes device twins of the views, runs the op on them,
// and copies the outputs back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/core/device.hpp"
#include "kernels/core/transfer.hpp"

#ifndef BELFRY_TEST_BACKEND
#define BELFRY_TEST_BACKEND cpu
#endif

namespace belfry::test {

/// The backend that this executable tests.
constexpr Backend backend_under_test() {
  return Backend::BELFRY_TEST_BACKEND;
}
constexpr bool on_device() {
  return backend_under_test() == Backend::cuda;
}
inline Context make_context(int threads = 1, std::uint64_t seed = 0) {
  return Context(backend_under_test(), on_device() ? 1 : threads, seed);
}

/// What the op does with the memory: an `out` twin starts unwritten, so that the check build sees an op that
/// reads it or leaves a part of it.
enum class Use { in, out, in_out };

/// The device copy of a host view. Outputs go back to the host in fetch().
template <class T>
class Twin {
  using Value = std::remove_const_t<T>;

 public:
  Twin(const Context& ctx, Matrix<T> host, Use use = std::is_const_v<T> ? Use::in : Use::in_out)
      : host_(host), use_(use) {
    // The bytes between rows are the host's own: they are neither read nor written.
    const std::int64_t n =
        host.rows == 0 || host.cols == 0 ? 0 : (host.rows - 1) * host.pitch + host.cols;
    if (host.data == nullptr) return;
    device_ = Buffer<Value>(ctx.backend(), n, Fill::none);
    if (use == Use::out) return;
    for (std::int64_t r = 0; n > 0 && r < host.rows; ++r) {
      upload(ctx, host.row(r), device_.data() + r * host.pitch, host.cols);
    }
  }
  Twin(const Context& ctx, Vector<T> host, Use use = std::is_const_v<T> ? Use::in : Use::in_out)
      : Twin(ctx, Matrix<T>(host.data, 1, host.size), use) {}

  Matrix<T> matrix() { return {device_.data(), host_.rows, host_.cols, host_.pitch}; }
  Vector<T> vector() { return {device_.data(), host_.cols}; }
  T* data() { return device_.data(); }
  /// Waits for the op, and copies what it wrote to the host.
  void fetch(const Context& ctx) requires(!std::is_const_v<T>) {
    if (use_ == Use::in || device_.size() == 0) return;
    for (std::int64_t r = 0; r < host_.rows; ++r) {
      download(ctx, device_.data() + r * host_.pitch, host_.row(r), host_.cols);
    }
  }

 private:
  Matrix<T> host_;
  Use use_;
  Buffer<Value> device_;
};

/// Device copies of ragged ids; the host's null pointers stay null.
class RaggedTwin {
 public:
  RaggedTwin(const Context& ctx, const Ragged& host)
      : ids_(ctx, Vector<const std::int32_t>(host.ids, host.nnz)),
        offsets_(ctx, Vector<const std::int64_t>(host.offsets, host.offsets ? host.bags + 1 : 0)),
        weights_(ctx, Vector<const float>(host.weights, host.weights ? host.nnz : 0)),
        view_(host) {
    view_.ids = ids_.data();
    view_.offsets = host.offsets != nullptr ? offsets_.data() : nullptr;
    view_.weights = host.weights != nullptr ? weights_.data() : nullptr;
  }
  const Ragged& view() const { return view_; }

 private:
  Twin<const std::int32_t> ids_;
  Twin<const std::int64_t> offsets_;
  Twin<const float> weights_;
  Ragged view_;
};

/// Device copies of one list of rows a query.
class RowListsTwin {
 public:
  RowListsTwin(const Context& ctx, const RowLists& host, std::int64_t queries)
      : given_(host.offsets != nullptr),
        offsets_(ctx, Vector<const std::int64_t>(host.offsets, given_ ? queries + 1 : 0)),
        rows_(ctx, Vector<const std::int32_t>(host.rows, given_ ? host.offsets[queries] : 0)) {}
  RowLists view() { return given_ ? RowLists{offsets_.data(), rows_.data()} : RowLists{}; }

 private:
  bool given_;
  Twin<const std::int64_t> offsets_;
  Twin<const std::int32_t> rows_;
};

/// The values of a buffer of either backend, once all queued work is done.
template <class T>
std::vector<T> host_values(const Buffer<T>& buffer) {
  std::vector<T> out(static_cast<std::size_t>(buffer.size()));
  if (buffer.backend() == Backend::cpu) {
    std::copy_n(buffer.data(), buffer.size(), out.data());
  } else if (!out.empty()) {
    simt::device_sync();
    simt::to_host(out.data(), buffer.data(), buffer.size() * std::int64_t{sizeof(T)});
  }
  return out;
}
/// Overwrites a buffer of either backend.
template <class T>
void set_values(Buffer<T>& buffer, const std::vector<T>& values) {
  require(static_cast<std::int64_t>(values.size()) == buffer.size(), "set_values: sizes differ");
  if (buffer.backend() == Backend::cpu) {
    std::copy(values.begin(), values.end(), buffer.data());
  } else if (!values.empty()) {
    simt::device_sync();
    simt::to_device(buffer.data(), values.data(), buffer.size() * std::int64_t{sizeof(T)});
  }
}

/// The context's state, changed in place: test::edit_state(ctx, [](StepState& s) { s.step = 3; }).
template <class F>
void edit_state(const Context& ctx, F&& change) {
  StepState state = ctx.read_state();
  change(state);
  ctx.write_state(state);
}

}  // namespace belfry::test
