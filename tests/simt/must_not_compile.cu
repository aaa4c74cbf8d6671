// SPDX-License-Identifier: Apache-2.0
// What would silently mean something else on the host is refused by the compiler. Compiled by tests only.
#include "kernels/core/simt.hpp"

#if defined(RAW_SHARED)
__global__ void raw_shared(int* out) {
  __shared__ int line[32];
  line[threadIdx.x] = 1;
  out[threadIdx.x] = line[threadIdx.x];
}
#elif defined(ACTIVE_MASK)
__global__ void active_mask(unsigned* out) {
  out[0] = __activemask();
}
#elif defined(ATOMIC_OF_INT64)
__global__ void atomic_of_int64(long* p) {
  atomicAdd(p, 1);
}
#else
__global__ void fine(int* out) {
  out[threadIdx.x] = 1;
}
#endif
