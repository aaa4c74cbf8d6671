// SPDX-License-Identifier: Apache-2.0
#include "engine/file_io.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <optional>
#include <system_error>
#include <vector>

#include "engine/checksum.hpp"
#include "engine/error.hpp"
#include "kernels/core/check.hpp"

namespace belfry {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 18;
constexpr std::size_t kCallBytes = std::size_t{1} << 30;  // Linux moves less than 2 GiB a call

std::function<int(const char*)> fault_hook;

int injected(const char* call) {
  return fault_hook ? fault_hook(call) : 0;
}

/// Makes a system call again for as long as a signal interrupts it.
template <class Call>
auto retried(const char* name, Call call) -> decltype(call()) {
  for (;;) {
    const int fault = injected(name);
    decltype(call()) result = -1;
    if (fault > 0) {
      errno = fault;
    } else {
      result = call();
    }
    if (result >= 0 || errno != EINTR) return result;
  }
}

[[noreturn]] void throw_io(const fs::path& path, int error) {
  throw Error(ExitCode::io, path.string(), std::generic_category().message(error));
}

fs::path without_trailing_slash(const fs::path& path) {
  const fs::path normal = path.lexically_normal();
  return normal.has_filename() || !normal.has_relative_path() ? normal : normal.parent_path();
}

fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

/// The open descriptor that a path names, if it names one: opening /dev/stdout anew would start at byte
/// 0 of a redirected file and fail on a socket.
std::optional<int> inherited_descriptor(const std::string& path) {
  if (path == "/dev/stdout") return 1;
  if (path == "/dev/stderr") return 2;
  for (const std::string_view prefix : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(prefix)) continue;
    int fd = -1;
    const char* end = path.data() + path.size();
    const auto parsed = std::from_chars(path.data() + prefix.size(), end, fd);
    if (parsed.ec == std::errc() && parsed.ptr == end && fd >= 0) return fd;
  }
  return std::nullopt;
}

/// Folders and devices that cannot be synced at all are not an error; a failed sync is.
bool cannot_sync(int error) {
  return error == EINVAL || error == ENOTSUP || error == EROFS;
}

}  // namespace

void set_io_fault_hook(std::function<int(const char* call)> hook) {
  fault_hook = std::move(hook);
}

fs::path staging_path(const fs::path& target) {
  static std::atomic<std::uint64_t> serial{0};
  const fs::path clean = without_trailing_slash(target);
  // File names end at 255 bytes; a long one is cut so that the temporary's fits.
  const std::string name = clean.filename().string().substr(0, 200);
  return folder_of(clean) / ("." + name + ".partial-" + std::to_string(::getpid()) + "-" +
                             std::to_string(serial.fetch_add(1)));
}

OutputFile::OutputFile(fs::path path) : path_(std::move(path)), target_(path_) {
  if (const auto fd = inherited_descriptor(path_.string())) {
    open_direct(*fd);
    return;
  }
  struct stat status {};
  if (::stat(path_.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) throw_io(path_, EISDIR);
    if (!S_ISREG(status.st_mode)) {
      open_direct(-1);
      return;
    }
    if (::faccessat(AT_FDCWD, path_.c_str(), W_OK, AT_EACCESS) != 0) throw_io(path_, errno);
    std::error_code error;
    target_ = fs::canonical(path_, error);
    if (error) throw_io(path_, error.value());
  } else if (errno != ENOENT || path_.empty()) {
    throw_io(path_, errno);
  } else if (!path_.has_filename()) {
    throw_io(path_, EISDIR);
  }
  open_temporary();
  if (status.st_mode != 0) (void)::fchmod(fd_, status.st_mode & 07777);
}

void OutputFile::open_direct(int inherited) {
  direct_ = true;
  fd_ = static_cast<int>(retried("open", [&] {
    return inherited >= 0 ? ::fcntl(inherited, F_DUPFD_CLOEXEC, 0)
                          : ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  }));
  if (fd_ < 0) throw_io(path_, errno);
}

void OutputFile::open_temporary() {
  // A name may be taken: process numbers come again after a crash, and at once in containers.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    temporary_ = staging_path(target_);
    fd_ = retried("open", [&] {
      return ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    });
    if (fd_ >= 0) return;
    if (errno != EEXIST) break;
  }
  const int error = errno;
  temporary_.clear();
  throw_io(path_, error);
}

OutputFile::~OutputFile() {
  abandon();
}

void OutputFile::abandon() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
  sealed_ = false;
}

void OutputFile::fail(int error) {
  abandon();
  throw_io(path_, error);
}

void OutputFile::write_out(const char* data, std::size_t bytes) {
  while (bytes > 0) {
    const int fault = injected("write");
    if (fault > 0) errno = fault;
    const std::size_t most = fault == kShortWrite ? 1 : std::min(bytes, kCallBytes);
    const ssize_t n = fault > 0 ? -1 : ::write(fd_, data, most);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(errno);
    data += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

void OutputFile::flush() {
  write_out(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void OutputFile::write(const void* data, std::size_t bytes) {
  require(fd_ >= 0, "OutputFile::write: the file is open");
  bytes_ += bytes;
  if (buffer_.size() + bytes > kBufferBytes) flush();
  if (bytes >= kBufferBytes) {
    write_out(static_cast<const char*>(data), bytes);
  } else if (bytes > 0) {
    buffer_.append(static_cast<const char*>(data), bytes);
  }
}

void OutputFile::seal() {
  require(fd_ >= 0, "OutputFile::seal: the file is open");
  flush();
  if (retried("fsync", [&] { return ::fsync(fd_); }) != 0 && !(direct_ && cannot_sync(errno))) {
    fail(errno);
  }
  // Network file systems report a full disk at close. An interrupted close has closed.
  const int fault = injected("close");
  const int error = ::close(fd_) != 0 && errno != EINTR ? errno : fault;
  fd_ = -1;
  if (error > 0) fail(error);
  sealed_ = true;
}

void OutputFile::publish() {
  require(sealed_, "OutputFile::publish: the file is sealed");
  sealed_ = false;
  if (direct_) return;
  if (retried("rename", [&] { return ::rename(temporary_.c_str(), target_.c_str()); }) != 0) {
    fail(errno);
  }
  temporary_.clear();
  sync_directory(folder_of(target_));
}

void OutputFile::commit() {
  seal();
  publish();
}

InputFile::InputFile(const fs::path& path) : path_(path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer only to refuse it.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd_ < 0) throw_io(path, errno);
  struct stat status {};
  const int error = ::fstat(fd_, &status) != 0 ? errno : S_ISDIR(status.st_mode) ? EISDIR : 0;
  if (error != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd_);
    if (error != 0) throw_io(path, error);
    throw Error(ExitCode::io, path.string(), "not a regular file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void InputFile::read(std::uint64_t offset, void* out, std::size_t bytes) const {
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t n = ::pread(fd_, to, std::min(bytes, kCallBytes), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw_io(path_, errno);
    if (n == 0)
      throw Error(ExitCode::io, path_.string(), "the file became shorter while it was read");
    to += n;
    offset += static_cast<std::uint64_t>(n);
    bytes -= static_cast<std::size_t>(n);
  }
}

std::string read_file(const fs::path& path, std::uint64_t limit) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) throw_io(path, errno);
  std::string text;
  int error = 0;
  std::vector<char> chunk(std::size_t{1} << 16);
  while (text.size() <= limit) {
    const ssize_t n = ::read(fd, chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) error = errno;
    if (n <= 0) break;
    text.append(chunk.data(), static_cast<std::size_t>(n));
  }
  ::close(fd);
  if (error != 0) throw_io(path, error);
  if (text.size() > limit) {
    throw Error(ExitCode::io, path.string(), "larger than " + std::to_string(limit) + " bytes");
  }
  return text;
}

void write_file(const fs::path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

void make_directory(const fs::path& path) {
  const fs::path clean = without_trailing_slash(path);
  std::error_code error;
  if (fs::is_directory(clean, error)) return;
  if (clean.has_parent_path() && clean.parent_path() != clean) make_directory(clean.parent_path());
  if (retried("mkdir", [&] { return ::mkdir(clean.c_str(), 0777); }) == 0) return;
  const int reason = errno;
  if (reason == EEXIST && fs::is_directory(clean, error)) return;  // another process was faster
  throw_io(path, reason == EEXIST ? ENOTDIR : reason);
}

void sync_directory(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == EACCES)
    return;  // writable but not readable: it cannot be opened to be synced
  if (fd < 0) throw_io(path, errno);
  const int error = retried("syncdir", [&] { return ::fsync(fd); }) != 0 ? errno : 0;
  ::close(fd);
  if (error != 0 && !cannot_sync(error)) throw_io(path, error);
}

void rename_durably(const fs::path& from, const fs::path& to) {
  if (retried("rename", [&] { return ::rename(from.c_str(), to.c_str()); }) != 0) {
    throw_io(to, errno);
  }
  sync_directory(folder_of(to));
}

namespace {

/// For file systems without RENAME_EXCHANGE: the old folder steps aside, and back if the new one cannot
/// take its place.
void replace_in_two_steps(const fs::path& staged, const fs::path& target) {
  const fs::path aside = staging_path(target);
  if (retried("rename", [&] { return ::rename(target.c_str(), aside.c_str()); }) != 0) {
    throw_io(target, errno);
  }
  if (retried("rename", [&] { return ::rename(staged.c_str(), target.c_str()); }) != 0) {
    const int error = errno;
    (void)::rename(aside.c_str(), target.c_str());
    throw_io(target, error);
  }
  sync_directory(folder_of(target));
  remove_tree(aside);
}

}  // namespace

void replace_directory(const fs::path& staged_path, const fs::path& target_path) {
  const fs::path staged = without_trailing_slash(staged_path);
  const fs::path target = without_trailing_slash(target_path);
  sync_directory(staged);
  struct stat status {};
  if (::lstat(target.c_str(), &status) != 0) {
    if (errno != ENOENT) throw_io(target_path, errno);
    rename_durably(staged, target);
    return;
  }
  std::error_code ignored;
  if (!fs::is_directory(target, ignored)) throw_io(target_path, ENOTDIR);
  const long exchanged = retried("exchange", [&] {
    return ::syscall(SYS_renameat2, AT_FDCWD, staged.c_str(), AT_FDCWD, target.c_str(),
                     RENAME_EXCHANGE);
  });
  if (exchanged == 0) {
    sync_directory(folder_of(target));
    remove_tree(staged);
  } else if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) {
    replace_in_two_steps(staged, target);
  } else {
    throw_io(target_path, errno);
  }
}

void remove_tree(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return;
    throw_io(path, errno);
  }
  if (!S_ISDIR(status.st_mode)) {
    const int done = retried("unlink", [&] { return ::unlink(path.c_str()); });
    if (done != 0 && errno != ENOENT) throw_io(path, errno);
    return;
  }
  std::error_code error;
  // Listed first: removing while iterating may pass entries over on some file systems.
  std::vector<fs::path> children;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    children.push_back(it->path());
  }
  if (error) throw_io(path, error.value());
  for (const fs::path& child : children) remove_tree(child);
  const int done = retried("unlink", [&] { return ::rmdir(path.c_str()); });
  if (done != 0 && errno != ENOENT) throw_io(path, errno);
}

TemporaryFolder::TemporaryFolder() {
  std::error_code error;
  std::string name = (fs::temp_directory_path(error) / "belfry-XXXXXX").string();
  if (!error && ::mkdtemp(name.data()) == nullptr) error = {errno, std::generic_category()};
  if (error) throw Error(ExitCode::io, name, error.message());
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string sha256_of_file(const fs::path& path) {
  const InputFile file(path);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> hash(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  bool good = hash != nullptr && EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr) == 1;
  std::vector<char> chunk(std::min<std::uint64_t>(file.size(), std::uint64_t{1} << 20));
  for (std::uint64_t at = 0; good && at < file.size(); at += chunk.size()) {
    const std::size_t n = std::min<std::uint64_t>(chunk.size(), file.size() - at);
    file.read(at, chunk.data(), n);
    good = EVP_DigestUpdate(hash.get(), chunk.data(), n) == 1;
  }
  unsigned char digest[32];
  good = good && EVP_DigestFinal_ex(hash.get(), digest, nullptr) == 1;
  if (!good) throw Error(ExitCode::io, path.string(), "sha256 is not available in this OpenSSL");
  return to_hex(digest, sizeof digest);
}

}  // namespace belfry
