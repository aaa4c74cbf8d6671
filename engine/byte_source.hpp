// SPDX-License-Identifier: Apache-2.0
// The decompressed bytes of a file, gzip or zstd recognised by content, in a stream of flat memory.
// `-` is standard input. Standard input and pipes can be looked at once before they are read.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace belfry {

class ByteSource {
 public:
  /// read: the bytes are consumed. peek: they are still there for the next source of the same path,
  /// also for a pipe, whose bytes cannot be read twice.
  enum class Mode { read, peek };

  /// A missing or unreadable file, a folder, a pipe that was consumed already: Error(io).
  explicit ByteSource(std::string path, Mode mode = Mode::read);
  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  /// Up to `bytes` bytes; 0 only at the end. Truncated or damaged compressed data, or data after its
  /// end: Error(bad_data). A failing read, or a file that changed meanwhile: Error(io).
  std::size_t read(char* out, std::size_t bytes);
  /// Share of the (compressed) file that was consumed, in 0..1; 0 where the size is not known.
  double progress() const;
  const std::string& path() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace belfry
