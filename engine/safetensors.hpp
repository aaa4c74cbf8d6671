// SPDX-License-Identifier: Apache-2.0
// The safetensors format, read with the rules of a hostile file and written deterministically: tensors
// in the order added, data 64-byte aligned, metadata sorted. Every byte of a file that belfry writes,
// the header included, is covered by an XXH3-128 checksum in the metadata key "belfry.xxh3_128"
// (computed with its own 32 digits taken as '0').
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/file_io.hpp"
#include "kernels/core/check.hpp"

namespace belfry {

enum class DType { f32, f64, i32, i64, u8, u32, u64, bf16, f16, i8, i16, u16, boolean };
std::int64_t size_of(DType dtype);
const char* name_of(DType dtype);  ///< "F32", "I64", ... as in the file

struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  ///< byte offsets inside the data part
  std::int64_t elements() const;
};

/// Collects tensors (their memory, or what a Source asks, must live until write()) and writes them as one
/// file.
class SafetensorsWriter {
 public:
  /// Key and value are UTF-8. The checksum's key is the writer's own.
  void metadata(const std::string& key, const std::string& value);
  void add(const std::string& name, DType dtype, std::vector<std::int64_t> shape, const void* data);
  /// A tensor that does not lie in host memory: write() asks for a few of its rows (parts [first, first + n)
  /// of the first axis) at a time, and twice for each.
  using Source = std::function<void(std::int64_t first, std::int64_t n, void* out)>;
  void add(const std::string& name, DType dtype, std::vector<std::int64_t> shape, Source source);
  /// Writes header and data to `out` (which the caller commits).
  void write(OutputFile& out) const;

 private:
  struct Entry {
    TensorInfo info;
    const void* data;
    Source source;  // where data is null
  };
  /// Hands the bytes of a tensor to take(data, bytes), in order.
  template <class F>
  static void each_part(const Entry& entry, F&& take);
  void append(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
              const void* data, Source source);
  std::map<std::string, std::string> metadata_;
  std::vector<Entry> entries_;
};

/// An opened and validated file. Nothing large is allocated before the header has been checked:
/// header length <= min(16 MiB, size - 8), JSON depth, no duplicate keys, known dtypes, rank <= 4,
/// overflow-checked sizes, offsets contiguous from 0 without hole or overlap, last end == file size.
/// Any violation: Error(bad_model) "FILE: reason".
class SafetensorsFile {
 public:
  /// verify: also require and check the checksum (one pass over the file).
  explicit SafetensorsFile(const std::filesystem::path& path, bool verify = true);
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The value of a metadata key; Error(bad_model) when it is absent.
  const std::string& metadata(const std::string& key) const;
  /// In the order of their data.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  bool has(const std::string& name) const;
  /// The tensor's place; Error(bad_model) when it is absent.
  const TensorInfo& info(const std::string& name) const;
  /// The same, requiring dtype and shape (-1: any extent).
  const TensorInfo& info(const std::string& name, DType dtype,
                         const std::vector<std::int64_t>& shape) const;
  /// Reads elements [first, first + n) of a tensor into `out`.
  void read(const TensorInfo& tensor, std::int64_t first, std::int64_t n, void* out) const;
  /// Whole tensor of T, of that shape (a vector of any length unless said otherwise).
  template <class T>
  std::vector<T> read_all(const std::string& name, DType dtype,
                          const std::vector<std::int64_t>& shape = {-1}) const {
    static_assert(std::is_trivially_copyable_v<T>);
    require(sizeof(T) == static_cast<std::size_t>(size_of(dtype)),
            "SafetensorsFile::read_all: T has the size of the dtype");
    const TensorInfo& t = info(name, dtype, shape);
    std::vector<T> out(static_cast<std::size_t>(t.elements()));
    read(t, 0, t.elements(), out.data());
    return out;
  }
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  [[noreturn]] void refuse(const std::string& reason) const;
  std::string read_header();
  void check_layout();
  void check_sum(std::string header) const;
  InputFile file_;
  std::uint64_t data_begin_ = 0;
  std::map<std::string, std::string> metadata_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace belfry
