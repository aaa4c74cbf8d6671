// SPDX-License-Identifier: Apache-2.0
// Texts of TOML, and what refusals of it say.
#include <fmt/format.h>

#include <algorithm>

#include "engine/config_fields.hpp"
#include "engine/error.hpp"
#include "engine/nearest.hpp"

namespace belfry::schema {

std::string toml_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          out += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

std::string real_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

std::string real_text(float value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

std::string list_text(const std::vector<std::string>& items) {
  return fmt::format("[{}]", fmt::join(items, ", "));
}

std::string describe(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "the string " + toml_string(node.as_string()->get());
    case toml::node_type::integer:
      return fmt::format("the integer {}", node.as_integer()->get());
    case toml::node_type::floating_point:
      return "the number " + real_text(node.as_floating_point()->get());
    case toml::node_type::boolean:
      return node.as_boolean()->get() ? "true" : "false";
    default:
      return "a date or time";
  }
}

void refuse(const std::string& place, const std::string& what, const std::string& hint) {
  throw Error(ExitCode::usage, place, what, hint);
}

void wrong_type(const Reader& r, const Scope& s, const std::string& key, const std::string& wanted,
                const toml::node& node) {
  refuse(r.place(node),
         fmt::format("{} must be {}, not {}", s.subject(key), wanted, describe(node)));
}

void refuse_word(const std::string& place, const std::string& noun, const std::string& word,
                 const std::vector<std::string>& known, const std::vector<std::string>& later) {
  if (std::find(later.begin(), later.end(), word) != later.end()) {
    refuse(place, fmt::format("{} {} is not available in this version", noun, toml_string(word)),
           fmt::format("available: {}", fmt::join(known, ", ")));
  }
  refuse(place, fmt::format("unknown {} {}", noun, toml_string(word)), nearest_hint(word, known));
}

}  // namespace belfry::schema
