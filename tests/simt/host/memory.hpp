// SPDX-License-Identifier: Apache-2.0
// The device's memory: one reserved arena for device buffers and blocks' shared memory, another for
// pinned host memory. Between any two objects lie bytes that belong to nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace belfry::simt::host {

inline constexpr std::size_t kRedZone = 256;
inline constexpr std::size_t kSlabBytes = 512 << 10;  // 227 KiB of shared memory and its red zones

/// First-fit allocator over an address range.
class Region {
 public:
  Region(std::size_t reserve, bool is_device);
  bool holds(const void* p) const {
    return static_cast<std::size_t>(static_cast<const char*>(p) - base_) < size_;
  }
  char* base() const { return base_; }
  std::size_t size() const { return size_; }

  /// nullptr when full.
  char* allocate(std::size_t bytes);
  /// Space for ever, outside of all accounts and untouched.
  char* carve(std::size_t bytes);
  /// False if p was never allocated, or is free.
  bool free(char* p);
  /// True if [p, p + bytes) lies in one allocation.
  bool covers(const char* p, std::size_t bytes) const;
  /// "device buffer of 400 bytes, offset 400".
  std::string describe(const char* p) const;
  std::size_t live_bytes() const { return live_bytes_; }

  struct Allocation {
    std::size_t bytes, reserved;
    std::uintptr_t
        hidden_token;  // a heap block that only this disguised address keeps: LSan sees leaks
  };
  const std::map<char*, Allocation>& live() const { return live_; }

 private:
  char* take(std::size_t need);

  char* base_ = nullptr;
  std::size_t size_ = 0;
  bool is_device_;
  std::map<char*, std::size_t> free_;
  std::map<char*, Allocation> live_;
  std::size_t live_bytes_ = 0;
};

Region& device_region();
Region& pinned_region();

/// A slab for a block's shared memory; lives as long as the process.
char* make_slab();

/// ASan: device memory is poisoned while host code runs. Opens it for a scope (a kernel, a copy).
class DeviceOpen {
 public:
  DeviceOpen();
  ~DeviceOpen();
  DeviceOpen(const DeviceOpen&) = delete;
  DeviceOpen& operator=(const DeviceOpen&) = delete;
};
/// ASan: opens or closes one range (shared objects of a running block).
void set_reachable(const char* p, std::size_t bytes, bool reachable);

}  // namespace belfry::simt::host
