// SPDX-License-Identifier: Apache-2.0
#include "engine/checksum.hpp"

#include <xxhash.h>

#include <algorithm>
#include <new>
#include <vector>

#include "engine/file_io.hpp"

namespace belfry {

std::string to_hex(const unsigned char* bytes, std::size_t n) {
  std::string out(2 * n, '0');
  for (std::size_t i = 0; i < n; ++i) {
    out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
    out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
  }
  return out;
}

struct Xxh3::State {
  State() : xxh(XXH3_createState()) {
    if (xxh == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(xxh);
  }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  XXH3_state_t* xxh;
};

Xxh3::Xxh3() : state_(std::make_unique<State>()) {}
Xxh3::~Xxh3() = default;

void Xxh3::update(const void* data, std::size_t bytes) {
  if (bytes > 0) XXH3_128bits_update(state_->xxh, data, bytes);
}

std::string Xxh3::hex() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_->xxh));
  return to_hex(canonical.digest, sizeof canonical.digest);
}

std::string xxh3_of_file(const std::filesystem::path& path) {
  const InputFile file(path);
  std::vector<char> chunk(std::min<std::uint64_t>(file.size(), std::uint64_t{1} << 20));
  Xxh3 hash;
  for (std::uint64_t at = 0; at < file.size(); at += chunk.size()) {
    const std::size_t n = std::min<std::uint64_t>(chunk.size(), file.size() - at);
    file.read(at, chunk.data(), n);
    hash.update(chunk.data(), n);
  }
  return hash.hex();
}

std::optional<std::size_t> find_checksum(std::string_view text, std::string_view prefix) {
  const std::size_t found = text.find(prefix);
  if (found == std::string_view::npos) return std::nullopt;
  if (text.find(prefix, found + 1) != std::string_view::npos) return std::nullopt;
  const std::size_t digits = found + prefix.size();
  if (text.size() < digits + Xxh3::kDigits + 1 || text[digits + Xxh3::kDigits] != '"') {
    return std::nullopt;
  }
  return digits;
}

}  // namespace belfry
