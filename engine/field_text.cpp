// SPDX-License-Identifier: Apache-2.0
#include "engine/field_text.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <vector>

namespace belfry {

bool detail::parse_real_slowly(std::string_view text, double& value) {
  // from_chars takes "inf" and "nan" as well; a number starts with a digit or a point.
  const std::size_t start = !text.empty() && text[0] == '-' ? 1 : 0;
  if (start == text.size()) return false;
  const char first = text[start];
  if (first != '.' && (first < '0' || first > '9')) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
}

bool is_utf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = p + text.size();
  const auto follows = [&](int n) {
    for (int i = 1; i <= n; ++i) {
      if (end - p <= i || (p[i] & 0xc0) != 0x80) return false;
    }
    return true;
  };
  while (p < end) {
    if (end - p >= 8) {
      std::uint64_t word;
      std::memcpy(&word, p, 8);
      if ((word & 0x8080808080808080u) == 0) {
        p += 8;
        continue;
      }
    }
    if (*p < 0x80) {
      p += 1;
    } else if (*p >= 0xc2 && *p <= 0xdf && follows(1)) {
      p += 2;
    } else if ((*p & 0xf0) == 0xe0 && follows(2)) {
      if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f)) return false;
      p += 3;
    } else if (*p >= 0xf0 && *p <= 0xf4 && follows(3)) {
      if ((*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f)) return false;
      p += 4;
    } else {
      return false;
    }
  }
  return true;
}

bool has_control_character(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7f) return true;
    if (c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      return true;
    }
  }
  return false;
}

std::string latin1_to_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 8);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      out += c;
    } else {
      out += static_cast<char>(0xc0 | (byte >> 6));
      out += static_cast<char>(0x80 | (byte & 0x3f));
    }
  }
  return out;
}

std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 60;
  bool clipped = text.size() > kShown;
  std::size_t size = clipped ? kShown : text.size();
  while (clipped && size > kShown - 4 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) {
    --size;  // not in the middle of a character
  }
  const std::string_view part = text.substr(0, size);
  const bool readable = is_utf8(part);
  std::string out = "\"";
  for (const char c : part) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !readable)) {
      static constexpr char kHex[] = "0123456789abcdef";
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + (clipped ? "...\"" : "\"");
}

std::string nearest_name(std::string_view name, const std::string* candidates, std::size_t count) {
  const auto lower = [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  };
  std::string best;
  std::size_t least = name.size() / 3 + 2;  // farther than that is no help
  for (std::size_t n = 0; n < count; ++n) {
    const std::string& other = candidates[n];
    if (other.size() > 200 || name.size() > 200) continue;
    std::vector<std::size_t> row(other.size() + 1);
    for (std::size_t j = 0; j <= other.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= name.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j <= other.size(); ++j) {
        const std::size_t change = diagonal + (lower(name[i - 1]) == lower(other[j - 1]) ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
      }
    }
    if (row.back() < least) {
      least = row.back();
      best = other;
    }
  }
  return best;
}

}  // namespace belfry
