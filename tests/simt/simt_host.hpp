// SPDX-License-Identifier: Apache-2.0
// What kernels/core/simt.hpp becomes without nvcc: CUDA's language on the host executor.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "host/atomics.hpp"
#include "host/builtins.hpp"
#include "host/groups.hpp"
#include "host/intrinsics.hpp"
#include "host/matrix.hpp"
#include "host/warp.hpp"
