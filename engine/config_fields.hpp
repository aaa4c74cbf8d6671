// SPDX-License-Identifier: Apache-2.0
// How one key of a model file is read, checked, printed and explained; the building blocks of the field
// lists in config_schema.cpp. Internal to the reader and writer of model files.
#pragma once

#include <toml++/toml.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/config.hpp"

namespace belfry::schema {

inline constexpr std::int64_t kMostInt = std::numeric_limits<std::int32_t>::max();

/// Where values come from, and what became known about their places.
struct Reader {
  std::string source;                           ///< the file's name as the user gave it
  std::optional<std::filesystem::path> folder;  ///< of the file; none: relative paths stay
  std::map<std::string, std::string>* places = nullptr;
  /// Sections that know a key, for a key that stands in the wrong one.
  std::function<std::string(const std::string& key)> home;

  bool from_command_line(const toml::source_region& region) const;
  std::string place(const toml::source_region& region) const;
  std::string place(const toml::node& node) const { return place(node.source()); }
  /// A path as written, made absolute: beside the file, or in the current folder when it was typed on
  /// the command line. "-" (stdin) stays.
  std::string resolve(const std::string& path, const toml::node& node) const;
};

/// The table that a key stands in: how messages name it, and its dotted name ("" for the top level).
struct Scope {
  std::string label;  ///< "[train]", "[[feature]]"
  std::string key;    ///< "train", "feature.0"
  std::string dotted(const std::string& name) const {
    return key.empty() ? name : key + "." + name;
  }
  /// `"epochs" in [train]`
  std::string subject(const std::string& name) const;
};

/// Why a value cannot stand. `at` is its dotted name below the scope; `what` follows the subject
/// ("must be at least 1, not 0") or, when `whole`, is the entire text.
struct Complaint {
  std::string at = {}, what = {}, hint = {};
  bool whole = false;
};

struct Field {
  std::string key = {}, help = {};
  std::function<void(const Reader&, const Scope&, const toml::node&)> read = {};
  std::function<std::optional<std::string>()> print = {};  ///< as TOML; nothing: unset
  std::function<std::optional<Complaint>()> check = {};
  std::string example = {};    ///< shown where the value is unset
  std::string only_with = {};  ///< `kind = "sgd"`: the key means nothing with the present kind
  std::string without = {};    ///< hint for a key that this version lacks; `read` is empty
  bool is_kind = false;        ///< read first: the other keys depend on it
};
using Fields = std::vector<Field>;

/// Allowed numbers.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool open_low = false, open_high = false;
};
inline constexpr Range kPositive{0, std::numeric_limits<double>::infinity(), true, false};
inline constexpr Range kNotNegative{0, std::numeric_limits<double>::infinity(), false, false};
inline constexpr Range kBelowOne{0, 1, false, true};
inline constexpr Range kAnyReal{};

/// The words of an enum. `later`: words of the format that this version does not have.
template <class E>
struct Words {
  std::string noun;  ///< "feature kind"
  std::vector<std::pair<E, std::string>> values;
  std::vector<std::string> later;
  const std::string& of(E value) const {
    for (const auto& [v, word] : values) {
      if (v == value) return word;
    }
    return values.front().second;
  }
};

// Texts of TOML.
std::string toml_string(const std::string& text);
std::string real_text(double value);
std::string real_text(float value);
std::string list_text(const std::vector<std::string>& items);
/// A node for messages: `the string "fast"`, `an array`.
std::string describe(const toml::node& node);

[[noreturn]] void refuse(const std::string& place, const std::string& what,
                         const std::string& hint = "");
[[noreturn]] void wrong_type(const Reader& r, const Scope& s, const std::string& key,
                             const std::string& wanted, const toml::node& node);
[[noreturn]] void refuse_word(const std::string& place, const std::string& noun,
                              const std::string& word, const std::vector<std::string>& known,
                              const std::vector<std::string>& later);

// One field each. They keep a reference to the member, which must outlive them.
Field text(std::string key, std::string& member, std::string help, std::string example = "");
Field path(std::string key, std::string& member, std::string help, std::string example = "");
Field integer(std::string key, std::int64_t& member, std::int64_t low, std::int64_t high,
              std::string help);
Field seed(std::string key, std::uint64_t& member, std::string help);
Field flag(std::string key, bool& member, std::string help);
Field real(std::string key, double& member, Range range, std::string help);
Field real(std::string key, float& member, Range range, std::string help);
Field real(std::string key, std::optional<double>& member, Range range, std::string help,
           std::string example);
Field amount(std::string key, std::optional<Amount>& member, std::string help, std::string example);
Field reals(std::string key, std::vector<double>& member, std::string help);
Field integers(std::string key, std::vector<std::int64_t>& member, std::int64_t low,
               std::int64_t high, std::string help);
Field texts(std::string key, std::vector<std::string>& member, std::string help);
/// A key that has one value in this version; `later` are the format's other values.
Field fixed(std::string key, std::string noun, std::string value, std::vector<std::string> later,
            std::string help);
/// A key of the format that this version does not have.
Field not_yet(std::string key, std::string hint = "");

/// A table of its own, written inline.
Field table(std::string key, std::string label, std::function<Fields()> make, std::string help);

template <class E>
Field choice(std::string key, E& member, const Words<E>& words, std::string help) {
  Field f;
  f.key = key;
  f.help = std::move(help);
  for (std::size_t i = 0; i < words.values.size(); ++i) {
    f.help += (i == 0 ? ": " : ", ") + toml_string(words.values[i].second);
  }
  f.read = [key, &member, &words](const Reader& r, const Scope& s, const toml::node& node) {
    const auto* word = node.as_string();
    if (word == nullptr) wrong_type(r, s, key, "a string", node);
    std::vector<std::string> known;
    for (const auto& [value, name] : words.values) {
      known.push_back(name);
      if (name == word->get()) {
        member = value;
        return;
      }
    }
    refuse_word(r.place(node), words.noun, word->get(), known, words.later);
  };
  f.print = [&member, &words] { return std::optional(toml_string(words.of(member))); };
  return f;
}

/// Marks the key that all others of its table depend on.
inline Field kind(Field f) {
  f.is_kind = true;
  return f;
}
/// Marks a key that means something only where `applies`.
inline Field when(bool applies, std::string only_with, Field f) {
  if (!applies) f.only_with = std::move(only_with);
  return f;
}

// Whole tables.

/// Reads a table by its field list: the kind first, then unknown keys, then the rest. `make` is called
/// again after the kind is known, and after `kind_known` has put that kind's defaults in place.
void read_table(const Reader& r, const Scope& s, const toml::table& table,
                const std::function<Fields()>& make, const std::function<void()>& kind_known = {});
/// The first field that does not hold.
std::optional<Complaint> check_fields(const Fields& fields);
/// `{ kind = "mlp", units = [64, 32] }`
std::string inline_text(const Fields& fields);
/// One `key = value` a line.
std::string section_text(const Fields& fields);
/// The same with each key's help above it, unset keys commented out; `prefix` "#" does so with all keys.
std::string explained_text(const Fields& fields, const std::string& prefix);

/// Calls `element` for each table of an array of tables ([[label]]).
void read_tables(const Reader& r, const Scope& s, const std::string& key, const std::string& label,
                 const toml::node& node,
                 const std::function<void(std::size_t, const Scope&, const toml::table&)>& element);

}  // namespace belfry::schema
