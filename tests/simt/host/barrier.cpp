// SPDX-License-Identifier: Apache-2.0
// Barriers of a block and of a grid, what happens when a thread returns, and who waits for whom when
// nobody can run.
#include <cstring>
#include <map>
#include <sstream>
#include <tuple>

#include "host/checker.hpp"
#include "host/launch_state.hpp"
#include "host/memory.hpp"
#include "host/symbols.hpp"

namespace belfry::simt::host {

namespace {

bool same_place(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

/// All that will come are there: results are computed and everybody runs on.
void complete(Block& b) {
  int count = 0, all = 1;
  for (const Thread& t : b.threads) {
    if (t.state != State::at_barrier) continue;
    count += t.predicate != 0;
    all &= t.predicate != 0;
  }
  const int result = b.vote == Vote::count ? count : b.vote == Vote::all_of ? all : count != 0;
  if (checking()) order_barrier(b);
  b.waiting = 0;
  for (Thread& t : b.threads) {
    if (t.state != State::at_barrier) continue;
    t.vote = result;
    make_ready(t);
  }
}

void complete_grid(Launch& launch) {
  new_phase();
  launch.waiting_at_grid = 0;
  for (Block* b : launch.resident) {
    for (Thread& t : b->threads) {
      t.clock.segment = 0;
      if (t.state == State::at_grid) make_ready(t);
    }
  }
}

}  // namespace

int block_barrier(Vote vote, int predicate, Where where) {
  const AsHost host;
  Thread& t = host.thread();
  Block& b = *t.block;
  if (b.finished > 0 && options().strict_exit) {
    fail(t, Fault::barrier,
         "barrier at " + place_of(where) + " reached by " + name_of(t) + " after " +
             std::to_string(b.finished) + " threads of its block have returned");
  }
  if (b.waiting > 0 && !same_place(b.first_waiting->where, where)) {
    fail(t, Fault::barrier,
         "different barriers: " + name_of(t) + " at " + place_of(where) + ", " +
             name_of(*b.first_waiting) + " at " + place_of(b.first_waiting->where));
  }
  if (b.waiting++ == 0) b.first_waiting = &t;
  b.vote = vote;
  t.state = State::at_barrier;
  t.where = where;
  t.predicate = predicate;
  if (b.waiting + b.finished == b.threads.size()) {
    progress(t);
    complete(b);
  }
  switch_away(t);
  return t.vote;
}

void grid_barrier(Where where) {
  const AsHost host;
  Thread& t = host.thread();
  Launch& launch = *t.block->launch;
  if (!launch.dims.cooperative) {
    fail(t, Fault::barrier,
         "grid barrier at " + place_of(where) + " in a launch that is not cooperative");
  }
  t.state = State::at_grid;
  t.where = where;
  const std::uint64_t all = launch.dims.grid.count() * launch.dims.block.count();
  if (++launch.waiting_at_grid == all) {
    progress(t);
    complete_grid(launch);
  }
  switch_away(t);
}

void on_exit(Thread& t) {
  Block& b = *t.block;
  progress(t);
  ++b.finished;
  if (b.waiting > 0) {
    if (options().strict_exit) {
      fail(t, Fault::barrier,
           name_of(t) + " returns while " + std::to_string(b.waiting) +
               " threads of its block wait at the barrier at " + place_of(b.first_waiting->where));
    }
    if (b.waiting + b.finished == b.threads.size()) complete(b);
  }
  on_warp_exit(t);
}

std::string describe_deadlock(const Launch& launch) {
  // (block, state, place, mask) -> threads
  std::map<std::tuple<std::uint64_t, State, std::string, unsigned>, std::vector<std::uint32_t>>
      groups;
  for (const Block* b : launch.resident) {
    for (const Thread& t : b->threads) {
      const bool waits = t.state != State::finished;
      groups[{b->number, t.state, waits ? place_of(t.where) : "",
              t.state == State::at_warp ? t.mask : 0}]
          .push_back(t.index);
    }
  }
  std::ostringstream text;
  text << "deadlock";
  for (const auto& [key, threads] : groups) {
    const auto& [block, state, place, mask] = key;
    text << "; block " << block << " threads ";
    for (std::size_t i = 0; i < threads.size(); ++i) {  // runs as first-last
      std::size_t last = i;
      while (last + 1 < threads.size() && threads[last + 1] == threads[last] + 1) ++last;
      text << (i > 0 ? "," : "") << threads[i];
      if (last > i) text << "-" << threads[last];
      i = last;
    }
    switch (state) {
      case State::finished:
        text << " have returned";
        break;
      case State::at_barrier:
        text << " wait at the block barrier at " << place;
        break;
      case State::at_grid:
        text << " wait at the grid barrier at " << place;
        break;
      default:
        text << " wait at " << place << " for the lanes of mask 0x" << std::hex << mask << std::dec;
    }
  }
  return text.str();
}

void* shared_object(const void* key, std::size_t bytes, std::size_t align, Where where) {
  const AsHost host;
  Thread& t = host.thread();
  Block& b = *t.block;
  for (const SharedObject& object : b.shared) {
    if (object.key == key) return object.data;
  }
  constexpr std::size_t kStaticLimit = 48 * 1024;  // on every architecture
  const int architecture = options().architecture;
  const auto limit = static_cast<std::size_t>(shared_memory_limit(architecture));
  if (key != nullptr) b.static_bytes += bytes;
  const std::size_t all = b.static_bytes + static_cast<std::size_t>(b.launch->dims.smem);
  if (b.static_bytes > kStaticLimit || all > limit) {
    const bool only_static = b.static_bytes > kStaticLimit;
    fail(t, Fault::config,
         std::to_string(only_static ? b.static_bytes : all) + " bytes of " +
             (only_static ? "static shared memory" : "shared memory") + " (" +
             std::to_string(b.static_bytes) + " static, " + std::to_string(b.launch->dims.smem) +
             " dynamic) at " + place_of(where) + ", sm_" + std::to_string(architecture) +
             " gives a block " + std::to_string(only_static ? kStaticLimit : limit));
  }
  if (b.slab == nullptr) b.slab = make_slab();
  const std::size_t unit = std::max<std::size_t>(128, align);
  const std::size_t begin = (b.slab_used + unit - 1) / unit * unit;
  b.slab_used = begin + bytes + kRedZone;
  if (b.slab_used > kSlabBytes) fail(t, Fault::config, "too many shared objects in one block");
  char* data = b.slab + begin;
  set_reachable(data, bytes, true);
  std::memset(data, 0xff, bytes);  // NaN, -1
  note_shared(data, bytes);
  b.shared.push_back({key, data, bytes});
  return data;
}

void* dynamic_shared() {
  const auto bytes = static_cast<std::size_t>(running()->block->launch->dims.smem);
  return shared_object(nullptr, bytes, 128, Where::current());
}

}  // namespace belfry::simt::host
