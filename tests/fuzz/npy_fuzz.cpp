// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes as an .npy file. Not part of the default build:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz/npy_fuzz.cpp
//     engine/{checksum,file_io,npy}.cpp -lxxhash -lcrypto -o npy_fuzz
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/error.hpp"
#include "engine/npy.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int fd = ::memfd_create("fuzz", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (::ftruncate(fd, 0) != 0) std::abort();
  if (::pwrite(fd, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  try {
    const belfry::NpyMatrix array(path);
    std::vector<float> all(static_cast<std::size_t>(array.rows() * array.cols()));
    if (4 * all.size() > size) std::abort();
    array.read(0, {all.data(), array.rows(), array.cols()});
  } catch (const belfry::Error& error) {
    if (error.code() != belfry::ExitCode::bad_data) std::abort();
  }
  return 0;
}
