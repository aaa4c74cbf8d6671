// SPDX-License-Identifier: Apache-2.0
// The one header that a kernel file includes for the device's language. The same file is compiled by
// nvcc and, by an ordinary C++ compiler, against the host executor that the build puts under it.
//
// Written the CUDA way: threadIdx, __syncthreads, *_sync intrinsics, atomics, float4, __nv_bfloat16.
// Written our way: SIMT_SHARED(T, x), SIMT_SHARED_ARRAY(T, x, [32][33]), SIMT_DYN_SHARED(T, p) for shared
// memory, simt::launch for <<<>>>, simt::cg for cooperative groups, and the wrappers of PTX:
// simt::mma_m16n8k16_bf16, ldmatrix_x2/x4(_trans), converge, cp_async<Bytes>, cp_async_commit, cp_async_wait<N>.
#pragma once

#if defined(__CUDACC__)
#include "kernels/core/simt_cuda.hpp"
#elif defined(BELFRY_SIMT)
#include "simt_host.hpp"
#else
#error \
    "kernel files are compiled by nvcc, or by a C++ compiler with the SIMT executor (BELFRY_SIMT)"
#endif

#include "kernels/core/device.hpp"
