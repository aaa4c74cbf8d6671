// SPDX-License-Identifier: Apache-2.0
// gather on the device: a thread takes four elements, whose reads are in flight together.
#include "kernels/gather/gather.hpp"

#include "kernels/core/block.cuh"

namespace belfry::cuda {
namespace gather_kernels {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;

template <class T, class I>
__global__ void __launch_bounds__(kThreads)
    gather(StepState* state, Vector<const T> source, Vector<const I> index, Vector<T> out) {
  const std::int64_t first = std::int64_t{blockIdx.x} * (kUnroll * kThreads) + threadIdx.x;
  std::int64_t at[kUnroll];
  T v[kUnroll];
  bool outside = false;
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const std::int64_t i = first + u * kThreads;
    at[u] = i < out.size ? static_cast<std::int64_t>(index[i]) : 0;  // 0 is inside, if any is
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const bool inside = at[u] >= 0 && at[u] < source.size;
    v[u] = inside ? source[at[u]] : T{0};
    outside |= !inside;
  }
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const std::int64_t i = first + u * kThreads;
    if (i < out.size) out[i] = v[u];
  }
  if (outside) raise_status(state, kStatusIdOutOfRange);
}

}  // namespace gather_kernels

template <class T, class I>
void gather(const Context& ctx, Vector<const T> source, Vector<const I> index, Vector<T> out) {
  if (out.empty()) return;
  namespace k = gather_kernels;
  simt::launch({.grid = static_cast<unsigned>(ceil_div(out.size, k::kThreads * k::kUnroll)),
                .block = k::kThreads,
                .stream = &ctx.stream()},
               k::gather<T, I>, ctx.state(), source, index, out);
}

#define BELFRY_GATHER(T)                                                                        \
  template void gather(const Context&, Vector<const T>, Vector<const std::int32_t>, Vector<T>); \
  template void gather(const Context&, Vector<const T>, Vector<const std::int64_t>, Vector<T>)
BELFRY_GATHER(std::int32_t);
BELFRY_GATHER(std::int64_t);
BELFRY_GATHER(float);

}  // namespace belfry::cuda
