// SPDX-License-Identifier: Apache-2.0
#include "engine/config_toml.hpp"

#include <filesystem>

#include "engine/config_schema.hpp"
#include "engine/error.hpp"
#include "engine/file_io.hpp"
#include "engine/nearest.hpp"

namespace belfry {
namespace schema {
namespace {

constexpr std::int64_t kSchema = 1;

Field version() {
  Field f{"schema", "version of the file's form"};
  f.read = [](const Reader& r, const Scope& s, const toml::node& node) {
    std::int64_t value = 0;
    integer("schema", value, 0, kMostInt, "").read(r, s, node);
    if (value != kSchema) {
      refuse(r.place(node), "schema " + std::to_string(value) + " is not known to this version",
             "it reads schema " + std::to_string(kSchema));
    }
  };
  f.print = [] { return std::optional(std::to_string(kSchema)); };
  return kind(f);
}

Field preset(std::string& member) {
  Field f = text("preset", member, "\"tfrs\": the defaults of TensorFlow Recommenders", "\"tfrs\"");
  f.read = [&member](const Reader& r, const Scope& s, const toml::node& node) {
    text("preset", member, "").read(r, s, node);
    if (!member.empty() && member != "tfrs") {
      refuse_word(r.place(node), "preset", member, {"tfrs"}, {});
    }
  };
  return kind(f);
}

Field run_name(std::string& member) {
  Field f = text("name", member, "of the run (unset: the file's)", "\"mine\"");
  f.check = [&member]() -> std::optional<Complaint> {
    const bool bad = member == "." || member == ".." ||
                     std::any_of(member.begin(), member.end(),
                                 [](unsigned char c) { return c == '/' || c < 0x20 || c == 0x7f; });
    if (!bad) return std::nullopt;
    return Complaint{"name", "must be the name of a folder, not a path"};
  };
  return f;
}

void require_name(const Reader& r, const std::string& label, const toml::table& t) {
  if (t.get("name") == nullptr) refuse(r.place(t), label + " needs a \"name\"");
}

template <class T>
Field section(std::string key, T& member, std::function<Fields()> make,
              std::function<void()> kind_known = {}) {
  Field f{key};
  f.read = [=, &member](const Reader& r, const Scope& s, const toml::node& node) {
    const toml::table* t = node.as_table();
    if (t == nullptr) {
      refuse(r.place(node), toml_string(key) + " must be a table, not " + describe(node),
             node.is_array() ? "write [" + key + "] once" : "write [" + key + "]");
    }
    read_table(r, {"[" + key + "]", s.dotted(key)}, *t, make, kind_known);
    if constexpr (requires { member.place; }) member.place = r.place(*t);
  };
  return f;
}

template <class T>
Field named_tables(std::string key, std::vector<T>& members) {
  Field f{key};
  f.read = [key, &members](const Reader& r, const Scope& s, const toml::node& node) {
    const std::string label = "[[" + key + "]]";
    members.clear();
    read_tables(r, s, key, label, node, [&](std::size_t, const Scope& inner, const toml::table& t) {
      T one;
      require_name(r, label, t);
      read_table(r, inner, t, [&one] { return fields(one); });
      one.place = r.place(t);
      members.push_back(std::move(one));
    });
  };
  return f;
}

Field tasks(Config& c) {
  Field f{"task"};
  f.read = [&c](const Reader& r, const Scope& s, const toml::node& node) {
    const TaskConfig base = default_config(c.preset).tasks.front();
    c.tasks.clear();
    read_tables(r, s, "task", "[[task]]", node,
                [&](std::size_t, const Scope& inner, const toml::table& t) {
                  TaskConfig task = base;
                  read_table(
                      r, inner, t, [&task] { return fields(task); },
                      [&task] {  // a preset speaks of retrieval; Keras's other losses are means
                        if (task.kind != TaskKind::ranking) return;
                        task = TaskConfig{};
                        task.kind = TaskKind::ranking;
                        task.temperature = 1.0;
                      });
                  // The default temperature suits scores between -1 and 1; dot products find their own.
                  if (task.similarity == Similarity::dot && t.get("temperature") == nullptr) {
                    task.temperature = 1.0;
                  }
                  task.place = r.place(t);
                  c.tasks.push_back(std::move(task));
                });
  };
  return f;
}

}  // namespace

void apply_preset(Config& c) {
  Config defaults = default_config(c.preset);
  defaults.name = std::move(c.name);
  defaults.places = std::move(c.places);
  c = std::move(defaults);
}

Fields root_fields(Config& c) {
  return {
      version(),
      preset(c.preset),
      run_name(c.name),
      section("data", c.data, [&c] { return fields(c.data); }),
      section("split", c.split, [&c] { return fields(c.split); }),
      named_tables("feature", c.features),
      named_tables("network", c.networks),
      tasks(c),
      section(
          "optimizer", c.optimizer.main, [&c] { return fields(c.optimizer, c.preset); },
          [&c] { c.optimizer.main = default_optimizer(c.preset, c.optimizer.main.options.kind); }),
      section("train", c.train, [&c] { return fields(c.train); }),
      section("evaluate", c.evaluate, [&c] { return fields(c.evaluate); }),
      section("index", c.index, [&c] { return fields(c.index); }),
      section("output", c.output, [&c] { return fields(c.output); }),
  };
}

std::vector<Section> sections(Config& c) {
  std::vector<Section> all;
  all.push_back({"[data]", "data", fields(c.data)});
  all.push_back({"[split]", "split", fields(c.split)});
  const auto each = [&all](auto& members, const std::string& key) {
    for (std::size_t i = 0; i < members.size(); ++i) {
      all.push_back({"[[" + key + "]]", key + "." + std::to_string(i), fields(members[i])});
    }
  };
  each(c.features, "feature");
  each(c.networks, "network");
  each(c.tasks, "task");
  all.push_back({"[optimizer]", "optimizer", fields(c.optimizer, c.preset)});
  for (std::size_t i = 0; i < c.optimizer.groups.size(); ++i) {
    all.push_back({"[[optimizer.group]]", "optimizer.group." + std::to_string(i),
                   fields(c.optimizer.groups[i], true)});
  }
  all.push_back({"[train]", "train", fields(c.train)});
  all.push_back({"[evaluate]", "evaluate", fields(c.evaluate)});
  all.push_back({"[index]", "index", fields(c.index)});
  all.push_back({"[output]", "output", fields(c.output)});
  return all;
}

namespace {

/// The section that knows `key`, or "".
std::string home_of(const std::string& key) {
  Config example = default_config("");
  example.features.emplace_back();
  example.networks.emplace_back();
  for (const Section& s : sections(example)) {
    for (const Field& f : s.fields) {
      if (f.key == key) return s.label;
    }
  }
  return "";
}

/// The parser may quote a line's end as it is.
std::string on_one_line(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else {
      out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
  }
  return out;
}

toml::table parse_text(const std::string& text, const std::string& source) {
  try {
    return toml::parse(std::string_view(text), std::string_view(source));
  } catch (const toml::parse_error& e) {
    const auto at = e.source().begin;
    std::string_view what = e.description();
    constexpr std::string_view kHead = "Error while parsing ";  // an error is called one already
    if (what.starts_with(kHead)) what.remove_prefix(kHead.size());
    refuse(source + ":" + std::to_string(at.line) + ":" + std::to_string(at.column),
           on_one_line(what));
  }
}

Config read_config(const toml::table& root, const std::string& source,
                   const std::optional<std::filesystem::path>& folder) {
  Config c = default_config("");
  c.places.of[""] = source;
  std::map<std::string, std::string> places;
  const Reader reader{source, folder, &places, home_of};
  read_table(
      reader, {}, root, [&c] { return root_fields(c); }, [&c] { apply_preset(c); });
  for (auto& [key, place] : places) c.places.of[key] = place;
  // A test file says by itself how rows are split.
  if (!c.data.test.empty() && places.count("split.method") == 0) c.split.method = SplitMethod::file;
  return c;
}

/// "ratings" of "data/ratings.csv.gz".
std::string stem_of(const std::string& path) {
  if (path == "-") return "stdin";
  std::filesystem::path name = std::filesystem::path(path).filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  return name.stem().string();
}

}  // namespace
}  // namespace schema

Config load_config(const std::string& path, const std::vector<std::string>& overrides) {
  constexpr std::uint64_t kLargest = 16 << 20;
  const std::string text = read_file(path, kLargest);
  toml::table root = schema::parse_text(text, path);
  schema::apply_overrides(root, overrides);
  Config c = schema::read_config(root, path, std::filesystem::absolute(path).parent_path());
  if (c.name.empty()) c.name = schema::stem_of(path);
  return c;
}

Config parse_config(const std::string& text, const std::string& source_name,
                    const std::vector<std::string>& overrides) {
  toml::table root = schema::parse_text(text, source_name);
  schema::apply_overrides(root, overrides);
  return schema::read_config(root, source_name, std::nullopt);
}

Config config_for_data(const std::string& data_path, const std::vector<std::string>& overrides) {
  toml::table root{{"data", toml::table{{"interactions", data_path}}}};
  schema::apply_overrides(root, overrides);
  Config c = schema::read_config(root, "", std::filesystem::current_path());
  c.places.of.erase("");
  const bool method_given = c.places.of.count("split.method") != 0;
  if (!method_given && c.data.test.empty()) {
    c.split.method = SplitMethod::random;
    c.split.test = Amount{0.1, true};
  }
  if (c.name.empty()) c.name = schema::stem_of(data_path);
  return c;
}

std::string to_toml(const Config& config) {
  Config c = config;  // field lists want members that can be written
  std::string out = schema::section_text(schema::root_fields(c));
  for (const schema::Section& s : schema::sections(c)) {
    out += "\n" + s.label + "\n" + schema::section_text(s.fields);
  }
  return out;
}

}  // namespace belfry
