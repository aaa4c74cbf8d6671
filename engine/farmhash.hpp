// SPDX-License-Identifier: Apache-2.0
// FarmHash's Fingerprint64, which TensorFlow's lookups use for out-of-vocabulary buckets. The values are
// the same on every machine.
#pragma once

#include <cstdint>
#include <string_view>

namespace belfry {

std::uint64_t fingerprint64(std::string_view text);

}  // namespace belfry
