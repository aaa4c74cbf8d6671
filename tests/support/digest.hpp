// SPDX-License-Identifier: Apache-2.0
// Digests of exact outputs (ids, orders, sums that are exact) in a test's result. A run on a GPU records them in
// validation/ledger.json, and `tools/ledger.py replay` demands them of the simulated device ever after.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <type_traits>

namespace belfry::test {

/// `name` is unique in its test. Nothing inexact: no float that a tolerance excuses elsewhere.
template <class T>
void record_digest(const std::string& name, std::span<const T> values) {
  static_assert(std::has_unique_object_representations_v<T> || std::is_floating_point_v<T>,
                "record_digest: padding would be hashed");
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const std::byte b : std::as_bytes(values)) {
    hash = (hash ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
  }
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  ::testing::Test::RecordProperty("digest." + name, text);
}

}  // namespace belfry::test
