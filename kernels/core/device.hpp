// SPDX-License-Identifier: Apache-2.0
// The device as host code sees it: memory, copies, streams, events, graphs and one checked launch().
// Implementations: the CUDA runtime (device_cuda.cpp), the SIMT executor (tests/simt), and for builds without
// CUDA device_none.cpp, which refuses everything.
// No CUDA header here. Every failure is a DeviceFailure; nothing is left to be asked for later.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "kernels/core/check.hpp"

namespace belfry::simt {

/// Why the device refused; decides the program's exit code.
enum class Failure {
  not_built,  // this build has no CUDA backend
  no_driver,
  old_driver,
  broken_driver,  // is there and fails: not restarted after an update, say
  no_device,
  busy,  // somebody else has the GPU to himself
  wrong_architecture,
  out_of_memory,
  out_of_host_memory,  // of the machine's memory that can be page-locked
  bad_launch,          // grid, block or shared memory that no device takes
  bad_argument,        // a copy outside of an allocation, a free of what was never allocated
  capture,             // something that a graph capture refuses
  sticky,              // a kernel failed: all memory of the device is lost
};

struct DeviceFailure : DeviceError {
  DeviceFailure(Failure why, const std::string& text) : DeviceError(text), failure(why) {}
  Failure failure;
};

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  int driver = 0, runtime = 0;  // CUDA versions, 13000 = 13.0
  bool simulated = false;
};

/// GPUs that there are, at least 1. Throws DeviceFailure(not_built, no_driver, old_driver, broken_driver,
/// no_device).
int device_count();
/// GPU `number`, from 0, or the current one. Throws as device_count, and no_device for a number beyond it.
DeviceInfo device_info(int number);
DeviceInfo device_info();
/// Makes GPU `number` the current one of this thread (0 is, without it). Throws as device_info, and
/// wrong_architecture for a GPU that this build's kernels cannot run on, busy for one that is not to be had.
void select_device(int number);
/// The architectures that this build's kernels are compiled for, e.g. "75, 80, 90".
std::string built_architectures();
/// The library of matrix products: its version. DeviceError that says what was tried when there is none.
std::string matrix_library();

/// What the process has asked of the device so far: a test takes differences over an epoch.
struct Counters {
  std::int64_t allocations = 0;       // device and pinned
  std::int64_t synchronisations = 0;  // host waits, synchronous copies included
  std::int64_t launches = 0;          // kernels; captured ones count once, at the capture
  std::int64_t graph_launches = 0;
  std::int64_t live_bytes = 0;  // device memory not yet freed
};
Counters counters();
/// Bytes of the current GPU's memory that nobody holds, other programs included.
std::int64_t free_memory();

/// Uninitialised device memory, 256-byte aligned; nullptr for 0 bytes.
void* device_malloc(std::int64_t bytes);
void device_free(void* data) noexcept;
/// Page-locked host memory, which asynchronous copies want on their host side.
void* pinned_malloc(std::int64_t bytes);
void pinned_free(void* data) noexcept;

class Event;

/// A queue of work, unordered with every other queue but for events. Not thread-safe.
class Stream {
 public:
  Stream();
  ~Stream();  // waits for its work
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  /// Returns once all work queued so far is done.
  void sync();
  /// Work queued from now on starts after the work that `event` last recorded.
  void wait(const Event& event);
  void* native() const { return native_; }  // cudaStream_t, for libraries

 private:
  void* native_ = nullptr;
};

/// A mark in a stream. Waiting for an event that was never recorded is no wait.
class Event {
 public:
  Event() : Event(false) {}
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(Stream& stream);
  void sync();
  /// True once the work before the last record is done. Never waits.
  bool done() const;

 protected:
  explicit Event(bool timed);
  void* native_ = nullptr;

 private:
  friend class Stream;
};

/// An event that also tells the time, which costs the device a little more.
class TimedEvent : public Event {
 public:
  TimedEvent() : Event(true) {}
  /// Milliseconds of device time from `start` to this event; both must be done.
  float since(const TimedEvent& start) const;
};

/// Work captured once and launched many times. Arguments and addresses are those of the capture.
class Graph {
 public:
  /// Runs `body`, whose work on `stream` (and on streams that join it by events, and must join it
  /// back) is recorded instead of run. Allocation and any host wait inside throw Failure::capture.
  static Graph capture(Stream& stream, const std::function<void()>& body);
  Graph() = default;
  Graph(Graph&& o) noexcept : native_(std::exchange(o.native_, nullptr)) {}
  Graph& operator=(Graph&& o) noexcept {
    std::swap(native_, o.native_);
    return *this;
  }
  ~Graph();
  void launch(Stream& stream) const;
  explicit operator bool() const { return native_ != nullptr; }

 private:
  void* native_ = nullptr;
};

// Copies. Without a stream they are done on return, and are not ordered with any stream's work. With
// one they are queued: the host side is pinned, and is left alone until the stream has passed.
void to_device(void* device, const void* host, std::int64_t bytes);
void to_device(void* device, const void* host, std::int64_t bytes, Stream& stream);
void to_host(void* host, const void* device, std::int64_t bytes);
void to_host(void* host, const void* device, std::int64_t bytes, Stream& stream);
void device_copy(void* to, const void* from, std::int64_t bytes, Stream& stream);
void device_memset(void* data, int byte, std::int64_t bytes);
void device_memset(void* data, int byte, std::int64_t bytes, Stream& stream);

/// Waits for all streams.
void device_sync();

struct Extent {
  unsigned x = 1, y = 1, z = 1;
  constexpr Extent(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
  constexpr std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

struct Dims {
  Extent grid;
  Extent block;
  std::int64_t smem = 0;     // dynamic shared memory, bytes a block
  Stream* stream = nullptr;  // nullptr: at once, and done on return
  bool cooperative = false;  // all blocks resident together: this_grid().sync() works
};

/// A kernel and its arguments, erased. `invoke` calls the kernel as a plain function; CUDA ignores it.
struct KernelCall {
  const void* function;
  void (*invoke)(const void* function, void* const* arguments);
  void* const* arguments;
  const std::size_t* sizes;  // of the arguments
  const std::size_t* aligns;
  const bool* are_pointers;  // to data
  int count;
};
void launch_kernel(const Dims& dims, const KernelCall& call);

namespace detail {
template <class... P, std::size_t... I>
void invoke_kernel(const void* function, void* const* arguments, std::index_sequence<I...>) {
  const auto kernel = reinterpret_cast<void (*)(P...)>(const_cast<void*>(function));
  kernel(*static_cast<std::remove_cv_t<P>*>(arguments[I])...);
}
template <class... P>
void invoke_kernel(const void* function, void* const* arguments) {
  invoke_kernel<P...>(function, arguments, std::index_sequence_for<P...>{});
}
template <class P>
inline constexpr bool is_data_pointer =
    std::is_pointer_v<P> && !std::is_function_v<std::remove_pointer_t<P>>;
}  // namespace detail

/// kernel<<<grid, block, smem, stream>>>(args...), checked. Arguments convert as in a call.
template <class... P, class... A>
void launch(const Dims& dims, void (*kernel)(P...), A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A),
                "launch: as many arguments as the kernel has parameters");
  static_assert((std::is_trivially_copyable_v<P> && ...),
                "launch: kernel parameters are copied as bytes");
  constexpr std::size_t n = sizeof...(P);
  [&](std::remove_cv_t<P>... values) {
    const std::array<void*, n + 1> pointers = {static_cast<void*>(std::addressof(values))...,
                                               nullptr};
    constexpr std::array<std::size_t, n + 1> sizes = {sizeof(P)..., 0};
    constexpr std::array<std::size_t, n + 1> aligns = {alignof(P)..., 1};
    constexpr std::array<bool, n + 1> are_pointers = {detail::is_data_pointer<P>..., false};
    launch_kernel(
        dims,
        {reinterpret_cast<const void*>(kernel),
         static_cast<void (*)(const void*, void* const*)>(&detail::invoke_kernel<P...>),
         pointers.data(), sizes.data(), aligns.data(), are_pointers.data(), static_cast<int>(n)});
  }(static_cast<P>(std::forward<A>(args))...);
}

}  // namespace belfry::simt
