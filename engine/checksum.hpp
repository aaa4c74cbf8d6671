// SPDX-License-Identifier: Apache-2.0
// XXH3-128 of files and of texts that carry their own checksum. It finds damage, not malice.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace belfry {

/// n bytes as 2 n lower-case hex digits.
std::string to_hex(const unsigned char* bytes, std::size_t n);

/// A streamed XXH3-128, read as 32 lower-case hex digits.
class Xxh3 {
 public:
  static constexpr std::size_t kDigits = 32;
  Xxh3();
  ~Xxh3();
  void update(const void* data, std::size_t bytes);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Digest of a whole file.
std::string xxh3_of_file(const std::filesystem::path& path);

/// Where in `text` the 32 digits begin that follow `prefix` and are closed by a quote. nullopt unless
/// there is exactly one such place, so that it is never in doubt which bytes are left out of the sum.
std::optional<std::size_t> find_checksum(std::string_view text, std::string_view prefix);

}  // namespace belfry
