// SPDX-License-Identifier: Apache-2.0
#include "engine/hashing.hpp"

#include <gtest/gtest.h>

#include <set>

#include "engine/farmhash.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

/// The key 00 01 .. 0f and the text 00 01 .. of the paper that describes SipHash.
TEST(SipHash, PublishedValues) {
  const HashKey key{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
  std::string text;
  for (char c = 0; c < 15; ++c) text += c;
  EXPECT_EQ(siphash64(text, key), 0xa129ca6149be45e5u);
  EXPECT_EQ(siphash64("", key), 0x726fdb47dd0e0e31u);
  EXPECT_EQ(siphash64(text.substr(0, 8), key), 0x93f5f5799a932462u);
  EXPECT_EQ(siphash64(text.substr(0, 1), key), 0x74f839c593dc67fdu);
}

TEST(SipHash, LengthCountsBeyondTheBytes) {
  const HashKey key{1, 2};
  std::set<std::uint64_t> seen;
  for (std::size_t n = 0; n < 40; ++n) seen.insert(siphash64(std::string(n, '\0'), key));
  EXPECT_EQ(seen.size(), 40u);
  EXPECT_NE(siphash64("\xff", key), siphash64("\x7f", key));
  EXPECT_NE(siphash64("a", {1, 2}), siphash64("a", {2, 1}));
}

TEST(Hashing, BucketsAreRemaindersOfTheHash) {
  const Hashing plain({7, {}, {}});
  for (const char* text : {"", "a", "12", "-12", "\xff\xfe", "Star Wars (1977)"}) {
    EXPECT_EQ(plain.bucket(std::string_view(text)),
              static_cast<std::int64_t>(fingerprint64(text) % 7));
  }
  EXPECT_EQ(plain.bucket(-12), plain.bucket(std::string_view("-12")));
  const Hashing salted({7, HashKey{3, 4}, {}});
  EXPECT_EQ(salted.bucket(std::string_view("a")),
            static_cast<std::int64_t>(siphash64("a", {3, 4}) % 7));
  EXPECT_EQ(Hashing({1, {}, {}}).bucket(std::string_view("anything")), 0);
}

TEST(Hashing, AMaskHasABucketOfItsOwn) {
  const Hashing masked({5, HashKey{3, 4}, "0"});
  EXPECT_EQ(masked.bucket(0), 0);
  for (std::int64_t v = 1; v < 100; ++v) {
    EXPECT_EQ(masked.bucket(v),
              1 + static_cast<std::int64_t>(siphash64(std::to_string(v), {3, 4}) % 4));
  }
  EXPECT_NE(masked.bucket(std::string_view("")), 0);
}

TEST(Hashing, TooFewBuckets) {
  EXPECT_EQ(error_of([] { Hashing({0, {}, {}}); }).code(), ExitCode::usage);
  EXPECT_EQ(error_of([] { Hashing({-3, {}, {}}); }).code(), ExitCode::usage);
  EXPECT_EQ(error_of([] { Hashing({1, {}, "0"}); }).code(), ExitCode::usage);
}

TEST(PlaceChunks, TablesTakeTurnsOverAllFeatures) {
  const auto chunks = place_chunks({2, 0, 3}, 2, false);
  ASSERT_EQ(chunks.size(), 5u);
  const int feature[] = {0, 0, 2, 2, 2}, chunk[] = {0, 1, 0, 1, 2}, table[] = {0, 1, 0, 1, 0};
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(chunks[i].feature, feature[i]);
    EXPECT_EQ(chunks[i].chunk, chunk[i]);
    EXPECT_EQ(chunks[i].table, table[i]);
  }
  EXPECT_EQ(chunks[4].salt(), (HashKey{2, 2}));
  EXPECT_TRUE(place_chunks({}, 1, true).empty());
  EXPECT_EQ(error_of([] { place_chunks({1}, 0, false); }).code(), ExitCode::usage);
}

TEST(PlaceChunks, NameOrderPutsTenBeforeTwoAndKeepsTheTables) {
  const auto chunks = place_chunks({1, 12}, 5, true);
  const int order[] = {0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9};
  for (std::size_t i = 0; i < 12; ++i) {
    EXPECT_EQ(chunks[i + 1].chunk, order[i]);
    EXPECT_EQ(chunks[i + 1].table, (order[i] + 1) % 5);
  }
}

}  // namespace
}  // namespace belfry::test
