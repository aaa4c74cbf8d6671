// SPDX-License-Identifier: Apache-2.0
// Versions of the libraries behind the CPU backend, as they run (for `belfry doctor`).
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace belfry {

/// (name, version and chosen instruction set) of oneDNN, oneTBB, Highway.
std::vector<std::pair<std::string, std::string>> library_versions();

/// The instruction set that Highway dispatches to on this processor, e.g. "AVX3".
std::string simd_target();

}  // namespace belfry
