// SPDX-License-Identifier: Apache-2.0
#include "engine/byte_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/error.hpp"

namespace belfry {
namespace {

constexpr std::size_t kRawChunk = std::size_t{1} << 17;

/// What peeking took from a pipe: the open descriptor and the bytes that the next source gets first.
struct Pipe {
  int fd = -1;
  std::string taken;
  bool consumed = false;
};

std::mutex pipes_mutex;
std::map<std::string, Pipe>& pipes() {
  static std::map<std::string, Pipe> known;
  return known;
}

std::string reason() {
  return std::strerror(errno);
}

/// The file's own bytes.
class RawFile {
 public:
  RawFile(const std::string& path, ByteSource::Mode mode) : path_(path), mode_(mode) {
    const std::scoped_lock lock(pipes_mutex);
    if (const auto known = pipes().find(path); known != pipes().end()) {
      if (known->second.consumed) {
        throw Error(ExitCode::io, path, "was read to its end already",
                    "a pipe can be read once; write it to a file first");
      }
      adopt(known->second);
      return;
    }
    fd_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info {};
    if (fd_ < 0 || ::fstat(fd_, &info) != 0) {
      const std::string why = reason();
      close_file();
      throw Error(ExitCode::io, path, "cannot be opened: " + why);
    }
    if (S_ISDIR(info.st_mode)) {
      close_file();
      throw Error(ExitCode::io, path, "is a folder, not a file");
    }
    pipe_ = path == "-" || !S_ISREG(info.st_mode);
    if (pipe_) return;
    size_ = static_cast<std::uint64_t>(info.st_size);
    modified_ = info.st_mtim;
    ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
  }

  ~RawFile() {
    const std::scoped_lock lock(pipes_mutex);
    if (!pipe_) {
      close_file();
    } else if (mode_ == ByteSource::Mode::peek) {
      pipes()[path_] = Pipe{fd_, std::move(taken_), false};
    } else if (path_ == "-") {
      pipes()[path_] = Pipe{fd_, {}, true};
    } else {
      pipes().erase(path_);
      close_file();
    }
  }
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;

  std::size_t read(char* out, std::size_t bytes) {
    std::size_t got = std::min(bytes, taken_.size() - replayed_);
    if (got > 0) {
      std::memcpy(out, taken_.data() + replayed_, got);
      replayed_ += got;
      if (mode_ == ByteSource::Mode::read && replayed_ == taken_.size()) {
        taken_ = std::string();
        replayed_ = 0;
      }
      return got;
    }
    got = read_descriptor(out, bytes);
    if (pipe_ && mode_ == ByteSource::Mode::peek) {
      taken_.append(out, got);
      replayed_ = taken_.size();
    }
    consumed_ += got;
    if (got == 0 && !pipe_) check_unchanged();
    return got;
  }

  double progress() const {
    return size_ == 0 ? 0.0 : static_cast<double>(consumed_) / static_cast<double>(size_);
  }

 private:
  void adopt(Pipe& pipe) {
    pipe_ = true;
    fd_ = pipe.fd;
    taken_ = std::move(pipe.taken);
  }

  std::size_t read_descriptor(char* out, std::size_t bytes) {
    for (;;) {
      const ssize_t got = ::read(fd_, out, bytes);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) throw Error(ExitCode::io, path_, "cannot be read: " + reason());
    }
  }

  void check_unchanged() const {
    struct stat now {};
    if (::fstat(fd_, &now) != 0) throw Error(ExitCode::io, path_, "cannot be read: " + reason());
    if (consumed_ != size_ || static_cast<std::uint64_t>(now.st_size) != size_ ||
        now.st_mtim.tv_sec != modified_.tv_sec || now.st_mtim.tv_nsec != modified_.tv_nsec) {
      throw Error(ExitCode::io, path_, "changed while it was read");
    }
  }

  void close_file() {
    if (fd_ > STDERR_FILENO) ::close(fd_);
    fd_ = -1;
  }

  std::string path_;
  ByteSource::Mode mode_;
  int fd_ = -1;
  bool pipe_ = false;
  std::string taken_;
  std::size_t replayed_ = 0;
  std::uint64_t size_ = 0, consumed_ = 0;
  struct timespec modified_ {};
};

}  // namespace

struct ByteSource::Impl {
  enum class Kind { plain, gzip, zstd };

  Impl(std::string name, Mode mode) : path(std::move(name)), raw(path, mode), chunk(kRawChunk) {
    while (size < 4 && refill()) {
    }
    const auto* bytes = reinterpret_cast<const unsigned char*>(chunk.data());
    if (size >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b) kind = Kind::gzip;
    if (size >= 4 && std::memcmp(bytes, "\x28\xb5\x2f\xfd", 4) == 0) kind = Kind::zstd;
    if (kind == Kind::plain && (path.ends_with(".gz") || path.ends_with(".zst"))) {
      throw Error(
          ExitCode::bad_data, path,
          std::string("does not hold ") + (path.ends_with(".gz") ? "gzip" : "zstd") + " data");
    }
    if (kind == Kind::gzip && inflateInit2(&gzip, 15 + 16) != Z_OK) throw std::bad_alloc();
    if (kind == Kind::zstd && (zstd = ZSTD_createDStream()) == nullptr) throw std::bad_alloc();
  }

  ~Impl() {
    if (kind == Kind::gzip) inflateEnd(&gzip);
    ZSTD_freeDStream(zstd);
  }

  /// More raw bytes behind those not used yet; false at the end of the file.
  bool refill() {
    if (used > 0) {
      std::memmove(chunk.data(), chunk.data() + used, size - used);
      size -= used;
      used = 0;
    }
    const std::size_t got = raw.read(chunk.data() + size, chunk.size() - size);
    size += got;
    return got > 0;
  }

  std::size_t read_plain(char* out, std::size_t bytes) {
    if (used == size) return raw.read(out, bytes);
    const std::size_t got = std::min(bytes, size - used);
    std::memcpy(out, chunk.data() + used, got);
    used += got;
    return got;
  }

  std::size_t read_gzip(char* out, std::size_t bytes) {
    gzip.next_out = reinterpret_cast<Bytef*>(out);
    gzip.avail_out = static_cast<uInt>(std::min<std::size_t>(bytes, 1u << 30));
    const uInt wanted = gzip.avail_out;
    while (gzip.avail_out == wanted) {
      if (used == size && !refill()) {
        if (member_done) return 0;
        throw Error(ExitCode::bad_data, path, "the gzip data is truncated");
      }
      if (member_done) {  // a file may hold several members, one behind the other, and nothing else
        if (static_cast<unsigned char>(chunk[used]) != 0x1f) {
          throw Error(ExitCode::bad_data, path, "there is other data behind the gzip data");
        }
        inflateReset(&gzip);
        member_done = false;
      }
      gzip.next_in = reinterpret_cast<Bytef*>(chunk.data() + used);
      gzip.avail_in = static_cast<uInt>(size - used);
      const int status = inflate(&gzip, Z_NO_FLUSH);
      used = size - gzip.avail_in;
      if (status == Z_STREAM_END) {
        member_done = true;
      } else if (status == Z_MEM_ERROR) {
        throw std::bad_alloc();
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        throw Error(ExitCode::bad_data, path,
                    std::string("the gzip data is damaged (") +
                        (gzip.msg != nullptr ? gzip.msg : "unknown fault") + ")");
      }
    }
    return wanted - gzip.avail_out;
  }

  std::size_t read_zstd(char* out, std::size_t bytes) {
    ZSTD_outBuffer output{out, bytes, 0};
    while (output.pos == 0) {
      // A full block may wait inside the decoder, so it is asked before the end is believed.
      const bool more = used < size || refill();
      ZSTD_inBuffer input{chunk.data(), size, used};
      const std::size_t status = ZSTD_decompressStream(zstd, &output, &input);
      used = input.pos;
      if (ZSTD_isError(status) != 0) {
        throw Error(ExitCode::bad_data, path,
                    std::string("the zstd data is damaged (") + ZSTD_getErrorName(status) + ")");
      }
      if (!more && output.pos == 0) {
        if (member_done) return 0;
        throw Error(ExitCode::bad_data, path, "the zstd data is truncated");
      }
      if (more || output.pos > 0) member_done = status == 0;
    }
    return output.pos;
  }

  std::string path;
  RawFile raw;
  std::vector<char> chunk;
  std::size_t size = 0, used = 0;
  Kind kind = Kind::plain;
  z_stream gzip{};
  ZSTD_DStream* zstd = nullptr;
  bool member_done = false;
};

ByteSource::ByteSource(std::string path, Mode mode)
    : impl_(std::make_unique<Impl>(std::move(path), mode)) {}
ByteSource::~ByteSource() = default;

std::size_t ByteSource::read(char* out, std::size_t bytes) {
  if (bytes == 0) return 0;
  switch (impl_->kind) {
    case Impl::Kind::gzip:
      return impl_->read_gzip(out, bytes);
    case Impl::Kind::zstd:
      return impl_->read_zstd(out, bytes);
    case Impl::Kind::plain:
      break;
  }
  return impl_->read_plain(out, bytes);
}

double ByteSource::progress() const {
  return impl_->raw.progress();
}
const std::string& ByteSource::path() const {
  return impl_->path;
}

}  // namespace belfry
