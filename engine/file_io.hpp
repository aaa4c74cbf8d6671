// SPDX-License-Identifier: Apache-2.0
// Durable file output and checked file input. A file appears under its name only when it is whole:
// written beside it, synced, renamed; a folder likewise. Failures are Error(ExitCode::io) with path and
// reason; a failed fsync voids the file and is never retried.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace belfry {

/// Writes PATH by way of a hidden temporary beside it (".NAME.partial-PID-N"). Without commit() nothing
/// is left behind. A symbolic link is followed, the mode of a file that is replaced is kept. A target
/// that is no regular file (a FIFO, /dev/null), /dev/stdout and /dev/fd/N are written directly.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Flushes, fsyncs, renames over PATH, fsyncs the folder: seal() and publish().
  void commit();
  /// Flushes, fsyncs and closes. Files of one set are all sealed before the first is published.
  void seal();
  /// Renames a sealed file to its name.
  void publish();
  std::uint64_t bytes_written() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void open_direct(int inherited);
  void open_temporary();
  void write_out(const char* data, std::size_t bytes);
  void flush();
  void abandon() noexcept;
  [[noreturn]] void fail(int error);
  std::filesystem::path path_, target_, temporary_;  // target_: path_ with links resolved
  std::string buffer_;
  std::uint64_t bytes_ = 0;
  int fd_ = -1;
  bool direct_ = false, sealed_ = false;
};

/// A regular file opened for reading, its size known. A missing file, a folder, no permission: exit 7.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  std::uint64_t size() const { return size_; }
  /// Reads exactly `bytes` at `offset`; a file that became shorter is Error(io).
  void read(std::uint64_t offset, void* out, std::size_t bytes) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::uint64_t size_ = 0;
  int fd_ = -1;
};

/// The whole file as bytes, at most `limit` of them (Error(io) beyond). A FIFO is read to its end.
std::string read_file(const std::filesystem::path& path,
                      std::uint64_t limit = std::uint64_t{1} << 30);
/// Writes a whole small file durably.
void write_file(const std::filesystem::path& path, std::string_view text);
/// Creates the folder and its parents (Error(io) when that fails or something else is in the way).
void make_directory(const std::filesystem::path& path);
/// fsyncs a folder, so that renames inside it survive a power cut.
void sync_directory(const std::filesystem::path& path);
/// Renames a file or folder and syncs the folder of the new name; what bears that name is replaced as
/// rename(2) does it.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);
/// A hidden name beside `target` (".NAME.partial-PID-N") at which its successor can be put together.
std::filesystem::path staging_path(const std::filesystem::path& target);
/// Puts the finished folder `staged` in the place of `target`, which goes away as a whole; the moment
/// between is one rename (RENAME_EXCHANGE where the file system has it). Both must lie on one file
/// system. A target that is no folder is Error(io). Which folders may go away is the caller's to check.
void replace_directory(const std::filesystem::path& staged, const std::filesystem::path& target);
/// Removes a folder tree, or a file, or nothing; links are not followed. Errors are Error(io).
void remove_tree(const std::filesystem::path& path);

/// A new folder among the system's temporary ones, gone with everything in it at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// sha256 of a file as 64 lower-case hex digits.
std::string sha256_of_file(const std::filesystem::path& path);

/// For tests: called with the name of each system call that changes a file ("open", "write", "fsync",
/// "close", "rename", "exchange", "mkdir", "syncdir", "unlink") before it is made. It returns 0 to go
/// on, an errno to fail with, or kShortWrite. An empty function ends it. Not for several threads.
inline constexpr int kShortWrite = -1;
void set_io_fault_hook(std::function<int(const char* call)> hook);

}  // namespace belfry
