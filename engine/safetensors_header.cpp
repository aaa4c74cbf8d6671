// SPDX-License-Identifier: Apache-2.0
#include "engine/safetensors_header.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

namespace belfry {
namespace {

constexpr std::uint64_t kMaxExtent = std::uint64_t{1} << 40;
constexpr std::size_t kMaxRank = 4;
constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::i32,    DType::i64, DType::u8,
                             DType::u32, DType::u64, DType::bf16,   DType::f16, DType::i8,
                             DType::i16, DType::u16, DType::boolean};

std::optional<DType> parse_dtype(std::string_view name) {
  for (const DType dtype : kDTypes) {
    if (name == name_of(dtype)) return dtype;
  }
  return std::nullopt;
}

/// A state machine over the parser's events: the first one that the format does not have ends the walk,
/// so neither depth nor memory can grow beyond the text. (A parsed document would keep the last of two
/// equal keys in silence.)
class HeaderWalk : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderWalk(SafetensorsHeader& out) : out_(out) {}

  bool start_object(std::size_t) override {
    switch (at_) {
      case At::begin:
        return go(At::top);
      case At::metadata_value:
        return go(At::metadata);
      case At::tensor_value:
        return go(At::tensor);
      default:
        return refuse("an object where the format has none");
    }
  }

  bool key(std::string& name) override {
    if (at_ == At::top) return top_key(name);
    if (at_ == At::metadata) {
      metadata_key_ = name;
      if (out_.metadata.contains(name)) return refuse("metadata key " + quoted(name) + " twice");
      return go(At::metadata_string);
    }
    if (name == "dtype") return field(has_dtype_, At::dtype, name);
    if (name == "shape") return field(has_shape_, At::shape_value, name);
    if (name == "data_offsets") return field(has_offsets_, At::offsets_value, name);
    return refuse_tensor("unknown key " + quoted(name));
  }

  bool string(std::string& value) override {
    if (at_ == At::metadata_string) {
      out_.metadata.emplace(metadata_key_, value);
      return go(At::metadata);
    }
    if (at_ != At::dtype) return refuse("a string where the format has none");
    const std::optional<DType> dtype = parse_dtype(value);
    if (!dtype) return refuse_tensor("unknown dtype " + quoted(value));
    tensor_.dtype = *dtype;
    return go(At::tensor);
  }

  bool start_array(std::size_t) override {
    if (at_ == At::shape_value) return go(At::shape);
    if (at_ == At::offsets_value) return go(At::offsets);
    return refuse("an array where the format has none");
  }

  bool number_unsigned(std::uint64_t value) override {
    if (at_ == At::shape) {
      if (tensor_.shape.size() == kMaxRank) return refuse_tensor("more than 4 dimensions");
      if (value > kMaxExtent) return refuse_tensor("a dimension over 2^40");
      tensor_.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (at_ != At::offsets) return refuse("a number where the format has none");
    if (offsets_.size() == 2) return refuse_tensor("more than two data_offsets");
    offsets_.push_back(value);
    return true;
  }

  bool end_array() override { return go(At::tensor); }

  bool end_object() override {
    if (at_ == At::top) return go(At::end);
    if (at_ == At::metadata) return go(At::top);
    return end_tensor();
  }

  bool null() override { return refuse("a null"); }
  bool boolean(bool) override { return refuse("a boolean"); }
  bool number_integer(std::int64_t) override { return refuse("a negative number"); }
  bool number_float(double, const std::string&) override {
    return refuse("a number that is no 64-bit unsigned integer");
  }
  bool binary(binary_t&) override { return refuse("binary data"); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return refuse("the header is not JSON at byte " + std::to_string(8 + position));
  }

 private:
  enum class At {
    begin,
    top,
    end,
    metadata_value,
    metadata,
    metadata_string,
    tensor_value,
    tensor,
    dtype,
    shape_value,
    shape,
    offsets_value,
    offsets
  };

  bool go(At next) {
    at_ = next;
    return true;
  }

  bool refuse(const std::string& reason) {
    if (out_.error.empty()) out_.error = reason;
    return false;
  }
  bool refuse_tensor(const std::string& reason) {
    return refuse("tensor " + quoted(tensor_.name) + ": " + reason);
  }
  static std::string quoted(const std::string& text) { return "'" + printable(text) + "'"; }

  bool top_key(const std::string& name) {
    if (!names_.insert(name).second) return refuse("key " + quoted(name) + " twice");
    if (name == "__metadata__") return go(At::metadata_value);
    tensor_ = TensorInfo{};
    tensor_.name = name;
    offsets_.clear();
    has_dtype_ = has_shape_ = has_offsets_ = false;
    return go(At::tensor_value);
  }

  bool field(bool& seen, At next, const std::string& name) {
    if (seen) return refuse_tensor("key " + quoted(name) + " twice");
    seen = true;
    return go(next);
  }

  bool end_tensor() {
    if (!has_dtype_ || !has_shape_ || offsets_.size() != 2) {
      return refuse_tensor("dtype, shape or data_offsets are missing");
    }
    tensor_.begin = offsets_[0];
    tensor_.end = offsets_[1];
    std::int64_t bytes = size_of(tensor_.dtype);
    bool empty = false;
    for (const std::int64_t extent : tensor_.shape) {
      // Checked also where another extent is 0: a product must not depend on the order of its factors.
      empty = empty || extent == 0;
      if (__builtin_mul_overflow(bytes, extent == 0 ? 1 : extent, &bytes)) {
        return refuse_tensor("its size overflows 64 bits");
      }
    }
    if (empty) bytes = 0;
    if (tensor_.end < tensor_.begin ||
        tensor_.end - tensor_.begin != static_cast<std::uint64_t>(bytes)) {
      return refuse_tensor("shape and dtype need " + std::to_string(bytes) +
                           " bytes, which is not what its data_offsets hold");
    }
    out_.tensors.push_back(std::move(tensor_));
    return go(At::top);
  }

  SafetensorsHeader& out_;
  At at_ = At::begin;
  std::unordered_set<std::string> names_;
  std::string metadata_key_;
  TensorInfo tensor_;
  std::vector<std::uint64_t> offsets_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view text) {
  SafetensorsHeader header;
  if (!text.starts_with('{')) {
    header.error = "the header does not begin with '{'";
    return header;
  }
  HeaderWalk walk(header);
  const bool good = nlohmann::json::sax_parse(text.begin(), text.end(), &walk);
  if (!good && header.error.empty()) header.error = "the header is not JSON";
  return header;
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (out.size() >= 60) return out + "...";
    if (c >= ' ' && c < 0x7f) {
      out += c;
    } else {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned char>(c));
      out += escape;
    }
  }
  return out;
}

}  // namespace belfry
