// SPDX-License-Identifier: Apache-2.0
// What no result may depend on, and work that is run again: the CPU's and the device's side of such
// tests.
#pragma once

#include <functional>

#include "tests/simt/device_array.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::test {

/// A size of test data: what the CPU takes at once is too much for the executor.
constexpr std::int64_t by_backend(std::int64_t cpu, std::int64_t device) {
  return on_device() ? device : cpu;
}

/// Calls body(ctx) with contexts that must give the same bits: on the CPU with 1, 2 and 4 threads,
/// on the executor under all its schedules, on a GPU twice.
template <class F>
void for_each_variant(F&& body, std::uint64_t seed = 0) {
  if (!on_device()) {
    for (const int threads : {1, 2, 4}) {
      SCOPED_TRACE(std::to_string(threads) + " threads");
      body(make_context(threads, seed));
    }
    return;
  }
  for_each_schedule([&] { body(make_context(1, seed)); });
  body(make_context(1, seed));
}

/// Work on memory of the backend under test, to be run many times: on the device a captured graph,
/// which may neither allocate nor wait nor look at data; on the CPU the work itself.
class Replay {
 public:
  /// Runs `body` once, which brings the arena to its size, then captures it.
  Replay(const Context& ctx, std::function<void()> body) : ctx_(ctx), body_(std::move(body)) {
    body_();
    ctx.synchronise();
    if (on_device()) graph_ = simt::Graph::capture(ctx.stream(), body_);
  }
  void run() {
    if (on_device()) {
      graph_.launch(ctx_.stream());
      ctx_.synchronise();
    } else {
      body_();
    }
  }

 private:
  const Context& ctx_;
  std::function<void()> body_;
  simt::Graph graph_;
};

/// Host values in memory of the backend under test, to be changed between two runs.
template <class T>
class Held {
 public:
  Held(const Context& ctx, const std::vector<T>& values)
      : ctx_(ctx), buffer_(ctx.backend(), static_cast<std::int64_t>(values.size())) {
    set(values);
  }
  void set(const std::vector<T>& values) {
    upload(ctx_, values.data(), buffer_.data(), buffer_.size());
  }
  std::vector<T> get() const {
    std::vector<T> values(static_cast<std::size_t>(buffer_.size()));
    download(ctx_, buffer_.data(), values.data(), buffer_.size());
    return values;
  }
  T* data() { return buffer_.data(); }
  Vector<T> vector() { return buffer_.view(); }
  Matrix<T> matrix(std::int64_t rows, std::int64_t cols) { return buffer_.matrix(rows, cols); }

 private:
  const Context& ctx_;
  Buffer<T> buffer_;
};

}  // namespace belfry::test
