// SPDX-License-Identifier: Apache-2.0
// What the text of one field means: numbers that match in full whatever the locale, UTF-8, ids, Latin-1.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace belfry {

/// A decimal int64 that is the whole text: no sign but '-', no space. False: not one, or out of range.
inline bool parse_integer(std::string_view text, std::int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

namespace detail {
bool parse_real_slowly(std::string_view text, double& value);
inline constexpr double kPowersOfTen[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                          1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
}  // namespace detail

/// A finite decimal number that is the whole text, correctly rounded. Not: nan, inf, hex, "+5", "5 ",
/// numbers beyond float64.
inline bool parse_real(std::string_view text, double& value) {
  // Up to 15 digits: mantissa and power of ten are exact, so one division rounds once, as it should.
  if (text.empty() || text.size() > 16) return detail::parse_real_slowly(text, value);
  std::uint64_t mantissa = 0;
  std::size_t i = 0;
  for (; i < text.size(); ++i) {
    const unsigned digit = static_cast<unsigned char>(text[i]) - unsigned{'0'};
    if (digit > 9) break;
    mantissa = mantissa * 10 + digit;
  }
  if (i == text.size() && i <= 15) {
    value = static_cast<double>(mantissa);
    return true;
  }
  if (i == 0 || i == text.size() || text[i] != '.') return detail::parse_real_slowly(text, value);
  const std::size_t point = i++;
  for (; i < text.size(); ++i) {
    const unsigned digit = static_cast<unsigned char>(text[i]) - unsigned{'0'};
    if (digit > 9) return detail::parse_real_slowly(text, value);
    mantissa = mantissa * 10 + digit;
  }
  value = static_cast<double>(mantissa) / detail::kPowersOfTen[text.size() - point - 1];
  return true;
}

/// Valid UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF.
bool is_utf8(std::string_view text);
/// Whether every byte is printable ASCII.
inline bool is_printable_ascii(std::string_view text) {
  for (const char c : text) {
    if (c < 0x20 || c == 0x7f) return false;  // bytes from 0x80 on are negative
  }
  return true;
}
/// Holds a control character (U+0000..U+001F, U+007F..U+009F). `text` is valid UTF-8.
bool has_control_character(std::string_view text);
/// ISO-8859-1 as UTF-8.
std::string latin1_to_utf8(std::string_view text);
/// The text in quotes for an error line: clipped, control and broken bytes as \xNN.
std::string shown(std::string_view text);
/// The candidate with the smallest edit distance to `name`, empty when none is near.
std::string nearest_name(std::string_view name, const std::string* candidates, std::size_t count);

}  // namespace belfry
