// SPDX-License-Identifier: Apache-2.0
// A model or checkpoint that is not whole is refused with exit 5, whatever is wrong with it.
#include <gtest/gtest.h>

#include "tests/support/generate.hpp"
#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

namespace fs = std::filesystem;

class DamagedModel : public WithRun {
 protected:
  static void refused(const std::string& bytes, const std::string& what) {
    SCOPED_TRACE(what);
    fs::create_directories(path("hurt"));
    work_->write("hurt/model.safetensors", bytes);
    expect_error(belfry_run({"recommend", path("hurt"), "--user", "user_7", "-k", "3"}),
                 ExitCode::bad_model, "model\\.safetensors: ");
  }
  static std::string good() { return work_->read("run/model.safetensors"); }
};

TEST_F(DamagedModel, Truncated) {
  const std::string bytes = good();
  for (const std::size_t cut :
       {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{8}, std::size_t{9},
        std::size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    refused(bytes.substr(0, cut), "cut at " + std::to_string(cut));
  }
}

TEST_F(DamagedModel, OneBitFlipped) {
  const std::string bytes = good();
  Random random(11);
  for (int i = 0; i < 40; ++i) {
    std::string hurt = bytes;
    // A third of them in the header, where a fault is the most subtle.
    const auto at = static_cast<std::size_t>(
        random.below(i % 3 == 0 ? 2000 : static_cast<std::int64_t>(bytes.size())));
    hurt[at] = static_cast<char>(hurt[at] ^ (1 << random.below(8)));
    refused(hurt, "bit of byte " + std::to_string(at));
  }
}

TEST_F(DamagedModel, HostileHeader) {
  const std::string bytes = good();
  std::string huge = bytes;
  huge.replace(0, 8, std::string("\0\0\0\0\0\0\0\x80", 8));
  refused(huge, "a header of 2^63 bytes");
  refused(bytes + "x", "a trailing byte");
  refused(bytes + bytes, "two models");
  refused(std::string(8, '\0'), "no header");
  refused(std::string("\2\0\0\0\0\0\0\0{}", 10), "an empty header");
}

TEST_F(DamagedModel, OtherFiles) {
  refused(work_->read("ratings.csv"), "a data file");
  refused(work_->read("run/test.safetensors"), "a safetensors file that is no model");
  fs::remove(path("hurt/model.safetensors"));
  expect_error(belfry_run({"recommend", path("hurt"), "--all"}), ExitCode::bad_model,
               "no model\\.safetensors");
}

TEST_F(DamagedModel, EveryVerbRefusesIt) {
  fs::remove_all(path("hurt"));
  fs::copy(run(), path("hurt"), fs::copy_options::recursive);
  flip_bit(path("hurt/model.safetensors"), 8 * (good().size() - 5));
  for (const std::vector<std::string>& question :
       {std::vector<std::string>{"evaluate", path("hurt")},
        {"similar", path("hurt"), "--item", "item_3"},
        {"export", path("hurt"), "--items", path("v.npy")},
        {"inspect", path("hurt")},
        {"inspect", path("hurt/model.safetensors")}}) {
    expect_error(belfry_run(question), ExitCode::bad_model, "model\\.safetensors: ");
  }
  EXPECT_FALSE(work_->exists("v.npy"));
  fs::remove_all(path("hurt"));
  fs::copy(run(), path("hurt"), fs::copy_options::recursive);
  flip_bit(path("hurt/test.safetensors"), 8 * 1000);
  expect_error(belfry_run({"evaluate", path("hurt")}), ExitCode::bad_model, "test\\.safetensors: ");
}

/// A finished run with two checkpoints, to be trained further.
class DamagedCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    expect_good(work_.train(work_.ratings("ratings.csv"), "run", {"train.early_stop=false"}));
    for (const std::string& name : names_in(work_.path("run/checkpoints"))) {
      steps_.push_back("run/checkpoints/" + name);
    }
    ASSERT_EQ(steps_.size(), 2u) << "two checkpoints are kept";
    std::sort(steps_.begin(), steps_.end(), [](const auto& a, const auto& b) {
      return a.size() != b.size() ? a.size() < b.size() : a < b;
    });
  }
  Answer resume() const { return belfry_run({"resume", work_.path("run"), "train.epochs=5"}); }
  std::string model() const { return work_.sha256("run/model.safetensors"); }
  void damage(const std::string& step) const {
    const std::string file = step + "/state.safetensors";
    flip_bit(work_.path(file), 8 * (fs::file_size(work_.path(file)) - 100));
  }
  Workspace work_;
  std::vector<std::string> steps_;  // older first
};

TEST_F(DamagedCheckpoint, TheOneBeforeIsUsed) {
  Workspace other;
  expect_good(
      other.train(work_.path("ratings.csv"), "run", {"train.early_stop=false", "train.epochs=5"}));
  damage(steps_[1]);
  const Answer answer = resume();
  expect_good(answer);
  EXPECT_NE(answer.err.find("checkpoint passed over"), std::string::npos) << answer.err;
  EXPECT_EQ(model(), other.sha256("run/model.safetensors"));
}

TEST_F(DamagedCheckpoint, NoneIsLeft) {
  const std::string before = model();
  for (const std::string& step : steps_) damage(step);
  expect_error(resume(), ExitCode::bad_model, "checkpoints: none of its 2 checkpoints");
  EXPECT_EQ(model(), before);
  EXPECT_EQ(work_.names(), (std::vector<std::string>{"ratings.csv", "run"}));
}

TEST_F(DamagedCheckpoint, ManifestCutOrGone) {
  const std::string manifest = steps_[1] + "/MANIFEST.json";
  work_.write(manifest, work_.read(manifest).substr(0, 40));
  fs::remove(work_.path(steps_[0] + "/MANIFEST.json"));
  expect_error(resume(), ExitCode::bad_model, "none of its 2 checkpoints");
}

TEST_F(DamagedCheckpoint, OfAnotherModel) {
  const std::string before = model();
  expect_error(belfry_run({"resume", work_.path("run"), "train.epochs=5", "optimizer.kind=sgd",
                           "feature.userId.dim=32", "feature.movieId.dim=32"}),
               ExitCode::bad_model, "");
  EXPECT_EQ(model(), before);
  expect_good(resume());  // the wrong question has spoilt nothing
  EXPECT_NE(model(), before);
}

TEST_F(DamagedCheckpoint, OfOtherData) {
  spill(work_.path("ratings.csv"), work_.read("ratings.csv") + "user_1,item_80,4,1\n");
  expect_error(resume(), ExitCode::bad_model, "not the data that this run was trained on");
  EXPECT_EQ(work_.names(), (std::vector<std::string>{"ratings.csv", "run"}));
}

}  // namespace
}  // namespace belfry::test
