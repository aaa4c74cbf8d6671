// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files (format 1.0 and 2.0, little-endian, C order), read in chunks and written as streams.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/file_io.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// The dictionary at the head of an .npy file, parsed without trust.
struct NpyHeader {
  std::string descr;  ///< "<f4", "<i8", ...
  bool fortran_order = false;
  std::vector<std::int64_t> shape;  ///< extents in 0 .. 2^40
  std::string error;                ///< why the text is refused; empty: it is good
};
NpyHeader parse_npy_header(std::string_view text);

/// A two-dimensional float32 array on disk, read row by row. Wrong dtype, order, rank or size, a damaged
/// header: Error(bad_data) "FILE: reason".
class NpyMatrix {
 public:
  enum class Shape {
    matrix,          ///< [n, d]
    matrix_or_heads  ///< also [n, heads, d], read as n * heads rows
  };
  explicit NpyMatrix(const std::filesystem::path& path, Shape shape = Shape::matrix);
  std::int64_t rows() const { return rows_; }
  std::int64_t heads() const { return heads_; }  ///< rows of one entry: 1, or the middle extent
  std::int64_t cols() const { return cols_; }
  /// Rows [first, first + out.rows) into `out` ([m, cols], any pitch).
  void read(std::int64_t first, Matrix<float> out) const;

 private:
  InputFile file_;
  std::int64_t rows_ = 0, heads_ = 1, cols_ = 0;
  std::uint64_t data_begin_ = 0;
};

/// Streams an array of known shape to `path`; nothing is left unless all of it was written and
/// committed. dtype: "<f4" or "<i8".
class NpyWriter {
 public:
  NpyWriter(const std::filesystem::path& path, const char* dtype, std::vector<std::int64_t> shape);
  void write(const void* data, std::int64_t elements);
  void commit();
  /// The two halves of commit(), for files that appear as a set (see OutputFile).
  void seal();
  void publish() { file_.publish(); }

 private:
  OutputFile file_;
  std::int64_t expected_ = 0, written_ = 0, element_bytes_ = 0;
};

}  // namespace belfry
