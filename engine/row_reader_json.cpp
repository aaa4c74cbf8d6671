// SPDX-License-Identifier: Apache-2.0
// JSON lines: one object a line. Values keep the text that the file gives them (integers in canonical
// form), so that ids and numbers take the same way as in the other formats.
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "engine/error.hpp"
#include "engine/field_text.hpp"
#include "engine/row_reader.hpp"

namespace belfry {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kBatchRows = 256;

/// Receives the members of one object and keeps those of known keys.
class RowHandler : public nlohmann::json_sax<Json> {
 public:
  RowHandler(const std::vector<std::string>& columns, bool strict)
      : filled_(columns.size()), strict_(strict) {
    for (std::size_t c = 0; c < columns.size(); ++c) index_.emplace(columns[c], c);
  }

  /// `pool` has room for the texts of the line and for an integer of each column.
  void start(Field* fields, char* pool) {
    fields_ = fields;
    pool_ = pool;
    depth_ = 0;
    column_ = kNone;
    fault_.clear();
    unknown_.reset();
    fault_at_ = 0;
    std::fill(filled_.begin(), filled_.end(), false);
    std::fill(fields, fields + filled_.size(), Field());
  }
  char* pool() const { return pool_; }
  const std::string& fault() const { return fault_; }
  std::size_t fault_at() const { return fault_at_; }
  /// The key that is no column, where the handler is strict.
  const std::optional<std::string>& unknown() const { return unknown_; }

  bool null() override { return depth_ > 0 || refuse(); }
  bool boolean(bool value) override { return keep(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return keep_integer(value); }
  bool number_unsigned(number_unsigned_t value) override { return keep_integer(value); }
  bool number_float(number_float_t, const string_t& text) override { return keep(text); }
  bool string(string_t& text) override { return keep(text); }
  bool binary(binary_t&) override { return refuse(); }
  bool start_object(std::size_t) override { return open(false); }
  bool start_array(std::size_t) override { return open(true); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    const auto found = index_.find(name);
    column_ = found == index_.end() ? kNone : found->second;
    if (column_ == kNone) {
      if (strict_) unknown_ = name;
      return !strict_;
    }
    if (filled_[column_]) {
      fault_ = "key " + shown(name) + " comes twice";
      return false;
    }
    filled_[column_] = true;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    std::string text = error.what();  // "[json.exception...] parse error at line 1, column 5: ..."
    if (const auto colon = text.find(": "); colon != std::string::npos) text.erase(0, colon + 2);
    if (const auto bracket = text.find("] ");
        text.starts_with("[") && bracket != std::string::npos) {
      text.erase(0, bracket + 2);
    }
    fault_ = "is not valid JSON (" + text + ")";
    fault_at_ = position > 0 ? position - 1 : 0;
    return false;
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};

  bool refuse() {
    fault_ = "is not a JSON object";
    return false;
  }

  bool open(bool array) {
    if (depth_ == 0 && array) return refuse();
    if (depth_ == 1 && column_ != kNone) {  // a nested value is no text and no number
      fields_[column_].at = Field::kNested;
      column_ = kNone;
    }
    ++depth_;
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }

  bool keep(std::string_view text) {
    if (depth_ == 0) return refuse();
    if (depth_ > 1 || column_ == kNone) return true;
    std::memcpy(pool_, text.data(), text.size());
    fields_[column_] = {pool_, static_cast<std::uint32_t>(text.size()), 0};
    pool_ += text.size();
    return true;
  }

  template <typename Integer>
  bool keep_integer(Integer value) {
    char text[24];
    const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
    return keep({text, static_cast<std::size_t>(end - text)});
  }

  std::unordered_map<std::string, std::size_t> index_;
  std::vector<bool> filled_;
  bool strict_;
  std::optional<std::string> unknown_;
  Field* fields_ = nullptr;
  char* pool_ = nullptr;
  std::size_t depth_ = 0, column_ = kNone, fault_at_ = 0;
  std::string fault_;
};

/// Offset of the value of a top-level key in a line that is a valid object.
std::size_t value_offset(std::string_view line, const std::string& wanted) {
  std::size_t depth = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c != '"') continue;
    const std::size_t begin = i;
    for (++i; i < line.size() && line[i] != '"'; ++i) i += line[i] == '\\' ? 1 : 0;
    std::size_t after = line.find_first_not_of(" \t\r", i + 1);
    if (depth != 1 || after == std::string_view::npos || line[after] != ':') continue;
    const Json key = Json::parse(line.substr(begin, i + 1 - begin), nullptr, false);
    if (!key.is_string() || key.get_ref<const std::string&>() != wanted) continue;
    after = line.find_first_not_of(" \t\r", after + 1);
    return after == std::string_view::npos ? 0 : after;
  }
  return 0;
}

class JsonLinesReader : public RowReader {
 public:
  JsonLinesReader(ByteSource& source, const Schema& schema, KeyFault unknown_key)
      : block_(source),
        columns_(schema.columns),
        unknown_key_(std::move(unknown_key)),
        handler_(columns_, static_cast<bool>(unknown_key_)) {}

  bool next(RowBatch& batch) override {
    if (fault_) throw *fault_;
    batch.columns = columns_.size();
    batch.rows.resize(kBatchRows);
    batch.fields.resize(kBatchRows * columns_.size());
    batch.size = 0;
    if (pool_ == nullptr) {
      pool_ = std::make_unique<char[]>(Block::kCapacity + kBatchRows * columns_.size() * 24);
    }
    pool_end_ = pool_.get();
    ends_.clear();
    while (batch.size < kBatchRows) {
      const std::size_t size = block_.size();
      const void* const feed = std::memchr(block_.data() + position_, '\n', size - position_);
      if (feed == nullptr && !block_.ended()) {
        if (batch.size > 0) return true;
        if (size - position_ > kMaxRowBytes) break;
        if (!block_.refill(position_)) return false;
        position_ = 0;
        continue;
      }
      if (position_ == size) return batch.size > 0;
      std::size_t end =
          feed == nullptr
              ? size
              : static_cast<std::size_t>(static_cast<const char*>(feed) - block_.data());
      const std::string_view line(block_.data() + position_, end - position_);
      const bool good = take(batch, line);
      if (!good) break;
      position_ = std::min(end + 1, size);
      ++line_;
    }
    if (batch.size == kBatchRows) return true;
    if (!fault_) fail(0, "a line of more than 1 MiB");
    if (batch.size == 0) throw *fault_;
    return true;
  }

  std::string place(const RowBatch& batch, std::size_t row, std::size_t column) const override {
    const std::string_view line(batch.rows[row].start, ends_[row]);
    return place_at(batch.rows[row].line, value_offset(line, columns_[column]));
  }

 private:
  /// One line into the batch; false after a fault.
  bool take(RowBatch& batch, std::string_view line) {
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
      ++blank_lines_;
      return true;
    }
    if (line.size() > kMaxRowBytes) return fail(0, "a line of more than 1 MiB");
    Field* const fields = batch.fields.data() + batch.size * columns_.size();
    handler_.start(fields, pool_end_);
    if (!Json::sax_parse(line.begin(), line.end(), &handler_)) {
      if (const auto& key = handler_.unknown()) {
        fault_.emplace(unknown_key_(*key, place_at(line_, value_offset(line, *key))));
        return false;
      }
      return fail(handler_.fault_at(), handler_.fault());
    }
    pool_end_ = handler_.pool();
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      if (fields[c].size > kMaxFieldBytes) {
        return fail(value_offset(line, columns_[c]), "a field of more than 64 KiB");
      }
    }
    batch.rows[batch.size++] = {line_, line.data()};
    ends_.push_back(line.size());
    return true;
  }

  bool fail(std::size_t offset, const std::string& what) {
    fault_.emplace(ExitCode::bad_data, place_at(line_, offset), what);
    return false;
  }

  std::string place_at(std::uint64_t line, std::size_t offset) const {
    return block_.path() + ":" + std::to_string(line) + ":" + std::to_string(offset + 1);
  }

  Block block_;
  std::vector<std::string> columns_;
  KeyFault unknown_key_;
  RowHandler handler_;
  std::unique_ptr<char[]> pool_;  ///< texts of the batch: its lines lie in one block
  char* pool_end_ = nullptr;
  std::vector<std::size_t> ends_;
  std::size_t position_ = 0;
  std::uint64_t line_ = 1;
  std::optional<Error> fault_;
};

}  // namespace

std::unique_ptr<RowReader> make_json_lines_reader(ByteSource& source, const Schema& schema,
                                                  KeyFault unknown_key) {
  return std::make_unique<JsonLinesReader>(source, schema, std::move(unknown_key));
}

}  // namespace belfry
