// SPDX-License-Identifier: Apache-2.0
// Values -> buckets without a vocabulary, as Keras's Hashing does it, and the placement of a unified
// (multiplexed) embedding: each feature is hashed several times, into tables that all features share.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace belfry {

using HashKey = std::array<std::uint64_t, 2>;

/// SipHash-2-4 with the two words of a 128-bit key.
std::uint64_t siphash64(std::string_view text, const HashKey& key);

struct HashingOptions {
  std::int64_t bins = 1;
  std::optional<HashKey> salt;      ///< SipHash under this key; unset: Fingerprint64
  std::optional<std::string> mask;  ///< this value alone has bucket 0, the others share the rest
};

/// A value's bucket, 0 .. bins - 1. Integers are hashed as their decimal text. Fewer bins than 1 (2 with a
/// mask): Error(usage).
class Hashing {
 public:
  explicit Hashing(HashingOptions options);
  std::int64_t bucket(std::string_view value) const;
  std::int64_t bucket(std::int64_t value) const { return bucket(std::to_string(value)); }

 private:
  HashingOptions options_;
};

/// One lookup of a unified embedding.
struct UnifiedChunk {
  int feature = 0, chunk = 0;
  int table = 0;
  HashKey salt() const {
    return {static_cast<std::uint64_t>(feature), static_cast<std::uint64_t>(chunk)};
  }
};

/// All lookups of features with so many chunks each, on `tables` tables in turn (one count over all chunks
/// of all features). Ordered by feature, then as the chunks stand in its vector: by number, or, as in TFRS,
/// by name (10 before 2).
std::vector<UnifiedChunk> place_chunks(const std::vector<std::int64_t>& chunks, std::int64_t tables,
                                       bool order_by_name);

}  // namespace belfry
