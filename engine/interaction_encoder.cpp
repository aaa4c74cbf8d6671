// SPDX-License-Identifier: Apache-2.0
#include "engine/interaction_encoder.hpp"

#include <algorithm>
#include <numeric>

#include "engine/error.hpp"
#include "engine/feature_builder.hpp"
#include "engine/history.hpp"

namespace belfry {

namespace {

std::vector<float> weights_of(const Table& table, const std::vector<std::int64_t>& rows,
                              const DataConfig& data) {
  std::vector<float> out;
  out.reserve(rows.size());
  const Column& weight = *table.find(data.weight, ColumnType::real);
  for (const std::int64_t row : rows) {
    out.push_back(static_cast<float>(weight.reals[static_cast<std::size_t>(row)]));
  }
  return out;
}

std::vector<FeatureValues> context_values(const Table& table, const std::vector<std::int64_t>& rows,
                                          const std::vector<std::int32_t>& users,
                                          const ModelData& model) {
  std::vector<FeatureValues> out;
  for (std::size_t f = 0; f < model.features.size(); ++f) {
    const FeatureData& feature = model.features[f];
    if (!feature.context) continue;
    if (feature.config.kind != FeatureKind::sequence) {
      out.push_back(build_values(model, f, source_of(feature.config, table, rows)));
    } else if (model.last_context.empty()) {
      out.emplace_back();
    } else {
      out.push_back(lists_of_users(model.last_context[out.size()], users));
    }
  }
  return out;
}

std::vector<std::vector<float>> label_values(const Table& table,
                                             const std::vector<std::int64_t>& rows,
                                             const std::vector<LabelColumn>& labels) {
  std::vector<std::vector<float>> out;
  for (const LabelColumn& label : labels) {
    const Column& column = *table.find(label.column, ColumnType::real);
    std::vector<float>& values = out.emplace_back();
    for (const std::int64_t row : rows) {
      const double y = column.reals[static_cast<std::size_t>(row)];
      values.push_back(label.above ? (y > *label.above ? 1.0f : 0.0f) : static_cast<float>(y));
    }
  }
  return out;
}

/// Files are held to the ranges line by line while they are read; a program's own arrays are held here.
void check_ranges(const Table& table, const std::vector<ColumnRequest>& wanted,
                  const std::string& source) {
  for (const ColumnRequest& request : wanted) {
    if (request.type != ColumnType::real || request.why.empty()) continue;
    const std::vector<double>& values = table.find(request.name, ColumnType::real)->reals;
    const auto out = std::find_if(values.begin(), values.end(), [&](double x) {
      return !(x >= request.least && x <= request.most);
    });
    if (out == values.end()) continue;
    throw Error(ExitCode::bad_data, source,
                fmt::format("row {} of column {} is {}: {}", out - values.begin() + 1, request.name,
                            *out, request.why));
  }
}

void index_side_table(SideTable& side, const std::string& file) {
  const Column& column = side.table.at(side.key);
  for (std::int64_t r = 0; r < side.table.rows; ++r) {
    const auto id = column.dictionary->text(column.codes[static_cast<std::size_t>(r)]);
    if (!side.row_of_key.try_emplace(std::string(id), r).second) {
      throw Error(ExitCode::bad_data, file,
                  fmt::format("\"{}\" stands twice in column {}", id, side.key));
    }
  }
  side.present = true;
}

}  // namespace

bool has_column(const Schema& schema, const std::string& name) {
  return std::find(schema.columns.begin(), schema.columns.end(), name) != schema.columns.end();
}

const std::string& key_column(const DataConfig& data) {
  return data.items_key.empty() ? data.item : data.items_key;
}

std::int32_t Outside::number(std::string_view id) {
  const auto next = static_cast<std::int32_t>(first_ + static_cast<std::int64_t>(seen_.size()));
  return seen_.try_emplace(std::string(id), next).first->second;
}

void request_columns(std::vector<ColumnRequest>& wanted, const std::vector<ColumnRequest>& more) {
  for (const ColumnRequest& request : more) {
    // A column of numbers that is read as text too is read both ways.
    const auto known = std::find_if(wanted.begin(), wanted.end(), [&](const ColumnRequest& w) {
      return w.name == request.name && w.type == request.type;
    });
    if (known == wanted.end()) {
      wanted.push_back(request);
      continue;
    }
    if (request.least > known->least || request.most < known->most) known->why = request.why;
    known->least = std::max(known->least, request.least);
    known->most = std::min(known->most, request.most);
  }
}

InteractionReader::InteractionReader(const DataConfig& data,
                                     const std::vector<ColumnRequest>& context,
                                     const std::vector<LabelColumn>& labels,
                                     const DataSource& source)
    : data_(data), source_(source) {
  const std::vector<ColumnRequest> ids = {{data.user, ColumnType::text, true},
                                          {key_column(data), ColumnType::text, true}};
  std::vector<ColumnRequest> label_columns;
  for (const LabelColumn& label : labels) {
    label_columns.push_back(
        {label.column, ColumnType::real, false, label.least, label.most, label.why});
  }
  std::vector<ColumnRequest> numbers;
  if (!data.weight.empty()) {
    ColumnRequest& weight = numbers.emplace_back(ColumnRequest{data.weight, ColumnType::real});
    weight.least = 0;
    weight.why = "a weight is not negative";
  }
  if (!data.checked_weight.empty()) numbers.push_back({data.checked_weight, ColumnType::real});
  if (!data.time.empty()) {
    numbers.push_back(
        {data.time, data.time_is_integer ? ColumnType::integer : ColumnType::real, false});
  }
  request_columns(wanted_, ids);
  request_columns(wanted_, numbers);
  for (auto* list : {&wanted_, &wanted_of_test_}) {
    request_columns(*list, ids);
    request_columns(*list, context);
    request_columns(*list, label_columns);
  }
}

ReadOptions InteractionReader::options() const {
  ReadOptions options;
  options.format = data_.format;
  options.id_type = data_.id_type;
  options.where = data_.where;
  return options;
}

Table InteractionReader::read(const std::vector<std::string>& files) const {
  Table table = source_.read(files, wanted_, options());
  check_ranges(table, wanted_, files.front());
  return table;
}

Table InteractionReader::read_test(const std::string& file) const {
  Table table = source_.read({file}, wanted_of_test_, options());
  check_ranges(table, wanted_of_test_, file);
  return table;
}

SideTable read_side_table(const std::string& file, const std::string& key, const DataConfig& data,
                          const std::vector<ColumnRequest>& columns, const DataSource& source) {
  SideTable side;
  if (file.empty()) return side;
  std::vector<ColumnRequest> wanted{{key, ColumnType::text, true}};
  request_columns(wanted, columns);
  ReadOptions options;
  options.id_type = data.id_type;
  // Only the key can be an integer id: titles joined through it are text.
  side.table = source.read({file}, wanted, options);
  side.key = key;
  index_side_table(side, file);
  return side;
}

std::vector<std::string> item_of_key(const Table& table, const DataConfig& data,
                                     const SideTable& items) {
  const std::string& key = key_column(data);
  const Column& column = table.at(key);
  std::vector<std::string> out(column.dictionary->size());
  const bool join = items.present && data.item != data.items_key;
  const Column* title = join ? &items.table.at(data.item) : nullptr;
  for (std::size_t c = 0; c < out.size(); ++c) {
    const std::string id(column.dictionary->text(static_cast<std::uint32_t>(c)));
    if (items.present) {
      const auto at = items.row_of_key.find(id);
      if (at == items.row_of_key.end()) {
        if (data.on_missing == MissingRule::error) {
          throw Error(ExitCode::bad_data, data.items,
                      fmt::format("no row for the item \"{}\" of the interactions", id),
                      "data.on_missing = \"keep\" keeps such rows");
        }
      } else if (join) {
        const auto code = title->codes[static_cast<std::size_t>(at->second)];
        out[c] = std::string(title->dictionary->text(code));
        continue;
      }
    }
    out[c] = id;
  }
  return out;
}

std::vector<std::int64_t> all_rows(const Table& table) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(table.rows));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

Interactions encode_interactions(const Table& table, const std::vector<std::int64_t>& rows,
                                 const DataConfig& data, const ModelData& model,
                                 const std::vector<std::string>& item_ids, Outside& users,
                                 Outside& items) {
  // Numbers are looked up once a distinct value, and outside ones are given out in order of appearance.
  const Column& user = table.at(data.user);
  const Column& item = table.at(key_column(data));
  std::vector<std::int32_t> user_of(user.dictionary->size(), -1),
      item_of(item.dictionary->size(), -1);
  Interactions out;
  out.user.reserve(rows.size());
  out.item.reserve(rows.size());
  for (const std::int64_t row : rows) {
    const auto u = user.codes[static_cast<std::size_t>(row)],
               i = item.codes[static_cast<std::size_t>(row)];
    if (user_of[u] < 0) {
      const auto index = model.users.token_index(user.dictionary->text(u));
      user_of[u] =
          index ? static_cast<std::int32_t>(*index) : users.number(user.dictionary->text(u));
    }
    if (item_of[i] < 0) {
      const auto index = model.items.token_index(item_ids[i]);
      item_of[i] = index ? static_cast<std::int32_t>(*index) : items.number(item_ids[i]);
    }
    out.user.push_back(user_of[u]);
    out.item.push_back(item_of[i]);
  }
  if (!data.weight.empty() && table.find(data.weight, ColumnType::real) != nullptr) {
    out.weight = weights_of(table, rows, data);
  }
  out.labels = label_values(table, rows, model.labels);
  out.context = context_values(table, rows, out.user, model);
  return out;
}

}  // namespace belfry
