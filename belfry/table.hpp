// SPDX-License-Identifier: Apache-2.0
// Tables of interactions, items and users: read from a file, or over arrays that a program holds. A table is a
// handle: copies, shuffles and parts share what it was made of, and cost a list of row numbers at most.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/dataset.hpp"

namespace belfry::data {

class Table;
struct Batches;

/// One column of a table; holds on to the table.
class Column {
 public:
  const std::string& name() const { return name_; }
  const Table& table() const { return *table_; }
  /// The values as text, in the table's order.
  std::vector<std::string> text() const;
  /// Distinct values and how often each comes, in order of first appearance. Vocabulary::adapt takes this.
  std::vector<std::pair<std::string, std::int64_t>> token_counts() const;

 private:
  friend class Table;
  Column(const Table& table, std::string name);
  std::shared_ptr<const Table> table_;
  std::string name_;
};

/// Const members may be called from several threads on tables over arrays; those of a file read it.
class Table {
 public:
  /// A table without columns, to which arrays are added. The name is how errors call it.
  explicit Table(std::string name = "table");

  /// Adds a column over the caller's own array, which is not copied and must outlive the table and all that is
  /// made of it. All columns have as many rows; a name comes once: Error(usage).
  Table& add(const std::string& name, std::span<const std::string> values);
  Table& add(const std::string& name, std::span<const std::string_view> values);
  Table& add(const std::string& name, std::span<const std::int64_t> values);
  Table& add(const std::string& name, std::span<const std::int32_t> values);
  Table& add(const std::string& name, std::span<const double> values);
  Table& add(const std::string& name, std::span<const float> values);

  const std::string& name() const;
  std::int64_t rows() const;
  std::vector<std::string> columns() const;
  /// Error(bad_data) that lists the columns where there is none of this name.
  Column operator[](std::string_view name) const;

  /// The rows in an order drawn by `seed`: a pure function of it and their number, that of the model file's
  /// split.method = "shuffle".
  Table shuffle(std::uint64_t seed) const;
  /// The first `first` rows, and the `second` rows after them. More than there are: Error(usage).
  std::pair<Table, Table> split(std::int64_t first, std::int64_t second) const;
  /// The first share of the rows, rounded down, and the rest.
  std::pair<Table, Table> split(double first) const;
  /// The rows for which COLUMN OP VALUE holds ("rating >= 4"), as the model file's data.where.
  Table where(const std::string& condition) const;
  /// The rows in their order, so many a step; the last step may be smaller.
  Batches batch(std::int64_t rows) const;

  /// Whether both were made of the same data, whichever rows.
  bool shares(const Table& other) const { return content_ == other.content_; }
  /// Whether both have the same rows of the same data in the same order.
  bool same(const Table& other) const;

  // What the engine asks of a table (engine/data_source.hpp).
  Schema schema() const;
  belfry::Table read(const std::vector<ColumnRequest>& wanted, const ReadOptions& options) const;

 private:
  friend Table read(const std::string& path, const std::string& format);
  struct Content;
  struct FileContent;
  struct ArrayContent;
  using Rows = std::shared_ptr<const std::vector<std::int64_t>>;
  Table(std::shared_ptr<Content> content, Rows rows);
  template <class T>
  Table& add_array(const std::string& name, ColumnType type, std::span<const T> values);
  Table part(std::int64_t first, std::int64_t rows) const;
  std::shared_ptr<Content> content_;
  Rows rows_;  ///< of the content, in this order; null: all
};

/// A table in steps of so many rows, for fit and evaluate.
struct Batches {
  Table table;
  std::int64_t size = 0;  ///< 0: the model's default
  Batches(Table table, std::int64_t size = 0) : table(std::move(table)), size(size) {}
};

/// A table from a file: CSV, TSV, JSON lines, MovieLens (u.data, u.item, u.user, *.dat), RecBole, adjacency
/// lists; plain, .gz or .zst. The format is recognised, or named ("movielens-100k"). Looks at the file and
/// counts its rows; a column is read when it is asked for, so the file must stay as it is. A missing file:
/// Error(io); a bad row: Error(bad_data) at path:line:column when it is read.
Table read(const std::string& path, const std::string& format = "auto");

}  // namespace belfry::data
