// SPDX-License-Identifier: Apache-2.0
#include "engine/config_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/error.hpp"
#include "engine/nearest.hpp"

namespace belfry::schema {
namespace {

namespace fs = std::filesystem;

/// "at least 1", or nothing when `value` is allowed.
std::string demand(double value, const Range& range) {
  if (!std::isfinite(value)) return "a finite number";
  if (range.open_low ? value <= range.low : value < range.low) {
    return fmt::format("{} {:g}", range.open_low ? "greater than" : "at least", range.low);
  }
  if (range.open_high ? value >= range.high : value > range.high) {
    return fmt::format("{} {:.12g}", range.open_high ? "below" : "at most", range.high);
  }
  return "";
}

std::optional<Complaint> complain_real(const std::string& at, double value, const Range& range) {
  const std::string wanted = demand(value, range);
  if (wanted.empty()) return std::nullopt;
  return Complaint{at, fmt::format("must be {}, not {:.12g}", wanted, value)};
}

std::optional<Complaint> complain_integer(const std::string& at, std::int64_t value,
                                          std::int64_t low, std::int64_t high) {
  if (value >= low && value <= high) return std::nullopt;
  return Complaint{at, fmt::format("must be at {} {}, not {}", value < low ? "least" : "most",
                                   value < low ? low : high, value)};
}

double number_of(const Reader& r, const Scope& s, const std::string& key, const toml::node& node) {
  if (const auto* real = node.as_floating_point()) return real->get();
  if (const auto* integer = node.as_integer()) return static_cast<double>(integer->get());
  wrong_type(r, s, key, "a number", node);
}

std::int64_t integer_of(const Reader& r, const Scope& s, const std::string& key,
                        const toml::node& node) {
  if (const auto* integer = node.as_integer()) return integer->get();
  wrong_type(r, s, key, "an integer", node);
}

/// A word typed on the command line may look like a number or a date: a key that wants a string takes
/// the text as it was typed.
std::string text_of(const Reader& r, const Scope& s, const std::string& key,
                    const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (r.from_command_line(node.source())) {
    if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
  }
  wrong_type(r, s, key, "a string", node);
}

/// Reads an array with one call an element, and notes where each stands.
void each_element(const Reader& r, const Scope& s, const std::string& key,
                  const std::string& wanted, const toml::node& node,
                  const std::function<void(const std::string&, const toml::node&)>& element) {
  const toml::array* array = node.as_array();
  if (array == nullptr) wrong_type(r, s, key, wanted, node);
  for (std::size_t i = 0; i < array->size(); ++i) {
    const std::string name = key + "." + std::to_string(i);
    if (r.places != nullptr) (*r.places)[s.dotted(name)] = r.place((*array)[i]);
    element(key, (*array)[i]);
  }
}

void refuse_unknown_keys(const Reader& r, const Scope& s, const toml::table& table,
                         const Fields& fields) {
  std::vector<std::string> known;
  for (const Field& f : fields) {
    if (f.read) known.push_back(f.key);
  }
  for (auto&& [key, value] : table) {
    const std::string name(key.str());
    const auto field =
        std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.key == name; });
    if (field == fields.end()) {
      std::string hint = nearest_hint(name, known);
      if (nearest(name, known).empty() && r.home) {
        const std::string home = r.home(name);
        if (!home.empty()) hint = "it belongs to " + home;
      }
      refuse(r.place(key.source()),
             fmt::format("unknown key {}{}", toml_string(name),
                         s.label.empty() ? "" : " in " + s.label),
             hint);
    }
    if (!field->read) {
      refuse(r.place(key.source()),
             fmt::format("key {} is not available in this version", s.subject(name)),
             field->without);
    }
  }
}

void read_field(const Reader& r, const Scope& s, const Field& f, const toml::node& node) {
  if (r.places != nullptr) (*r.places)[s.dotted(f.key)] = r.place(node);
  f.read(r, s, node);
  if (!f.check) return;
  const auto complaint = f.check();
  if (!complaint) return;
  std::string place = r.place(node);
  if (r.places != nullptr) {
    const auto found = r.places->find(s.dotted(complaint->at));
    if (found != r.places->end()) place = found->second;
  }
  refuse(place, complaint->whole ? complaint->what : s.subject(f.key) + " " + complaint->what,
         complaint->hint);
}

std::string print_or_empty(const Field& f) {
  if (!f.read || !f.print || !f.only_with.empty()) return "";
  return f.print().value_or("");
}

}  // namespace

bool Reader::from_command_line(const toml::source_region& region) const {
  return !region.path || *region.path != source || !region.begin;
}

std::string Reader::place(const toml::source_region& region) const {
  if (from_command_line(region)) return "command line";
  return fmt::format("{}:{}:{}", source, region.begin.line, region.begin.column);
}

std::string Reader::resolve(const std::string& path, const toml::node& node) const {
  if (!folder || path.empty() || path == "-") return path;
  const fs::path base = from_command_line(node.source()) ? fs::current_path() : *folder;
  return (base / path).lexically_normal().string();
}

std::string Scope::subject(const std::string& name) const {
  return toml_string(name) + (label.empty() ? "" : " in " + label);
}

Field text(std::string key, std::string& member, std::string help, std::string example) {
  Field f{key, std::move(help)};
  f.example = std::move(example);
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member = text_of(r, s, key, node);
  };
  f.print = [&member] {
    return member.empty() ? std::nullopt : std::optional<std::string>(toml_string(member));
  };
  return f;
}

Field path(std::string key, std::string& member, std::string help, std::string example) {
  Field f = text(key, member, std::move(help), std::move(example));
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member = r.resolve(text_of(r, s, key, node), node);
  };
  return f;
}

Field integer(std::string key, std::int64_t& member, std::int64_t low, std::int64_t high,
              std::string help) {
  Field f{key, std::move(help)};
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member = integer_of(r, s, key, node);
  };
  f.print = [&member] { return std::optional(std::to_string(member)); };
  f.check = [key, &member, low, high] { return complain_integer(key, member, low, high); };
  return f;
}

Field seed(std::string key, std::uint64_t& member, std::string help) {
  constexpr std::int64_t kMost =
      std::numeric_limits<std::int64_t>::max();  // TOML has no larger one
  Field f{key, std::move(help)};
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member = static_cast<std::uint64_t>(integer_of(r, s, key, node));
  };
  f.print = [&member] { return std::optional(std::to_string(member)); };
  f.check = [key, &member] {
    return complain_integer(key, static_cast<std::int64_t>(member), 0, kMost);
  };
  return f;
}

Field flag(std::string key, bool& member, std::string help) {
  Field f{key, std::move(help)};
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    const auto* value = node.as_boolean();
    if (value == nullptr) wrong_type(r, s, key, "true or false", node);
    member = value->get();
  };
  f.print = [&member] { return std::optional<std::string>(member ? "true" : "false"); };
  return f;
}

Field real(std::string key, double& member, Range range, std::string help) {
  Field f{key, std::move(help)};
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member = number_of(r, s, key, node);
  };
  f.print = [&member] { return std::optional(real_text(member)); };
  f.check = [key, &member, range] { return complain_real(key, member, range); };
  return f;
}

Field real(std::string key, float& member, Range range, std::string help) {
  Field f{key, std::move(help)};
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member = static_cast<float>(number_of(r, s, key, node));
  };
  f.print = [&member] { return std::optional(real_text(member)); };
  f.check = [key, &member, range] { return complain_real(key, member, range); };
  return f;
}

Field real(std::string key, std::optional<double>& member, Range range, std::string help,
           std::string example) {
  Field f{key, std::move(help)};
  f.example = std::move(example);
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member = number_of(r, s, key, node);
  };
  f.print = [&member] { return member ? std::optional(real_text(*member)) : std::nullopt; };
  f.check = [key, &member, range] {
    return member ? complain_real(key, *member, range) : std::nullopt;
  };
  return f;
}

Field amount(std::string key, std::optional<Amount>& member, std::string help,
             std::string example) {
  Field f{key, std::move(help)};
  f.example = std::move(example);
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    if (!node.is_integer() && !node.is_floating_point()) {
      wrong_type(r, s, key, "a number of rows or a fraction", node);
    }
    member = Amount{number_of(r, s, key, node), node.is_floating_point()};
  };
  f.print = [&member]() -> std::optional<std::string> {
    if (!member) return std::nullopt;
    return member->fraction ? real_text(member->value) : fmt::format("{:.0f}", member->value);
  };
  f.check = [key, &member]() -> std::optional<Complaint> {
    if (!member) return std::nullopt;
    if (member->fraction) {
      if (member->value > 0 && member->value < 1) return std::nullopt;
      return Complaint{
          key, fmt::format("must be a fraction between 0 and 1, not {:.12g}", member->value),
          "a number of rows is written without a point"};
    }
    // Beyond 2^53 a double no longer counts rows one by one.
    return complain_real(key, member->value, Range{1, 9007199254740992.0});
  };
  return f;
}

Field reals(std::string key, std::vector<double>& member, std::string help) {
  Field f{key, std::move(help)};
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member.clear();
    each_element(r, s, key, "an array of numbers", node,
                 [&](const std::string& name, const toml::node& e) {
                   member.push_back(number_of(r, s, name, e));
                 });
  };
  f.print = [&member] {
    std::vector<std::string> items;
    for (const double v : member) items.push_back(real_text(v));
    return std::optional(list_text(items));
  };
  f.check = [key, &member]() -> std::optional<Complaint> {
    for (std::size_t i = 0; i < member.size(); ++i) {
      auto c = complain_real(key + "." + std::to_string(i), member[i], kAnyReal);
      if (c) return c;
    }
    return std::nullopt;
  };
  return f;
}

Field integers(std::string key, std::vector<std::int64_t>& member, std::int64_t low,
               std::int64_t high, std::string help) {
  Field f{key, std::move(help)};
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member.clear();
    each_element(r, s, key, "an array of integers", node,
                 [&](const std::string& name, const toml::node& e) {
                   member.push_back(integer_of(r, s, name, e));
                 });
  };
  f.print = [&member] { return std::optional(fmt::format("[{}]", fmt::join(member, ", "))); };
  f.check = [key, &member, low, high]() -> std::optional<Complaint> {
    for (std::size_t i = 0; i < member.size(); ++i) {
      auto c = complain_integer(key + "." + std::to_string(i), member[i], low, high);
      if (c) return c;
    }
    return std::nullopt;
  };
  return f;
}

Field texts(std::string key, std::vector<std::string>& member, std::string help) {
  Field f{key, std::move(help)};
  f.read = [key, &member](const Reader& r, const Scope& s, const toml::node& node) {
    member.clear();
    if (node.is_string() && r.from_command_line(node.source())) {
      // Quotes and brackets are hard to type in a shell: a,b is a list there.
      const std::string& list = node.as_string()->get();
      for (std::size_t from = 0; from <= list.size();) {
        const std::size_t comma = std::min(list.find(',', from), list.size());
        member.push_back(list.substr(from, comma - from));
        from = comma + 1;
      }
      return;
    }
    each_element(r, s, key, "an array of strings", node,
                 [&](const std::string& name, const toml::node& e) {
                   member.push_back(text_of(r, s, name, e));
                 });
  };
  f.print = [&member] {
    std::vector<std::string> items;
    for (const std::string& v : member) items.push_back(toml_string(v));
    return std::optional(list_text(items));
  };
  return f;
}

Field fixed(std::string key, std::string noun, std::string value, std::vector<std::string> later,
            std::string help) {
  Field f{key, std::move(help)};
  f.read = [key, noun, value, later](const Reader& r, const Scope& s, const toml::node& node) {
    const auto* word = node.as_string();
    if (word == nullptr) wrong_type(r, s, key, "a string", node);
    if (word->get() != value) refuse_word(r.place(node), noun, word->get(), {value}, later);
  };
  f.print = [value] { return std::optional(toml_string(value)); };
  return f;
}

Field not_yet(std::string key, std::string hint) {
  Field f{std::move(key), ""};
  f.without = std::move(hint);
  return f;
}

Field table(std::string key, std::string label, std::function<Fields()> make, std::string help) {
  Field f{key, std::move(help)};
  f.read = [key, label, make](const Reader& r, const Scope& s, const toml::node& node) {
    const toml::table* t = node.as_table();
    if (t == nullptr) wrong_type(r, s, key, "a table { ... }", node);
    read_table(r, {label, s.dotted(key)}, *t, make);
  };
  f.print = [make] { return std::optional(inline_text(make())); };
  f.check = [key, make] {
    auto complaint = check_fields(make());
    if (complaint) complaint->at = key + "." + complaint->at;
    return complaint;
  };
  return f;
}

void read_table(const Reader& r, const Scope& s, const toml::table& table,
                const std::function<Fields()>& make, const std::function<void()>& kind_known) {
  Fields fields = make();
  bool kind_overridden = false;
  for (const Field& f : fields) {
    const toml::node* node = f.is_kind ? table.get(f.key) : nullptr;
    if (node == nullptr) continue;
    read_field(r, s, f, *node);
    kind_overridden = r.from_command_line(node->source());
  }
  if (kind_known) kind_known();
  fields = make();
  refuse_unknown_keys(r, s, table, fields);
  for (const Field& f : fields) {
    const toml::node* node = f.is_kind ? nullptr : table.get(f.key);
    if (node == nullptr) continue;
    if (!f.only_with.empty()) {
      // A kind from the command line leaves behind what the file said about its own kind.
      if (kind_overridden && !r.from_command_line(node->source())) continue;
      refuse(r.place(*node), s.subject(f.key) + " has no meaning here", "it needs " + f.only_with);
    }
    read_field(r, s, f, *node);
  }
}

std::optional<Complaint> check_fields(const Fields& fields) {
  for (const Field& f : fields) {
    if (!f.check || !f.only_with.empty()) continue;
    auto complaint = f.check();
    if (!complaint) continue;
    if (!complaint->whole) {
      complaint->what = toml_string(f.key) + " " + complaint->what;
      complaint->whole = true;
    }
    return complaint;
  }
  return std::nullopt;
}

std::string inline_text(const Fields& fields) {
  std::vector<std::string> items;
  for (const Field& f : fields) {
    const std::string value = print_or_empty(f);
    if (!value.empty()) items.push_back(f.key + " = " + value);
  }
  return items.empty() ? "{}" : fmt::format("{{ {} }}", fmt::join(items, ", "));
}

std::string section_text(const Fields& fields) {
  std::string out;
  for (const Field& f : fields) {
    const std::string value = print_or_empty(f);
    if (!value.empty()) out += f.key + " = " + value + "\n";
  }
  return out;
}

namespace {
/// A comment, in lines of at most 130 columns where its words allow it.
std::string comment(std::string text) {
  constexpr std::size_t kWidest = 128;
  std::string out;
  while (text.size() > kWidest) {
    const std::size_t cut = text.rfind(' ', kWidest);
    if (cut == std::string::npos || cut == 0) break;
    out += "# " + text.substr(0, cut) + "\n";
    text.erase(0, cut + 1);
  }
  return out + "# " + text + "\n";
}
}  // namespace

std::string explained_text(const Fields& fields, const std::string& prefix) {
  std::string out;
  for (const Field& f : fields) {
    if (!f.read || f.help.empty()) continue;
    const std::string value = print_or_empty(f);
    out += comment(f.help + (f.only_with.empty() ? "" : "  (" + f.only_with + ")"));
    if (!value.empty()) {
      out += fmt::format("{}{} = {}\n", prefix, f.key, value);
    } else {
      const std::string shown = f.example.empty() && f.print ? f.print().value_or("") : f.example;
      out += fmt::format("#{} = {}\n", f.key, shown);
    }
  }
  return out;
}

void read_tables(
    const Reader& r, const Scope& s, const std::string& key, const std::string& label,
    const toml::node& node,
    const std::function<void(std::size_t, const Scope&, const toml::table&)>& element) {
  const toml::array* array = node.as_array();
  if (array == nullptr) {
    const bool section = node.is_table();
    refuse(r.place(node), s.subject(key) + " must be an array of tables, not " + describe(node),
           section ? "write " + label : "");
  }
  for (std::size_t i = 0; i < array->size(); ++i) {
    const toml::node& e = (*array)[i];
    if (!e.is_table()) {
      refuse(r.place(e), s.subject(key) + " must hold tables, not " + describe(e));
    }
    const Scope inner{label, s.dotted(key) + "." + std::to_string(i)};
    if (r.places != nullptr) (*r.places)[inner.key] = r.place(e);
    element(i, inner, *e.as_table());
  }
}

}  // namespace belfry::schema
