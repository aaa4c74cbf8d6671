// SPDX-License-Identifier: Apache-2.0
// Dotted overrides: feature.user_id.dim=32 finds its table by name, task.0.weight=2 by number.
#include <algorithm>
#include <cctype>

#include "engine/config_schema.hpp"
#include "engine/nearest.hpp"

namespace belfry::schema {
namespace {

constexpr const char* kPlace = "command line";

std::vector<std::string> split_key(const std::string& key) {
  std::vector<std::string> parts;
  for (std::size_t from = 0; from <= key.size();) {
    const std::size_t dot = std::min(key.find('.', from), key.size());
    parts.push_back(key.substr(from, dot - from));
    if (parts.back().empty()) refuse(kPlace, toml_string(key) + " is not a dotted key");
    from = dot + 1;
  }
  return parts;
}

/// The value as TOML, or as a string where it is none.
toml::table parse_value(const std::string& text) {
  // The name tells its nodes from those of the file.
  static constexpr std::string_view kName = "\x01";
  try {
    toml::table holder = toml::parse("value = " + text, kName);
    if (holder.size() == 1) return holder;
  } catch (const toml::parse_error&) {
  }
  return toml::table{{"value", text}};
}

std::string name_of(const toml::node& element) {
  const toml::table* t = element.as_table();
  const auto* name = t == nullptr ? nullptr : t->get("name");
  return name != nullptr && name->is_string() ? name->as_string()->get() : "";
}

toml::table* find_element(toml::array& array, const std::string& part) {
  for (toml::node& element : array) {
    if (name_of(element) == part) return element.as_table();
  }
  const bool number =
      part.size() < 10 &&
      std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (!number || std::stoul(part) >= array.size()) return nullptr;
  return array[std::stoul(part)].as_table();
}

[[noreturn]] void no_element(const toml::array& array, const std::string& kind,
                             const std::string& part) {
  std::vector<std::string> names;
  bool tables = true;
  for (const toml::node& element : array) {
    tables = tables && element.is_table();
    if (!name_of(element).empty()) names.push_back(name_of(element));
  }
  if (!tables) refuse(kPlace, toml_string(kind) + " is a list", "give the whole list");
  refuse(
      kPlace, "there is no " + kind + " " + toml_string(part),
      names.empty() ? "tables of an array are named by number, from 0" : nearest_hint(part, names));
}

/// The node that stands for `part` below the table `at`; made where it is missing.
toml::node* child_of(toml::table& at, const std::string& part, bool top) {
  toml::node* child = at.get(part);
  if (child != nullptr && (child->is_table() || child->is_array())) return child;
  if (top && part == "task" && child == nullptr) {
    at.insert_or_assign(part,
                        toml::array{toml::table{}});  // the one task that a file leaves unsaid
  } else {
    at.insert_or_assign(part, toml::table{});
  }
  return at.get(part);
}

void set(toml::table& root, const std::vector<std::string>& parts, toml::node& value) {
  toml::node* at = &root;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    if (toml::array* array = at->as_array()) {
      const std::string& kind = parts[i - 1];
      toml::table* element = find_element(*array, parts[i]);
      if (element == nullptr && kind == "task" && array->size() == 1) {
        element = (*array)[0].as_table();  // task.temperature=0.1 where there is one task
        if (element != nullptr) --i;
      } else if (element != nullptr && last) {
        refuse(kPlace, toml_string(parts[i]) + " is a whole table", "name one of its keys");
      }
      if (element == nullptr) no_element(*array, kind, parts[i]);
      at = element;
      continue;
    }
    toml::table& table = *at->as_table();
    if (last) {
      value.visit([&](auto&& v) { table.insert_or_assign(parts[i], std::move(v)); });
    } else {
      at = child_of(table, parts[i], i == 0);
    }
  }
}

}  // namespace

void apply_overrides(toml::table& root, const std::vector<std::string>& overrides) {
  for (const std::string& override : overrides) {
    const auto equals = override.find('=');
    if (equals == std::string::npos || equals == 0) {
      refuse(kPlace, toml_string(override) + " is not of the form key=value");
    }
    toml::table value = parse_value(override.substr(equals + 1));
    set(root, split_key(override.substr(0, equals)), *value.get("value"));
  }
}

}  // namespace belfry::schema
