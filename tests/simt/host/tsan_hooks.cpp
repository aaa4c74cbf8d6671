// SPDX-License-Identifier: Apache-2.0
// What -fsanitize=thread makes the compiler call, defined by us instead of libtsan: loads and stores of
// kernels go to the checker. Linked into the check build only. Host code of the same files passes through.
#include <cstddef>
#include <cstdint>

#include "host/checker.hpp"
#include "host/launch_state.hpp"
#include "host/memory.hpp"
#include "host/symbols.hpp"

namespace {

using belfry::simt::host::Access;

const bool linked = (belfry::simt::host::enable_checking(), true);

inline void touch(const void* p, std::size_t bytes, Access access, const void* caller) {
  using namespace belfry::simt::host;
  Thread* t = running();
  if (t == nullptr || t->fiber->holds(p)) return;
  const AsHost host;
  const std::uint32_t code = code_offset(caller);
  if (device_region().holds(p)) {
    check_access(*t, p, bytes, access, code);
  } else {
    check_foreign(*t, p, bytes, code);
  }
}
/// Library calls, also those of the executor itself: the device's memory only.
inline void touch_device(const void* p, std::size_t bytes, Access access, const void* caller) {
  using namespace belfry::simt::host;
  Thread* t = running();
  if (t == nullptr || !device_region().holds(p)) return;
  const AsHost host;
  check_access(*t, p, bytes, access, code_offset(caller));
}

}  // namespace

#define HOOK __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

extern "C" {

HOOK void __tsan_init() {
  (void)linked;
  belfry::simt::host::enable_checking();
}
HOOK void __tsan_func_entry(void*) {}
HOOK void __tsan_func_exit() {}
HOOK void __tsan_vptr_read(void**) {}
HOOK void __tsan_vptr_update(void**, void*) {}

#define ACCESS_HOOKS(n)                                   \
  HOOK void __tsan_read##n(void* p) {                     \
    touch(p, n, Access::read, CALLER);                    \
  }                                                       \
  HOOK void __tsan_write##n(void* p) {                    \
    touch(p, n, Access::write, CALLER);                   \
  }                                                       \
  HOOK void __tsan_unaligned_read##n(void* p) {           \
    touch(p, n, Access::read, CALLER);                    \
  }                                                       \
  HOOK void __tsan_unaligned_write##n(void* p) {          \
    touch(p, n, Access::write, CALLER);                   \
  }                                                       \
  HOOK void __tsan_volatile_read##n(void* p) {            \
    touch(p, n, Access::read, CALLER);                    \
  }                                                       \
  HOOK void __tsan_volatile_write##n(void* p) {           \
    touch(p, n, Access::write, CALLER);                   \
  }                                                       \
  HOOK void __tsan_unaligned_volatile_read##n(void* p) {  \
    touch(p, n, Access::read, CALLER);                    \
  }                                                       \
  HOOK void __tsan_unaligned_volatile_write##n(void* p) { \
    touch(p, n, Access::write, CALLER);                   \
  }
ACCESS_HOOKS(1)
ACCESS_HOOKS(2)
ACCESS_HOOKS(4)
ACCESS_HOOKS(8)
ACCESS_HOOKS(16)

HOOK void __tsan_read_range(void* p, std::size_t n) {
  touch(p, n, Access::read, CALLER);
}
HOOK void __tsan_write_range(void* p, std::size_t n) {
  touch(p, n, Access::write, CALLER);
}

// std::atomic and the guards of function-local statics, in host code (and in kernels: plain atomics).
HOOK void __tsan_atomic_thread_fence(int) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
HOOK void __tsan_atomic_signal_fence(int) {}

#define ATOMIC_HOOKS(bits, T)                                                                   \
  HOOK T __tsan_atomic##bits##_load(const volatile T* p, int) {                                 \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                \
  }                                                                                             \
  HOOK void __tsan_atomic##bits##_store(volatile T* p, T v, int) {                              \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                             \
  HOOK T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) {                              \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                         \
  }                                                                                             \
  HOOK T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) {                             \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                          \
  }                                                                                             \
  HOOK T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) {                             \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                          \
  }                                                                                             \
  HOOK T __tsan_atomic##bits##_fetch_and(volatile T* p, T v, int) {                             \
    return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                                          \
  }                                                                                             \
  HOOK T __tsan_atomic##bits##_fetch_or(volatile T* p, T v, int) {                              \
    return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                                           \
  }                                                                                             \
  HOOK T __tsan_atomic##bits##_fetch_xor(volatile T* p, T v, int) {                             \
    return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST);                                          \
  }                                                                                             \
  HOOK bool __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* e, T v, int, int) { \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);     \
  }                                                                                             \
  HOOK bool __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* e, T v, int, int) {   \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);     \
  }
ATOMIC_HOOKS(8, std::uint8_t)
ATOMIC_HOOKS(16, std::uint16_t)
ATOMIC_HOOKS(32, std::uint32_t)
ATOMIC_HOOKS(64, std::uint64_t)

// Linked with --wrap: the compiler leaves these calls uninstrumented.
void* __real_memcpy(void* to, const void* from, std::size_t n);
void* __real_memmove(void* to, const void* from, std::size_t n);
void* __real_memset(void* p, int byte, std::size_t n);
void* __wrap_memcpy(void* to, const void* from, std::size_t n) {
  touch_device(from, n, Access::read, CALLER);
  touch_device(to, n, Access::write, CALLER);
  return __real_memcpy(to, from, n);
}
void* __wrap_memmove(void* to, const void* from, std::size_t n) {
  touch_device(from, n, Access::read, CALLER);
  touch_device(to, n, Access::write, CALLER);
  return __real_memmove(to, from, n);
}
void* __wrap_memset(void* p, int byte, std::size_t n) {
  touch_device(p, n, Access::write, CALLER);
  return __real_memset(p, byte, n);
}

}  // extern "C"
