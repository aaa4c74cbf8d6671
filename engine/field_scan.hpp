// SPDX-License-Identifier: Apache-2.0
// Where fields and lines may end: one bit a byte, found many bytes at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace belfry {

/// Bytes that may be read (not used) behind `size` bytes of data, and that the bits cover.
inline constexpr std::size_t kScanPadding = 64;

/// Sets bit i of `bits` where data[i] is the delimiter, a line feed or a carriage return, for i < size;
/// the other bits of the last word are cleared. `bits` holds size / 64 + 1 words; kScanPadding bytes
/// behind `size` are readable.
void mark_structure(const char* data, std::size_t size, char delimiter, std::uint64_t* bits);

}  // namespace belfry
