// SPDX-License-Identifier: Apache-2.0
// Every column that a config names stands in its file: told before the first row is read.
#include <algorithm>

#include "engine/error.hpp"
#include "engine/interaction_encoder.hpp"
#include "engine/nearest.hpp"
#include "engine/row_filter.hpp"

namespace belfry {

namespace {

/// Where the model file names a column; empty: it was guessed, or a program named it.
std::string place_naming(const Config& c, const std::string& column) {
  std::vector<std::pair<std::string, std::string>> named = {
      {"data.user", c.data.user},           {"data.item", c.data.item},
      {"data.items_key", c.data.items_key}, {"data.users_key", c.data.users_key},
      {"data.weight", c.data.weight},       {"data.time", c.data.time}};
  if (!c.data.where.empty()) {
    named.emplace_back("data.where", RowFilter::parse(c.data.where).column());
  }
  for (std::size_t i = 0; i < c.features.size(); ++i) {
    for (const char* key : {"column", "name"}) {  // the name where no column is given
      named.emplace_back(fmt::format("feature.{}.{}", i, key), c.features[i].column);
    }
    named.emplace_back(fmt::format("feature.{}.weights", i), c.features[i].weights);
  }
  for (const auto& [key, name] : named) {
    const auto at = c.places.of.find(key);
    if (name == column && at != c.places.of.end()) return at->second;
  }
  return "";
}

void check(const Config& config, const DataSource& source, const std::string& file,
           const std::string& format, const std::vector<std::string>& names) {
  const Schema schema = source.schema(file, format);
  for (const std::string& name : names) {
    if (name.empty()) continue;
    try {
      column_index(schema, file, name);
    } catch (const Error& e) {
      throw Error(e.code(), place_naming(config, name), e.what());
    }
  }
}

/// Columns of the features of one side beside its id.
std::vector<std::string> feature_columns(const Config& config, Side side, const std::string& id) {
  std::vector<std::string> names;
  for (const FeatureConfig& f : config.features) {
    if (f.of != side || f.column == id || f.kind == FeatureKind::sequence) continue;
    names.push_back(f.column);
    if (!f.weights.empty()) names.push_back(f.weights);
  }
  return names;
}

/// A history is of the items that the model knows.
void check_sequences(const Config& config) {
  for (const FeatureConfig& f : config.features) {
    const bool items = f.column == config.data.item || f.column == key_column(config.data);
    if (f.kind != FeatureKind::sequence || items) continue;
    throw Error(
        ExitCode::usage, f.place,
        fmt::format("the sequence \"{}\" is of the items, not of column \"{}\"", f.name, f.column),
        fmt::format("column = \"{}\"", config.data.item));
  }
}

/// What a ranking task learns stands in the interactions.
void check_labels(const Config& config, const DataSource& source) {
  for (std::size_t i = 0; i < config.tasks.size(); ++i) {
    const TaskConfig& task = config.tasks[i];
    if (task.kind != TaskKind::ranking) continue;
    const Schema schema = source.schema(config.data.interactions.front(), config.data.format);
    if (has_column(schema, task.label)) continue;
    const std::string own = fmt::format("task.{}.label", i);
    const std::string key = config.places.of.count(own) != 0 ? own : "data.label";
    throw Error(ExitCode::usage, place_of(config, key),
                fmt::format("the interactions have no column \"{}\" for the ranking task to learn",
                            task.label),
                nearest_hint(task.label, schema.columns));
  }
}

/// A vocabulary that is given has an id: told at the key that names it.
void check_vocabularies(const Config& config, const DataSource& source) {
  const auto check_one = [&](const std::string& key, const std::string& name) {
    try {
      source.ids(name);
    } catch (const Error& e) {
      if (e.code() != ExitCode::bad_data || e.where() != name) throw;  // a bad line of it
      throw Error(e.code(), place_of(config, key), e.what());
    }
  };
  const std::string& all = config.data.vocabulary;
  if (all != "train" && all != "catalogue") check_one("data.vocabulary", all);
  for (std::size_t i = 0; i < config.features.size(); ++i) {
    const std::string& own = config.features[i].vocabulary;
    if (!own.empty()) check_one(fmt::format("feature.{}.vocabulary", i), own);
  }
}

}  // namespace

void check_columns(const Config& config, const DataSource& source) {
  const DataConfig& data = config.data;
  check_sequences(config);
  check_labels(config, source);
  check_vocabularies(config, source);
  std::vector<std::string> rows{data.user, key_column(data)}, users{data.users_key};
  if (!data.where.empty()) rows.push_back(RowFilter::parse(data.where).column());
  Schema user_table;
  if (!data.users.empty()) user_table = source.schema(data.users, "auto");
  for (const std::string& name : feature_columns(config, Side::query, data.user)) {
    (has_column(user_table, name) ? users : rows).push_back(name);
  }
  std::vector<std::string> items = feature_columns(config, Side::candidate, data.item);
  if (data.items.empty() && !items.empty()) {
    throw Error(
        ExitCode::usage, data.place,
        fmt::format("the candidate feature column \"{}\" needs a side table: data.items is missing",
                    items.front()));
  }
  items.push_back(data.items_key);
  if (data.item != data.items_key) items.push_back(data.item);
  if (!data.items.empty()) check(config, source, data.items, "auto", items);
  if (!data.users.empty()) check(config, source, data.users, "auto", users);
  if (!data.test.empty()) check(config, source, data.test, data.format, rows);
  rows.insert(rows.end(), {data.weight, data.checked_weight, data.time});
  for (const std::string& file : data.interactions) check(config, source, file, data.format, rows);
}

}  // namespace belfry
