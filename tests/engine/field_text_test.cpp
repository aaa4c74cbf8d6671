// SPDX-License-Identifier: Apache-2.0
// Numbers and texts of single fields, and the marks of the field scanner.
#include "engine/field_text.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <random>
#include <vector>

#include "engine/field_scan.hpp"

namespace belfry::test {
namespace {

TEST(FieldText, RealsAreRoundedLikeStrtod) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200'000; ++i) {
    std::string text;
    const int before = static_cast<int>(random() % 17), after = static_cast<int>(random() % 17);
    for (int n = 0; n < before; ++n) text += static_cast<char>('0' + random() % 10);
    if (random() % 3 != 0) text += '.';
    for (int n = 0; n < after; ++n) text += static_cast<char>('0' + random() % 10);
    if (random() % 5 == 0) text += "e-" + std::to_string(random() % 30);
    if (random() % 4 == 0) text.insert(0, "-");
    char* end = nullptr;
    const double expected = std::strtod(text.c_str(), &end);
    double value = 0;
    const bool good = parse_real(text, value);
    ASSERT_EQ(good, !text.empty() && end == text.c_str() + text.size()) << text;
    if (good) {
      ASSERT_EQ(std::bit_cast<std::uint64_t>(value), std::bit_cast<std::uint64_t>(expected))
          << text;
    }
  }
}

TEST(FieldText, RealsAtTheLimits) {
  double value = 0;
  for (const char* text : {"1.7976931348623157e308", "5e-324", "-0", "000000000000000000001",
                           "1234567890123456", "0.000000000000001", "999999999999999"}) {
    EXPECT_TRUE(parse_real(text, value)) << text;
    EXPECT_EQ(value, std::strtod(text, nullptr)) << text;
  }
  for (const char* text : {"1.8e308",
                           "-1e999",
                           "nan",
                           "NaN",
                           "inf",
                           "-Infinity",
                           "-nan",
                           "0x10",
                           "",
                           ".",
                           "-.",
                           "e5",
                           "1e",
                           "1e+",
                           "1 ",
                           " 1",
                           "+1",
                           "1,5",
                           "1.2.3",
                           "--1",
                           "1234567890123456x",
                           "1.",
                           "12345678901234567."}) {
    const bool pointed = std::string_view(text).ends_with(".") && std::string_view(text).size() > 2;
    EXPECT_EQ(parse_real(text, value), pointed || std::string_view(text) == "1.") << text;
  }
}

TEST(FieldText, Integers) {
  std::int64_t value = 0;
  EXPECT_TRUE(parse_integer("-9223372036854775808", value));
  EXPECT_EQ(value, std::numeric_limits<std::int64_t>::min());
  for (const char* text : {"", "-", "+1", "1.0", "1e3", " 1", "1 ", "0x1", "9223372036854775808"}) {
    EXPECT_FALSE(parse_integer(text, value)) << text;
  }
}

/// Every text of up to three bytes from the interesting ones, against a decoder by the book.
TEST(FieldText, Utf8) {
  const auto by_the_book = [](const std::string& text) {
    for (std::size_t i = 0; i < text.size();) {
      const auto c = static_cast<unsigned char>(text[i]);
      const int n = c < 0x80             ? 1
                    : (c & 0xe0) == 0xc0 ? 2
                    : (c & 0xf0) == 0xe0 ? 3
                    : (c & 0xf8) == 0xf0 ? 4
                                         : 0;
      if (n == 0 || i + static_cast<std::size_t>(n) > text.size()) return false;
      std::uint32_t code = n == 1 ? c : c & (0x7fu >> n);
      for (int k = 1; k < n; ++k) {
        const auto next = static_cast<unsigned char>(text[i + static_cast<std::size_t>(k)]);
        if ((next & 0xc0) != 0x80) return false;
        code = (code << 6) | (next & 0x3f);
      }
      static constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
      if (code < kLeast[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
      i += static_cast<std::size_t>(n);
    }
    return true;
  };
  const std::vector<unsigned char> bytes = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                            0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee,
                                            0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
  const std::string front = "abcdefg";  // shifts what follows across the word of eight
  for (const unsigned char a : bytes) {
    for (const unsigned char b : bytes) {
      for (const unsigned char c : bytes) {
        for (const unsigned char d : bytes) {
          std::string text = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c),
                              static_cast<char>(d)};
          ASSERT_EQ(is_utf8(text), by_the_book(text));
          ASSERT_EQ(is_utf8(front + text), by_the_book(text));
        }
      }
    }
  }
  EXPECT_FALSE(is_utf8("\xe2\x82"));
  EXPECT_EQ(latin1_to_utf8("Mis\xe9rables"), "Mis\xc3\xa9rables");
}

TEST(FieldText, ShownTextIsReadableAndShort) {
  EXPECT_EQ(shown("4.O"), "\"4.O\"");
  EXPECT_EQ(shown(std::string("a\0\x1b", 3)), "\"a\\x00\\x1b\"");
  EXPECT_EQ(shown("caf\xe9"), "\"caf\\xe9\"");
  EXPECT_EQ(shown("caf\xc3\xa9"), "\"caf\xc3\xa9\"");
  EXPECT_EQ(shown(std::string(100, 'x')), "\"" + std::string(60, 'x') + "...\"");
  EXPECT_EQ(shown(std::string(59, 'x') + "\xc3\xa9\xc3\xa9"),
            "\"" + std::string(59, 'x') + "...\"");
}

TEST(FieldScan, MarksWhatTheBytesSay) {
  std::mt19937 random(2);
  for (const std::size_t size :
       {0u, 1u, 15u, 16u, 31u, 32u, 33u, 63u, 64u, 65u, 127u, 128u, 1000u}) {
    std::string data(size + kScanPadding, ',');  // the padding must not be marked
    for (std::size_t i = 0; i < size; ++i) data[i] = "ab,;\n\r\t\xac"[random() % 8];
    std::vector<std::uint64_t> bits(size / 64 + 1, ~std::uint64_t{0});
    mark_structure(data.data(), size, ',', bits.data());
    for (std::size_t i = 0; i < bits.size() * 64; ++i) {
      const bool marked = ((bits[i / 64] >> (i % 64)) & 1) != 0;
      const bool wanted = i < size && (data[i] == ',' || data[i] == '\n' || data[i] == '\r');
      ASSERT_EQ(marked, wanted) << size << " " << i;
    }
  }
}

}  // namespace
}  // namespace belfry::test
