// SPDX-License-Identifier: Apache-2.0
// What the executor knows about a running kernel: threads, warps, blocks, the launch.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "host/builtins.hpp"
#include "host/clocks.hpp"
#include "host/fiber.hpp"
#include "host/options.hpp"
#include "host/warp.hpp"
#include "kernels/core/device.hpp"

namespace belfry::simt::host {

struct Block;
struct Launch;

enum class State : std::uint8_t { ready, at_barrier, at_warp, at_grid, finished };

struct AsyncCopy {
  char* to;
  const char* from;
  int bytes, valid;
  std::uint32_t code;
  int group;  // -1: not committed
};

struct Thread {
  Block* block = nullptr;
  std::uint32_t index = 0;  // in the block
  State state = State::ready;
  Fiber* fiber = nullptr;  // from the first step to the last
  Where where;             // of the wait
  unsigned mask = 0;       // of the warp wait
  int predicate = 0, vote = 0;
  std::uint32_t atomics = 0;  // since the last switch
  int copy_groups = 0;
  std::vector<AsyncCopy> copies;
  ThreadClock clock;

  std::uint32_t lane() const { return index % 32; }
};

/// Lanes of one mask on their way to meet.
struct Meeting {
  unsigned mask = 0;
  unsigned arrived = 0;
  WarpOp op{};
  Where where;
  std::array<WarpFrame*, 32> frames{};
};

struct Warp {
  unsigned lanes = 0;  // that exist
  unsigned exited = 0;
  std::vector<Meeting> meetings;
  WarpClocks clocks;
};

struct SharedObject {
  const void* key;
  char* data;
  std::size_t bytes;
};

struct Block {
  Launch* launch = nullptr;
  std::uint64_t number = 0;
  uint3 index{};
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::uint32_t finished = 0;
  std::uint32_t waiting = 0;  // at the barrier
  Thread* first_waiting = nullptr;
  Vote vote = Vote::none;
  std::vector<SharedObject> shared;
  char* slab = nullptr;  // where shared objects lie
  std::size_t slab_used = 0;
  std::size_t static_bytes = 0;
  BlockClock clock;

  Warp& warp_of(const Thread& t) { return warps[t.index / 32]; }
};

struct Launch {
  Dims dims;
  const KernelCall* call = nullptr;
  const char* arguments_begin = nullptr;  // the bytes of the arguments and of the array of pointers
  const char* arguments_end = nullptr;
  std::vector<Block*> resident;
  std::deque<Thread*> ready;
  std::uint64_t next_block = 0;
  std::uint32_t waiting_at_grid = 0;
  std::uint64_t switches = 0;  // since the last progress
  bool depth_first = false;
  unsigned interruption = 1;  // depth-first: one in so many picks is random
  std::mt19937_64 random;
  std::optional<Error> error;
};

/// The thread that runs now; nullptr in host code.
Thread* running();
/// First thing in whatever kernels call: while it lives, work on the thread's stack is the executor's own
/// and not watched. (The linker may have given the executor a kernel file's watched std::string.)
class AsHost {
 public:
  AsHost();
  ~AsHost();
  Thread& thread() const { return *thread_; }
  AsHost(const AsHost&) = delete;
  AsHost& operator=(const AsHost&) = delete;

 private:
  Thread* thread_;
};
/// "block (0,1,0) thread (3,0,0)".
std::string name_of(const Thread& t);

// Scheduling (scheduler.cpp).
void run_kernel(const Dims& dims, const KernelCall& call, const char* arguments_begin,
                const char* arguments_end);
/// Launch dimensions and pointer arguments.
void check_launch(const Dims& dims, const KernelCall& call);
void make_ready(Thread& t);
/// Gives up the processor; the caller has set its state, or is ready and behind the others.
void switch_away(Thread& t);
/// Something moved on: the watchdog starts anew.
void progress(Thread& t);
/// After a meeting that the caller completed: in a uniform mix others may go first.
void maybe_yield(Thread& t);
/// Ends the launch with an error; never returns to the kernel.
[[noreturn]] void fail(Thread& t, Fault fault, const std::string& text);

// Barriers (barrier.cpp).
void on_exit(Thread& t);
std::string describe_deadlock(const Launch& launch);
// Warps (warp.cpp).
void on_warp_exit(Thread& t);
// Copies (copies.cpp).
void finish_copies(Thread& t);

}  // namespace belfry::simt::host
