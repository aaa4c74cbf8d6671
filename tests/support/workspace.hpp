// SPDX-License-Identifier: Apache-2.0
// A folder with generated ratings in which the tests of the command line work.
#pragma once

#include <string>
#include <vector>

#include "engine/file_io.hpp"
#include "engine/synthesize.hpp"
#include "tests/support/command.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {

class Workspace {
 public:
  std::string path(const std::string& name = "") const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& bytes) const {
    spill(folder_ / name, bytes);
    return path(name);
  }
  /// MovieLens-shaped ratings with planted tastes; ids are user_N and item_N, or the bare numbers.
  std::string ratings(const std::string& name, std::int64_t rows = 3000, bool text_ids = true,
                      std::int64_t users = 120, std::int64_t items = 80) const {
    SynthesisOptions options;
    options.users = users;
    options.items = items;
    options.ratings = rows;
    options.clusters = 6;
    write_ratings_csv(synthesize(options), path(name), text_ids);
    return path(name);
  }
  /// The side table for ratings with bare numbers: movieId,title,genres.
  std::string movies(const std::string& name, std::int64_t items = 80) const {
    std::string text = "movieId,title,genres\n";
    for (std::int64_t i = 1; i <= items; ++i) {
      const std::string n = std::to_string(i);
      text += n + ",\"Film, the " + n + "th (1999)\",genre " + std::to_string(i % 7) + "\n";
    }
    return write(name, text);
  }
  /// Trains in a moment: 3 epochs on `data` into `run`.
  Answer train(const std::string& data, const std::string& run,
               const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{
        "train", data, "--out", path(run), "-q", "train.epochs=3", "train.batch_size=256"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return belfry_run(arguments);
  }
  /// The names in the folder, hidden ones too.
  std::vector<std::string> names() const { return names_in(folder_.path()); }
  bool exists(const std::string& name) const { return std::filesystem::exists(folder_ / name); }
  std::string read(const std::string& name) const { return slurp(folder_ / name); }
  std::string sha256(const std::string& name) const { return sha256_of_file(folder_ / name); }

 private:
  TempFolder folder_;
};

/// A workspace with a trained run that a test suite's cases only read.
class WithRun : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    work_ = new Workspace;
    expect_good(work_->train(work_->ratings("ratings.csv"), "run"));
  }
  static void TearDownTestSuite() {
    delete work_;
    work_ = nullptr;
  }
  static std::string run() { return work_->path("run"); }
  static std::string path(const std::string& name) { return work_->path(name); }

  static Workspace* work_;
};
inline Workspace* WithRun::work_ = nullptr;

}  // namespace belfry::test
