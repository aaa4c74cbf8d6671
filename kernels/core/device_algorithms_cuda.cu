// SPDX-License-Identifier: Apache-2.0
// device_algorithms.hpp by CUB. Each call is made twice: once to learn how much scratch it wants, which is
// host arithmetic alone, so that a capture sees nothing but the second one's kernels.
#include <cuda_runtime_api.h>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <cuda/std/functional>

#include "kernels/core/device.hpp"
#include "kernels/core/device_algorithms.hpp"
#include "kernels/core/device_cuda.hpp"

namespace belfry::cuda {

namespace {

void check(cudaError_t code, const char* what) {
  // CUB queues work: what its kernels do wrong shows later, where somebody waits. What earlier ones did wrong
  // may show here.
  if (code != cudaSuccess) simt::raise(code, what);
}

/// call(scratch, bytes) as CUB wants it.
template <class F>
void with_scratch(const Context& ctx, const char* what, F&& call) {
  std::size_t bytes = 0;
  check(call(nullptr, bytes), what);
  const ArenaScope scope(ctx);
  // Never null, which would ask for the size again.
  auto* scratch = ctx.arena().take<std::byte>(static_cast<std::int64_t>(bytes) + 1);
  check(call(scratch, bytes), what);
}

cudaStream_t stream_of(const Context& ctx) {
  return static_cast<cudaStream_t>(ctx.stream().native());
}

template <class Key>
void sort(const Context& ctx, const Key* keys, const std::uint32_t* values, std::int64_t n,
          int begin_bit, int end_bit, Key* sorted_keys, std::uint32_t* sorted_values) {
  if (n == 0) return;
  with_scratch(ctx, "sorting on the device", [&](void* scratch, std::size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, sorted_keys, values, sorted_values,
                                           n, begin_bit, end_bit, stream_of(ctx));
  });
}

template <class In, class Out>
void scan(const Context& ctx, const In* in, std::int64_t n, Out* out) {
  if (n == 0) return;
  with_scratch(ctx, "a prefix sum on the device", [&](void* scratch, std::size_t& bytes) {
    return cub::DeviceScan::ExclusiveScan(scratch, bytes, in, out, ::cuda::std::plus<>{}, Out{0}, n,
                                          stream_of(ctx));
  });
}

}  // namespace

void sort_pairs(const Context& ctx, const std::uint64_t* keys, const std::uint32_t* values,
                std::int64_t n, int begin_bit, int end_bit, std::uint64_t* sorted_keys,
                std::uint32_t* sorted_values) {
  sort(ctx, keys, values, n, begin_bit, end_bit, sorted_keys, sorted_values);
}

void sort_pairs(const Context& ctx, const std::uint32_t* keys, const std::uint32_t* values,
                std::int64_t n, int begin_bit, int end_bit, std::uint32_t* sorted_keys,
                std::uint32_t* sorted_values) {
  sort(ctx, keys, values, n, begin_bit, end_bit, sorted_keys, sorted_values);
}

void exclusive_sum(const Context& ctx, const std::uint32_t* in, std::int64_t n,
                   std::uint32_t* out) {
  scan(ctx, in, n, out);
}

void exclusive_sum(const Context& ctx, const std::int32_t* in, std::int64_t n, std::int64_t* out) {
  scan(ctx, in, n, out);
}

}  // namespace belfry::cuda
