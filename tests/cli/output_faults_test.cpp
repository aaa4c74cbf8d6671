// SPDX-License-Identifier: Apache-2.0
// A disk that is full, a folder that cannot be written, a reader that went away: exit 7, nothing half
// written, and what was there stays.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <cstdlib>
#include <cstring>

#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

namespace fs = std::filesystem;

/// A small file system of its own; needs root and the right to mount.
class SmallDisk {
 public:
  SmallDisk(const std::string& folder, const std::string& options, unsigned long flags = 0)
      : folder_(folder) {
    fs::create_directories(folder_);
    mounted_ = ::mount("tmpfs", folder_.c_str(), "tmpfs", flags, options.c_str()) == 0;
    if (!mounted_) reason_ = std::strerror(errno);
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::string& reason() const { return reason_; }

 private:
  std::string folder_, reason_;
  bool mounted_ = false;
};

#define NEEDS_MOUNT(disk) \
  if (!(disk).mounted()) GTEST_SKIP() << "mounting a tmpfs needs root: " << (disk).reason()

class OutputFaults : public WithRun {
 protected:
  static Answer recommend_to(const std::string& file) {
    return belfry_run({"recommend", run(), "--all", "-k", "80", "--include-seen", "-o", file});
  }
};

TEST_F(OutputFaults, FullDevice) {
  fs::create_symlink("/dev/full", path("full.csv"));
  expect_error(recommend_to(path("full.csv")), ExitCode::io, "full\\.csv: No space left on device");
  EXPECT_TRUE(fs::is_symlink(path("full.csv")));
}

TEST_F(OutputFaults, FullDisk) {
  const SmallDisk disk(path("disk"), "size=64k");
  NEEDS_MOUNT(disk);
  for (const std::string name : {"recs.csv", "recs.jsonl", "recs.npy"}) {
    expect_error(recommend_to(path("disk/" + name)), ExitCode::io, "No space left on device");
    EXPECT_TRUE(fs::is_empty(path("disk"))) << "a part of " << name << " is left";
  }
  work_->write("disk/filler", std::string(40'000, 'x'));
  expect_error(
      belfry_run({"export", run(), "--queries", path("disk/q.npy"), "--items", path("disk/v.npy")}),
      ExitCode::io, "No space left on device");
  EXPECT_EQ(names_in(path("disk")), std::vector<std::string>{"filler"});
  expect_error(belfry_run({"train", path("ratings.csv"), "--out", path("disk/run"), "-q"}),
               ExitCode::io, "No space left on device");
  EXPECT_FALSE(fs::exists(path("disk/run")));
  EXPECT_FALSE(fs::exists(path("disk/run.partial/model.safetensors")));
}

TEST_F(OutputFaults, WhatWasThereStaysOnAFullDisk) {
  const SmallDisk disk(path("disk"), "size=64k");
  NEEDS_MOUNT(disk);
  work_->write("disk/recs.csv", "mine\n");
  expect_error(recommend_to(path("disk/recs.csv")), ExitCode::io, "No space left on device");
  EXPECT_EQ(work_->read("disk/recs.csv"), "mine\n");
}

TEST_F(OutputFaults, ReadOnlyFolder) {
  const SmallDisk disk(path("fixed"), "size=64k", MS_RDONLY);
  NEEDS_MOUNT(disk);
  expect_error(recommend_to(path("fixed/recs.csv")), ExitCode::io, "Read-only file system");
  expect_error(belfry_run({"train", path("ratings.csv"), "--out", path("fixed/run"), "-q"}),
               ExitCode::io, "Read-only file system");
  expect_error(belfry_run({"demo", "--out", path("fixed/demo"), "-q"}), ExitCode::io,
               "Read-only file system");
}

TEST_F(OutputFaults, FolderThatTakesNoFiles) {
  expect_error(recommend_to("/proc/recs.csv"), ExitCode::io, "/proc/recs\\.csv: ");
  expect_error(belfry_run({"train", path("ratings.csv"), "--out", "/proc/run", "-q"}), ExitCode::io,
               "/proc/run");
}

TEST_F(OutputFaults, FolderThatIsNotThere) {
  expect_error(recommend_to(path("no/where.csv")), ExitCode::io, "no/where\\.csv: No such file");
}

TEST_F(OutputFaults, FolderInPlaceOfAFile) {
  fs::create_directory(path("dir.csv"));
  expect_error(recommend_to(path("dir.csv")), ExitCode::io, "dir\\.csv");
  EXPECT_TRUE(fs::is_empty(path("dir.csv")));
}

TEST_F(OutputFaults, OnlyARunIsReplaced) {
  fs::create_directory(path("precious"));
  work_->write("precious/thesis.txt", "years of work\n");
  work_->write("a-file", "text\n");
  for (const std::string& out :
       {path("precious"), path("precious/"), path("a-file"), std::string("/")}) {
    const Answer answer = belfry_run({"train", path("ratings.csv"), "--out", out, "-q"});
    expect_error(answer, ExitCode::io, "folder");
  }
  EXPECT_EQ(work_->read("precious/thesis.txt"), "years of work\n");
  EXPECT_EQ(work_->read("a-file"), "text\n");
  fs::rename(path("precious"), path("new.partial"));
  expect_error(belfry_run({"train", path("ratings.csv"), "--out", path("new"), "-q"}), ExitCode::io,
               "new\\.partial: ");
  EXPECT_EQ(work_->read("new.partial/thesis.txt"), "years of work\n");
  fs::remove_all(path("new.partial"));
}

TEST_F(OutputFaults, ARunIsReplacedAsAWhole) {
  const std::string before = work_->sha256("run/model.safetensors");
  for (const std::string form : {"again", "again/", "./again"}) {
    const std::vector<std::string> train{"train", path("ratings.csv"), "--out",  form,
                                         "-q",    "train.epochs=2",    "--seed", "9"};
    expect_good(Command(train).cwd(work_->path()).run());
    EXPECT_EQ(names_in(path("again")),
              (std::vector<std::string>{"checkpoints", "config.toml", "env.json", "metrics.jsonl",
                                        "model.safetensors", "test.safetensors"}));
    EXPECT_FALSE(work_->exists("again.partial"));
  }
  // An empty folder may be the place, the current one too.
  fs::create_directory(path("here"));
  expect_good(Command({"train", "../ratings.csv", "--out", ".", "-q", "train.epochs=1"})
                  .cwd(path("here"))
                  .run());
  EXPECT_TRUE(work_->exists("here/model.safetensors"));
  // A training that fails leaves the run that was there.
  work_->write("bad.csv", "userId,movieId\n1\n");
  fs::remove_all(path("again"));
  fs::copy(run(), path("again"), fs::copy_options::recursive);
  expect_error(belfry_run({"train", path("bad.csv"), "--out", path("again"), "-q"}),
               ExitCode::bad_data, "bad\\.csv:2");
  EXPECT_EQ(work_->sha256("again/model.safetensors"), before);
}

TEST_F(OutputFaults, ClosedPipe) {
  Command train({"train", path("ratings.csv"), "--out", path("piped"), "--json", "train.epochs=3"});
  expect_error(train.stdout_closed().run(), ExitCode::io, "standard output: Broken pipe");
  EXPECT_TRUE(work_->exists("piped/model.safetensors")) << "the training itself went well";
  for (const std::vector<std::string>& question :
       {std::vector<std::string>{"recommend", run(), "--all", "-k", "50"},
        {"recommend", run(), "--user", "user_7"},
        {"evaluate", run()},
        {"doctor"},
        {"--help"},
        {"init"},
        {"inspect", run()}}) {
    expect_error(Command(question).stdout_closed().run(), ExitCode::io,
                 "standard output: Broken pipe");
  }
}

// The exit code is told even where the message cannot be: a closed or full stderr must not abort.
TEST_F(OutputFaults, NobodyReadsTheError) {
  for (const char* stderr_to : {"2>&-", "2>/dev/full"}) {
    const std::string command =
        std::string(BELFRY_BINARY) + " recommend '" + path("gone") + "' --user user_7 " + stderr_to;
    const int status = std::system(command.c_str());
    ASSERT_TRUE(WIFEXITED(status)) << stderr_to;
    EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitCode::io)) << stderr_to;
  }
}

TEST_F(OutputFaults, FullStandardOutput) {
  Command recommend({"recommend", run(), "--all", "-k", "50"});
  expect_error(recommend.stdout_to("/dev/full").run(), ExitCode::io,
               "standard output: No space left on device");
  Command help({"--help"});
  expect_error(help.stdout_to("/dev/full").run(), ExitCode::io, "standard output: No space");
}

}  // namespace
}  // namespace belfry::test
