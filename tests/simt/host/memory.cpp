// SPDX-License-Identifier: Apache-2.0
#include "host/memory.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "host/checker.hpp"
#include "host/options.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace belfry::simt::host {

namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::uintptr_t kDisguise = ~std::uintptr_t{0};
int open_scopes = 0;

std::size_t round_up(std::size_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

/// The check build keeps 33 bytes of notes a byte: it gets less.
std::size_t arena_bytes() {
  return checking() ? std::size_t{1} << 30 : std::size_t{64} << 30;
}

}  // namespace

void set_reachable([[maybe_unused]] const char* p, [[maybe_unused]] std::size_t bytes,
                   [[maybe_unused]] bool reachable) {
#if defined(__SANITIZE_ADDRESS__)
  if (reachable) {
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
  } else {
    ASAN_POISON_MEMORY_REGION(p, bytes);
  }
#endif
}

Region::Region(std::size_t reserve, bool is_device) : size_(reserve), is_device_(is_device) {
  void* memory = mmap(nullptr, reserve, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<char*>(memory);
  free_[base_] = reserve;
}

char* Region::take(std::size_t need) {
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second < need) continue;
    char* p = it->first;
    if (it->second > need) free_[p + need] = it->second - need;
    free_.erase(it);
    return p;
  }
  return nullptr;
}

char* Region::allocate(std::size_t bytes) {
  const std::size_t need = round_up(bytes + kRedZone);
  char* p = take(need);
  if (p == nullptr) return nullptr;
  void* token = std::malloc(1);
  live_[p] = {bytes, need, reinterpret_cast<std::uintptr_t>(token) ^ kDisguise};
  live_bytes_ += bytes;
  set_reachable(p, bytes, true);
  std::memset(p, 0xff, bytes);  // NaN, -1: what nobody wrote shows in results
  if (is_device_) {
    set_reachable(p, need, false);
    if (open_scopes > 0) set_reachable(p, bytes, true);
    note_allocated(p, bytes);
  }
  return p;
}

char* Region::carve(std::size_t bytes) {
  char* p = take(round_up(bytes));
  if (p == nullptr) throw std::bad_alloc();
  set_reachable(p, bytes, false);
  return p;
}

bool Region::free(char* p) {
  const auto found = live_.find(p);
  if (found == live_.end()) return false;
  const Allocation gone = found->second;
  live_.erase(found);
  live_bytes_ -= gone.bytes;
  std::free(reinterpret_cast<void*>(gone.hidden_token ^ kDisguise));
  set_reachable(p, gone.bytes, true);
  std::memset(p, 0xff, gone.bytes);
  if (is_device_) {
    set_reachable(p, gone.bytes, false);
    note_freed(p, gone.bytes);
  }
  auto next = free_.emplace(p, gone.reserved).first;
  if (const auto after = std::next(next);
      after != free_.end() && p + gone.reserved == after->first) {
    next->second += after->second;
    free_.erase(after);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == next->first) {
      before->second += next->second;
      free_.erase(next);
    }
  }
  return true;
}

bool Region::covers(const char* p, std::size_t bytes) const {
  auto it = live_.upper_bound(const_cast<char*>(p));
  if (it == live_.begin()) return false;
  --it;
  const std::size_t offset = static_cast<std::size_t>(p - it->first);
  return offset <= it->second.bytes && bytes <= it->second.bytes - offset;
}

std::string Region::describe(const char* p) const {
  auto it = live_.upper_bound(const_cast<char*>(p));
  if (it != live_.begin()) {
    --it;
    const std::size_t offset = static_cast<std::size_t>(p - it->first);
    if (offset < it->second.reserved) {
      return "device buffer of " + std::to_string(it->second.bytes) + " bytes at offset " +
             std::to_string(offset);
    }
  }
  return "device memory of no buffer";
}

Region& device_region() {
  static Region region(arena_bytes(), true);
  return region;
}
Region& pinned_region() {
  static Region region(std::size_t{8} << 30, false);
  return region;
}

char* make_slab() {
  return device_region().carve(kSlabBytes);
}

DeviceOpen::DeviceOpen() {
#if defined(__SANITIZE_ADDRESS__)
  if (open_scopes++ == 0) {
    for (const auto& [p, a] : device_region().live()) set_reachable(p, a.bytes, true);
  }
#endif
}
DeviceOpen::~DeviceOpen() {
#if defined(__SANITIZE_ADDRESS__)
  if (--open_scopes == 0) {
    for (const auto& [p, a] : device_region().live()) set_reachable(p, a.bytes, false);
  }
#endif
}

}  // namespace belfry::simt::host
