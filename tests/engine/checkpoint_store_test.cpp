// SPDX-License-Identifier: Apache-2.0
#include "engine/checkpoint_store.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>

#include "engine/file_io.hpp"
#include "kernels/core/check.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

std::string content(std::int64_t step, const std::string& name) {
  return name + " of step " + std::to_string(step) + std::string(100, '.');
}

void save(const fs::path& folder, std::int64_t step) {
  CheckpointWriter writer(folder, step);
  for (const char* name : {"weights.safetensors", "reader.json"}) {
    write_file(writer.add(name), content(step, name));
  }
  writer.commit("{\"epoch\": " + std::to_string(step) +
                ", \"seed\": 18446744073709551615, \"loss\": 0.1}");
}

/// Step of the newest checkpoint, whose files must be whole; -1: none.
std::int64_t newest(const fs::path& folder, Names* warnings = nullptr) {
  Names ignored;
  const auto reader = newest_valid_checkpoint(folder, warnings != nullptr ? *warnings : ignored);
  if (!reader) return -1;
  EXPECT_EQ(reader->files().size(), 2u);
  for (const CheckpointFile& file : reader->files()) {
    EXPECT_EQ(slurp(reader->file(file.name)), content(reader->step(), file.name));
  }
  return reader->step();
}

TEST(CheckpointStore, RoundTrip) {
  TempFolder dir;
  save(dir / "ck", 7);
  Names warnings;
  const auto reader = newest_valid_checkpoint(dir / "ck", warnings);
  ASSERT_TRUE(reader.has_value());
  EXPECT_TRUE(warnings.empty());
  EXPECT_EQ(reader->step(), 7);
  EXPECT_EQ(reader->path(), dir / "ck/step-7");
  EXPECT_EQ(reader->metadata(), "{\"epoch\":7,\"seed\":18446744073709551615,\"loss\":0.1}");
  EXPECT_EQ(error_of([&] { (void)reader->file("other"); }).code(), ExitCode::bad_model);
  EXPECT_EQ(names_in(dir / "ck"), Names{"step-7"});
  EXPECT_EQ(newest(dir / "ck"), 7);
}

TEST(CheckpointStore, TheNewestIsByNumber) {
  TempFolder dir;
  EXPECT_EQ(newest(dir / "none"), -1);
  for (const std::int64_t step : {9, 100, 20}) save(dir / "ck", step);
  EXPECT_EQ(newest(dir / "ck"), 100);
  save(dir / "ck", 100);  // again: replaced as a whole
  EXPECT_EQ(newest(dir / "ck"), 100);
  EXPECT_EQ(names_in(dir / "ck"), (Names{"step-100", "step-20", "step-9"}));
}

TEST(CheckpointStore, WithoutCommitNothingIsLeft) {
  TempFolder dir;
  {
    CheckpointWriter writer(dir / "ck", 1);
    write_file(writer.add("weights"), "x");
    EXPECT_EQ(names_in(dir / "ck"), Names{"step-1.tmp"});
    EXPECT_THROW(writer.add("weights"), ContractError);
    for (const char* name : {"", ".", "..", "a/b", "/a", "MANIFEST.json"}) {
      EXPECT_THROW(writer.add(name), ContractError) << name;
    }
    EXPECT_THROW(writer.commit("[1]"), ContractError);
    EXPECT_THROW(writer.commit("{"), ContractError);
  }
  EXPECT_TRUE(names_in(dir / "ck").empty());
}

/// Every way to damage one file of step 2 must lead back to step 1, with one warning.
template <class Damage>
void expect_fall_back(const TempFolder& dir, Damage damage) {
  fs::remove_all(dir / "ck");
  save(dir / "ck", 1);
  save(dir / "ck", 2);
  damage(dir / "ck/step-2");
  Names warnings;
  EXPECT_EQ(newest(dir / "ck", &warnings), 1);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("step-2"), std::string::npos) << warnings[0];
}

TEST(CheckpointStore, DamageFallsBackToTheOneBefore) {
  TempFolder dir;
  for (const char* name : {"weights.safetensors", "reader.json", "MANIFEST.json"}) {
    SCOPED_TRACE(name);
    expect_fall_back(dir, [&](const fs::path& step) { fs::remove(step / name); });
    expect_fall_back(dir, [&](const fs::path& step) { spill(step / name, ""); });
    expect_fall_back(dir,
                     [&](const fs::path& step) { spill(step / name, slurp(step / name) + "x"); });
    expect_fall_back(dir, [&](const fs::path& step) {
      fs::remove(step / name);
      fs::create_directory(step / name);
    });
  }
  Names warnings;
  save(dir / "ck", 3);
  spill(dir / "ck/step-3/reader.json", "short");
  EXPECT_EQ(newest(dir / "ck", &warnings), 1);
  EXPECT_NE(warnings[0].find("damaged: 5 bytes, the manifest has 1"), std::string::npos);
  expect_fall_back(dir, [](const fs::path& step) {  // files of another step
    fs::remove_all(step);
    fs::copy(step.parent_path() / "step-1", step);
  });
  expect_fall_back(dir, [](const fs::path& step) {
    fs::remove_all(step);
    spill(step, "a file of that name");
  });
}

TEST(CheckpointStore, EveryFlippedBitAndTruncationIsNoticed) {
  TempFolder dir;
  save(dir / "ck", 1);
  for (const char* name : {"MANIFEST.json", "reader.json"}) {
    const fs::path path = dir / "ck/step-1" / name;
    const std::string good = slurp(path);
    for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
      flip_bit(path, bit);
      EXPECT_EQ(newest(dir / "ck"), -1) << name << " bit " << bit;
      flip_bit(path, bit);
    }
    for (std::size_t cut = good.size(); cut-- > 0;) {
      fs::resize_file(path, cut);
      EXPECT_EQ(newest(dir / "ck"), -1) << name << " cut at " << cut;
    }
    spill(path, good);
    EXPECT_EQ(newest(dir / "ck"), 1);
  }
}

TEST(CheckpointStore, PruneKeepsTheNewestValidOnes) {
  TempFolder dir;
  for (std::int64_t step = 1; step <= 6; ++step) save(dir / "ck", step);
  fs::remove(dir / "ck/step-1/MANIFEST.json");  // cannot be read: stays
  spill(dir / "ck/step-6/reader.json", "damaged, does not count");
  make_directory(dir / "ck/step-8.tmp/sub");  // of a run that was killed
  for (const char* other :
       {"step-x", "step-007", "step-", "step-9.tmp.old", "best", "step-x.tmp"}) {
    make_directory(dir / "ck" / other);
  }
  prune_checkpoints(dir / "ck", 2);
  EXPECT_EQ(names_in(dir / "ck"), (Names{"best", "step-", "step-007", "step-1", "step-4", "step-5",
                                         "step-6", "step-9.tmp.old", "step-x", "step-x.tmp"}));
  EXPECT_EQ(newest(dir / "ck"), 5);
  prune_checkpoints(dir / "none", 1);
  EXPECT_THROW(prune_checkpoints(dir / "ck", 0), ContractError);
}

/// What a trainer does at the end of an epoch.
void next_checkpoint(const fs::path& folder) {
  save(folder, 2);
  prune_checkpoints(folder, 1);
}

TEST(CheckpointStore, AKillAtEveryCallLeavesACheckpoint) {
  TempFolder dir;
  int kills = 0, newer = 0;
  for (bool done = false; !done;) {
    fs::remove_all(dir / "ck");
    save(dir / "ck", 1);
    const pid_t child = ::fork();
    if (child == 0) {
      int calls = 0;
      set_io_fault_hook([&](const char*) {
        if (calls++ == kills) ::_exit(9);  // no destructor runs, as under kill -9
        return 0;
      });
      try {
        next_checkpoint(dir / "ck");
      } catch (...) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_NE(WEXITSTATUS(status), 1);
    done = WEXITSTATUS(status) == 0;
    Names warnings;
    const std::int64_t found = newest(dir / "ck", &warnings);
    EXPECT_TRUE(found == 1 || found == 2) << "killed at call " << kills;
    EXPECT_TRUE(warnings.empty()) << warnings[0];
    newer += found == 2 ? 1 : 0;
    // The next start clears up and goes on.
    prune_checkpoints(dir / "ck", 1);
    EXPECT_EQ(names_in(dir / "ck"), Names{"step-" + std::to_string(found)});
    next_checkpoint(dir / "ck");
    EXPECT_EQ(names_in(dir / "ck"), Names{"step-2"});
    ++kills;
  }
  EXPECT_GT(kills, 25);
  EXPECT_GT(newer, 5);
  EXPECT_LT(newer, kills);
}

TEST(CheckpointStore, AFailingCallAtEveryPlaceLeavesACheckpoint) {
  TempFolder dir;
  for (int n = 0;; ++n) {
    fs::remove_all(dir / "ck");
    save(dir / "ck", 1);
    int calls = 0;
    bool failed = false;
    set_io_fault_hook([&](const char*) { return calls++ == n ? (failed = true, EIO) : 0; });
    bool threw = false;
    try {
      next_checkpoint(dir / "ck");
    } catch (const Error& error) {
      threw = true;
      EXPECT_EQ(error.code(), ExitCode::io);
    }
    set_io_fault_hook({});
    EXPECT_EQ(threw, failed) << "call " << n;
    EXPECT_GE(newest(dir / "ck"), 1) << "call " << n;
    if (!failed) break;
  }
}

}  // namespace
}  // namespace belfry::test
