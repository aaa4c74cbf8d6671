// SPDX-License-Identifier: Apache-2.0
// Context: one ordered queue of work on one backend, with its scratch arena and step state.
// The first argument of every op. Not thread-safe: one caller at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/core/backend.hpp"
#include "kernels/core/buffer.hpp"
#include "kernels/core/step_state.hpp"

namespace belfry {

namespace simt {
class Branches;
class Stream;
}  // namespace simt

/// Scratch memory of a Context: a bump allocator whose marks nest (ArenaScope). Grows on demand, so that
/// a repeated step allocates nothing after its first run. On the CPU one block of the peak size is left in
/// the end; on the device blocks stay where they are, since a captured graph knows their addresses.
class Arena {
 public:
  explicit Arena(Backend backend) : backend_(backend) {}

  /// n uninitialised elements of T, 64-byte aligned (cuda: 256), valid until the enclosing ArenaScope ends.
  template <class T>
  T* take(std::int64_t n) {
    return static_cast<T*>(take_bytes(checked_product(n, sizeof(T), "Arena::take")));
  }
  std::int64_t peak_bytes() const { return peak_; }
  /// Blocks allocated so far; constant across steps once planned (a test counts this).
  std::int64_t allocations() const { return allocations_; }

 private:
  friend class ArenaScope;
  struct Mark {
    std::size_t block;
    std::int64_t used, total;
  };
  void* take_bytes(std::int64_t bytes);
  Mark mark() const;
  void release(const Mark& mark);

  Backend backend_;
  std::vector<Buffer<std::byte>> blocks_;
  std::size_t block_ = 0;   // block in use
  std::int64_t used_ = 0;   // bytes used of that block
  std::int64_t total_ = 0;  // bytes in use over all blocks
  std::int64_t peak_ = 0;
  std::int64_t allocations_ = 0;
};

class Context {
 public:
  /// A queue on `backend` with at most `threads` CPU threads (0: all that the process may use).
  /// Throws DeviceError for a backend that this build or machine lacks.
  explicit Context(Backend backend, int threads = 0, std::uint64_t seed = 0);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Backend backend() const { return backend_; }
  int threads() const { return threads_; }
  Arena& arena() const { return arena_; }
  /// In the backend's memory: for ops. The host uses the two below.
  StepState* state() const { return state_; }
  /// Copies of the state; both wait for the work queued so far.
  StepState read_state() const;
  void write_state(const StepState& next) const;
  /// Ors `bits` into the status word (CPU side; safe from worker threads).
  void raise(std::uint32_t bits) const;
  /// Returns once all work queued on this context is done. On the CPU it is done already.
  void synchronise() const;
  /// The queue of a CUDA context.
  simt::Stream& stream() const;
  /// Side streams of a CUDA context, for an op's independent pieces. Made by the first call.
  simt::Branches& branches() const;

  struct Workers;  // the CPU's thread arena; kernels/core/parallel.hpp uses it
  Workers& workers() const { return *workers_; }

 private:
  Backend backend_;
  int threads_ = 1;
  mutable Arena arena_;
  std::unique_ptr<simt::Stream> stream_;  // before what its work uses
  mutable std::unique_ptr<simt::Branches> branches_;
  Buffer<StepState> state_buffer_;
  StepState* state_ = nullptr;
  std::unique_ptr<Workers> workers_;
};

/// Scratch taken inside the scope is given back at its end.
class ArenaScope {
 public:
  explicit ArenaScope(const Context& ctx) : arena_(ctx.arena()), mark_(arena_.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace belfry
