// SPDX-License-Identifier: Apache-2.0
// What an error of the CUDA runtime is told as: one mapping for all of the backend that calls it.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

namespace belfry::simt {

/// Throws the DeviceFailure that `code` stands for, after `what`. Any call may return the error of an earlier
/// kernel, so that every caller has to tell the sticky ones apart.
[[noreturn]] void raise(cudaError_t code, const std::string& what);

}  // namespace belfry::simt
