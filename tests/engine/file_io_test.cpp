// SPDX-License-Identifier: Apache-2.0
#include "engine/file_io.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <thread>

#include "kernels/core/check.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

/// Ends the hook however the test ends.
struct FaultHook {
  explicit FaultHook(std::function<int(const char*)> hook) { set_io_fault_hook(std::move(hook)); }
  ~FaultHook() { set_io_fault_hook({}); }
};

/// Runs `body` in a child process; returns its exit status.
template <class Body>
int in_child(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string pattern(std::size_t n) {
  std::string text(n, '\0');
  for (std::size_t i = 0; i < n; ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  return text;
}

TEST(OutputFile, AppearsWholeAtCommitOnly) {
  TempFolder dir;
  const std::string big = pattern(600'001), small = pattern(1000);
  {
    OutputFile file(dir / "out.bin");
    EXPECT_EQ(names_in(dir.path()).size(), 1u);
    EXPECT_TRUE(names_in(dir.path())[0].starts_with(".out.bin.partial-"));
    file.write(small);
    file.write(big);
    file.write(nullptr, 0);
    file.write(small);
    EXPECT_EQ(file.bytes_written(), 602'001u);
    file.commit();
  }
  EXPECT_EQ(names_in(dir.path()), Names{"out.bin"});
  EXPECT_EQ(slurp(dir / "out.bin"), small + big + small);
}

TEST(OutputFile, LeavesNothingAndTheOldFileWithoutCommit) {
  TempFolder dir;
  spill(dir / "out", "old");
  {
    OutputFile file(dir / "out");
    file.write(pattern(1'000'000));
  }
  {
    OutputFile file(dir / "out");
    file.write("new");
    file.seal();  // sealed, not published
    EXPECT_EQ(slurp(dir / "out"), "old");
  }
  EXPECT_EQ(names_in(dir.path()), Names{"out"});
  EXPECT_EQ(slurp(dir / "out"), "old");
}

TEST(OutputFile, KeepsModeAndFollowsLinks) {
  TempFolder dir;
  spill(dir / "real", "old");
  ::chmod((dir / "real").c_str(), 0640);
  fs::create_symlink("real", dir / "link");
  write_file(dir / "link", "new");
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(slurp(dir / "real"), "new");
  struct stat status {};
  ASSERT_EQ(::stat((dir / "real").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
  EXPECT_EQ(names_in(dir.path()), (Names{"link", "real"}));
}

TEST(OutputFile, LongNamesAndTwoWritersOfOneName) {
  TempFolder dir;
  const std::string name(255, 'n');
  OutputFile a(dir / name), b(dir / name);
  a.write("a");
  b.write("b");
  b.commit();
  a.commit();
  EXPECT_EQ(names_in(dir.path()), Names{name});
  EXPECT_EQ(slurp(dir / name), "a");
}

TEST(OutputFile, RefusesWhatCannotBeWritten) {
  TempFolder dir;
  fs::create_directory(dir / "folder");
  spill(dir / "file", "x");
  const struct {
    fs::path path;
    const char* reason;
  } cases[] = {{dir / "folder", "Is a directory"},
               {dir / "none/", "Is a directory"},
               {dir / "missing/out", "No such file or directory"},
               {dir / "file/out", "Not a directory"},
               {dir / std::string(256, 'n'), "File name too long"},
               {"", "No such file or directory"}};
  for (const auto& c : cases) {
    const Error error = error_of([&] { OutputFile file(c.path); });
    EXPECT_EQ(error.code(), ExitCode::io);
    EXPECT_EQ(error.where(), c.path.string());
    EXPECT_NE(std::string(error.what()).find(c.reason), std::string::npos) << error.what();
  }
  EXPECT_EQ(names_in(dir.path()), (Names{"file", "folder"}));
}

TEST(OutputFile, RefusesWithoutPermission) {
  TempFolder dir;
  fs::create_directory(dir / "closed");
  spill(dir / "protected", "old");
  fs::permissions(dir.path(), fs::perms::all);
  fs::permissions(dir / "protected", fs::perms::owner_read | fs::perms::others_read);
  fs::permissions(dir / "closed", fs::perms::owner_read | fs::perms::owner_exec);
  const auto refused = [](const fs::path& path) {
    try {
      write_file(path, "x");
    } catch (const Error& error) {
      const std::string what = error.what();
      return error.code() == ExitCode::io && what.find("Permission denied") != std::string::npos;
    }
    return false;
  };
  EXPECT_EQ(in_child([&] {
              if (::geteuid() == 0 && ::seteuid(65534) != 0) return 2;
              return refused(dir / "closed/out") && refused(dir / "protected") ? 0 : 1;
            }),
            0);
  EXPECT_EQ(slurp(dir / "protected"), "old");
}

TEST(OutputFile, DevicesAreWrittenDirectly) {
  const Error full = error_of([] { write_file("/dev/full", "text"); });
  EXPECT_EQ(full.code(), ExitCode::io);
  EXPECT_STREQ(full.what(), "/dev/full: No space left on device");
  EXPECT_NO_THROW(write_file("/dev/null", pattern(1'000'000)));
  struct stat status {};
  ASSERT_EQ(::stat("/dev/null", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
}

TEST(OutputFile, FifosAreWrittenDirectly) {
  TempFolder dir;
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = read_file(dir / "fifo"); });
  const std::string text = pattern(1'000'003);
  write_file(dir / "fifo", text);
  reader.join();
  EXPECT_EQ(got, text);
  EXPECT_TRUE(fs::is_fifo(dir / "fifo"));
}

TEST(OutputFile, StandardOutputKeepsItsPlaceInARedirectedFile) {
  TempFolder dir;
  EXPECT_EQ(in_child([&] {
              std::FILE* to = std::fopen((dir / "out").c_str(), "w");
              if (to == nullptr || ::dup2(::fileno(to), 1) != 1) return 1;
              if (::write(1, "before ", 7) != 7) return 1;
              write_file("/dev/stdout", "between ");
              write_file("/dev/fd/1", "again ");
              return ::write(1, "after", 5) == 5 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(slurp(dir / "out"), "before between again after");
  EXPECT_EQ(error_of([] { write_file("/dev/fd/999", "x"); }).code(), ExitCode::io);
}

TEST(OutputFile, AFullDiskLeavesNothing) {
  TempFolder dir;
  // A limit on the size of files: the kernel first writes short, then refuses.
  EXPECT_EQ(in_child([&] {
              std::signal(SIGXFSZ, SIG_IGN);
              const rlimit limit{100'000, 100'000};
              if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
              try {
                write_file(dir / "out", pattern(300'000));
              } catch (const Error& error) {
                return error.code() == ExitCode::io ? 0 : 2;
              }
              return 3;
            }),
            0);
  EXPECT_TRUE(names_in(dir.path()).empty());
}

TEST(OutputFile, EveryFailingCallIsReportedAndLeavesTheOldFile) {
  TempFolder dir;
  for (const int fault : {ENOSPC, EIO, EROFS, EDQUOT}) {
    int failed = 0;
    for (int n = 1;; ++n) {
      spill(dir / "out", "old");
      int calls = 0;
      std::string at;
      FaultHook hook([&](const char* call) {
        if (++calls != n) return 0;
        at = call;
        return fault;
      });
      bool threw = false;
      try {
        write_file(dir / "out", pattern(300'000));
      } catch (const Error& error) {
        threw = true;
        EXPECT_EQ(error.code(), ExitCode::io);
        const std::string reason = std::generic_category().message(fault);
        EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
      }
      if (at.empty()) break;  // all calls have failed once
      ++failed;
      // A folder that cannot be synced at all (EROFS) is no error; every other failure is.
      EXPECT_EQ(threw, at != "syncdir" || fault != EROFS) << at;
      EXPECT_EQ(names_in(dir.path()), Names{"out"}) << at;
      EXPECT_EQ(slurp(dir / "out") == "old", at != "syncdir") << at;
    }
    EXPECT_EQ(failed, 6);  // open, write, fsync, close, rename, syncdir
  }
}

TEST(OutputFile, InterruptedAndShortCallsAreMadeAgain) {
  TempFolder dir;
  int calls = 0;
  {
    FaultHook hook([&](const char* call) {
      if (std::string(call) == "close") return 0;
      return ++calls % 2 == 1 ? EINTR : std::string(call) == "write" ? kShortWrite : 0;
    });
    write_file(dir / "out", "short");
  }
  EXPECT_EQ(slurp(dir / "out"), "short");
  EXPECT_GE(calls, 2 * 5 + 4);
}

TEST(OutputFile, MisuseIsABugOfTheCaller) {
  TempFolder dir;
  OutputFile file(dir / "out");
  EXPECT_THROW(file.publish(), ContractError);
  file.commit();
  EXPECT_THROW(file.write("x"), ContractError);
  EXPECT_THROW(file.commit(), ContractError);
}

TEST(InputFile, ReadsAtAnyOffset) {
  TempFolder dir;
  const std::string text = pattern(100'000);
  spill(dir / "in", text);
  const InputFile file(dir / "in");
  EXPECT_EQ(file.size(), 100'000u);
  std::string part(500, '\0');
  file.read(99'500, part.data(), part.size());
  EXPECT_EQ(part, text.substr(99'500));
  EXPECT_EQ(error_of([&] { file.read(99'501, part.data(), 500); }).code(), ExitCode::io);
  fs::resize_file(dir / "in", 10);
  EXPECT_EQ(error_of([&] { file.read(0, part.data(), 500); }).code(), ExitCode::io);
}

TEST(InputFile, RefusesWhatIsNoRegularFile) {
  TempFolder dir;
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  for (const fs::path& path : {dir / "missing", dir.path(), dir / "fifo", fs::path("/dev/null")}) {
    const Error error = error_of([&] { InputFile file(path); });
    EXPECT_EQ(error.code(), ExitCode::io);
    EXPECT_EQ(error.where(), path.string());
  }
}

TEST(InputFile, SaysWhatIsInTheWay) {
  TempFolder dir;
  const Error error = error_of([&] { InputFile file(dir.path()); });
  EXPECT_EQ(error.what(), dir.path().string() + ": Is a directory");
}

TEST(ReadFile, HoldsToItsLimit) {
  TempFolder dir;
  spill(dir / "in", pattern(70'000));
  EXPECT_EQ(read_file(dir / "in", 70'000), pattern(70'000));
  EXPECT_EQ(error_of([&] { read_file(dir / "in", 69'999); }).code(), ExitCode::io);
  EXPECT_EQ(error_of([&] { read_file(dir.path()); }).code(), ExitCode::io);
  EXPECT_EQ(error_of([&] { read_file(dir / "missing"); }).code(), ExitCode::io);
}

TEST(Directories, AreMadeWithParents) {
  TempFolder dir;
  make_directory(dir / "a/b/c/");
  make_directory(dir / "a/b/c");
  EXPECT_TRUE(fs::is_directory(dir / "a/b/c"));
  spill(dir / "file", "");
  EXPECT_EQ(error_of([&] { make_directory(dir / "file"); }).code(), ExitCode::io);
  EXPECT_EQ(error_of([&] { make_directory(dir / "file/x"); }).code(), ExitCode::io);
}

TEST(Directories, AreReplacedAsAWhole) {
  TempFolder dir;
  const auto stage = [&](const std::string& text) {
    const fs::path staged = staging_path(dir / "run/");
    EXPECT_EQ(staged.parent_path(), dir.path());
    make_directory(staged / "sub");
    spill(staged / "sub/file", text);
    return staged;
  };
  replace_directory(stage("1"), dir / "run");
  EXPECT_EQ(slurp(dir / "run/sub/file"), "1");
  spill(dir / "run/only-old", "x");
  replace_directory(stage("2"), dir / "run/");
  EXPECT_EQ(slurp(dir / "run/sub/file"), "2");
  EXPECT_EQ(names_in(dir.path()), Names{"run"});
  EXPECT_EQ(names_in(dir / "run"), Names{"sub"});

  bool asked = false;  // a file system without RENAME_EXCHANGE
  FaultHook hook([&](const char* call) {
    if (std::string(call) != "exchange") return 0;
    asked = true;
    return EINVAL;
  });
  replace_directory(stage("3"), dir / "run");
  EXPECT_TRUE(asked);
  EXPECT_EQ(slurp(dir / "run/sub/file"), "3");
  EXPECT_EQ(names_in(dir.path()), Names{"run"});
}

TEST(Directories, AFailedReplacementLeavesTheOldOne) {
  TempFolder dir;
  for (const bool can_exchange : {true, false}) {
    for (int n = 1; n < 3; ++n) {
      fs::create_directory(dir / "run");
      spill(dir / "run/old", "");
      fs::create_directory(dir / "staged");
      int renames = 0;
      FaultHook hook([&](const char* call) {
        if (std::string(call) == "exchange") return can_exchange ? ENOSPC : ENOSYS;
        return std::string(call) == "rename" && ++renames == n ? ENOSPC : 0;
      });
      EXPECT_EQ(error_of([&] { replace_directory(dir / "staged", dir / "run"); }).code(),
                ExitCode::io);
      EXPECT_EQ(names_in(dir.path()), (Names{"run", "staged"}));
      EXPECT_EQ(names_in(dir / "run"), Names{"old"});
      fs::remove_all(dir / "run");
      fs::remove_all(dir / "staged");
    }
  }
  fs::create_directory(dir / "staged");
  spill(dir / "file", "kept");
  EXPECT_EQ(error_of([&] { replace_directory(dir / "staged", dir / "file"); }).code(),
            ExitCode::io);
  EXPECT_EQ(slurp(dir / "file"), "kept");
}

TEST(Directories, RemovalDoesNotFollowLinks) {
  TempFolder dir;
  make_directory(dir / "tree/a/b");
  make_directory(dir / "outside");
  spill(dir / "outside/kept", "x");
  spill(dir / "tree/a/file", "x");
  fs::create_directory_symlink(dir / "outside", dir / "tree/a/link");
  remove_tree(dir / "tree");
  remove_tree(dir / "tree");  // nothing there: nothing to do
  EXPECT_EQ(names_in(dir.path()), Names{"outside"});
  EXPECT_EQ(slurp(dir / "outside/kept"), "x");
}

TEST(Sha256, KnownDigests) {
  TempFolder dir;
  spill(dir / "empty", "");
  spill(dir / "abc", "abc");
  spill(dir / "million", std::string(1'000'000, 'a'));
  spill(dir / "blocks", std::string((std::size_t{1} << 20) * 2, '\0'));
  EXPECT_EQ(sha256_of_file(dir / "empty"),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of_file(dir / "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_of_file(dir / "million"),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(sha256_of_file(dir / "blocks"),
            "5647f05ec18958947d32874eeb788fa396a05d0bab7c1b71f112ceb7e9b31eee");
}

}  // namespace
}  // namespace belfry::test
