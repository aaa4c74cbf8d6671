// SPDX-License-Identifier: Apache-2.0
// Batches of fields become typed columns, column by column; a batch in which anything is wrong is looked
// at again row by row, so that the first bad row of the file is the one that is reported.
#include "engine/dataset.hpp"

#include <algorithm>
#include <deque>
#include <numeric>

#include "engine/byte_source.hpp"
#include "engine/error.hpp"
#include "engine/field_text.hpp"
#include "engine/row_filter.hpp"
#include "engine/row_reader.hpp"

namespace belfry {
namespace {

enum class Kind { real, integer, text, id, integer_id };

struct Plan {
  std::string name;
  Kind kind = Kind::text;
  std::size_t source = 0;  ///< column of the file
  std::size_t target = 0;  ///< column of the table
  bool kept = true;        ///< false: read for `where` alone
  const ColumnRequest* request = nullptr;
  bool in_range(double value) const { return value >= request->least && value <= request->most; }
};

bool is_text(Kind kind) {
  return kind != Kind::real && kind != Kind::integer;
}

bool is_digits(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// "7", "0", "12" but not "007", "-0", "+1": the text that to_chars gives for its value.
bool is_canonical_integer(std::string_view text) {
  return !text.empty() && text.size() <= 18 && (text[0] != '0' || text.size() == 1) &&
         is_digits(text);
}

/// Why a text cannot be kept; empty when it can.
std::string text_fault(std::string_view text, bool id) {
  if (id && text.empty()) return "an empty id";
  if (is_printable_ascii(text)) return {};
  if (!is_utf8(text)) return shown(text) + " is not valid UTF-8";
  if (id && has_control_character(text)) return shown(text) + " holds a control character";
  return {};
}

std::string number_fault(std::string_view text, bool integer) {
  std::int64_t whole = 0;
  double real = 0;
  if (integer ? parse_integer(text, whole) : parse_real(text, real)) return {};
  const std::string_view digits = text.substr(text.starts_with("-") ? 1 : 0);
  if (integer && !digits.empty() && is_digits(digits)) {
    return shown(text) + " does not fit a 64-bit integer";
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), real);
  if (!integer && end == text.data() + text.size() && !text.empty()) {
    return shown(text) + " is not a finite number";  // nan, inf, 1e999
  }
  return shown(text) + (integer ? " is not an integer" : " is not a number");
}

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size() && i < 40; ++i) out += (i == 0 ? "" : ", ") + names[i];
  return out + (names.size() > 40 ? ", ..." : "");
}

std::string columns_hint(const std::vector<std::string>& names, const std::string& wanted) {
  const std::string near = nearest_name(wanted, names.data(), names.size());
  return "columns: " + join(names) + (near.empty() ? "" : "; did you mean \"" + near + "\"?");
}

}  // namespace

std::size_t column_index(const Schema& schema, const std::string& path, const std::string& name) {
  const auto& names = schema.columns;
  auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end() && schema.format.starts_with("movielens") &&
      (name == "movie_id" || name == "item_id")) {  // both names are in use for it
    found = std::find(names.begin(), names.end(), name == "item_id" ? "movie_id" : "item_id");
  }
  if (found == names.end()) {
    throw Error(ExitCode::bad_data, path, "no column \"" + name + "\"", columns_hint(names, name));
  }
  if (std::find(found + 1, names.end(), *found) != names.end()) {
    throw Error(ExitCode::bad_data, path, "two columns are named \"" + name + "\"");
  }
  return static_cast<std::size_t>(found - names.begin());
}

namespace {

class TableBuilder {
 public:
  TableBuilder(const std::vector<ColumnRequest>& wanted, const ReadOptions& options)
      : wanted_(wanted), options_(options) {
    if (!options.where.empty()) filter_ = RowFilter::parse(options.where);
    for (const ColumnRequest& request : wanted) {
      Column column;
      column.name = request.name;
      column.type = request.id ? ColumnType::text : request.type;
      if (column.type == ColumnType::text) column.dictionary = std::make_shared<Dictionary>();
      table_.columns.push_back(std::move(column));
    }
  }

  void read(const std::string& path) {
    const Schema schema = sniff(path, options_.format);
    latin1_ = schema.format.starts_with("movielens");
    make_plans(schema, path);
    ByteSource source(path);
    source_ = &source;
    const auto reader = make_row_reader(source, schema);
    reader_ = reader.get();
    file_start_ = table_.rows;
    std::int64_t rows = 0;
    while (reader->next(batch_)) {
      rows += static_cast<std::int64_t>(batch_.size);
      take_batch();
    }
    table_.blank_lines += reader->blank_lines();
    if (rows == 0) throw Error(ExitCode::bad_data, path, "no usable row");
  }

  Table finish(const std::string& place) {
    if (table_.rows == 0) {
      throw Error(ExitCode::bad_data, place, "no usable row",
                  "where = " + shown(options_.where) + " leaves out all " +
                      std::to_string(table_.rows_filtered));
    }
    for (Column& column : table_.columns) {
      shrink(column.codes);
      shrink(column.integers);
      shrink(column.reals);
    }
    return std::move(table_);
  }

 private:
  void make_plans(const Schema& schema, const std::string& path) {
    plans_.clear();
    for (std::size_t i = 0; i < wanted_.size(); ++i) {
      const ColumnRequest& request = wanted_[i];
      Plan plan{request.name, Kind::text, column_index(schema, path, request.name), i,
                true,         &request};
      if (request.id) {
        plan.kind = options_.id_type == IdType::integer ? Kind::integer_id : Kind::id;
      } else if (request.type != ColumnType::text) {
        plan.kind = request.type == ColumnType::real ? Kind::real : Kind::integer;
      }
      plans_.push_back(plan);
    }
    if (!filter_) return;
    filter_source_ = column_index(schema, path, filter_->column());
    filter_numeric_ = filter_->is_numeric(schema.types[filter_source_]);
    if (filter_numeric_) {
      plans_.push_back({filter_->column(), Kind::real, filter_source_, wanted_.size(), false});
    }
  }

  void take_batch() {
    side_.clear();
    if (!choose_rows()) return throw_first_fault();
    grow();
    for (const Plan& plan : plans_) {
      if (!plan.kept) continue;
      const bool good = plan.kind == Kind::real      ? take_reals(plan)
                        : plan.kind == Kind::integer ? take_integers(plan)
                                                     : take_texts(plan);
      if (!good) return throw_first_fault();
    }
    table_.rows += static_cast<std::int64_t>(kept_);
    table_.rows_filtered += static_cast<std::int64_t>(batch_.size - kept_);
  }

  /// Fills keep_; false when a value that `where` compares is no number.
  bool choose_rows() {
    keep_.assign(batch_.size, 1);
    kept_ = batch_.size;
    if (!filter_) return true;
    for (std::size_t r = 0; r < batch_.size; ++r) {
      const Field& field = batch_.field(r, filter_source_);
      if (filter_numeric_) {
        double value = 0;
        if (field.begin == nullptr || !parse_real(field.text(), value)) return false;
        keep_[r] = filter_->keeps(value) ? 1 : 0;
      } else {
        keep_[r] = filter_->keeps(decoded(field)) ? 1 : 0;
      }
      kept_ -= keep_[r] == 0 ? 1 : 0;
    }
    return true;
  }

  bool take_reals(const Plan& plan) {
    std::vector<double>& out = table_.columns[plan.target].reals;
    for (std::size_t r = 0; r < batch_.size; ++r) {
      const Field& field = batch_.field(r, plan.source);
      double value = 0;
      if (!parse_real(field.text(), value)) return false;
      if (keep_[r] == 0) continue;
      if (!plan.in_range(value)) return false;
      out.push_back(value);
    }
    return true;
  }

  bool take_integers(const Plan& plan) {
    std::vector<std::int64_t>& out = table_.columns[plan.target].integers;
    for (std::size_t r = 0; r < batch_.size; ++r) {
      const Field& field = batch_.field(r, plan.source);
      std::int64_t value = 0;
      if (!parse_integer(field.text(), value)) return false;
      if (keep_[r] != 0) out.push_back(value);
    }
    return true;
  }

  /// Texts are checked once, when they enter the dictionary.
  bool take_texts(const Plan& plan) {
    const bool id = plan.kind != Kind::text;
    texts_.clear();
    for (std::size_t r = 0; r < batch_.size; ++r) {
      const Field& field = batch_.field(r, plan.source);
      if (field.begin == nullptr && (id || field.at == Field::kNested)) return false;
      std::string_view text = decoded(field);
      if (plan.kind == Kind::integer_id && !is_canonical_integer(text)) {
        std::int64_t value = 0;
        if (!parse_integer(text, value)) return false;
        text = side_.emplace_back(std::to_string(value));
      }
      if (keep_[r] != 0) {
        texts_.push_back(text);
      } else if (!text_fault(text, id).empty()) {
        return false;
      }
    }
    Column& column = table_.columns[plan.target];
    const std::size_t known = column.dictionary->size(), begin = column.codes.size();
    column.codes.resize(begin + texts_.size());
    column.dictionary->add(texts_.data(), texts_.size(), column.codes.data() + begin);
    for (std::size_t code = known; code < column.dictionary->size(); ++code) {
      const auto text = column.dictionary->text(static_cast<std::uint32_t>(code));
      if (!text_fault(text, id).empty()) return false;
    }
    return true;
  }

  /// MovieLens files are ISO-8859-1, later ones UTF-8.
  std::string_view decoded(const Field& field) {
    const std::string_view text = field.text();
    if (!latin1_ || is_utf8(text)) return text;
    return side_.emplace_back(latin1_to_utf8(text));
  }

  std::string fault(const Plan& plan, const Field& field, bool kept) {
    const std::string column = " (column " + plan.name + ")";
    if (field.begin == nullptr && field.at == Field::kNested) {
      return "a list or an object where one value is wanted" + column;
    }
    if (field.begin == nullptr) return plan.kind == Kind::text ? "" : "no value" + column;
    std::string what;
    if (is_text(plan.kind)) {
      what = text_fault(decoded(field), plan.kind != Kind::text);
      if (what.empty() && plan.kind == Kind::integer_id) what = number_fault(field.text(), true);
    } else {
      what = number_fault(field.text(), plan.kind == Kind::integer);
      if (what.empty() && kept && plan.kept && plan.kind == Kind::real) {
        double value = 0;
        parse_real(field.text(), value);
        if (!plan.in_range(value)) what = shown(field.text()) + ": " + plan.request->why;
      }
    }
    return what.empty() ? "" : what + column;
  }

  void throw_first_fault() {
    std::vector<Plan> plans = plans_;
    std::stable_sort(plans.begin(), plans.end(),
                     [](const Plan& a, const Plan& b) { return a.source < b.source; });
    for (std::size_t r = 0; r < batch_.size; ++r) {
      for (const Plan& plan : plans) {
        const std::string what = fault(plan, batch_.field(r, plan.source), keep_[r] != 0);
        if (!what.empty()) {
          throw Error(ExitCode::bad_data, reader_->place(batch_, r, plan.source), what);
        }
      }
    }
    throw std::logic_error("a bad row that no check names");
  }

  /// Room for the batch. The file's progress tells how many rows are to come, which spares the columns
  /// the doubling that would need three times their memory for a moment.
  void grow() {
    const std::size_t need = static_cast<std::size_t>(table_.rows) + kept_;
    for (Column& column : table_.columns) {
      if (need > std::max({column.codes.capacity(), column.integers.capacity(),
                           column.reals.capacity()})) {
        reserve(column, need);
      }
    }
  }

  void reserve(Column& column, std::size_t need) {
    const double done = source_->progress();
    const auto in_file = static_cast<double>(need - static_cast<std::size_t>(file_start_));
    double room = static_cast<double>(need) * 1.5;
    if (done > 0) {
      const double expected = static_cast<double>(file_start_) + in_file / std::min(done, 1.0);
      room = std::clamp(expected * 1.02, static_cast<double>(need) * 1.1,
                        static_cast<double>(need) * 64);
    }
    const std::size_t capacity = std::max(need, static_cast<std::size_t>(room)) + 64;
    if (column.type == ColumnType::text) column.codes.reserve(capacity);
    if (column.type == ColumnType::integer) column.integers.reserve(capacity);
    if (column.type == ColumnType::real) column.reals.reserve(capacity);
  }

  template <typename T>
  static void shrink(std::vector<T>& values) {
    if (values.capacity() > values.size() + values.size() / 8) values.shrink_to_fit();
  }

  const std::vector<ColumnRequest>& wanted_;
  const ReadOptions& options_;
  Table table_;
  std::optional<RowFilter> filter_;
  std::size_t filter_source_ = 0;
  bool filter_numeric_ = false;
  std::vector<Plan> plans_;
  bool latin1_ = false;
  ByteSource* source_ = nullptr;
  RowReader* reader_ = nullptr;
  RowBatch batch_;
  std::int64_t file_start_ = 0;  ///< rows of the table when the file began
  std::vector<char> keep_;
  std::size_t kept_ = 0;
  std::vector<std::string_view> texts_;
  std::deque<std::string> side_;  ///< texts of the batch that do not lie in the file as they are
};

/// Distinct pairs of codes, in a table of their 64-bit keys.
class PairSet {
 public:
  explicit PairSet(std::size_t pairs) {
    while ((std::size_t{1} << bits_) < pairs + pairs / 2 + 2) ++bits_;
    slots_.assign(std::size_t{1} << bits_, kFree);
  }
  static std::uint64_t key(std::uint32_t user, std::uint32_t item) {
    return (std::uint64_t{user} << 32) | item;
  }
  bool insert(std::uint64_t key) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = static_cast<std::size_t>((key * 0x9e3779b97f4a7c15u) >> (64 - bits_));
    for (; slots_[at] != kFree; at = (at + 1) & mask) {
      if (slots_[at] == key) return false;
    }
    slots_[at] = key;
    return true;
  }

 private:
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};  // no code is that large
  unsigned bits_ = 4;
  std::vector<std::uint64_t> slots_;
};

[[noreturn]] void report_duplicate(const Column& user, const Column& item, std::size_t row) {
  std::size_t first = 0;
  while (user.codes[first] != user.codes[row] || item.codes[first] != item.codes[row]) ++first;
  const auto value = [&](const Column& column) {
    return column.name + " = " + shown(column.dictionary->text(column.codes[row]));
  };
  throw Error(ExitCode::bad_data, "",
              "the pair " + value(user) + ", " + value(item) + " comes twice, in rows " +
                  std::to_string(first + 1) + " and " + std::to_string(row + 1),
              "duplicates = \"keep\", \"first\" or \"last\" accepts it");
}

}  // namespace

std::size_t Column::size() const {
  return type == ColumnType::text      ? codes.size()
         : type == ColumnType::integer ? integers.size()
                                       : reals.size();
}

const Column* Table::find(std::string_view name) const {
  for (const Column& column : columns) {
    if (column.name == name) return &column;
  }
  return nullptr;
}

const Column* Table::find(std::string_view name, ColumnType type) const {
  for (const Column& column : columns) {
    if (column.name == name && column.type == type) return &column;
  }
  return nullptr;
}

const Column& Table::at(std::string_view name) const {
  if (const Column* column = find(name)) return *column;
  std::vector<std::string> names;
  for (const Column& column : columns) names.push_back(column.name);
  throw Error(ExitCode::bad_data, "", "no column " + shown(name),
              columns_hint(names, std::string(name)));
}

Table read_table(const std::vector<std::string>& paths, const std::vector<ColumnRequest>& wanted,
                 const ReadOptions& options) {
  if (paths.empty()) throw Error(ExitCode::usage, "", "no data file is given");
  TableBuilder builder(wanted, options);
  for (const std::string& path : paths) builder.read(path);
  return builder.finish(paths[0]);
}

std::vector<std::int64_t> resolve_duplicates(const Column& user, const Column& item,
                                             Duplicates policy) {
  const std::size_t rows = user.codes.size();
  std::vector<std::int64_t> kept;
  if (policy == Duplicates::keep) {
    kept.resize(rows);
    std::iota(kept.begin(), kept.end(), std::int64_t{0});
    return kept;
  }
  PairSet seen(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t row = policy == Duplicates::last ? rows - 1 - i : i;
    if (seen.insert(PairSet::key(user.codes[row], item.codes[row]))) {
      kept.push_back(static_cast<std::int64_t>(row));
    } else if (policy == Duplicates::error) {
      report_duplicate(user, item, row);
    }
  }
  if (policy == Duplicates::last) std::reverse(kept.begin(), kept.end());
  return kept;
}

}  // namespace belfry
