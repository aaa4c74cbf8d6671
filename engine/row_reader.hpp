// SPDX-License-Identifier: Apache-2.0
// From bytes to rows of fields, in place: blocks of the file are tokenised where they lie, and memory
// does not grow with the file. Knows the formats' syntax, nothing of types.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/byte_source.hpp"
#include "engine/dataset.hpp"
#include "engine/error.hpp"

namespace belfry {

inline constexpr std::size_t kMaxFieldBytes = std::size_t{1} << 16;
inline constexpr std::size_t kMaxRowBytes = std::size_t{1} << 20;

struct Field {
  const char* begin = nullptr;  ///< null: the row does not have it (JSON)
  std::uint32_t size = 0;
  std::uint32_t at = 0;  ///< bytes from the start of the row to the field, its quote included
  static constexpr std::uint32_t kNested = 0xffffffffu;  ///< `at` of a JSON list or object
  std::string_view text() const { return {begin, size}; }
};

/// Rows that lie in the reader's block; valid until the reader's next call.
struct RowBatch {
  struct Row {
    std::uint64_t line = 0;       ///< line on which the row starts, from 1
    const char* start = nullptr;  ///< null where rows share a line (adjacency lists)
  };
  std::vector<Row> rows;      ///< `size` of them are in use
  std::vector<Field> fields;  ///< [size, columns]
  std::size_t columns = 0, size = 0;
  const Field& field(std::size_t row, std::size_t column) const {
    return fields[row * columns + column];
  }
};

class RowReader {
 public:
  virtual ~RowReader() = default;
  /// Some of the next rows; false at the end. A row of wrong syntax (columns, quotes, lengths) is
  /// Error(bad_data) at FILE:LINE:COLUMN once the rows before it have been handed out.
  virtual bool next(RowBatch& batch) = 0;
  /// "FILE:LINE:COLUMN" of a field of the current batch.
  virtual std::string place(const RowBatch& batch, std::size_t row, std::size_t column) const = 0;
  std::int64_t blank_lines() const { return blank_lines_; }

 protected:
  std::int64_t blank_lines_ = 0;
};

/// The reader of a schema's format. Columns are those of the schema, in its order.
std::unique_ptr<RowReader> make_row_reader(ByteSource& source, const Schema& schema);
/// What to say of a key that is no column, whose value stands at `place`.
using KeyFault = std::function<Error(const std::string& key, const std::string& place)>;
/// unknown_key: empty lets such keys pass.
std::unique_ptr<RowReader> make_json_lines_reader(ByteSource& source, const Schema& schema,
                                                  KeyFault unknown_key = {});

/// The block under the readers: unused bytes are kept in front when more are read. A byte order mark at
/// the start of the file is skipped.
class Block {
 public:
  explicit Block(ByteSource& source);
  /// Keeps the bytes from `keep` on, at the front, and reads on. False when there was nothing more.
  bool refill(std::size_t keep);
  char* data() { return data_.get(); }
  const char* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  bool ended() const { return ended_; }
  const std::string& path() const { return source_.path(); }
  static constexpr std::size_t kRead = std::size_t{1} << 18;
  static constexpr std::size_t kCapacity = kMaxRowBytes + 2 * kRead;

 private:
  ByteSource& source_;
  std::unique_ptr<char[]> data_;
  std::size_t size_ = 0;
  bool ended_ = false, started_ = false;
};

}  // namespace belfry
