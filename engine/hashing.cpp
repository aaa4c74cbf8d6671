// SPDX-License-Identifier: Apache-2.0
#include "engine/hashing.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "engine/error.hpp"
#include "engine/farmhash.hpp"

namespace belfry {
namespace {

/// Up to eight bytes, the first one lowest.
std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    word |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  return word;
}

struct SipState {
  std::uint64_t a, b, c, d;

  void round() {
    a += b;
    c += d;
    b = std::rotl(b, 13) ^ a;
    d = std::rotl(d, 16) ^ c;
    a = std::rotl(a, 32);
    c += b;
    a += d;
    b = std::rotl(b, 17) ^ c;
    d = std::rotl(d, 21) ^ a;
    c = std::rotl(c, 32);
  }
  void absorb(std::uint64_t word) {
    d ^= word;
    round();
    round();
    a ^= word;
  }
};

}  // namespace

std::uint64_t siphash64(std::string_view text, const HashKey& key) {
  // The constants spell "somepseudorandomlygeneratedbytes".
  SipState state{key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                 key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
  const std::uint64_t size = text.size();
  for (; text.size() >= 8; text.remove_prefix(8)) state.absorb(little_endian(text.substr(0, 8)));
  state.absorb(little_endian(text) | size << 56);
  state.c ^= 0xff;
  for (int i = 0; i < 4; ++i) state.round();
  return state.a ^ state.b ^ state.c ^ state.d;
}

Hashing::Hashing(HashingOptions options) : options_(std::move(options)) {
  const std::int64_t least = options_.mask ? 2 : 1;
  if (options_.bins < least) {
    throw Error(ExitCode::usage, "",
                "hashing needs " + std::to_string(least) + " or more buckets, not " +
                    std::to_string(options_.bins));
  }
}

std::int64_t Hashing::bucket(std::string_view value) const {
  if (options_.mask == value) return 0;
  const std::int64_t first = options_.mask ? 1 : 0;
  const std::uint64_t hash =
      options_.salt ? siphash64(value, *options_.salt) : fingerprint64(value);
  return first +
         static_cast<std::int64_t>(hash % static_cast<std::uint64_t>(options_.bins - first));
}

std::vector<UnifiedChunk> place_chunks(const std::vector<std::int64_t>& chunks, std::int64_t tables,
                                       bool order_by_name) {
  if (tables < 1) throw Error(ExitCode::usage, "", "a unified embedding needs a table");
  std::vector<UnifiedChunk> out;
  for (std::size_t f = 0; f < chunks.size(); ++f) {
    const auto first = static_cast<std::ptrdiff_t>(out.size());
    for (std::int64_t c = 0; c < chunks[f]; ++c) {
      out.push_back({static_cast<int>(f), static_cast<int>(c),
                     static_cast<int>(static_cast<std::int64_t>(out.size()) % tables)});
    }
    if (!order_by_name) continue;
    std::sort(out.begin() + first, out.end(), [](const UnifiedChunk& a, const UnifiedChunk& b) {
      return std::to_string(a.chunk) < std::to_string(b.chunk);
    });
  }
  return out;
}

}  // namespace belfry
