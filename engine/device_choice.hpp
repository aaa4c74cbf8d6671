// SPDX-License-Identifier: Apache-2.0
// Which device runs, from what a user says of it; and what is told of a GPU that cannot.
#pragma once

#include <functional>
#include <string>

#include "engine/error.hpp"
#include "kernels/core/backend.hpp"
#include "kernels/core/device.hpp"

namespace belfry {

/// "cpu"; "cuda" or "cuda:N": that GPU is made the process's, else Error(no_gpu); "auto": a GPU where there is
/// one that is no simulation, which `inform` is told of. Anything else: Error(usage). option: how messages name
/// the choice ("--device").
Backend choose_backend(const std::string& device, const std::string& option,
                       const std::function<void(const std::string&)>& inform);

/// A failure of the GPU as the user is told it: the one place that gives it an exit code.
Error error_of(const simt::DeviceFailure& failure, const std::string& where = "GPU");

}  // namespace belfry
