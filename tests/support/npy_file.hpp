// SPDX-License-Identifier: Apache-2.0
// A whole .npy file in memory, of any of the types that belfry writes.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "engine/npy.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {

class NpyFile {
 public:
  explicit NpyFile(const std::filesystem::path& path) : bytes_(slurp(path)) {
    if (bytes_.size() < 10) {
      ADD_FAILURE() << path << " is no .npy file";
      return;
    }
    const std::size_t header =
        static_cast<unsigned char>(bytes_[8]) + 256u * static_cast<unsigned char>(bytes_[9]);
    header_ = parse_npy_header(std::string_view(bytes_).substr(10, header));
    EXPECT_EQ(header_.error, "") << path;
    begin_ = 10 + header;
  }
  const std::string& descr() const { return header_.descr; }
  const std::vector<std::int64_t>& shape() const { return header_.shape; }
  template <typename T>
  std::vector<T> values() const {
    std::vector<T> out((bytes_.size() - begin_) / sizeof(T));
    std::memcpy(out.data(), bytes_.data() + begin_, out.size() * sizeof(T));
    return out;
  }

 private:
  std::string bytes_;
  std::size_t begin_ = 0;
  NpyHeader header_;
};

}  // namespace belfry::test
