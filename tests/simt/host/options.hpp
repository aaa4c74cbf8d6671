// SPDX-License-Identifier: Apache-2.0
// How the executor runs, and what it reports. Tests include this; kernels never do.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/core/device.hpp"

namespace belfry::simt {

/// In which order runnable threads, and queued work of streams, are picked.
enum class Order { fifo, lifo, random };

struct Options {
  Order order = Order::fifo;
  std::uint64_t seed = 1;  // of Order::random: picks the mix (uniform or depth-first) and the draws
  int resident_blocks = 1;      // blocks that are interleaved
  int atomic_yield = 0;         // random: before one in so many atomics another thread may run
  bool strict_exit = true;      // a barrier after a thread's return is a fault
  bool strict_acquire = false;  // an atomic orders later reads only with a fence after it
  bool check_pointers = true;   // pointer arguments must point to device or pinned memory
  bool require_pinned = true;   // asynchronous copies must have pinned memory on the host
  std::uint64_t max_switches =
      20000000;  // without progress before the watchdog calls it a livelock
  std::int64_t device_bytes = std::int64_t{16} << 30;  // what the device pretends to have
  int architecture = 90;                               // sm_90: what the device pretends to be
};

/// The options of this process, at first those of BELFRY_SIMT in the environment, e.g.
/// BELFRY_SIMT=order=random,seed=3,resident=4,yield=2,bytes=1000000,arch=86.
Options& options();

/// Shared memory that a block may have on an architecture, static and dynamic together: what
/// cudaDevAttrMaxSharedMemoryPerBlockOptin says. Throws std::invalid_argument for one that is not known.
std::int64_t shared_memory_limit(int architecture);

/// Sets options for a scope.
class ScopedOptions {
 public:
  explicit ScopedOptions(const Options& next) : before_(options()) { options() = next; }
  ~ScopedOptions() { options() = before_; }
  ScopedOptions(const ScopedOptions&) = delete;
  ScopedOptions& operator=(const ScopedOptions&) = delete;

 private:
  Options before_;
};

/// What a kernel, or the host's use of the device, did wrong.
enum class Fault {
  config,    // launch dimensions
  barrier,   // threads that have returned, or different barriers
  warp,      // masks and source lanes of warp intrinsics
  deadlock,  // nobody can run
  race,      // check build
  bounds,    // check build; misaligned atomics and copies in every build
  uninit,    // check build
  watchdog,  // no progress
  pointer,   // memory that the device cannot reach
  trap,      // __trap()
  memory,    // device memory exhausted, or a bad free
  stream,    // misuse of streams, or of their copies
  capture,   // refused while a graph is captured
};
const char* name_of(Fault fault);

struct Error : DeviceFailure {
  Error(Fault what, const std::string& text);
  Fault fault;
};

/// True in the check build: accesses of kernels are watched.
bool checking();

/// What the build of this process finds: for tests of the executor itself.
enum class Build { plain, asan, check };
Build build();

}  // namespace belfry::simt
