// SPDX-License-Identifier: Apache-2.0
// Versions of the libraries behind the backends, as they run, and what a backend runs on.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "kernels/core/context.hpp"

namespace belfry {

/// (name, version and chosen instruction set) of oneDNN, oneTBB, Highway.
std::vector<std::pair<std::string, std::string>> library_versions();

/// The name of the context's device: "cpu", or the GPU's.
std::string device_name(const Context& ctx);

/// The instruction set that Highway dispatches to on this processor, e.g. "AVX3".
std::string simd_target();

}  // namespace belfry
