// SPDX-License-Identifier: Apache-2.0
// A candidate of a ranking as one integer, on the CPU (the device's are in topk_key.cuh).
#pragma once

#include <bit>
#include <cstdint>

namespace belfry::cpu::topk {

/// A candidate as one integer whose order is the list's order: larger score first, then smaller row.
/// Keys of one query are distinct. The key of -0 is that of +0, as their scores are equal.
using Key = std::int64_t;
inline constexpr Key kNoKey = INT64_MIN;  ///< below the key of any score, -inf included

inline Key make_key(float score, std::int32_t row) {
  const auto bits = std::bit_cast<std::int32_t>(score + 0.0f);
  const std::int32_t ordered = bits ^ ((bits >> 31) & INT32_MAX);
  return static_cast<Key>((static_cast<std::uint64_t>(static_cast<std::uint32_t>(ordered)) << 32) |
                          static_cast<std::uint32_t>(~row));
}
inline float score_of(Key key) {
  const auto ordered = static_cast<std::int32_t>(key >> 32);
  return std::bit_cast<float>(ordered ^ ((ordered >> 31) & INT32_MAX));
}
inline std::int32_t row_of(Key key) {
  return ~static_cast<std::int32_t>(key & 0xFFFFFFFF);
}

}  // namespace belfry::cpu::topk
