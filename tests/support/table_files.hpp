// SPDX-License-Identifier: Apache-2.0
// Data files for tests, plain and compressed, and short ways to read them.
#pragma once

#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "engine/dataset.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {

inline ColumnRequest id(std::string name) {
  return {std::move(name), ColumnType::text, true};
}
inline ColumnRequest text(std::string name) {
  return {std::move(name), ColumnType::text, false};
}
inline ColumnRequest real(std::string name) {
  return {std::move(name), ColumnType::real, false};
}
inline ColumnRequest integer(std::string name) {
  return {std::move(name), ColumnType::integer, false};
}

inline std::string gzipped(const std::string& plain) {
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) std::abort();
  std::string out(deflateBound(&stream, plain.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) std::abort();
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string zstandard(const std::string& plain) {
  std::string out(ZSTD_compressBound(plain.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), plain.data(), plain.size(), 3));
  return out;
}

/// The texts of a text column, row by row.
inline std::vector<std::string> values(const Column& column) {
  std::vector<std::string> out;
  for (const std::uint32_t code : column.codes) out.emplace_back(column.dictionary->text(code));
  return out;
}

/// Files in a folder of the test's own.
class TableFiles {
 public:
  std::string write(const std::string& name, const std::string& bytes) const {
    spill(folder_ / name, bytes);
    return (folder_ / name).string();
  }
  std::string path(const std::string& name = "") const { return (folder_ / name).string(); }

  /// The table of a file with these bytes.
  Table read(const std::string& name, const std::string& bytes,
             const std::vector<ColumnRequest>& wanted, const ReadOptions& options = {}) const {
    return read_table({write(name, bytes)}, wanted, options);
  }
  /// The error that it gives, its place without the folder.
  Error fault(const std::string& name, const std::string& bytes,
              const std::vector<ColumnRequest>& wanted, const ReadOptions& options = {}) const {
    const std::string file = write(name, bytes);
    const Error error = error_of([&] { read_table({file}, wanted, options); });
    std::string place = error.where();
    if (place.starts_with(file)) place = name + place.substr(file.size());
    return Error(error.code(), place, std::string(error.what()).substr(error.where().size() + 2));
  }

 private:
  TempFolder folder_;
};

}  // namespace belfry::test
