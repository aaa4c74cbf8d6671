// SPDX-License-Identifier: Apache-2.0
#include "belfry/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <variant>

#include "belfry/array_column.hpp"
#include "engine/error.hpp"
#include "engine/row_filter.hpp"
#include "engine/split.hpp"

namespace belfry::data {

/// What tables are made of, all rows of it.
struct Table::Content {
  explicit Content(std::string name) : name(std::move(name)) {}
  virtual ~Content() = default;
  virtual Schema schema() const = 0;
  virtual std::int64_t rows() const = 0;
  virtual belfry::Table read(const std::vector<ColumnRequest>& wanted,
                             const ReadOptions& options) const = 0;
  std::string name;
};

/// Columns are read from the file as `belfry train` reads them, so that both see the same values.
struct Table::FileContent : Table::Content {
  FileContent(const std::string& path, const std::string& format)
      : Content(path), schema_(sniff(path, format)) {
    if (path == "-") throw Error(ExitCode::usage, "-", "standard input cannot be read twice");
    rows_ = read({{schema_.columns.front(), ColumnType::text, false}}, {}).rows;
  }
  Schema schema() const override { return schema_; }
  std::int64_t rows() const override { return rows_; }
  belfry::Table read(const std::vector<ColumnRequest>& wanted,
                     const ReadOptions& options) const override {
    ReadOptions all = options;
    all.format = schema_.format;
    return read_table({name}, wanted, all);
  }

 private:
  Schema schema_;
  std::int64_t rows_ = 0;
};

struct Table::ArrayContent : Table::Content {
  using Content::Content;
  Schema schema() const override {
    Schema out;
    out.format = "memory";
    for (const ArrayColumn& column : columns) {
      out.columns.push_back(column.name);
      out.types.push_back(column.type);
    }
    return out;
  }
  std::int64_t rows() const override { return columns.empty() ? 0 : columns.front().size(); }
  belfry::Table read(const std::vector<ColumnRequest>& wanted,
                     const ReadOptions& options) const override {
    belfry::Table out;
    out.rows = rows();
    for (const ColumnRequest& request : wanted) {
      const std::size_t at = column_index(schema(), name, request.name);
      out.columns.push_back(typed_column(columns[at], request, options.id_type, name));
    }
    return out;
  }
  std::vector<ArrayColumn> columns;
};

Table::Table(std::string name) : content_(std::make_shared<ArrayContent>(std::move(name))) {}

Table::Table(std::shared_ptr<Content> content, Rows rows)
    : content_(std::move(content)), rows_(std::move(rows)) {}

template <class T>
Table& Table::add_array(const std::string& name, ColumnType type, std::span<const T> values) {
  auto* arrays = dynamic_cast<ArrayContent*>(content_.get());
  if (arrays == nullptr || rows_ != nullptr || content_.use_count() > 1) {
    throw Error(ExitCode::usage, content_->name, "columns are added before a table is used");
  }
  ArrayColumn column{name, type, values};
  for (const ArrayColumn& other : arrays->columns) {
    if (other.name == name) {
      throw Error(ExitCode::usage, content_->name, "two columns are named \"" + name + "\"");
    }
    if (other.size() != column.size()) {
      throw Error(ExitCode::usage, content_->name,
                  fmt::format("column {} has {} rows, {} has {}", name, column.size(), other.name,
                              other.size()));
    }
  }
  arrays->columns.push_back(std::move(column));
  return *this;
}

Table& Table::add(const std::string& name, std::span<const std::string> values) {
  return add_array(name, ColumnType::text, values);
}
Table& Table::add(const std::string& name, std::span<const std::string_view> values) {
  return add_array(name, ColumnType::text, values);
}
Table& Table::add(const std::string& name, std::span<const std::int64_t> values) {
  return add_array(name, ColumnType::integer, values);
}
Table& Table::add(const std::string& name, std::span<const std::int32_t> values) {
  return add_array(name, ColumnType::integer, values);
}
Table& Table::add(const std::string& name, std::span<const double> values) {
  return add_array(name, ColumnType::real, values);
}
Table& Table::add(const std::string& name, std::span<const float> values) {
  return add_array(name, ColumnType::real, values);
}

const std::string& Table::name() const {
  return content_->name;
}

std::int64_t Table::rows() const {
  return rows_ != nullptr ? static_cast<std::int64_t>(rows_->size()) : content_->rows();
}

std::vector<std::string> Table::columns() const {
  return content_->schema().columns;
}

Column Table::operator[](std::string_view name) const {
  const Schema schema = content_->schema();
  const std::size_t at = column_index(schema, content_->name, std::string(name));
  return Column(*this, schema.columns[at]);
}

Table Table::shuffle(std::uint64_t seed) const {
  std::vector<std::int64_t> order = shuffled_rows(seed, rows());
  if (rows_ != nullptr) {
    for (std::int64_t& row : order) row = (*rows_)[static_cast<std::size_t>(row)];
  }
  return {content_, std::make_shared<const std::vector<std::int64_t>>(std::move(order))};
}

Table Table::part(std::int64_t first, std::int64_t rows) const {
  std::vector<std::int64_t> out(static_cast<std::size_t>(rows));
  if (rows_ != nullptr) {
    std::copy_n(rows_->begin() + first, rows, out.begin());
  } else {
    std::iota(out.begin(), out.end(), first);
  }
  return {content_, std::make_shared<const std::vector<std::int64_t>>(std::move(out))};
}

std::pair<Table, Table> Table::split(std::int64_t first, std::int64_t second) const {
  if (first < 0 || second < 0 || first > rows() || second > rows() - first) {
    throw Error(
        ExitCode::usage, content_->name,
        fmt::format("cannot be split into {} and {} rows: it has {}", first, second, rows()));
  }
  return {part(0, first), part(first, second)};
}

std::pair<Table, Table> Table::split(double first) const {
  if (!(first >= 0 && first <= 1)) {
    throw Error(ExitCode::usage, content_->name, fmt::format("{} is no share of its rows", first));
  }
  const auto n = std::min(
      rows(), static_cast<std::int64_t>(std::floor(first * static_cast<double>(rows()) + 1e-6)));
  return split(n, rows() - n);
}

Table Table::where(const std::string& condition) const {
  const RowFilter filter = RowFilter::parse(condition);
  const Schema shape = content_->schema();
  const std::size_t at = column_index(shape, content_->name, filter.column());
  const bool numbers = filter.is_numeric(shape.types[at]);
  const belfry::Table values =
      read({{filter.column(), numbers ? ColumnType::real : ColumnType::text, false}}, {});
  const belfry::Column& column = values.columns.front();
  std::vector<std::int64_t> kept;
  for (std::int64_t row = 0; row < values.rows; ++row) {
    const auto r = static_cast<std::size_t>(row);
    if (numbers ? filter.keeps(column.reals[r])
                : filter.keeps(column.dictionary->text(column.codes[r]))) {
      kept.push_back(rows_ != nullptr ? (*rows_)[r] : row);
    }
  }
  return {content_, std::make_shared<const std::vector<std::int64_t>>(std::move(kept))};
}

Batches Table::batch(std::int64_t rows) const {
  if (rows < 1) throw Error(ExitCode::usage, content_->name, "a batch has at least one row");
  return {*this, rows};
}

bool Table::same(const Table& other) const {
  return content_ == other.content_ &&
         (rows_ == other.rows_ ||
          (rows_ != nullptr && other.rows_ != nullptr && *rows_ == *other.rows_));
}

Schema Table::schema() const {
  return content_->schema();
}

belfry::Table Table::read(const std::vector<ColumnRequest>& wanted,
                          const ReadOptions& options) const {
  belfry::Table out = content_->read(wanted, options);
  if (out.rows != content_->rows()) {
    throw Error(ExitCode::io, content_->name, "its rows have changed since it was first read");
  }
  if (rows_ == nullptr) return out;
  const auto choose = [&](auto& values) {
    if (values.empty()) return;
    std::remove_reference_t<decltype(values)> chosen(rows_->size());
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      chosen[i] = values[static_cast<std::size_t>((*rows_)[i])];
    }
    values = std::move(chosen);
  };
  for (belfry::Column& column : out.columns) {
    choose(column.codes);
    choose(column.integers);
    choose(column.reals);
  }
  out.rows = rows();
  return out;
}

Column::Column(const Table& table, std::string name)
    : table_(std::make_shared<const Table>(table)), name_(std::move(name)) {}

std::vector<std::string> Column::text() const {
  const belfry::Table values = table_->read({{name_, ColumnType::text, false}}, {});
  const belfry::Column& column = values.columns.front();
  std::vector<std::string> out;
  out.reserve(column.codes.size());
  for (const std::uint32_t code : column.codes) out.emplace_back(column.dictionary->text(code));
  return out;
}

std::vector<std::pair<std::string, std::int64_t>> Column::token_counts() const {
  const belfry::Table values = table_->read({{name_, ColumnType::text, false}}, {});
  const belfry::Column& column = values.columns.front();
  std::vector<std::int64_t> counts(column.dictionary->size());
  std::vector<std::uint32_t> order;
  for (const std::uint32_t code : column.codes) {
    if (counts[code]++ == 0) order.push_back(code);
  }
  std::vector<std::pair<std::string, std::int64_t>> out;
  for (const std::uint32_t code : order)
    out.emplace_back(column.dictionary->text(code), counts[code]);
  return out;
}

Table read(const std::string& path, const std::string& format) {
  return {std::make_shared<Table::FileContent>(path, format), nullptr};
}

}  // namespace belfry::data
