// SPDX-License-Identifier: Apache-2.0
#include "engine/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/checksum.hpp"
#include "engine/error.hpp"
#include "engine/safetensors_header.hpp"

namespace belfry {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::uint64_t kMaxHeader = std::uint64_t{16} << 20;
constexpr std::size_t kAlignment = 64;
constexpr const char* kChecksumKey = "belfry.xxh3_128";
constexpr std::string_view kChecksumPrefix = "\"belfry.xxh3_128\":\"";
constexpr std::string_view kNoDigits = "00000000000000000000000000000000";
static_assert(kNoDigits.size() == Xxh3::kDigits);

struct DTypeRow {
  const char* name;
  std::int64_t bytes;
};
// In the order of DType.
constexpr DTypeRow kDTypeRows[] = {{"F32", 4}, {"F64", 8}, {"I32", 4},  {"I64", 8}, {"U8", 1},
                                   {"U32", 4}, {"U64", 8}, {"BF16", 2}, {"F16", 2}, {"I8", 1},
                                   {"I16", 2}, {"U16", 2}, {"BOOL", 1}};
static_assert(std::size(kDTypeRows) == static_cast<std::size_t>(DType::boolean) + 1);

std::string text_of(DType dtype, const std::vector<std::int64_t>& shape) {
  std::string out = std::string(name_of(dtype)) + " [";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    out += (i > 0 ? ", " : "") + (shape[i] < 0 ? std::string("any") : std::to_string(shape[i]));
  }
  return out + "]";
}

std::string length_prefix(std::uint64_t header_bytes) {
  return {reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes};
}

}  // namespace

std::int64_t size_of(DType dtype) {
  return kDTypeRows[static_cast<std::size_t>(dtype)].bytes;
}
const char* name_of(DType dtype) {
  return kDTypeRows[static_cast<std::size_t>(dtype)].name;
}

std::int64_t TensorInfo::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) {
    product = checked_product(product, extent, "TensorInfo::elements");
  }
  return product;
}

void SafetensorsWriter::metadata(const std::string& key, const std::string& value) {
  require(key != kChecksumKey, "SafetensorsWriter: the checksum's key is the writer's own");
  metadata_[key] = value;
}

void SafetensorsWriter::append(const std::string& name, DType dtype,
                               std::vector<std::int64_t> shape, const void* data, Source source) {
  require(!name.empty() && name != "__metadata__", "SafetensorsWriter: a tensor has a name");
  require(shape.size() <= 4, "SafetensorsWriter: rank <= 4");
  for (const Entry& entry : entries_) {
    require(entry.info.name != name, "SafetensorsWriter: no two tensors have one name");
  }
  TensorInfo info{name, dtype, std::move(shape), 0, 0};
  const std::int64_t bytes = checked_product(info.elements(), size_of(dtype), "SafetensorsWriter");
  require(data != nullptr || source != nullptr || bytes == 0, "SafetensorsWriter: data is there");
  info.begin = entries_.empty() ? 0 : entries_.back().info.end;
  info.end = info.begin + static_cast<std::uint64_t>(bytes);
  entries_.push_back({std::move(info), data, std::move(source)});
}

void SafetensorsWriter::add(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
                            const void* data) {
  append(name, dtype, std::move(shape), data, nullptr);
}

void SafetensorsWriter::add(const std::string& name, DType dtype, std::vector<std::int64_t> shape,
                            Source source) {
  require(source != nullptr && !shape.empty(), "SafetensorsWriter: a source of rows");
  append(name, dtype, std::move(shape), nullptr, std::move(source));
}

template <class F>
void SafetensorsWriter::each_part(const Entry& entry, F&& take) {
  const std::uint64_t bytes = entry.info.end - entry.info.begin;
  if (entry.source == nullptr || bytes == 0) return take(entry.data, bytes);
  constexpr std::uint64_t kPart = std::uint64_t{4} << 20;
  const std::int64_t rows = entry.info.shape.front();
  const std::uint64_t row = bytes / static_cast<std::uint64_t>(rows);
  const std::int64_t most =
      std::min(rows, static_cast<std::int64_t>(std::max<std::uint64_t>(1, kPart / row)));
  std::vector<char> part(static_cast<std::size_t>(most) * row);
  for (std::int64_t first = 0; first < rows; first += most) {
    const std::int64_t n = std::min(most, rows - first);
    entry.source(first, n, part.data());
    take(part.data(), static_cast<std::uint64_t>(n) * row);
  }
}

void SafetensorsWriter::write(OutputFile& out) const {
  nlohmann::ordered_json json;
  auto& metadata = json["__metadata__"] = nlohmann::ordered_json::object();
  std::map<std::string, std::string> all = metadata_;
  all[kChecksumKey] = kNoDigits;
  for (const auto& [key, value] : all) metadata[key] = value;
  for (const auto& [info, data, source] : entries_) {
    json[info.name] = {{"dtype", name_of(info.dtype)},
                       {"shape", info.shape},
                       {"data_offsets", {info.begin, info.end}}};
  }
  std::string header = json.dump();
  header.resize((header.size() + 8 + kAlignment - 1) / kAlignment * kAlignment - 8, ' ');
  require(header.size() <= kMaxHeader, "SafetensorsWriter: the header fits into 16 MiB");
  const std::string prefix = length_prefix(header.size());
  Xxh3 hash;
  hash.update(prefix.data(), prefix.size());
  hash.update(header.data(), header.size());
  for (const Entry& entry : entries_) {
    each_part(entry, [&](const void* data, std::size_t bytes) { hash.update(data, bytes); });
  }
  const std::optional<std::size_t> digits = find_checksum(header, kChecksumPrefix);
  require(digits.has_value(), "SafetensorsWriter: the checksum has one place");
  header.replace(*digits, Xxh3::kDigits, hash.hex());
  out.write(prefix);
  out.write(header);
  for (const Entry& entry : entries_) {
    each_part(entry, [&](const void* data, std::size_t bytes) { out.write(data, bytes); });
  }
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path, bool verify) : file_(path) {
  std::string text = read_header();
  SafetensorsHeader header = parse_safetensors_header(text);
  if (!header.error.empty()) refuse(header.error);
  metadata_ = std::move(header.metadata);
  tensors_ = std::move(header.tensors);
  check_layout();
  if (verify) check_sum(std::move(text));
}

void SafetensorsFile::refuse(const std::string& reason) const {
  throw Error(ExitCode::bad_model, file_.path().string(), reason);
}

std::string SafetensorsFile::read_header() {
  if (file_.size() < 8) refuse("damaged: too short for a safetensors file");
  std::uint64_t bytes = 0;
  file_.read(0, &bytes, sizeof bytes);
  if (bytes > std::min(kMaxHeader, file_.size() - 8)) {
    refuse("damaged, or no safetensors file: a header of " + std::to_string(bytes) + " bytes");
  }
  std::string header(bytes, '\0');
  file_.read(8, header.data(), header.size());
  data_begin_ = 8 + bytes;
  return header;
}

void SafetensorsFile::check_layout() {
  const auto is_contiguous = [&] {
    std::uint64_t end = 0;
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.begin != end) return false;
      end = tensor.end;
    }
    return true;
  };
  if (!is_contiguous()) {
    // Other writers may list tensors in any order. Then no two may begin at one byte: empty tensors put
    // over the offsets of others would have no place of their own.
    std::sort(tensors_.begin(), tensors_.end(),
              [](const TensorInfo& a, const TensorInfo& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < tensors_.size(); ++i) {
      if (tensors_[i - 1].begin == tensors_[i].begin) {
        refuse("tensors '" + printable(tensors_[i - 1].name) + "' and '" +
               printable(tensors_[i].name) + "' begin at the same byte");
      }
    }
    if (!is_contiguous()) refuse("holes or overlaps between tensors");
  }
  const std::uint64_t end = tensors_.empty() ? 0 : tensors_.back().end;
  if (end != file_.size() - data_begin_) {
    refuse("damaged: its tensors take " + std::to_string(end) + " bytes, the file has " +
           std::to_string(file_.size() - data_begin_));
  }
}

void SafetensorsFile::check_sum(std::string header) const {
  const std::optional<std::size_t> digits = find_checksum(header, kChecksumPrefix);
  if (!digits) refuse("no checksum: not written by belfry, or damaged");
  const std::string wanted = header.substr(*digits, Xxh3::kDigits);
  header.replace(*digits, Xxh3::kDigits, kNoDigits);
  const std::string prefix = length_prefix(header.size());
  Xxh3 hash;
  hash.update(prefix.data(), prefix.size());
  hash.update(header.data(), header.size());
  std::vector<char> chunk(std::min<std::uint64_t>(file_.size(), std::uint64_t{1} << 20));
  for (std::uint64_t at = data_begin_; at < file_.size(); at += chunk.size()) {
    const std::size_t n = std::min<std::uint64_t>(chunk.size(), file_.size() - at);
    file_.read(at, chunk.data(), n);
    hash.update(chunk.data(), n);
  }
  if (hash.hex() != wanted) refuse("damaged: the checksum does not match");
}

const std::string& SafetensorsFile::metadata(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) refuse("metadata '" + key + "' is missing");
  return found->second;
}

bool SafetensorsFile::has(const std::string& name) const {
  return std::any_of(tensors_.begin(), tensors_.end(),
                     [&](const TensorInfo& tensor) { return tensor.name == name; });
}

const TensorInfo& SafetensorsFile::info(const std::string& name) const {
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.name == name) return tensor;
  }
  refuse("tensor '" + printable(name) + "' is missing");
}

const TensorInfo& SafetensorsFile::info(const std::string& name, DType dtype,
                                        const std::vector<std::int64_t>& shape) const {
  const TensorInfo& tensor = info(name);
  const bool fits = std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end(),
                               [](std::int64_t a, std::int64_t b) { return b < 0 || a == b; });
  if (tensor.dtype != dtype || !fits) {
    refuse("tensor '" + printable(name) + "' is " + text_of(tensor.dtype, tensor.shape) +
           ", wanted " + text_of(dtype, shape));
  }
  return tensor;
}

void SafetensorsFile::read(const TensorInfo& tensor, std::int64_t first, std::int64_t n,
                           void* out) const {
  require(first >= 0 && n >= 0 && first <= tensor.elements() && n <= tensor.elements() - first,
          "SafetensorsFile::read: the elements lie inside the tensor");
  const std::uint64_t size = static_cast<std::uint64_t>(size_of(tensor.dtype));
  file_.read(data_begin_ + tensor.begin + static_cast<std::uint64_t>(first) * size, out,
             static_cast<std::uint64_t>(n) * size);
}

}  // namespace belfry
