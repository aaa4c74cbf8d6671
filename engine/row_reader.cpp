// SPDX-License-Identifier: Apache-2.0
#include "engine/row_reader.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "engine/error.hpp"
#include "engine/field_scan.hpp"
#include "engine/field_text.hpp"

namespace belfry {
namespace {

constexpr std::size_t kBatchRows = 512;

std::string place_at(const std::string& path, std::uint64_t line, std::uint64_t column) {
  return path + ":" + std::to_string(line) + ":" + std::to_string(column);
}

std::string columns_text(std::size_t n) {
  return std::to_string(n) + (n == 1 ? " column" : " columns");
}

/// The next byte that can end a field or a line, by the bits of the block.
class StructureCursor {
 public:
  void seek(const std::uint64_t* bits, std::size_t position) {
    bits_ = bits;
    word_ = position / 64;
    left_ = bits_[word_] & (~std::uint64_t{0} << (position % 64));
  }
  /// There is always one: the block ends with a mark.
  std::size_t next() {
    while (left_ == 0) left_ = bits_[++word_];
    const std::size_t position = word_ * 64 + static_cast<std::size_t>(std::countr_zero(left_));
    left_ &= left_ - 1;
    return position;
  }

 private:
  const std::uint64_t* bits_ = nullptr;
  std::size_t word_ = 0;
  std::uint64_t left_ = 0;
};

/// CSV and relatives: one-character delimiters (with quotes, RFC 4180, where `quotes`), or "::".
class DelimitedReader : public RowReader {
 public:
  DelimitedReader(ByteSource& source, const Schema& schema)
      : block_(source),
        columns_(schema.columns.size()),
        delimiter_(schema.delimiter),
        pair_(!schema.separator.empty()),
        quotes_(schema.separator.empty() && (schema.format == "csv" || schema.format == "tsv")),
        header_(schema.header),
        bits_(Block::kCapacity / 64 + 2) {}

  bool next(RowBatch& batch) override {
    const std::size_t capacity = std::clamp<std::size_t>(8192 / columns_, 1, kBatchRows);
    batch.columns = columns_;
    batch.rows.resize(capacity);
    batch.fields.resize(capacity * columns_);
    batch.size = 0;
    if (fault_) throw *fault_;
    unescaped_used_ = 0;
    while (batch.size < capacity) {
      const Outcome outcome = pair_ ? row<true>(batch, batch.size) : row<false>(batch, batch.size);
      if (outcome == Outcome::row) {
        if (header_) {
          header_ = false;
        } else {
          ++batch.size;
        }
      } else if (outcome == Outcome::fault) {
        if (batch.size == 0) throw *fault_;
        return true;
      } else if (outcome == Outcome::more) {
        if (batch.size > 0) return true;  // its rows lie in the block that would move
        if (!more()) return false;
      }
    }
    return true;
  }

  std::string place(const RowBatch& batch, std::size_t row, std::size_t column) const override {
    return place_of(batch.rows[row], batch.field(row, column).at);
  }

 private:
  enum class Outcome { row, blank, more, fault };

  bool more() {
    if (block_.size() - position_ > kMaxRowBytes) {
      fail({line_, block_.data() + position_}, 0, "a line of more than 1 MiB");
      throw *fault_;
    }
    if (!block_.refill(position_)) return false;
    position_ = 0;
    unescaped_used_ = 0;
    mark_structure(block_.data(), block_.size(), delimiter_, bits_.data());
    // A line feed behind the last byte closes what has no end of its own.
    block_.data()[block_.size()] = '\n';
    bits_[block_.size() / 64] |= std::uint64_t{1} << (block_.size() % 64);
    bits_[block_.size() / 64 + 1] = 0;
    cursor_.seek(bits_.data(), 0);
    return true;
  }

  /// One row from position_ on, into row `r` of the batch. Moves on only when it is complete.
  template <bool kPair>
  Outcome row(RowBatch& batch, std::size_t r) {
    const char* const data = block_.data();
    const std::size_t size = block_.size(), start = position_;
    if (start >= size) return Outcome::more;
    const RowBatch::Row here{line_, data + start};
    batch.rows[r] = here;
    Field* const fields = batch.fields.data() + r * columns_;
    std::size_t at = start, count = 0, extra_lines = 0, extra_at = 0, stop = 0;
    for (;;) {
      Field field{data + at, 0, static_cast<std::uint32_t>(at - start)};
      if (!kPair && quotes_ && data[at] == '"' && at < size) {
        const Outcome outcome = quoted_field(here, at, field, extra_lines, stop);
        if (outcome != Outcome::row) return suspend(outcome, start);
      } else {
        stop = cursor_.next();
        if constexpr (kPair) {
          while (data[stop] == delimiter_ && (stop + 1 >= size || data[stop + 1] != delimiter_)) {
            if (stop + 1 >= size && !block_.ended()) return suspend(Outcome::more, start);
            stop = cursor_.next();
          }
        }
        field.size = static_cast<std::uint32_t>(stop - at);
      }
      if (count < columns_) fields[count] = field;
      if (++count == columns_ + 1) extra_at = at;
      if (data[stop] == delimiter_) {
        at = stop + 1;
        if constexpr (kPair) {
          cursor_.next();
          ++at;
        }
        continue;
      }
      if (data[stop] == '\r') {
        if (stop + 1 >= size && !block_.ended()) return suspend(Outcome::more, start);
        if (data[stop + 1] != '\n') {
          return fail(here, stop - start, "a carriage return inside the line",
                      "lines end with LF or CR LF");
        }
        stop = stop + 1 < size ? cursor_.next() : stop + 1;
      }
      break;
    }
    if (stop >= size && !block_.ended()) return suspend(Outcome::more, start);
    return close(here, fields, count, extra_at - start, start, stop, extra_lines);
  }

  Outcome close(const RowBatch::Row& here, const Field* fields, std::size_t count,
                std::size_t extra_at, std::size_t start, std::size_t stop,
                std::size_t extra_lines) {
    std::size_t end = stop;
    if (end > start && block_.data()[end - 1] == '\r') --end;
    if (end - start > kMaxRowBytes) return fail(here, 0, "a line of more than 1 MiB");
    position_ = std::min(stop + 1, block_.size());  // the last line may end behind the last byte
    line_ += 1 + extra_lines;
    if (end == start) {
      ++blank_lines_;
      return Outcome::blank;
    }
    if (count != columns_) {
      return fail(here, count > columns_ ? extra_at : end - start,
                  columns_text(count) +
                      (header_given() ? " where the header has " : " where the first line has ") +
                      std::to_string(columns_));
    }
    if (end - start > kMaxFieldBytes) {
      for (std::size_t c = 0; c < count; ++c) {
        if (fields[c].size > kMaxFieldBytes) return too_long(here, fields[c].at);
      }
    }
    return Outcome::row;
  }

  /// A field that starts with a quote at `at`. `stop`: where it ends, like the cursor's answer.
  Outcome quoted_field(const RowBatch::Row& here, std::size_t at, Field& field,
                       std::size_t& extra_lines, std::size_t& stop) {
    char* const data = block_.data();
    const std::size_t size = block_.size();
    std::size_t from = at + 1, escapes = 0, closing = 0;
    for (;;) {
      const void* const quote = std::memchr(data + from, '"', size - from);
      closing = quote == nullptr ? size
                                 : static_cast<std::size_t>(static_cast<const char*>(quote) - data);
      if (closing - at - 1 > kMaxFieldBytes) return too_long(here, field.at);
      if (closing == size || (closing + 1 == size && !block_.ended())) {
        if (!block_.ended()) return Outcome::more;
        return fail(here, field.at, "a quote that is never closed");
      }
      if (data[closing + 1] != '"' || closing + 1 >= size) break;
      ++escapes;
      from = closing + 2;
    }
    field.begin = data + at + 1;
    field.size = static_cast<std::uint32_t>(closing - at - 1);
    extra_lines +=
        static_cast<std::size_t>(std::count(field.begin, field.begin + field.size, '\n'));
    if (escapes > 0) unescape(field);
    cursor_.seek(bits_.data(), closing + 1);
    stop = cursor_.next();
    if (stop != closing + 1) {
      return fail(here, closing + 1 - static_cast<std::size_t>(here.start - data),
                  "text behind a closing quote", "a quote inside a quoted field is doubled");
    }
    return Outcome::row;
  }

  /// Doubled quotes become one, in a second buffer: in the block, places would no longer be true.
  void unescape(Field& field) {
    if (unescaped_ == nullptr) unescaped_ = std::make_unique<char[]>(Block::kCapacity);
    char* const out = unescaped_.get() + unescaped_used_;
    std::size_t n = 0;
    for (std::uint32_t i = 0; i < field.size; ++i) {
      out[n++] = field.begin[i];
      if (field.begin[i] == '"') ++i;
    }
    field.begin = out;
    field.size = static_cast<std::uint32_t>(n);
    unescaped_used_ += n;
  }

  /// The row is not complete (or wrong): the next try starts at its first byte again.
  Outcome suspend(Outcome outcome, std::size_t start) {
    cursor_.seek(bits_.data(), start);
    return outcome;
  }

  Outcome too_long(const RowBatch::Row& here, std::size_t at) {
    return fail(here, at, "a field of more than 64 KiB");
  }

  Outcome fail(const RowBatch::Row& here, std::size_t at, const std::string& what,
               const std::string& hint = "") {
    fault_.emplace(ExitCode::bad_data, place_of(here, at), what, hint);
    return Outcome::fault;
  }

  std::string place_of(const RowBatch::Row& row, std::size_t at) const {
    const char* line_start = row.start;
    std::uint64_t line = row.line;
    for (const char* p = row.start; p < row.start + at; ++p) {
      if (*p != '\n') continue;
      ++line;
      line_start = p + 1;
    }
    const auto column = static_cast<std::uint64_t>(row.start + at - line_start) + 1;
    return place_at(block_.path(), line, column);
  }

  bool header_given() const { return header_ || line_one_was_header_; }

  Block block_;
  std::size_t columns_;
  char delimiter_;
  bool pair_, quotes_, header_;
  bool line_one_was_header_ = header_;
  std::vector<std::uint64_t> bits_;
  StructureCursor cursor_;
  std::size_t position_ = 0;
  std::uint64_t line_ = 1;
  std::unique_ptr<char[]> unescaped_;
  std::size_t unescaped_used_ = 0;
  std::optional<Error> fault_;
};

/// `user item item ...`: one row for each item. Lines may be of any length.
class AdjacencyReader : public RowReader {
 public:
  explicit AdjacencyReader(ByteSource& source) : block_(source) { users_.reserve(kBatchRows + 1); }

  bool next(RowBatch& batch) override {
    batch.columns = 2;
    batch.rows.resize(kBatchRows);
    batch.fields.resize(2 * kBatchRows);
    batch.size = 0;
    if (fault_) throw *fault_;
    std::string user = users_.empty() ? std::string() : users_.back();
    users_.clear();
    users_.push_back(std::move(user));
    while (batch.size < kBatchRows && !fault_) {
      if (users_.size() == users_.capacity()) {  // growing would move the texts of the batch
        if (batch.size > 0) return true;
        users_.erase(users_.begin(), users_.end() - 1);
      }
      if (position_ >= block_.size() || !token_complete()) {
        if (block_.size() - position_ > kMaxFieldBytes) {
          fail(position_, "a field of more than 64 KiB");
          break;
        }
        if (batch.size > 0) return true;
        line_offset_ -= static_cast<std::int64_t>(position_);
        if (!block_.refill(position_)) return false;
        position_ = 0;
        continue;
      }
      step(batch);
    }
    if (fault_ && batch.size == 0) throw *fault_;
    return true;
  }

  std::string place(const RowBatch& batch, std::size_t row, std::size_t column) const override {
    return place_at(block_.path(), batch.rows[row].line,
                    std::uint64_t{batch.field(row, column).at} + 1);
  }

 private:
  static bool is_space(char c) { return c == ' ' || c == '\t'; }
  static bool ends_token(char c) { return is_space(c) || c == '\n' || c == '\r'; }

  /// Finds token_end_, the end of what starts at position_; false when it may lie beyond the block.
  bool token_complete() {
    const char* const data = block_.data();
    token_end_ = position_;
    if (data[position_] == '\r') return position_ + 1 < block_.size() || block_.ended();
    while (token_end_ < block_.size() && !ends_token(data[token_end_])) ++token_end_;
    return token_end_ < block_.size() || block_.ended();
  }

  void step(RowBatch& batch) {
    const char* const data = block_.data();
    const char c = data[position_];
    if (is_space(c)) {
      ++position_;
    } else if (c == '\r') {
      if (position_ + 1 < block_.size() && data[position_ + 1] != '\n') {
        return fail(position_, "a carriage return inside the line", "lines end with LF or CR LF");
      }
      ++position_;
    } else if (c == '\n') {
      if (!in_line_) ++blank_lines_;
      in_line_ = false;
      ++line_;
      line_offset_ = static_cast<std::int64_t>(++position_);
    } else {
      token(batch);
    }
  }

  void token(RowBatch& batch) {
    const std::string_view text(block_.data() + position_, token_end_ - position_);
    std::int64_t value = 0;
    if (!parse_integer(text, value)) return fail(position_, shown(text) + " is not an integer");
    const auto at = static_cast<std::uint32_t>(static_cast<std::int64_t>(position_) - line_offset_);
    if (!in_line_) {
      in_line_ = true;
      users_.emplace_back(text);
      user_at_ = at;
    } else {
      const std::string& user = users_.back();
      batch.rows[batch.size] = {line_, nullptr};
      batch.fields[2 * batch.size] = {user.data(), static_cast<std::uint32_t>(user.size()),
                                      user_at_};
      batch.fields[2 * batch.size + 1] = {text.data(), static_cast<std::uint32_t>(text.size()), at};
      ++batch.size;
    }
    position_ = token_end_;
  }

  void fail(std::size_t position, const std::string& what, const std::string& hint = "") {
    const auto column = static_cast<std::int64_t>(position) - line_offset_ + 1;
    fault_.emplace(ExitCode::bad_data,
                   place_at(block_.path(), line_, static_cast<std::uint64_t>(column)), what, hint);
  }

  Block block_;
  std::vector<std::string> users_;  ///< texts of the users whose rows are in the batch
  std::size_t position_ = 0, token_end_ = 0;
  std::int64_t line_offset_ = 0;  ///< start of the line, relative to the block; may lie before it
  std::uint64_t line_ = 1;
  std::uint32_t user_at_ = 0;
  bool in_line_ = false;
  std::optional<Error> fault_;
};

}  // namespace

Block::Block(ByteSource& source)
    : source_(source), data_(std::make_unique<char[]>(kCapacity + 2 * kScanPadding)) {}

bool Block::refill(std::size_t keep) {
  if (ended_) return false;
  std::memmove(data_.get(), data_.get() + keep, size_ - keep);
  size_ -= keep;
  const std::size_t target = std::min(size_ + kRead, kCapacity);
  while (size_ < target && !ended_) {
    const std::size_t got = source_.read(data_.get() + size_, target - size_);
    size_ += got;
    ended_ = got == 0;
  }
  if (!started_ && size_ >= 3 && std::memcmp(data_.get(), "\xef\xbb\xbf", 3) == 0) {
    size_ -= 3;
    std::memmove(data_.get(), data_.get() + 3, size_);
  }
  started_ = true;
  std::memset(data_.get() + size_, 0, kScanPadding);
  return true;
}

std::unique_ptr<RowReader> make_row_reader(ByteSource& source, const Schema& schema) {
  if (schema.format == "jsonl") return make_json_lines_reader(source, schema);
  if (schema.format == "adjacency") return std::make_unique<AdjacencyReader>(source);
  return std::make_unique<DelimitedReader>(source, schema);
}

}  // namespace belfry
