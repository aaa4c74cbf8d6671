// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace belfry {

/// Where memory lies and ops run.
enum class Backend { cpu, cuda };

constexpr const char* name_of(Backend backend) {
  return backend == Backend::cpu ? "cpu" : "cuda";
}

}  // namespace belfry
