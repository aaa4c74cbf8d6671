// SPDX-License-Identifier: Apache-2.0
// Quality on public data, where it is: BELFRY_DATA_DIR, else ../shared/data beside the sources. The bars
// leave room for other seeds and instruction sets, none for a fault.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "engine/config_toml.hpp"
#include "engine/run.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

namespace fs = std::filesystem;

fs::path data_folder() {
  const char* named = std::getenv("BELFRY_DATA_DIR");
  return named != nullptr ? fs::path(named) : fs::path(BELFRY_SOURCE_DIR) / "../shared/data";
}

#define NEEDS_DATA(file)                   \
  if (!fs::exists(data_folder() / (file))) \
  GTEST_SKIP() << "BELFRY_DATA_DIR names no folder with " << (file) << " (" << data_folder() << ")"

struct Counts : RunObserver {
  void data(const Config&, const ModelData& data) override {
    users = data.user_count();
    items = data.item_count();
    train = data.train.size() + data.validation.size();
    test = data.test.size();
  }
  void epoch(const EpochReport& report) override { loss = report.loss_mean; }
  std::int64_t users = 0, items = 0, train = 0, test = 0;
  double loss = 0;
};

class RealData : public ::testing::Test {
 protected:
  /// Trains on a pair of files with these texts in front of and behind the [data] table.
  Evaluation run(const std::string& train, const std::string& test, const std::string& data = "",
                 const std::string& rest = "", const std::string& top = "") {
    const std::string file = (folder_ / "model.toml").string();
    spill(file, top + "[data]\ninteractions = \"" + (data_folder() / train).string() +
                    "\"\ntest = \"" + (data_folder() / test).string() + "\"\n" + data +
                    "[split]\nmethod = \"file\"\n" + rest);
    const Context ctx(Backend::cpu, 1);
    const RunResult result =
        train_run(ctx, load_config(file, {}), folder_ / "run", counts_, std::stop_token());
    return result.evaluation.value();
  }
  TempFolder folder_;
  Counts counts_;
};

TEST_F(RealData, MovieLensDefaults) {
  NEEDS_DATA("ml-latest-small/split/train.csv");
  const Evaluation e = run("ml-latest-small/split/train.csv", "ml-latest-small/split/test.csv");
  EXPECT_EQ(e.users, 610);
  EXPECT_EQ(counts_.train + counts_.test, 100'836);
  EXPECT_GE(e.metrics.at("recall@20"), 0.235);
  EXPECT_GE(e.metrics.at("ndcg@20"), 0.30);
  // The baseline has no freedom: the most frequent training items that the user has not seen.
  EXPECT_NEAR(e.popularity.at("recall@20"), 0.121, 0.002);
  EXPECT_NEAR(e.popularity.at("ndcg@20"), 0.183, 0.002);
  EXPECT_LT(e.random.at("recall@20"), 0.01);
}

TEST_F(RealData, MovieLensByTheTutorialOfTfrs) {
  NEEDS_DATA("ml-latest-small/split/train.csv");
  const std::string movies = (data_folder() / "ml-latest-small/movies.csv").string();
  const Evaluation e = run(
      "ml-latest-small/split/train.csv", "ml-latest-small/split/test.csv",
      "items = \"" + movies + "\"\nitems_key = \"movieId\"\nitem = \"title\"\n",
      "[[feature]]\nname = \"user_id\"\nof = \"query\"\nkind = \"id\"\ndim = 32\noov = 1\n"
      "[[feature]]\nname = \"movie_title\"\nof = \"candidate\"\nkind = \"id\"\ndim = 32\noov = 1\n"
      "[optimizer]\nkind = \"adagrad\"\nlearning_rate = 0.1\n"
      "[train]\nepochs = 3\nbatch_size = 8192\nshuffle = \"once\"\n",
      "preset = \"tfrs\"\n");
  EXPECT_FALSE(e.exclude_seen);
  EXPECT_EQ(e.test_rows, 20'168);
  EXPECT_EQ(e.items, 9'737) << "the whole catalogue: distinct titles";
  const double accuracy = e.metrics.at("factorized_top_k/top_100_categorical_accuracy");
  EXPECT_GE(accuracy, 0.095);  // TFRS itself: 0.106 +- 0.0015
  EXPECT_LE(accuracy, 0.115);
}

TEST_F(RealData, ElectronicsDefaults) {
  NEEDS_DATA("amazon-electronics/train.tsv");
  const Evaluation e = run("amazon-electronics/train.tsv", "amazon-electronics/test.tsv");
  EXPECT_EQ(counts_.users, 13'455);
  EXPECT_EQ(counts_.items, 8'360);
  EXPECT_EQ(counts_.train, 182'398);
  EXPECT_EQ(counts_.test, 52'123);
  EXPECT_GE(e.metrics.at("recall@20"), 0.070);
  EXPECT_GT(e.metrics.at("ndcg@20"), 1.3 * e.popularity.at("ndcg@20"));
}

TEST_F(RealData, GowallaOneEpoch) {
  NEEDS_DATA("gowalla/train.txt");
  const Evaluation e =
      run("gowalla/train.txt", "gowalla/test.txt", "", "[train]\nepochs = 1\nearly_stop = false\n");
  EXPECT_EQ(counts_.users, 29'858);
  EXPECT_EQ(counts_.items, 40'981);
  EXPECT_EQ(counts_.train, 810'128);
  EXPECT_EQ(counts_.test, 217'242);
  EXPECT_EQ(e.users, 29'858);
  EXPECT_LT(counts_.loss, 8.0);  // ln(1024) + logQ's mean is where it begins
  EXPECT_GT(e.metrics.at("recall@20"), 10 * e.random.at("recall@20"));
}

}  // namespace
}  // namespace belfry::test
