// SPDX-License-Identifier: Apache-2.0
// Tables from files: format and header are recognised, the columns asked for are read in a stream and
// kept as typed columns; a bad row is an error with file:line:column. Memory is proportional to the
// columns kept. Formats: CSV, TSV (and other one-character delimiters), MovieLens u.data / u.item / u.user
// and *.dat, RecBole atomic files, adjacency lists, JSON lines; each plain, .gz or .zst; `-` is stdin.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace belfry {

enum class ColumnType { text, integer, real };
enum class IdType { text, integer };

/// Distinct strings <-> codes 0, 1, 2, ... in order of first appearance.
class Dictionary {
 public:
  Dictionary();
  ~Dictionary();
  Dictionary(Dictionary&&) noexcept;
  Dictionary& operator=(Dictionary&&) noexcept;
  std::uint32_t add(std::string_view text);  ///< code of text, new or old
  /// The same for many texts, faster than one by one.
  void add(const std::string_view* texts, std::size_t count, std::uint32_t* codes);
  std::optional<std::uint32_t> find(std::string_view text) const;
  std::string_view text(std::uint32_t code) const;  ///< valid until the next add
  std::size_t size() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One typed column; exactly one of codes, integers, reals is filled, by type.
struct Column {
  std::string name;
  ColumnType type = ColumnType::text;
  std::vector<std::uint32_t> codes;  ///< text: codes into dictionary
  std::shared_ptr<Dictionary> dictionary;
  std::vector<std::int64_t> integers;
  std::vector<double> reals;
  std::size_t size() const;
};

struct Table {
  std::vector<Column> columns;
  std::int64_t rows = 0;
  std::int64_t rows_filtered = 0;  ///< rows that `where` left out
  std::int64_t blank_lines = 0;    ///< empty lines, which are no rows
  const Column* find(std::string_view name) const;
  /// A column may have been asked for twice, as text and as numbers.
  const Column* find(std::string_view name, ColumnType type) const;
  const Column& at(
      std::string_view name) const;  ///< Error(bad_data) naming the column and the known ones
};

/// What a file looks like, from its name and its first lines.
struct Schema {
  std::string
      format;  ///< "csv", "tsv", "movielens-100k", "movielens-1m", "recbole", "adjacency", "jsonl"
  char delimiter = ',';
  std::string separator;  ///< "::" for movielens-1m, else empty
  bool header = true;
  std::vector<std::string> columns;  ///< names, from the header or the format
  std::vector<ColumnType> types;     ///< from the header (RecBole) or a look at the first rows
  std::string description() const;   ///< "csv, comma, header"
};

/// Where a column stands in a file of this schema; Error(bad_data) naming the column and the known ones.
std::size_t column_index(const Schema& schema, const std::string& path, const std::string& name);

/// Guessed roles of an interactions file: column names, empty where there is none.
struct Roles {
  std::string user, item, weight, time;
};

struct ColumnRequest {
  std::string name;
  ColumnType type = ColumnType::text;
  bool id =
      false;  ///< an id column: text compared exactly, or a canonical integer when id_type says so
  /// Of a real column: a value outside is a bad row, unless `where` leaves it out.
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  std::string why = {};  ///< the range, for the message: `a weight is not negative`
};

struct ReadOptions {
  std::string format = "auto";
  IdType id_type = IdType::text;
  std::string
      where;  ///< "rating >= 4": COLUMN OP VALUE, OP one of == != < <= > >=; empty: all rows
};

/// Looks at the file (format "auto" or a name). Missing, unreadable, a folder: Error(io). Empty or
/// unrecognisable: Error(bad_data).
Schema sniff(const std::string& path, const std::string& format = "auto");

/// Columns that look like user, item, weight (rating) and time, by name and then by position.
Roles guess_roles(const Schema& schema);

/// Reads the requested columns of one or more files of one schema. Bad rows are Error(bad_data) at
/// "FILE:LINE:COLUMN" (COLUMN is the 1-based byte at which the field starts). A file without a usable row
/// is Error(bad_data). Integers must fit int64, reals must be finite. Control characters in an id,
/// invalid UTF-8 in kept text, fields over 64 KiB are bad.
Table read_table(const std::vector<std::string>& paths, const std::vector<ColumnRequest>& wanted,
                 const ReadOptions& options);

/// What to do with rows of the same (user, item).
enum class Duplicates { keep, first, last, error };
/// Row numbers of `table` to keep under the policy, ascending; Duplicates::error throws Error(bad_data)
/// naming the pair.
std::vector<std::int64_t> resolve_duplicates(const Column& user, const Column& item,
                                             Duplicates policy);

}  // namespace belfry
