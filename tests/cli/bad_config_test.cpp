// SPDX-License-Identifier: Apache-2.0
// What is wrong with a model file, an override or an option is exit 2, at its place.
#include <gtest/gtest.h>

#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

class BadConfig : public ::testing::Test {
 protected:
  BadConfig() { work_.ratings("ratings.csv", 600); }

  /// A model file whose line 6 and on are `text`.
  std::string model(const std::string& text) const {
    return work_.write(
        "model.toml",
        "[data]\ninteractions = \"ratings.csv\"\n[split]\nmethod = \"random\"\ntest = 0.1\n" +
            text);
  }
  /// Both verbs that read a model file refuse it alike, and leave nothing.
  void refused(const std::string& text, const std::string& pattern,
               ExitCode code = ExitCode::usage) const {
    const std::string file = model(text);
    expect_error(belfry_run({"validate", file}), code, pattern);
    expect_error(belfry_run({"train", file, "--out", work_.path("run")}), code, pattern);
    EXPECT_EQ(work_.names(), (std::vector<std::string>{"model.toml", "ratings.csv"}));
  }
  void refused_override(const std::string& text, const std::string& pattern) const {
    expect_error(belfry_run({"train", model(""), text, "--out", work_.path("run")}),
                 ExitCode::usage, pattern);
    EXPECT_FALSE(work_.exists("run"));
  }
  Workspace work_;
};

constexpr const char* kTwoTowers =
    "[[feature]]\nname = \"u\"\nof = \"query\"\nkind = \"id\"\ndim = 8\n"
    "[[feature]]\nname = \"v\"\nof = \"candidate\"\nkind = \"id\"\ndim = 8\n";  // lines 6 to 15

TEST_F(BadConfig, GoodFileIsValid) {
  const Answer answer = belfry_run({"validate", model(kTwoTowers)});
  expect_good(answer);
  EXPECT_NE(answer.out.find("valid"), std::string::npos);
  EXPECT_EQ(work_.names(), (std::vector<std::string>{"model.toml", "ratings.csv"}));
}

TEST_F(BadConfig, UnknownKey) {
  refused("[optimizer]\nlearnig_rate = 0.1\n", "model\\.toml:7:1: .*learnig_rate.*learning_rate");
}
TEST_F(BadConfig, UnknownTable) {
  refused("[trian]\nepochs = 3\n", "model\\.toml:6:\\d+: .*trian.*train");
}
TEST_F(BadConfig, UnknownValue) {
  refused("[optimizer]\nkind = \"adma\"\n", "model\\.toml:7:8: .*adma.*adam");
}
TEST_F(BadConfig, KeyOfAnotherKind) {
  refused("[optimizer]\nkind = \"sgd\"\nbeta_1 = 0.9\n", "model\\.toml:8:\\d+: .*beta_1");
}
TEST_F(BadConfig, TextForANumber) {
  refused("[optimizer]\nlearning_rate = \"fast\"\n", "model\\.toml:7:17: .*learning_rate.*number");
}
TEST_F(BadConfig, FractionForAnInteger) {
  refused("[train]\nepochs = 1.5\n", "model\\.toml:7:10: .*epochs.*integer");
}
TEST_F(BadConfig, ListForAText) {
  refused("[train]\nshuffle = [\"epoch\"]\n", "model\\.toml:7:11: .*shuffle");
}
TEST_F(BadConfig, NegativeRate) {
  refused("[optimizer]\nlearning_rate = -1\n", "model\\.toml:7:17: .*learning_rate");
}
TEST_F(BadConfig, RateThatIsNoNumber) {
  refused("[optimizer]\nlearning_rate = nan\n", "model\\.toml:7:17: .*learning_rate");
  refused("[optimizer]\nlearning_rate = inf\n", "model\\.toml:7:17: .*learning_rate");
}
TEST_F(BadConfig, NoEpochs) {
  refused("[train]\nepochs = 0\n", "model\\.toml:7:10: .*epochs.*at least 1");
}
TEST_F(BadConfig, NoBatch) {
  refused("[train]\nbatch_size = 0\n", "model\\.toml:7:14: .*batch_size");
}
TEST_F(BadConfig, TemperatureOfZero) {
  refused("[[task]]\nkind = \"retrieval\"\ntemperature = 0.0\n",
          "model\\.toml:8:15: .*temperature");
}
TEST_F(BadConfig, HugeWidth) {
  refused("[[feature]]\nname = \"u\"\nof = \"query\"\nkind = \"id\"\ndim = 99999999999\n",
          "model\\.toml:10:7: .*dim");
}
TEST_F(BadConfig, KeyTwice) {
  refused("[train]\nepochs = 3\nepochs = 4\n", "model\\.toml:8:\\d+: ");
}
TEST_F(BadConfig, BrokenSyntax) {
  refused("[train\nepochs = 3\n", "model\\.toml:6:\\d+: ");
}
TEST_F(BadConfig, NoUtf8) {
  refused("# caf\xE9\n", "model\\.toml:6:\\d+: ");
}
TEST_F(BadConfig, DeepNesting) {
  refused("[train]\nepochs = " + std::string(5000, '[') + "\n", "model\\.toml:7:\\d+: ");
}
TEST_F(BadConfig, NoInteractions) {
  work_.write("model.toml", "[train]\nepochs = 3\n");
  expect_error(belfry_run({"validate", work_.path("model.toml")}), ExitCode::usage,
               "model\\.toml.*interactions");
}
TEST_F(BadConfig, EmptyModelFile) {
  work_.write("model.toml", "");
  expect_error(belfry_run({"validate", work_.path("model.toml")}), ExitCode::usage, "interactions");
}
TEST_F(BadConfig, MissingModelFile) {
  expect_error(belfry_run({"validate", work_.path("no.toml")}), ExitCode::io,
               "no\\.toml: .*No such");
  expect_error(belfry_run({"train", work_.path("no.toml")}), ExitCode::io, "no\\.toml: .*No such");
}
TEST_F(BadConfig, ModelFileThatIsAFolder) {
  std::filesystem::create_directory(work_.path("dir.toml"));
  expect_error(belfry_run({"validate", work_.path("dir.toml")}), ExitCode::io,
               "dir\\.toml: .*folder");
}
TEST_F(BadConfig, MissingDataFile) {
  work_.write("model.toml", "[data]\ninteractions = \"gone.csv\"\n");
  expect_error(belfry_run({"validate", work_.path("model.toml")}), ExitCode::io, "gone\\.csv");
}
TEST_F(BadConfig, UnknownColumns) {
  work_.write("movies.csv", "id,genres\nitem_1,x\n");
  const std::string data = "[data]\ninteractions = \"ratings.csv\"\n";
  const std::string feature = "[[feature]]\nname = \"f\"\nkind = \"category\"\n";
  const std::pair<std::string, std::string> cases[] = {
      {"user = \"userid\"\n", "ratings\\.csv: no column \"userid\".*did you mean \"userId\""},
      {"item = \"movie\"\n", "ratings\\.csv: no column \"movie\""},
      {"time = \"when\"\n", "ratings\\.csv: no column \"when\""},
      {"weight = \"stars\"\n", "ratings\\.csv: no column \"stars\""},
      {"where = \"stars > 3\"\n", "ratings\\.csv: no column \"stars\""},
      {feature + "of = \"query\"\ncolumn = \"mood\"\n", "ratings\\.csv: no column \"mood\""},
      {"items = \"movies.csv\"\nitem = \"movieId\"\nitems_key = \"movieId\"\n",
       "movies\\.csv: no column \"movieId\""},
      {"items = \"movies.csv\"\nitem = \"title\"\nitems_key = \"id\"\n",
       "(ratings\\.csv: no column \"id\"|movies\\.csv: no column \"title\")"},
  };
  for (const auto& [text, pattern] : cases) {
    SCOPED_TRACE(text);
    const std::string file = work_.write("model.toml", data + text);
    expect_error(belfry_run({"validate", file}), ExitCode::bad_data, pattern);
    expect_error(belfry_run({"train", file, "--out", work_.path("run")}), ExitCode::bad_data,
                 pattern);
  }
  const std::string file =
      work_.write("model.toml", data + feature + "of = \"candidate\"\ncolumn = \"genres\"\n");
  expect_error(belfry_run({"validate", file}), ExitCode::usage, "genres.*data\\.items is missing");
}
TEST_F(BadConfig, TestFileForAnotherSplit) {
  refused("[evaluate]\n[train]\nearly_stop = { metric = \"recal@20\", patience = 3 }\n",
          "model\\.toml:8:\\d+: .*recal@20");
}
TEST_F(BadConfig, FractionsOfMoreThanAll) {
  work_.write("model.toml",
              "[data]\ninteractions = \"ratings.csv\"\n[split]\nmethod = \"random\"\ntest = "
              "0.7\ntrain = 0.7\n");
  expect_error(belfry_run({"validate", work_.path("model.toml")}), ExitCode::usage,
               "model\\.toml:[56]:\\d+: .*more than 1");
}

// Networks that contradict each other.
TEST_F(BadConfig, TowersOfDifferentWidth) {
  std::string text = kTwoTowers;
  text.replace(text.rfind("dim = 8"), 7, "dim = 4");
  refused(text, "model\\.toml:\\d+:\\d+: .*(8|4)");
}
TEST_F(BadConfig, NetworkOfAnUnknownInput) {
  refused(kTwoTowers + std::string("[[network]]\nname = \"query\"\ninputs = [\"uu\"]\n"),
          "model\\.toml:18:\\d+: .*uu");
}
TEST_F(BadConfig, NetworksInACircle) {
  refused(kTwoTowers + std::string("[[network]]\nname = \"query\"\ninputs = [\"a\"]\n"
                                   "[[network]]\nname = \"a\"\ninputs = [\"u\", \"query\"]\n"),
          "model\\.toml:\\d+:\\d+: ");
}
TEST_F(BadConfig, TowerThatReadsTheOtherSide) {
  refused(kTwoTowers + std::string("[[network]]\nname = \"query\"\ninputs = [\"v\"]\n"),
          "model\\.toml:\\d+:\\d+: .*other side");
}
TEST_F(BadConfig, FeatureThatNobodyReads) {
  refused(
      kTwoTowers + std::string("[[feature]]\nname = \"w\"\nof = \"query\"\nkind = \"id\"\ndim = 8\n"
                               "[[network]]\nname = \"query\"\ninputs = [\"u\"]\n"),
      "model\\.toml:\\d+:\\d+: .*\"w\".*no network");
}
TEST_F(BadConfig, TwoFeaturesOfOneName) {
  std::string text = kTwoTowers;
  text.replace(text.find("\"v\""), 3, "\"u\"");
  refused(text, "model\\.toml:12:\\d+: .*two features");
}
TEST_F(BadConfig, TowerWithoutFeatures) {
  const std::string text = kTwoTowers;
  refused(text.substr(0, text.rfind("[[feature]]")), "model\\.toml.*candidate");
}

// Overrides are checked like the keys of the file.
TEST_F(BadConfig, OverrideOfAnUnknownKey) {
  refused_override("train.epocs=3", "command line: .*epocs.*epochs");
}
TEST_F(BadConfig, OverrideOfAWrongType) {
  refused_override("train.epochs=many", "command line: .*epochs.*integer");
}
TEST_F(BadConfig, OverrideOutOfRange) {
  refused_override("optimizer.learning_rate=-1", "command line: .*learning_rate");
}
TEST_F(BadConfig, OverrideWithoutValue) {
  refused_override("train.epochs", "key=value");
}
TEST_F(BadConfig, OverrideOfNoFeature) {
  expect_error(belfry_run({"validate", model(kTwoTowers), "feature.x.dim=3"}), ExitCode::usage,
               "command line: .*\"x\"");
}

// Options.
TEST_F(BadConfig, UnknownVerb) {
  expect_error(belfry_run({"trian"}), ExitCode::usage, "trian.*train");
  expect_error(belfry_run({}), ExitCode::usage, "--help");
}
TEST_F(BadConfig, UnknownOption) {
  expect_error(belfry_run({"train", model(""), "--epocs", "3"}), ExitCode::usage, "--epocs");
  expect_error(belfry_run({"train"}), ExitCode::usage, "input");
}
TEST_F(BadConfig, Threads) {
  for (const std::string bad : {"0", "-1", "1.5", "x", "9999999", "99999999999999999999", " 2"}) {
    expect_error(belfry_run({"train", model(""), "--threads", bad}), ExitCode::usage, "--threads");
    expect_error(Command({"train", model("")}).env("BELFRY_THREADS", bad).run(), ExitCode::usage,
                 "BELFRY_THREADS: .*whole number");
    expect_error(Command({"doctor"}).env("BELFRY_THREADS", bad).run(), ExitCode::usage,
                 "BELFRY_THREADS");
  }
  expect_good(Command({"doctor", "--threads", "2"}).env("BELFRY_THREADS", "x").run());
}
TEST_F(BadConfig, Seed) {
  for (const std::string bad : {"-1", "1.5", "x", "99999999999999999999"}) {
    expect_error(belfry_run({"train", model(""), "--seed", bad}), ExitCode::usage, "--seed");
  }
}
TEST_F(BadConfig, Device) {
  for (const std::string bad : {"gpu", "cuda:", "cuda:x", "cuda:-1", ""}) {
    expect_error(belfry_run({"train", model(""), "--device", bad}), ExitCode::usage, "--device");
  }
}
TEST_F(BadConfig, NoGpu) {
  for (const std::string device : {"cuda", "cuda:0"}) {
    const Answer answer = belfry_run({"doctor", "--device", device});
    if (answer.code == 0) GTEST_SKIP() << "there is a GPU";
    expect_error(answer, ExitCode::no_gpu, "--device");
    expect_error(belfry_run({"train", model(""), "--device", device, "--out", work_.path("run")}),
                 ExitCode::no_gpu, "--device");
    EXPECT_FALSE(work_.exists("run"));
  }
}
TEST_F(BadConfig, Progress) {
  expect_error(belfry_run({"train", model(""), "--progress", "fancy"}), ExitCode::usage,
               "--progress");
}
TEST_F(BadConfig, Preset) {
  expect_error(belfry_run({"init", "quikstart"}), ExitCode::usage, "quikstart.*quickstart");
}

}  // namespace
}  // namespace belfry::test
