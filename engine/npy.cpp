// SPDX-License-Identifier: Apache-2.0
#include "engine/npy.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "engine/error.hpp"
#include "kernels/core/check.hpp"

namespace belfry {
namespace {

static_assert(std::endian::native == std::endian::little, "dtypes are little-endian");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kMaxHeader = std::uint64_t{1} << 16;
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 40;

/// The few Python literals that a header is made of.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  NpyHeader parse() {
    NpyHeader header;
    if (!dictionary(header)) header.error = error_.empty() ? "the header is damaged" : error_;
    return header;
  }

 private:
  bool dictionary(NpyHeader& header) {
    bool has_descr = false, has_order = false, has_shape = false;
    if (!take('{')) return false;
    while (!take('}')) {
      std::string key;
      if (!string(key) || !take(':')) return false;
      if (key == "descr") {
        if (!once(has_descr)) return false;
        if (peek() == '[') return fail("its dtype is no plain number type");
        if (!string(header.descr)) return false;
      } else if (key == "fortran_order") {
        if (!once(has_order) || !boolean(header.fortran_order)) return false;
      } else if (key == "shape") {
        if (!once(has_shape) || !tuple(header.shape)) return false;
      } else {
        return fail("the header has an unknown key");
      }
      if (!take(',') && peek() != '}') return false;
    }
    return peek() == '\0' && at_ == text_.size() && has_descr && has_order && has_shape;
  }

  bool string(std::string& out) {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return false;
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return false;
    out = std::string(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return out.find('\\') == std::string::npos;
  }

  bool boolean(bool& out) {
    (void)peek();
    for (const std::string_view word : {"False", "True"}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      out = word == "True";
      return true;
    }
    return false;
  }

  /// "()", "(3,)", "(3, 4)", "(3, 4,)"; "(3)" is no tuple.
  bool tuple(std::vector<std::int64_t>& out) {
    if (!take('(')) return false;
    bool comma = true;
    while (!take(')')) {
      if (!comma || out.size() == 32) return false;
      (void)peek();
      std::int64_t extent = -1;
      const char* first = text_.data() + at_;
      const auto parsed = std::from_chars(first, text_.data() + text_.size(), extent);
      if (parsed.ec == std::errc::result_out_of_range) return fail("its shape is too large");
      if (parsed.ec != std::errc()) return false;
      if (extent < 0) return fail("its shape has a negative extent");
      if (extent > kMaxExtent) return fail("its shape is too large");
      at_ += static_cast<std::size_t>(parsed.ptr - first);
      out.push_back(extent);
      comma = take(',');
    }
    return out.size() != 1 || comma;
  }

  bool once(bool& seen) {
    if (seen) return fail("the header has a key twice");
    seen = true;
    return true;
  }

  /// The next character that is no space, or NUL at the end.
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool take(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }

  bool fail(const char* reason) {
    error_ = reason;
    return false;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::string error_;
};

[[noreturn]] void refuse(const InputFile& file, const std::string& reason,
                         const std::string& hint = "") {
  throw Error(ExitCode::bad_data, file.path().string(), reason, hint);
}

/// Reads magic, version and header text; returns where the data begin.
std::uint64_t read_header_text(const InputFile& file, std::string& text) {
  unsigned char head[12] = {};
  const std::uint64_t have = std::min<std::uint64_t>(file.size(), sizeof head);
  file.read(0, head, have);
  if (have < 10 || std::memcmp(head, kMagic.data(), kMagic.size()) != 0) {
    refuse(file, "not an .npy file");
  }
  const int major = head[6], minor = head[7];
  if ((major != 1 && major != 2) || minor != 0) {
    refuse(file, "an .npy file of version " + std::to_string(major) + "." + std::to_string(minor) +
                     ", which is not supported");
  }
  std::uint64_t begin = 10, bytes = head[8] | std::uint64_t{head[9]} << 8;
  if (major == 2) {
    if (have < 12) refuse(file, "the file is cut short");
    begin = 12;
    bytes |= std::uint64_t{head[10]} << 16 | std::uint64_t{head[11]} << 24;
  }
  if (bytes > file.size() - begin) refuse(file, "the file is cut short");
  if (bytes > kMaxHeader) refuse(file, "its header is too long");
  text.resize(bytes);
  file.read(begin, text.data(), bytes);
  return begin + bytes;
}

std::string text_of(const std::vector<std::int64_t>& shape) {
  std::string out = "(";
  for (const std::int64_t extent : shape) {
    out += (out.size() > 1 ? ", " : "") + std::to_string(extent);
  }
  return out + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

NpyHeader parse_npy_header(std::string_view text) {
  return HeaderParser(text).parse();
}

NpyMatrix::NpyMatrix(const std::filesystem::path& path, Shape shape) : file_(path) {
  std::string text;
  data_begin_ = read_header_text(file_, text);
  const NpyHeader header = parse_npy_header(text);
  if (!header.error.empty()) refuse(file_, header.error);
  if (header.descr != "<f4") {
    refuse(file_, "its dtype is not float32 ('<f4')", "convert it with array.astype('<f4')");
  }
  if (header.fortran_order) {
    refuse(file_, "it is in Fortran order", "save numpy.ascontiguousarray(array)");
  }
  const bool heads = shape == Shape::matrix_or_heads && header.shape.size() == 3;
  if (header.shape.size() != 2 && (!heads || header.shape[1] < 1)) {
    refuse(file_, "its shape is " + text_of(header.shape) + ", wanted two dimensions");
  }
  if (heads) heads_ = header.shape[1];
  cols_ = header.shape.back();
  std::uint64_t bytes = 0;
  const bool overflow = __builtin_mul_overflow(header.shape[0], heads_, &rows_) ||
                        __builtin_mul_overflow(static_cast<std::uint64_t>(rows_),
                                               static_cast<std::uint64_t>(cols_), &bytes) ||
                        __builtin_mul_overflow(bytes, sizeof(float), &bytes);
  if (overflow || bytes != file_.size() - data_begin_) {
    refuse(file_, "its shape " + text_of(header.shape) + " does not fit its " +
                      std::to_string(file_.size() - data_begin_) + " bytes of data");
  }
}

void NpyMatrix::read(std::int64_t first, Matrix<float> out) const {
  require(first >= 0 && out.rows >= 0 && first <= rows_ && out.rows <= rows_ - first,
          "NpyMatrix::read: the rows lie inside the array");
  require(out.cols == cols_, "NpyMatrix::read: out has the array's width");
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(cols_) * sizeof(float);
  const std::uint64_t at = data_begin_ + static_cast<std::uint64_t>(first) * row_bytes;
  if (out.contiguous()) {
    file_.read(at, out.data, static_cast<std::uint64_t>(out.rows) * row_bytes);
    return;
  }
  for (std::int64_t i = 0; i < out.rows; ++i) {
    file_.read(at + static_cast<std::uint64_t>(i) * row_bytes, out.row(i), row_bytes);
  }
}

NpyWriter::NpyWriter(const std::filesystem::path& path, const char* dtype,
                     std::vector<std::int64_t> shape)
    : file_(path) {
  const std::string_view name = dtype;
  require(name == "<f4" || name == "<i8", "NpyWriter: dtype is <f4 or <i8");
  element_bytes_ = name == "<f4" ? 4 : 8;
  expected_ = 1;
  for (const std::int64_t extent : shape) {
    expected_ = checked_product(expected_, extent, "NpyWriter");
  }
  std::string header = "{'descr': '" + std::string(name) +
                       "', 'fortran_order': False, 'shape': " + text_of(shape) + ", }";
  // As NumPy does it: the data begin at a multiple of 64 bytes, the header ends with a line feed.
  const std::size_t prefix = kMagic.size() + 4;
  header.resize((prefix + header.size() + 1 + 63) / 64 * 64 - prefix - 1, ' ');
  header += '\n';
  file_.write(kMagic);
  const unsigned char rest[4] = {1, 0, static_cast<unsigned char>(header.size() & 255),
                                 static_cast<unsigned char>(header.size() >> 8)};
  file_.write(rest, sizeof rest);
  file_.write(header);
}

void NpyWriter::write(const void* data, std::int64_t elements) {
  require(elements >= 0 && elements <= expected_ - written_,
          "NpyWriter::write: no more elements than the shape has");
  written_ += elements;
  file_.write(data, static_cast<std::size_t>(elements * element_bytes_));
}

void NpyWriter::seal() {
  require(written_ == expected_, "NpyWriter: all elements of the shape are written");
  file_.seal();
}

void NpyWriter::commit() {
  seal();
  publish();
}

}  // namespace belfry
