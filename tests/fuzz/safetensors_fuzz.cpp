// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes as a safetensors file. Not part of the default build:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz/safetensors_fuzz.cpp
//     engine/{checksum,file_io,safetensors,safetensors_header}.cpp -lxxhash -lcrypto -o safetensors_fuzz
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/error.hpp"
#include "engine/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int fd = ::memfd_create("fuzz", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (::ftruncate(fd, 0) != 0) std::abort();
  if (::pwrite(fd, data, size, 0) != static_cast<ssize_t>(size)) std::abort();
  for (const bool verify : {false, true}) {
    try {
      const belfry::SafetensorsFile file(path, verify);
      std::uint64_t bytes = 0;
      for (const belfry::TensorInfo& tensor : file.tensors()) {
        std::vector<char> all(tensor.end - tensor.begin);
        file.read(tensor, 0, tensor.elements(), all.data());
        bytes += all.size();
      }
      if (bytes > size) std::abort();  // what was accepted must lie inside the file, once
    } catch (const belfry::Error& error) {
      if (error.code() != belfry::ExitCode::bad_model) std::abort();
    }
  }
  return 0;
}
