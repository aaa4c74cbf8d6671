// SPDX-License-Identifier: Apache-2.0
// Every column that a config names stands in its file: told before the first row is read.
#include <algorithm>

#include "engine/error.hpp"
#include "engine/interaction_encoder.hpp"
#include "engine/row_filter.hpp"

namespace belfry {

namespace {

void check(const std::string& file, const std::string& format,
           const std::vector<std::string>& names) {
  const Schema schema = sniff(file, format);
  for (const std::string& name : names) {
    if (!name.empty()) column_index(schema, file, name);
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

}  // namespace

void check_columns(const Config& config) {
  const DataConfig& data = config.data;
  check_sequences(config);
  std::vector<std::string> rows{data.user, key_column(data)}, users{data.users_key};
  if (!data.where.empty()) rows.push_back(RowFilter::parse(data.where).column());
  Schema user_table;
  if (!data.users.empty()) user_table = sniff(data.users);
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
  if (!data.items.empty()) check(data.items, "auto", items);
  if (!data.users.empty()) check(data.users, "auto", users);
  if (!data.test.empty()) check(data.test, data.format, rows);
  rows.insert(rows.end(), {data.weight, data.checked_weight, data.time});
  for (const std::string& file : data.interactions) check(file, data.format, rows);
}

}  // namespace belfry
