// SPDX-License-Identifier: Apache-2.0
// find_non_finite on the device. A minimum of integers does not depend on the order of the atomics.
#include "kernels/non_finite/non_finite.hpp"

#include "kernels/core/matrix_parts.cuh"

namespace belfry::cuda {
namespace non_finite_kernels {

__device__ __forceinline__ bool is_finite(float x) {
  return (__float_as_uint(x) & 0x7F800000u) != 0x7F800000u;
}

/// *first starts at the largest number, which is -1 when read as signed.
__global__ void __launch_bounds__(kTileThreads)
    find(Matrix<const float> x, unsigned long long* first) {
  std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * kTileElements + threadIdx.x;
  std::int64_t found = -1;
  for_tile(x, blockIdx.x, [&](const float* const(&at)[kTileUnroll]) {
    float v[kTileUnroll];
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) v[u] = at[u] != nullptr ? *at[u] : 0.0f;
#pragma unroll
    for (int u = 0; u < kTileUnroll; ++u) {
      if (found < 0 && !is_finite(v[u])) found = e + u * kTileThreads;
    }
    e += kTileUnroll * kTileThreads;
  });
  if (found >= 0) atomicMin(first, static_cast<unsigned long long>(found));
}

}  // namespace non_finite_kernels

namespace k = non_finite_kernels;

void find_non_finite(const Context& ctx, Matrix<const float> x, std::int64_t* first) {
  simt::device_memset(first, 0xFF, sizeof *first, ctx.stream());
  if (x.empty()) return;
  simt::launch(tile_dims(ctx.stream(), tiles_of(x.rows, x.cols)), k::find, x,
               reinterpret_cast<unsigned long long*>(first));
}

}  // namespace belfry::cuda
