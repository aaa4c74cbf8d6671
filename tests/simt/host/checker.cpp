// SPDX-License-Identifier: Apache-2.0
#include "host/checker.hpp"

#include <sys/mman.h>

#include <array>
#include <cstring>
#include <new>
#include <string>

#include "host/launch_state.hpp"
#include "host/memory.hpp"
#include "host/symbols.hpp"

namespace belfry::simt {

namespace host {

namespace {

bool enabled = false;

// flags of a byte
constexpr std::uint8_t kAddressable = 1;
constexpr std::uint8_t kWritten = 2;

constexpr std::uint32_t kAtomicBit = std::uint32_t{1} << 31;

struct Stamp {
  std::uint32_t segment = 0;  // 0: none
  std::uint32_t code = 0;     // and kAtomicBit
  bool atomic() const { return code & kAtomicBit; }
};

/// Last plain write, and three reads or atomics of different threads: enough that a later conflicting
/// access of any thread still meets one that is not its own.
struct Cell {
  Stamp writer;
  std::array<Stamp, 3> shared;
};
static_assert(sizeof(Cell) == 32);

struct Shadow {
  char* base = nullptr;
  std::uint8_t* flags = nullptr;
  Cell* cells = nullptr;
};

void* reserve(std::size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return p;
}

Shadow make_shadow() {
  const Region& region = device_region();
  return {region.base(), static_cast<std::uint8_t*>(reserve(region.size())),
          static_cast<Cell*>(reserve(region.size() * sizeof(Cell)))};
}

Shadow& shadow() {
  static Shadow s = make_shadow();
  return s;
}

void set_flags(const char* p, std::size_t bytes, std::uint8_t flags) {
  if (!enabled || bytes == 0) return;
  Shadow& s = shadow();
  std::memset(s.flags + (p - s.base), flags, bytes);
}

std::string place(const Thread& t, const void* p) {
  const auto* c = static_cast<const char*>(p);
  const Block& b = *t.block;
  if (b.slab != nullptr && c >= b.slab && c < b.slab + kSlabBytes) {
    std::string text = "shared memory";
    for (const SharedObject& object : b.shared) {  // the last one that begins below
      if (c >= object.data) {
        text = "shared memory, object of " + std::to_string(object.bytes) + " bytes at offset " +
               std::to_string(c - object.data);
      }
    }
    return text;
  }
  return device_region().describe(c);
}

const char* verb(Access access) {
  switch (access) {
    case Access::read:
      return "read";
    case Access::write:
      return "write";
    default:
      return "atomic";
  }
}

[[noreturn]] void report(Thread& t, Fault fault, const std::string& what, const void* p,
                         std::size_t bytes, Access access, std::uint32_t code,
                         const std::string& more = "") {
  fail(t, fault,
       what + ": " + verb(access) + " of " + std::to_string(bytes) + " bytes by " + name_of(t) +
           " at " + place_of(code) + ", " + place(t, p) + more);
}

[[noreturn]] void report_race(Thread& t, const void* p, std::size_t bytes, Access access,
                              std::uint32_t code, const Stamp& other, bool other_wrote) {
  report(t, Fault::race, "data race", p, bytes, access, code,
         std::string("; not ordered after the ") +
             (other_wrote ? "write" : (other.atomic() ? "atomic" : "read")) + " by " +
             thread_of(other.segment, t) + " at " + place_of(other.code & ~kAtomicBit));
}

/// Whom a new access displaces when all three places are taken by accesses unordered with it.
Stamp* displaced(Cell& cell, const Stamp& now) {
  Stamp* same = nullptr;
  Stamp* different = nullptr;
  int count = 0;
  bool several_warps = false;
  for (Stamp& s : cell.shared) {
    if (s.atomic() != now.atomic()) {
      different = &s;
      continue;
    }
    several_warps |= same != nullptr && warp_of(same->segment) != warp_of(s.segment);
    same = &s;
    ++count;
  }
  if (count < 2) return different;
  if (several_warps || warp_of(same->segment) == warp_of(now.segment)) return nullptr;
  return same;  // so that two warps are remembered
}

/// Keeps three that matter: one of each kind survives, and threads differ.
void remember(Cell& cell, const Stamp& now, const Thread& t) {
  Stamp* victim = nullptr;
  for (Stamp& s : cell.shared) {
    if (s.segment == now.segment && s.atomic() == now.atomic()) return;
    if (s.segment == 0) {
      if (victim == nullptr) victim = &s;
    } else if (s.atomic() == now.atomic() && ordered_before(s.segment, t)) {
      victim = &s;  // whoever comes after `now` comes after this one too
    }
  }
  if (victim == nullptr) victim = displaced(cell, now);
  if (victim != nullptr) *victim = now;
}

void visit(Cell& cell, Thread& t, const void* p, std::size_t bytes, Access access,
           const Stamp& now) {
  const std::uint32_t code = now.code & ~kAtomicBit;
  if (cell.writer.segment != 0 && cell.writer.segment != now.segment &&
      !ordered_before(cell.writer.segment, t)) {
    report_race(t, p, bytes, access, code, cell.writer, true);
  }
  for (const Stamp& s : cell.shared) {
    if (s.segment == 0 || s.segment == now.segment) continue;
    const bool conflict = access == Access::write || s.atomic() != (access == Access::atomic);
    if (conflict && !ordered_before(s.segment, t)) {
      report_race(t, p, bytes, access, code, s, false);
    }
  }
  if (access == Access::write) {
    cell.writer = now;
    cell.shared = {};  // all of them come before this write
  } else {
    remember(cell, now, t);
  }
}

}  // namespace

void enable_checking() {
  enabled = true;
}

void note_allocated(const char* p, std::size_t bytes) {
  set_flags(p, bytes, kAddressable);
}
void note_freed(const char* p, std::size_t bytes) {
  set_flags(p, bytes, 0);
}
void note_host_write(const char* p, std::size_t bytes) {
  set_flags(p, bytes, kAddressable | kWritten);
}
void want_written(const char* p, std::size_t bytes, const char* what) {
  if (!enabled || bytes == 0) return;
  const std::uint8_t* flags = shadow().flags + (p - shadow().base);
  for (std::size_t i = 0; i < bytes; ++i) {
    if (flags[i] & kWritten) continue;
    throw Error(Fault::uninit, std::string(what) + " is read before it is written: " +
                                   device_region().describe(p + i));
  }
}
void note_undefined(const char* p, std::size_t bytes) {
  set_flags(p, bytes, kAddressable);
}
void note_shared(const char* p, std::size_t bytes) {
  if (!enabled || bytes == 0) return;
  set_flags(p, bytes, kAddressable);
  Shadow& s = shadow();
  std::memset(static_cast<void*>(s.cells + (p - s.base)), 0, bytes * sizeof(Cell));
}

void check_access(Thread& t, const void* p, std::size_t bytes, Access access, std::uint32_t code) {
  if (!enabled) return;
  Shadow& s = shadow();
  const std::size_t offset = static_cast<std::size_t>(static_cast<const char*>(p) - s.base);
  std::uint8_t* flags = s.flags + offset;
  for (std::size_t i = 0; i < bytes; ++i) {
    if (!(flags[i] & kAddressable))
      report(t, Fault::bounds, "out of bounds", p, bytes, access, code);
  }
  if (access != Access::write) {
    for (std::size_t i = 0; i < bytes; ++i) {
      if (!(flags[i] & kWritten)) {
        report(t, Fault::uninit, "memory read before it is written", p, bytes, access, code);
      }
    }
  }
  const Stamp now{current_segment(t), code | (access == Access::atomic ? kAtomicBit : 0)};
  Cell* cells = s.cells + offset;
  for (std::size_t i = 0; i < bytes; ++i) visit(cells[i], t, p, bytes, access, now);
  if (access == Access::write) std::memset(flags, kAddressable | kWritten, bytes);
}

void check_foreign(Thread& t, const void* p, std::size_t bytes, std::uint32_t code) {
  const auto* c = static_cast<const char*>(p);
  const Launch& launch = *t.block->launch;
  if (t.fiber->holds(p) || (c >= launch.arguments_begin && c < launch.arguments_end)) return;
  if (pinned_region().holds(p) || in_program(p)) return;
  fail(t, Fault::pointer,
       "memory that the device cannot reach: access of " + std::to_string(bytes) + " bytes by " +
           name_of(t) + " at " + place_of(code));
}

}  // namespace host

bool checking() {
  return host::enabled;
}

Build build() {
#if defined(__SANITIZE_ADDRESS__)
  return Build::asan;
#else
  return checking() ? Build::check : Build::plain;
#endif
}

}  // namespace belfry::simt
