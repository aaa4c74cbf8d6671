// SPDX-License-Identifier: Apache-2.0
// The executor's face towards kernels, part 1: indices, shared memory, barriers, fences.
#pragma once

#include <vector_functions.h>
#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <type_traits>

// Accesses inside are not seen by the check build; so they must not be inlined into kernels there.
#if defined(__SANITIZE_THREAD__)
#define SIMT_UNCHECKED __attribute__((no_sanitize_thread, noinline))
#else
#define SIMT_UNCHECKED
#endif

namespace belfry::simt::host {

struct Thread;
using Where = std::source_location;

/// The built-in variables of a thread; lie at the top of its stack.
struct Builtins {
  uint3 thread_index, block_index;
  dim3 block_dim, grid_dim;
  Thread* thread;
};
/// Of the calling thread. One answer in the whole life of a thread, hence const.
Builtins& builtins() __attribute__((const));

enum class Vote { none, count, all_of, any_of };
int block_barrier(Vote vote, int predicate, Where where);
void grid_barrier(Where where);
enum class Scope { block, device };
void fence(Scope scope);
void yield(Where where);
[[noreturn]] void trap(Where where);

/// The calling block's object of the declaration that owns `key`, filled with 0xFF when new.
void* shared_object(const void* key, std::size_t bytes, std::size_t align, Where where);
void* dynamic_shared();

template <class T>
T& shared(const void* key, Where where) {
  static_assert(std::is_trivially_destructible_v<T>, "shared memory is raw: no destructors");
  return *static_cast<T*>(shared_object(key, sizeof(T), alignof(T), where));
}

}  // namespace belfry::simt::host

#define threadIdx (::belfry::simt::host::builtins().thread_index)
#define blockIdx (::belfry::simt::host::builtins().block_index)
#define blockDim (::belfry::simt::host::builtins().block_dim)
#define gridDim (::belfry::simt::host::builtins().grid_dim)
inline constexpr int warpSize = 32;

// Raw __shared__ would silently become one variable for all blocks.
#undef __shared__
#define __shared__ static_assert(false, "shared memory is declared with SIMT_SHARED");
#undef __launch_bounds__
#define __launch_bounds__(...)
#ifndef __global__
#define __global__
#endif
#ifndef __device__
#define __device__
#endif
#ifndef __host__
#define __host__
#endif
#ifndef __grid_constant__
#define __grid_constant__
#endif

#define SIMT_SHARED(T, name)                \
  static const char simt_key_of_##name = 0; \
  auto& name =                              \
      ::belfry::simt::host::shared<T>(&simt_key_of_##name, ::std::source_location::current())
#define SIMT_SHARED_ARRAY(T, name, dims)                          \
  static const char simt_key_of_##name = 0;                       \
  using simt_type_of_##name = T dims;                             \
  auto& name = ::belfry::simt::host::shared<simt_type_of_##name>( \
      &simt_key_of_##name, ::std::source_location::current())
#define SIMT_DYN_SHARED(T, name) T* name = static_cast<T*>(::belfry::simt::host::dynamic_shared())

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  belfry::simt::host::block_barrier(belfry::simt::host::Vote::none, 0, where);
}
inline int __syncthreads_count(int predicate,
                               std::source_location where = std::source_location::current()) {
  return belfry::simt::host::block_barrier(belfry::simt::host::Vote::count, predicate, where);
}
inline int __syncthreads_and(int predicate,
                             std::source_location where = std::source_location::current()) {
  return belfry::simt::host::block_barrier(belfry::simt::host::Vote::all_of, predicate, where);
}
inline int __syncthreads_or(int predicate,
                            std::source_location where = std::source_location::current()) {
  return belfry::simt::host::block_barrier(belfry::simt::host::Vote::any_of, predicate, where);
}
inline void __threadfence_block() {
  belfry::simt::host::fence(belfry::simt::host::Scope::block);
}
inline void __threadfence() {
  belfry::simt::host::fence(belfry::simt::host::Scope::device);
}
inline void __threadfence_system() {
  belfry::simt::host::fence(belfry::simt::host::Scope::device);
}
inline void __nanosleep(unsigned, std::source_location where = std::source_location::current()) {
  belfry::simt::host::yield(where);
}
[[noreturn]] inline void __trap(std::source_location where = std::source_location::current()) {
  belfry::simt::host::trap(where);
}
