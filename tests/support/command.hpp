// SPDX-License-Identifier: Apache-2.0
// Runs the `belfry` binary as a user does: arguments, environment, standard input, a terminal, signals;
// and what a test asks of its answer.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "engine/error.hpp"

namespace belfry::test {

struct Answer {
  int code = -1;  ///< exit code; 128 + N when signal N ended it, -1 when it ran out of time
  std::string out, err;
  std::vector<std::string> lines() const { return split(out); }
  std::vector<std::string> error_lines() const { return split(err); }

 private:
  static std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      lines.push_back(text.substr(at, end - at));
      at = end + 1;
    }
    return lines;
  }
};

/// A run of the binary. Output goes to memory files, so that it can be read while the process lives and
/// never blocks it.
class Command {
 public:
  explicit Command(std::vector<std::string> arguments) : arguments_(std::move(arguments)) {}
  ~Command() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (drain_.joinable()) drain_.join();
    for (const int fd : {out_, err_, terminal_fd_}) {
      if (fd >= 0) ::close(fd);
    }
  }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  /// Another build of the binary.
  Command& binary(const std::string& path) {
    binary_ = path;
    return *this;
  }
  Command& env(const std::string& name, const std::string& value) {
    environment_[name] = value;
    return *this;
  }
  Command& cwd(const std::filesystem::path& folder) {
    folder_ = folder.string();
    return *this;
  }
  /// Bytes for standard input, through a pipe; without it standard input is empty.
  Command& input(std::string bytes) {
    input_ = std::move(bytes);
    return *this;
  }
  /// Standard output to this file (/dev/full), or to a pipe that nobody reads any more.
  Command& stdout_to(const std::string& path) {
    stdout_path_ = path;
    return *this;
  }
  Command& stdout_closed() {
    closed_ = true;
    return *this;
  }
  /// No more address space than this.
  Command& memory(std::uint64_t bytes) {
    memory_ = bytes;
    return *this;
  }
  /// Standard error is a terminal; what appears on it is in Answer::err.
  Command& terminal() {
    on_terminal_ = true;
    return *this;
  }

  Answer run(double seconds = 60) {
    start();
    return wait(seconds);
  }

  void start() {
    out_ = ::memfd_create("out", MFD_CLOEXEC);
    err_ = ::memfd_create("err", MFD_CLOEXEC);
    int input[2] = {-1, -1}, closed[2] = {-1, -1};
    if (::pipe2(input, O_CLOEXEC) != 0 || ::pipe2(closed, O_CLOEXEC) != 0) std::abort();
    ::close(closed[0]);
    int terminal = -1;
    if (on_terminal_ && ::openpty(&terminal_fd_, &terminal, nullptr, nullptr, nullptr) != 0) {
      std::abort();
    }
    const std::vector<std::string> environment = environment_texts();
    std::vector<char*> arguments{binary_.data()}, variables;
    for (std::string& a : arguments_) arguments.push_back(a.data());
    for (const std::string& e : environment) variables.push_back(const_cast<char*>(e.data()));
    arguments.push_back(nullptr);
    variables.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {  // only calls that are safe after fork
      int target = closed_ ? closed[1] : out_;
      if (!stdout_path_.empty()) target = ::open(stdout_path_.c_str(), O_WRONLY | O_CLOEXEC);
      ::dup2(input[0], STDIN_FILENO);
      ::dup2(target, STDOUT_FILENO);
      ::dup2(on_terminal_ ? terminal : err_, STDERR_FILENO);
      ::signal(SIGPIPE, SIG_DFL);
      const rlimit limit{memory_, memory_};
      if (memory_ > 0) ::setrlimit(RLIMIT_AS, &limit);
      if (folder_.empty() || ::chdir(folder_.c_str()) == 0) {
        ::execve(binary_.c_str(), arguments.data(), variables.data());
      }
      ::_exit(126);
    }
    for (const int fd : {input[0], closed[1], terminal}) {
      if (fd >= 0) ::close(fd);
    }
    if (on_terminal_) drain_ = std::thread([this] { drain_terminal(); });
    feed(input[1]);
  }

  void send(int signal) { ::kill(pid_, signal); }

  /// True once standard error holds `text` `times` times; false when the process ended before.
  bool wait_for(const std::string& text, int times = 1, double seconds = 60) {
    const auto end = deadline(seconds);
    while (std::chrono::steady_clock::now() < end) {
      const bool ended = has_ended();
      const std::string seen = contents(err_);
      int found = 0;
      for (std::size_t at = 0; (at = seen.find(text, at)) != std::string::npos; ++at) ++found;
      if (found >= times) return true;
      if (ended) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return false;
  }

  Answer wait(double seconds = 60) {
    const auto end = deadline(seconds);
    while (!has_ended() && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    Answer answer;
    if (has_ended()) {
      answer.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
    } else {
      ADD_FAILURE() << "belfry ran for more than " << seconds << " s";
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    pid_ = 0;
    if (drain_.joinable()) drain_.join();
    answer.out = contents(out_);
    answer.err = contents(err_);
    return answer;
  }

 private:
  static std::chrono::steady_clock::time_point deadline(double seconds) {
    return std::chrono::steady_clock::now() +
           std::chrono::duration_cast<std::chrono::steady_clock::duration>(
               std::chrono::duration<double>(seconds));
  }

  /// The test's own environment without what would change an answer.
  std::vector<std::string> environment_texts() const {
    std::map<std::string, std::string> all{{"TERM", "xterm"}};
    for (char** entry = ::environ; *entry != nullptr; ++entry) {
      const std::string text = *entry;
      const std::string name = text.substr(0, text.find('='));
      if (name == "CI" || name == "TERM" || name.starts_with("BELFRY_")) continue;
      all[name] = text.substr(std::min(text.size(), name.size() + 1));
    }
    for (const auto& [name, value] : environment_) all[name] = value;
    std::vector<std::string> texts;
    for (const auto& [name, value] : all) texts.push_back(name + "=" + value);
    return texts;
  }

  void feed(int fd) {
    ::signal(SIGPIPE, SIG_IGN);  // a process that does not read its input is no fault of the test
    for (std::size_t at = 0; at < input_.size();) {
      const ssize_t done = ::write(fd, input_.data() + at, input_.size() - at);
      if (done <= 0) break;
      at += static_cast<std::size_t>(done);
    }
    ::close(fd);
  }

  void drain_terminal() const {
    char chunk[4096];
    for (;;) {  // ends with EIO when the last process has left the terminal
      const ssize_t got = ::read(terminal_fd_, chunk, sizeof chunk);
      if (got <= 0 || ::write(err_, chunk, static_cast<std::size_t>(got)) != got) return;
    }
  }

  bool has_ended() {
    if (!ended_ && pid_ > 0) ended_ = ::waitpid(pid_, &status_, WNOHANG) == pid_;
    return ended_;
  }

  static std::string contents(int fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0) return "";
    std::string text(static_cast<std::size_t>(info.st_size), '\0');
    const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

  std::string binary_ = BELFRY_BINARY;
  std::vector<std::string> arguments_;
  std::map<std::string, std::string> environment_;
  std::string folder_, input_, stdout_path_;
  std::uint64_t memory_ = 0;
  bool closed_ = false, on_terminal_ = false, ended_ = false;
  pid_t pid_ = 0;
  int status_ = 0, out_ = -1, err_ = -1, terminal_fd_ = -1;
  std::thread drain_;
};

inline Answer belfry_run(std::vector<std::string> arguments) {
  return Command(std::move(arguments)).run();
}

/// The documented form of a refusal: this exit code, exactly one line `error: ...` on stderr, which
/// matches `pattern` (ECMAScript, searched), and nothing on stdout.
inline void expect_error(const Answer& answer, ExitCode code, const std::string& pattern) {
  EXPECT_EQ(answer.code, static_cast<int>(code)) << answer.err;
  EXPECT_EQ(answer.out, "");
  std::vector<std::string> errors;
  for (const std::string& line : answer.error_lines()) {
    if (line.starts_with("error:")) errors.push_back(line);
  }
  ASSERT_EQ(errors.size(), 1u) << answer.err;
  EXPECT_TRUE(std::regex_search(errors[0], std::regex(pattern)))
      << errors[0] << "\n  does not match " << pattern;
  EXPECT_TRUE(answer.err.ends_with(errors[0] + "\n")) << "something follows: " << answer.err;
}

inline void expect_good(const Answer& answer) {
  EXPECT_EQ(answer.code, 0) << answer.err;
}

}  // namespace belfry::test
