// SPDX-License-Identifier: Apache-2.0
// Whether the current GPU can run this build's kernels: asked of a kernel that does nothing.
#include <cuda_runtime_api.h>

namespace belfry::simt {

namespace probe_kernels {
__global__ void probe() {}
}  // namespace probe_kernels

cudaError_t probe_architecture() {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, probe_kernels::probe);
}

}  // namespace belfry::simt
