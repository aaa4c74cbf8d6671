// SPDX-License-Identifier: Apache-2.0
#include "engine/query_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "engine/byte_source.hpp"
#include "engine/error.hpp"
#include "engine/feature_builder.hpp"
#include "engine/field_text.hpp"
#include "engine/nearest.hpp"
#include "engine/row_reader.hpp"

namespace belfry {

namespace {

constexpr std::size_t kNowhere = ~std::size_t{0};

std::string hint_of(const std::string& name, const std::vector<std::string>& known) {
  std::string list = "columns of a query: ";
  for (std::size_t i = 0; i < known.size(); ++i) list += (i == 0 ? "" : ", ") + known[i];
  const std::string near = name.empty() ? "" : nearest(name, known);
  return near.empty() ? list : "did you mean \"" + near + "\"?";
}

/// The first row of a file as the texts of its columns, and where they stand; nothing for an empty file.
struct FirstRow {
  std::vector<std::string> texts, places;
};
FirstRow first_row(const std::string& path, Schema schema) {
  schema.header = false;
  ByteSource source(path, ByteSource::Mode::peek);
  const auto reader = make_row_reader(source, schema);
  RowBatch batch;
  FirstRow out;
  if (!reader->next(batch) || batch.size == 0) return out;
  for (std::size_t c = 0; c < batch.columns; ++c) {
    out.texts.emplace_back(batch.field(0, c).text());
    out.places.push_back(reader->place(batch, 0, c));
  }
  return out;
}

/// A file whose first line is one name.
std::optional<Schema> single_column(const std::string& path,
                                    const std::vector<std::string>& known) {
  Schema schema;
  schema.format = "csv";
  schema.delimiter = '\t';  // in no name, so that the line is one field
  schema.columns = {""};
  schema.types = {ColumnType::text};
  FirstRow row;
  try {
    row = first_row(path, schema);
  } catch (const Error& e) {
    if (e.code() != ExitCode::bad_data) throw;
    return std::nullopt;  // more fields than one, or a fault that is told when the file is read
  }
  if (row.texts.size() != 1) return std::nullopt;
  const std::string& name = row.texts[0];
  const bool is_known = std::find(known.begin(), known.end(), name) != known.end();
  if (!is_known && (name.empty() || name.find_first_of(",;|:{[ ") != std::string::npos)) {
    return std::nullopt;
  }
  schema.columns = {name};
  return schema;
}

bool is_json_lines(const std::string& path) {
  ByteSource source(path, ByteSource::Mode::peek);
  std::string start(4096, '\0');
  start.resize(source.read(start.data(), start.size()));
  if (start.starts_with("\xef\xbb\xbf")) start.erase(0, 3);
  const std::size_t first = start.find_first_not_of(" \t\r\n");
  return first != std::string::npos && start[first] == '{';
}

Schema schema_of(const std::string& path, const std::vector<std::string>& known) {
  if (is_json_lines(path)) {  // a row may have any of the keys, whatever the rows before it have
    Schema schema;
    schema.format = "jsonl";
    schema.header = false;
    schema.columns = known;
    schema.types.assign(known.size(), ColumnType::text);
    return schema;
  }
  if (auto single = single_column(path, known)) return *single;
  Schema schema = sniff(path);
  if (schema.header || (schema.format != "csv" && schema.format != "tsv")) return schema;
  // Values that look like names hide a header; a known name shows it.
  const FirstRow row = first_row(path, schema);
  const bool header = std::any_of(row.texts.begin(), row.texts.end(), [&](const std::string& t) {
    return std::find(known.begin(), known.end(), t) != known.end();
  });
  if (!header) {
    throw Error(ExitCode::bad_data, path + ":1:1", "a file of queries needs a header",
                hint_of("", known));
  }
  schema.header = true;
  schema.columns = row.texts;
  return schema;
}

Error unknown_column(const std::string& name, const std::string& place,
                     const std::vector<std::string>& known) {
  return {ExitCode::bad_data, place, "the model has no query feature of column " + shown(name),
          hint_of(name, known)};
}

Error given_twice(const std::string& column, const std::string& path) {
  return {ExitCode::usage, "--context",
          fmt::format("column {} stands in {} too", shown(column), path)};
}

/// Refuses an unknown or repeated column of a header; JSON keys the reader looks at row by row.
void check_columns_known(const std::string& path, const Schema& schema,
                         const std::vector<std::string>& known) {
  for (std::size_t c = 0; c < schema.columns.size(); ++c) {
    const std::string& name = schema.columns[c];
    const bool is_known = std::find(known.begin(), known.end(), name) != known.end();
    const bool twice =
        std::find(schema.columns.begin(), schema.columns.begin() + static_cast<std::ptrdiff_t>(c),
                  name) != schema.columns.begin() + static_cast<std::ptrdiff_t>(c);
    if (is_known && !twice) continue;
    std::string place = path + ":1:1";
    if (schema.header) {
      const FirstRow row = first_row(path, schema);
      if (c < row.places.size()) place = row.places[c];
    }
    if (twice) throw Error(ExitCode::bad_data, place, "two columns are named " + shown(name));
    throw unknown_column(name, place, known);
  }
}

/// Appends value i of `from`.
void append(FeatureValues& out, const FeatureValues& from, std::size_t i, FeatureForm form,
            std::int64_t width) {
  const auto at = static_cast<std::ptrdiff_t>(i);
  if (form == FeatureForm::row) {
    out.rows.push_back(from.rows[i]);
  } else if (form == FeatureForm::dense) {
    const auto first = from.numbers.begin() + at * width;
    out.numbers.insert(out.numbers.end(), first, first + width);
  } else {
    out.begin.push_back(static_cast<std::int64_t>(out.rows.size()));
    out.rows.insert(out.rows.end(), from.rows.begin() + from.begin[i],
                    from.rows.begin() + from.end[i]);
    if (!from.weights.empty()) {
      out.weights.insert(out.weights.end(), from.weights.begin() + from.begin[i],
                         from.weights.begin() + from.end[i]);
    }
    out.end.push_back(static_cast<std::int64_t>(out.rows.size()));
  }
}

class Reading {
 public:
  Reading(const std::string& path, const Config& config, const ModelData& data,
          std::vector<FeatureValues> given, bool cold)
      : path_(path), config_(config), data_(data), cold_(cold) {
    out_.queries.given = std::move(given);
    out_.queries.given.resize(data.features.size());
    for (std::size_t f = 0; f < data.features.size(); ++f) {
      const FeatureData& feature = data.features[f];
      context_.push_back(out_.queries.given[f].size(feature.form(), feature.width) > 0);
    }
  }

  QueryFile read() {
    std::vector<std::string> known = query_columns(config_, data_);
    known.insert(known.begin(), config_.data.user);
    Schema schema = schema_of(path_, known);
    const bool json = schema.format == "jsonl";
    if (json) {
      std::erase_if(schema.columns, [&](const std::string& c) { return is_given(c); });
    } else {
      check_columns_known(path_, schema, known);
    }
    latin1_ = schema.format.starts_with("movielens");
    user_ = find(schema, config_.data.user);
    for (std::size_t f = 0; f < data_.features.size(); ++f) plan(schema, f);
    if (user_ == kNowhere && !json) check_complete(path_ + ":1:1", {});
    ByteSource source(path_);
    const auto unknown_key = [&](const std::string& key, const std::string& place) {
      return is_given(key) ? given_twice(key, path_) : unknown_column(key, place, known);
    };
    reader_ = json ? make_json_lines_reader(source, schema, unknown_key)
                   : make_row_reader(source, schema);
    while (reader_->next(batch_)) take_batch();
    if (out_.names.empty()) throw Error(ExitCode::bad_data, path_, "it holds no query");
    return std::move(out_);
  }

 private:
  /// A query feature that the file may give.
  struct Plan {
    std::size_t feature = 0, values = kNowhere, weights = kNowhere;  // columns of the file
  };

  static std::size_t find(const Schema& schema, const std::string& name) {
    const auto at = std::find(schema.columns.begin(), schema.columns.end(), name);
    return at == schema.columns.end() ? kNowhere
                                      : static_cast<std::size_t>(at - schema.columns.begin());
  }

  /// Whether --context says what the column has.
  bool is_given(const std::string& column) const {
    for (std::size_t f = 0; f < data_.features.size(); ++f) {
      const FeatureData& feature = data_.features[f];
      const FeatureConfig& c = feature.config;
      if (c.of != Side::query || (query_column(c) != column && c.weights != column)) continue;
      if (context_[f]) return true;
    }
    return false;
  }

  void plan(const Schema& schema, std::size_t f) {
    const FeatureData& feature = data_.features[f];
    const FeatureConfig& c = feature.config;
    if (c.of != Side::query || c.column == config_.data.user) return;  // the user says it
    Plan p{f, find(schema, query_column(c)), kNowhere};
    if (!c.weights.empty()) p.weights = find(schema, c.weights);
    if (p.values == kNowhere && p.weights == kNowhere) return;
    if (!c.weights.empty() && (p.values == kNowhere || p.weights == kNowhere)) {
      throw Error(ExitCode::bad_data, path_ + ":1:1",
                  fmt::format("column {} comes without {}",
                              shown(p.values == kNowhere ? c.weights : c.column),
                              shown(p.values == kNowhere ? c.column : c.weights)),
                  "they are the values and the weights of one list");
    }
    if (context_[f]) throw given_twice(query_column(c), path_);
    plans_.push_back(p);
  }

  bool is_present(std::size_t row, std::size_t column) const {
    const Field& field = batch_.field(row, column);
    return field.begin != nullptr || field.at == Field::kNested;
  }
  bool is_present(std::size_t row, const Plan& p) const { return is_present(row, p.values); }

  [[noreturn]] void refuse(std::size_t row, std::size_t column, const std::string& what,
                           const std::string& hint = "") const {
    throw Error(ExitCode::bad_data, reader_->place(batch_, row, column), what, hint);
  }

  void take_batch() {
    users_.clear();
    for (std::size_t r = 0; r < batch_.size; ++r) take_user(r);
    for (const Plan& p : plans_) take_feature(p);
    out_.queries.users.insert(out_.queries.users.end(), users_.begin(), users_.end());
  }

  void take_user(std::size_t r) {
    if (user_ == kNowhere || !is_present(r, user_)) {
      if (!cold_) check_complete(reader_->place(batch_, r, 0), r);
      users_.push_back(-1);
      out_.names.push_back(fmt::format("#{}", out_.names.size() + 1));
      return;
    }
    std::string id = text_at(r, user_);
    if (id.empty()) refuse(r, user_, "an empty id" + column(config_.data.user));
    if (has_control_character(id)) {
      refuse(r, user_, shown(id) + " holds a control character" + column(config_.data.user));
    }
    if (config_.data.id_type == IdType::integer) {
      std::int64_t value = 0;
      if (!parse_integer(id, value)) {
        refuse(r, user_, shown(id) + " is not an integer" + column(config_.data.user));
      }
      id = std::to_string(value);
    }
    const auto known = data_.users.token_index(id);
    if (!known && !cold_) {
      refuse(r, user_, "the model does not know the user " + shown(id),
             "--cold answers unknown users through the out-of-vocabulary row");
    }
    users_.push_back(known ? static_cast<std::int32_t>(*known) : -1);
    out_.names.push_back(std::move(id));
  }

  static std::string column(const std::string& name) { return " (column " + name + ")"; }

  /// A query of nobody must bring all that the model asks. row: of the batch; none: any row of the file.
  void check_complete(const std::string& place, std::optional<std::size_t> row) const {
    if (cold_) return;
    for (std::size_t f = 0; f < data_.features.size(); ++f) {
      const FeatureData& feature = data_.features[f];
      if (feature.config.of != Side::query) continue;
      const auto p = std::find_if(plans_.begin(), plans_.end(),
                                  [&](const Plan& plan) { return plan.feature == f; });
      const bool in_file = p != plans_.end() && (!row || is_present(*row, *p));
      if (in_file || context_[f]) continue;
      throw Error(ExitCode::bad_data, place,
                  fmt::format("a query without {} lacks {}", shown(config_.data.user),
                              shown(query_column(feature.config))),
                  "--cold answers unknown users through the out-of-vocabulary row");
    }
  }

  std::string text_at(std::size_t r, std::size_t c) const {
    const Field& field = batch_.field(r, c);
    if (field.begin == nullptr) {
      refuse(r, c, "a list or an object where one value is wanted" + column(name_of(c)),
             hint_of_nested(c));
    }
    const std::string_view text = field.text();
    if (is_utf8(text)) return std::string(text);
    if (latin1_) return latin1_to_utf8(text);
    refuse(r, c, shown(text) + " is not valid UTF-8" + column(name_of(c)));
  }
  /// How the values of a list are written: as one text.
  std::string hint_of_nested(std::size_t c) const {
    for (const Plan& p : plans_) {
      const FeatureConfig& config = data_.features[p.feature].config;
      const bool many = config.kind == FeatureKind::list || config.kind == FeatureKind::sequence ||
                        config.kind == FeatureKind::vector;
      if (!many || (p.values != c && p.weights != c)) continue;
      return fmt::format("a list is one text, its values split by the separator: \"1{}2\"",
                         config.separator);
    }
    return "";
  }
  std::string name_of(std::size_t c) const {
    for (const Plan& p : plans_) {
      const FeatureConfig& config = data_.features[p.feature].config;
      if (p.values == c) return query_column(config);
      if (p.weights == c) return config.weights;
    }
    return config_.data.user;
  }

  /// The fields of one column as a table's.
  Column column_of(std::size_t c, const std::string& name,
                   const std::vector<std::size_t>& rows) const {
    Column out;
    out.name = name;
    out.dictionary = std::make_shared<Dictionary>();
    for (const std::size_t r : rows) out.codes.push_back(out.dictionary->add(text_at(r, c)));
    return out;
  }

  FeatureValues built(const Plan& p, const std::vector<std::size_t>& rows) const {
    const FeatureConfig& config = data_.features[p.feature].config;
    const Column values = column_of(p.values, query_column(config), rows);
    FeatureSource source{&values, nullptr, std::vector<std::int64_t>(rows.size())};
    std::iota(source.rows.begin(), source.rows.end(), 0);
    if (p.weights == kNowhere) return build_values(data_, p.feature, source);
    const Column weights = column_of(p.weights, config.weights, rows);
    source.weights = &weights;
    return build_values(data_, p.feature, source);
  }

  /// The values of a batch at once; where one is wrong, row by row, to find its place.
  FeatureValues built_or_refused(const Plan& p, const std::vector<std::size_t>& rows) const {
    for (std::size_t r = 0; p.weights != kNowhere && r < batch_.size; ++r) {
      if (!is_present(r, p) && is_present(r, p.weights)) {
        refuse(r, p.weights, "weights without their list" + column(name_of(p.values)));
      }
      if (is_present(r, p) && !is_present(r, p.weights)) {
        refuse(r, p.values, "a list without its weights" + column(name_of(p.weights)));
      }
    }
    try {
      return built(p, rows);
    } catch (const Error&) {
      for (const std::size_t r : rows) {
        try {
          built(p, {r});
        } catch (const Error& e) {
          if (e.where().starts_with(path_ + ":")) throw;
          refuse(r, p.values, e.what());
        }
      }
      throw;
    }
  }

  void take_feature(const Plan& p) {
    const FeatureData& feature = data_.features[p.feature];
    std::vector<std::size_t> present;
    for (std::size_t r = 0; r < batch_.size; ++r) {
      if (is_present(r, p)) present.push_back(r);
    }
    const FeatureValues values = built_or_refused(p, present);
    count_unseen(p, present);
    FeatureValues own;
    if (present.size() < batch_.size) own = values_of_users(data_, p.feature, users_);
    FeatureValues& out = out_.queries.given[p.feature];
    std::size_t next = 0;
    for (std::size_t r = 0; r < batch_.size; ++r) {
      const bool here = next < present.size() && present[next] == r;
      append(out, here ? values : own, here ? next : r, feature.form(), feature.width);
      next += here ? 1 : 0;
    }
  }

  void count_unseen(const Plan& p, const std::vector<std::size_t>& rows) {
    for (const std::size_t r : rows) {
      for (const std::string& token : unseen_tokens(data_, p.feature, text_at(r, p.values))) {
        if (out_.unseen++ == 0) out_.first_unseen = token;
      }
    }
  }

  const std::string& path_;
  const Config& config_;
  const ModelData& data_;
  bool cold_, latin1_ = false;
  std::size_t user_ = kNowhere;
  std::vector<bool> context_;  // of each feature: --context gives one value for all
  std::vector<Plan> plans_;
  std::unique_ptr<RowReader> reader_;
  RowBatch batch_;
  std::vector<std::int32_t> users_;  // of the batch
  QueryFile out_;
};

}  // namespace

const std::string& query_column(const FeatureConfig& feature) {
  return feature.kind == FeatureKind::sequence ? feature.name : feature.column;
}

std::vector<std::string> query_columns(const Config& config, const ModelData& data) {
  std::vector<std::string> out;
  const auto add = [&](const std::string& name) {
    if (!name.empty() && std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
  };
  for (const FeatureData& feature : data.features) {
    const FeatureConfig& c = feature.config;
    if (c.of != Side::query || c.column == config.data.user) continue;
    add(query_column(c));
    add(c.weights);
  }
  return out;
}

QueryFile read_queries(const std::string& path, const Config& config, const ModelData& data,
                       std::vector<FeatureValues> given, bool cold) {
  return Reading(path, config, data, std::move(given), cold).read();
}

}  // namespace belfry
