// SPDX-License-Identifier: Apache-2.0
// Runs a kernel: blocks become resident, their threads fibers, and one at a time is picked to run.
#include <algorithm>
#include <cstring>
#include <new>

#include "host/atomics.hpp"
#include "host/checker.hpp"
#include "host/launch_state.hpp"
#include "host/memory.hpp"
#include "host/symbols.hpp"

namespace belfry::simt::host {

namespace {

constexpr std::uint32_t kAtomicsInARow = 2000;  // then others run: a spin on an atomic ends
constexpr std::uint64_t kMostThreads = 24576;   // resident ones; each has a stack of two mappings

constinit thread_local Thread* current = nullptr;
constinit thread_local Builtins* current_builtins = nullptr;

struct Pools {
  FiberPool fibers;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<Block*> free_blocks;
};
Pools& pools() {
  static Pools p;
  return p;
}

Builtins* builtins_of(Fiber& fiber) {
  return reinterpret_cast<Builtins*>(fiber.top()) - 1;
}

struct Failed {};  // unwinds a thread whose error the launch holds

void run_thread(void* argument) {
  auto& t = *static_cast<Thread*>(argument);
  const KernelCall& call = *t.block->launch->call;
  try {
    call.invoke(call.function, call.arguments);
    const AsHost host;
    finish_copies(t);
    t.state = State::finished;
    on_exit(t);
  } catch (const Failed&) {
  }
  t.fiber->leave(true);
}

void start_block(Launch& launch) {
  Pools& p = pools();
  if (p.free_blocks.empty()) {
    p.blocks.push_back(std::make_unique<Block>());
    p.free_blocks.push_back(p.blocks.back().get());
  }
  Block& b = *p.free_blocks.back();
  p.free_blocks.pop_back();
  char* slab = b.slab;
  auto threads = std::move(b.threads);
  auto warps = std::move(b.warps);
  threads.clear();
  warps.clear();
  b = Block{};
  b.slab = slab;
  b.launch = &launch;
  b.number = launch.next_block++;
  const Extent& grid = launch.dims.grid;
  b.index = {static_cast<unsigned>(b.number % grid.x),
             static_cast<unsigned>(b.number / grid.x % grid.y),
             static_cast<unsigned>(b.number / grid.x / grid.y)};
  const auto n = static_cast<std::uint32_t>(launch.dims.block.count());
  threads.resize(n);
  warps.resize((n + 31) / 32);
  for (std::uint32_t w = 0; w < warps.size(); ++w) {
    const std::uint32_t lanes = std::min(32u, n - 32 * w);
    warps[w].lanes = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
  }
  b.threads = std::move(threads);
  b.warps = std::move(warps);
  launch.resident.push_back(&b);
  for (std::uint32_t i = 0; i < n; ++i) {
    b.threads[i].block = &b;
    b.threads[i].index = i;
    launch.ready.push_back(&b.threads[i]);
  }
}

void end_block(Launch& launch, Block& block) {
  for (const SharedObject& object : block.shared) {
    note_freed(object.data, object.bytes);
    set_reachable(object.data, object.bytes, false);
  }
  block.shared.clear();
  launch.resident.erase(std::find(launch.resident.begin(), launch.resident.end(), &block));
  pools().free_blocks.push_back(&block);
}

Thread& pick(Launch& launch) {
  auto& ready = launch.ready;
  const Order order = options().order;
  if (order == Order::random &&
      (!launch.depth_first || launch.random() % launch.interruption == 0)) {
    std::swap(ready[launch.random() % ready.size()], ready.back());
  }
  Thread* t = order == Order::fifo ? ready.front() : ready.back();
  if (order == Order::fifo) {
    ready.pop_front();
  } else {
    ready.pop_back();
  }
  return *t;
}

void begin_thread(Thread& t) {
  t.fiber = pools().fibers.take();
  t.fiber->prepare(run_thread, &t, sizeof(Builtins));
  Launch& launch = *t.block->launch;
  const Extent& block = launch.dims.block;
  const Extent& grid = launch.dims.grid;
  const uint3 index = {t.index % block.x, t.index / block.x % block.y, t.index / block.x / block.y};
  new (builtins_of(*t.fiber)) Builtins{index, t.block->index, dim3(block.x, block.y, block.z),
                                       dim3(grid.x, grid.y, grid.z), &t};
}

void step(Thread& t) {
  if (t.fiber == nullptr) begin_thread(t);
  t.atomics = 0;
  current = &t;
  current_builtins = builtins_of(*t.fiber);
  t.fiber->enter();
  current = nullptr;
  if (t.state == State::finished) {
    pools().fibers.give(t.fiber);
    t.fiber = nullptr;
  }
}

/// Puts every stack and block back, also after an error.
void clean_up(Launch& launch) {
  while (!launch.resident.empty()) {
    Block& block = *launch.resident.back();
    for (Thread& t : block.threads) {
      if (t.fiber == nullptr) continue;
      t.fiber->abandon();
      pools().fibers.give(t.fiber);
    }
    end_block(launch, block);
  }
}

void run_blocks(Launch& launch) {
  const std::uint64_t blocks = launch.dims.grid.count();
  const std::uint64_t limit =
      launch.dims.cooperative ? blocks
                              : static_cast<std::uint64_t>(std::max(1, options().resident_blocks));
  const std::uint32_t threads = static_cast<std::uint32_t>(launch.dims.block.count());
  while (launch.next_block < blocks || !launch.resident.empty()) {
    while (launch.resident.size() < limit && launch.next_block < blocks) start_block(launch);
    if (launch.ready.empty()) throw Error(Fault::deadlock, describe_deadlock(launch));
    Thread& t = pick(launch);
    step(t);
    if (launch.error) throw Error(*launch.error);
    if (t.state == State::finished && t.block->finished == threads) end_block(launch, *t.block);
    if (++launch.switches > options().max_switches) {
      throw Error(Fault::watchdog, "no progress in " + std::to_string(options().max_switches) +
                                       " switches; last was " + name_of(t));
    }
  }
}

void check_config(const Dims& dims, const char* function) {
  const Extent &b = dims.block, &g = dims.grid;
  const auto refuse = [&](const std::string& why) {
    const auto text = [](const Extent& e) {
      return "(" + std::to_string(e.x) + "," + std::to_string(e.y) + "," + std::to_string(e.z) +
             ")";
    };
    throw Error(Fault::config, function_name(function) + ": " + why + ": grid " + text(g) +
                                   ", block " + text(b) + ", shared memory " +
                                   std::to_string(dims.smem));
  };
  if (b.count() == 0 || g.count() == 0) refuse("a dimension is 0");
  if (b.x > 1024 || b.y > 1024 || b.z > 64 || b.count() > 1024) refuse("block too large");
  if (g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) refuse("grid too large");
  const int architecture = options().architecture;
  const std::int64_t limit = shared_memory_limit(architecture);
  if (dims.smem < 0 || dims.smem > limit) {
    refuse(std::to_string(dims.smem) + " bytes of dynamic shared memory, sm_" +
           std::to_string(architecture) + " gives a block " + std::to_string(limit));
  }
  if (dims.cooperative && g.count() * b.count() > kMostThreads) {
    refuse("a cooperative grid must be resident as a whole");
  }
}

}  // namespace

void check_launch(const Dims& dims, const KernelCall& call) {
  check_config(dims, static_cast<const char*>(call.function));
  if (!options().check_pointers) return;
  for (int i = 0; i < call.count; ++i) {
    if (!call.are_pointers[i]) continue;
    const void* p = *static_cast<const void* const*>(call.arguments[i]);
    if (p == nullptr || device_region().holds(p) || pinned_region().holds(p)) continue;
    throw Error(Fault::pointer, function_name(call.function) + ": argument " + std::to_string(i) +
                                    " points to host memory");
  }
}

void run_kernel(const Dims& dims, const KernelCall& call, const char* arguments_begin,
                const char* arguments_end) {
  Launch launch;
  launch.dims = dims;
  launch.call = &call;
  launch.arguments_begin = arguments_begin;
  launch.arguments_end = arguments_end;
  const std::uint64_t seed = options().seed;
  launch.random.seed(seed * 0x9e3779b97f4a7c15u);
  launch.depth_first = seed % 3 != 0;
  launch.interruption = seed % 3 == 1 ? 4 : 32;
  new_phase();
  const DeviceOpen open;
  try {
    run_blocks(launch);
  } catch (...) {
    clean_up(launch);
    throw;
  }
}

Builtins& builtins() {
  return *current_builtins;
}
Thread* running() {
  return current;
}
AsHost::AsHost() : thread_(current) {
  current = nullptr;
}
AsHost::~AsHost() {
  current = thread_;
}

std::string name_of(const Thread& t) {
  const Extent& b = t.block->launch->dims.block;
  const uint3& i = t.block->index;
  return "block (" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) +
         ") thread (" + std::to_string(t.index % b.x) + "," + std::to_string(t.index / b.x % b.y) +
         "," + std::to_string(t.index / b.x / b.y) + ")";
}

void make_ready(Thread& t) {
  t.state = State::ready;
  t.block->launch->ready.push_back(&t);
}

void switch_away(Thread& t) {
  t.fiber->leave(false);
}

void progress(Thread& t) {
  t.block->launch->switches = 0;
}

void maybe_yield(Thread& t) {
  if (options().order != Order::random || t.block->launch->depth_first) return;
  make_ready(t);
  switch_away(t);
}

void fail(Thread& t, Fault fault, const std::string& text) {
  Launch& launch = *t.block->launch;
  if (!launch.error) {
    launch.error.emplace(fault, text + " [" + function_name(launch.call->function) + "]");
  }
  // Unwinding frees what the report was made of. The compiler's hooks must not throw: there the stack
  // is abandoned.
  if (!checking()) throw Failed{};
  t.fiber->leave(true);
  std::abort();  // the launch is over
}

void yield(Where where) {
  const AsHost host;
  Thread& t = host.thread();
  t.where = where;
  auto& ready = t.block->launch->ready;
  if (options().order == Order::fifo) {
    ready.push_back(&t);
  } else {
    ready.push_front(&t);  // behind all others
  }
  switch_away(t);
}

void trap(Where where) {
  const AsHost host;
  Thread& t = host.thread();
  fail(t, Fault::trap, "__trap() by " + name_of(t) + " at " + place_of(where));
}

void fence(Scope scope) {
  const AsHost host;
  if (checking()) order_fence(host.thread(), scope == Scope::block);
}

void before_atomic(void* word, std::size_t bytes, const void* caller) {
  const int one_in = options().order == Order::random ? options().atomic_yield : 0;
  Thread* running_thread = current;
  if (++running_thread->atomics > kAtomicsInARow ||
      (one_in > 0 && running_thread->block->launch->random() % one_in == 0)) {
    yield(Where::current());
  }
  const AsHost host;
  Thread& t = host.thread();
  if (reinterpret_cast<std::uintptr_t>(word) % bytes != 0) {
    fail(t, Fault::bounds,
         "misaligned atomic of " + std::to_string(bytes) + " bytes by " + name_of(t) + " at " +
             place_of(code_offset(caller)));
  }
  if (!checking()) return;
  if (!device_region().holds(word)) {
    check_foreign(t, word, bytes, code_offset(caller));
    return;
  }
  order_atomic(t, word);
  check_access(t, word, bytes, Access::atomic, code_offset(caller));
}

}  // namespace belfry::simt::host
