// SPDX-License-Identifier: Apache-2.0
// Digests of exact outputs (ids, orders, sums that are exact) in a test's result. A run on a GPU records them in
// validation/ledger.json, and `tools/ledger.py replay` demands them of the simulated device ever after.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry::test {

/// FNV-1a over the bytes of what is added.
class Digest {
 public:
  /// Nothing inexact: no float that a tolerance excuses elsewhere. All NaNs are one, since only their kind is
  /// told by contracts.
  template <class T>
  void add(std::span<T> values) {
    using Value = std::remove_const_t<T>;
    static_assert(
        std::has_unique_object_representations_v<Value> || std::is_floating_point_v<Value>,
        "Digest: padding would be hashed");
    for (const Value value : values) {
      std::byte bytes[sizeof(Value)];
      std::memcpy(bytes, &value, sizeof(Value));
      if constexpr (std::is_floating_point_v<Value>) {
        if (value != value) std::memset(bytes, 0xff, sizeof(Value));
      }
      for (const std::byte b : bytes) {
        hash_ = (hash_ ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
      }
    }
  }
  template <class T>
  void add(Matrix<T> values) {
    for (std::int64_t r = 0; r < values.rows; ++r) {
      add(std::span<T>(values.row(r), static_cast<std::size_t>(values.cols)));
    }
  }
  template <class T>
  void add(Vector<T> values) {
    add(std::span<T>(values.data, static_cast<std::size_t>(values.size)));
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325u;
};

/// `name` is unique in its test.
template <class T>
void record_digest(const std::string& name, std::span<const T> values) {
  Digest digest;
  digest.add(values);
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(digest.value()));
  ::testing::Test::RecordProperty("digest." + name, text);
}

/// For the tested_OP.hpp: adds what a call of `op` on the device left in host memory to the op's digest in the
/// running test. That is one of all different outputs, in whatever order they came, because the simulated
/// device repeats calls under several schedules. After a fault outputs may be anything, and are left out.
template <class... Views>
void record_outputs(const Context& ctx, const std::string& op, const Views&... outputs) {
  static const ::testing::TestInfo* test = nullptr;
  static std::map<std::string, std::set<std::uint64_t>> seen;  // of `test`
  const ::testing::TestInfo* now = ::testing::UnitTest::GetInstance()->current_test_info();
  if (now == nullptr || ctx.read_state().status != 0) return;
  if (now != test) seen.clear();
  test = now;
  Digest digest;
  (digest.add(outputs), ...);
  std::set<std::uint64_t>& all = seen[op];
  all.insert(digest.value());
  const std::vector<std::uint64_t> values(all.begin(), all.end());
  record_digest(op, std::span(values));
}

}  // namespace belfry::test
