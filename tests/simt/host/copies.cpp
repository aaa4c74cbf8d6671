// SPDX-License-Identifier: Apache-2.0
// cp.async: the target is destroyed at once and filled at the wait, so that whoever reads too early
// reads 0xFF (and, in the check build, memory that was never written).
#include <cstring>

#include "host/checker.hpp"
#include "host/launch_state.hpp"
#include "host/matrix.hpp"
#include "host/memory.hpp"
#include "host/symbols.hpp"

namespace belfry::simt::host {

namespace {

void perform(Thread& t, const AsyncCopy& c) {
  std::memcpy(c.to, c.from, static_cast<std::size_t>(c.valid));
  std::memset(c.to + c.valid, 0, static_cast<std::size_t>(c.bytes - c.valid));
  check_access(t, c.to, static_cast<std::size_t>(c.bytes), Access::write, c.code);
}

template <class F>
void perform_if(Thread& t, F&& due) {
  std::size_t kept = 0;
  for (const AsyncCopy& c : t.copies) {
    if (due(c)) {
      perform(t, c);
    } else {
      t.copies[kept++] = c;
    }
  }
  t.copies.resize(kept);
}

bool is_shared(const Block& b, const void* p) {
  const auto* c = static_cast<const char*>(p);
  return b.slab != nullptr && c >= b.slab && c < b.slab + kSlabBytes;
}

}  // namespace

void start_copy(void* shared, const void* global, int bytes, int valid, const void* caller) {
  const AsHost host;
  Thread& t = host.thread();
  const std::uint32_t code = code_offset(caller);
  const auto refuse = [&](Fault fault, const char* why) {
    fail(t, fault, std::string("cp_async by ") + name_of(t) + " at " + place_of(code) + ": " + why);
  };
  const auto misaligned = [&](const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % static_cast<std::uintptr_t>(bytes) != 0;
  };
  if (misaligned(shared) || misaligned(global)) refuse(Fault::bounds, "misaligned");
  if (valid < 0 || valid > bytes) refuse(Fault::bounds, "valid bytes out of range");
  if (!is_shared(*t.block, shared)) refuse(Fault::pointer, "the target is not in shared memory");
  if (!device_region().holds(global) || is_shared(*t.block, global)) {
    if (valid > 0) refuse(Fault::pointer, "the source is not in global memory");
  }
  const auto size = static_cast<std::size_t>(bytes);
  check_access(t, shared, size, Access::write, code);
  if (valid > 0) check_access(t, global, static_cast<std::size_t>(valid), Access::read, code);
  std::memset(shared, 0xff, size);
  if (checking()) note_undefined(static_cast<const char*>(shared), size);
  t.copies.push_back(
      {static_cast<char*>(shared), static_cast<const char*>(global), bytes, valid, code, -1});
}

void commit_copies() {
  const AsHost host;
  Thread& t = host.thread();
  for (AsyncCopy& c : t.copies) {
    if (c.group < 0) c.group = t.copy_groups;
  }
  ++t.copy_groups;
}

void wait_copies(int newest) {
  const AsHost host;
  Thread& t = host.thread();
  perform_if(t,
             [&](const AsyncCopy& c) { return c.group >= 0 && c.group < t.copy_groups - newest; });
}

void finish_copies(Thread& t) {
  perform_if(t, [](const AsyncCopy&) { return true; });
}

}  // namespace belfry::simt::host
