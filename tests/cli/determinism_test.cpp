// SPDX-License-Identifier: Apache-2.0
// Same data, seed and model file: the same bytes, for any number of threads, wherever it runs.
#include <gtest/gtest.h>

#include <set>

#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

constexpr const char* kDeep = R"([data]
interactions = "ratings.csv"
user = "userId"
item = "movieId"
time = "timestamp"
items = "movies.csv"
items_key = "movieId"
[split]
method = "temporal"
test = 0.1
[[feature]]
name = "user"
of = "query"
kind = "id"
dim = 16
[[feature]]
name = "stars"
of = "query"
kind = "category"
column = "rating"
dim = 8
[[feature]]
name = "movie"
of = "candidate"
kind = "id"
dim = 16
[[feature]]
name = "genre"
of = "candidate"
kind = "category"
column = "genres"
dim = 8
[[network]]
name = "query"
inputs = ["user", "stars"]
layers = [{ kind = "mlp", units = [32, 16], activation = "relu", final_activation = "linear" }]
[[network]]
name = "candidate"
inputs = ["movie", "genre"]
layers = [{ kind = "mlp", units = [32, 16], activation = "relu", final_activation = "linear" }]
[train]
epochs = 3
batch_size = 200
)";

class Determinism : public ::testing::Test {
 protected:
  /// Model checksums of two runs with one thread and two with two, and of a run of the first one's
  /// own config.toml in another folder.
  std::set<std::string> checksums(const std::string& model_file,
                                  const std::vector<std::string>& more = {}) const {
    std::set<std::string> out;
    for (const std::string run : {"1a", "1b", "2a", "2b"}) {
      std::vector<std::string> arguments{"train", model_file, "-q", "--out", work_.path(run)};
      arguments.insert(arguments.end(), more.begin(), more.end());
      expect_good(Command(arguments).env("BELFRY_THREADS", run.substr(0, 1)).run());
      out.insert(work_.sha256(run + "/model.safetensors"));
    }
    std::filesystem::create_directory(work_.path("elsewhere"));
    std::filesystem::copy(work_.path("1a/config.toml"), work_.path("elsewhere/other.toml"),
                          std::filesystem::copy_options::overwrite_existing);
    expect_good(Command({"train", "other.toml", "-q"}).cwd(work_.path("elsewhere")).run());
    for (const std::string& name : names_in(work_.path("elsewhere/runs"))) {
      out.insert(work_.sha256("elsewhere/runs/" + name + "/model.safetensors"));
    }
    return out;
  }
  Workspace work_;
};

TEST_F(Determinism, IdsAlone) {
  EXPECT_EQ(checksums(work_.ratings("ratings.csv"), {"train.epochs=3"}).size(), 1u);
  EXPECT_EQ(checksums(work_.path("ratings.csv"), {"train.epochs=3", "--seed", "8"}).size(), 1u);
}

TEST_F(Determinism, SeedsDiffer) {
  work_.ratings("ratings.csv");
  std::set<std::string> models;
  for (const std::string seed : {"0", "1", "42"}) {
    expect_good(work_.train(work_.path("ratings.csv"), "run", {"--seed", seed}));
    models.insert(work_.sha256("run/model.safetensors"));
  }
  EXPECT_EQ(models.size(), 3u);
}

TEST_F(Determinism, SideTablesContextAndLayers) {
  work_.ratings("ratings.csv", 3000, false);
  work_.movies("movies.csv");
  EXPECT_EQ(checksums(work_.write("deep.toml", kDeep)).size(), 1u);
}

TEST_F(Determinism, ContextOfAQuestion) {
  work_.ratings("ratings.csv", 3000, false);
  work_.movies("movies.csv");
  expect_good(
      belfry_run({"train", work_.write("deep.toml", kDeep), "-q", "--out", work_.path("run")}));
  const auto ask = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"recommend", work_.path("run"), "--user", "3", "-k", "5", "--json"});
    const Answer answer = belfry_run(more);
    expect_good(answer);
    return answer.out;
  };
  const std::string low = ask({"--context", "rating=1.0"}), high = ask({"--context", "rating=5.0"});
  EXPECT_NE(low, high);
  const std::string own = ask({});
  bool found = false;  // the user's own last rating is one of the scale
  for (const std::string r :
       {"0.5", "1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0", "4.5", "5.0"}) {
    found = found || ask({"--context", "rating=" + r}) == own;
  }
  EXPECT_TRUE(found);
  const std::vector<std::string> user{"recommend", work_.path("run"), "--user", "3", "--context"};
  for (const std::string bad : {"rating", "stars=4.0", "=4.0"}) {
    std::vector<std::string> arguments = user;
    arguments.push_back(bad);
    const Answer answer = belfry_run(arguments);
    expect_error(answer, ExitCode::usage, "--context: .*names no context column");
  }
  // A test file without the column cannot be answered.
  work_.write("test.csv", "userId,movieId\n3,5\n");
  expect_error(belfry_run({"evaluate", work_.path("run"), "--test", work_.path("test.csv")}),
               ExitCode::bad_data, "test\\.csv: no column \"rating\"");
}

TEST_F(Determinism, NothingOfTheMachineIsInsideAModel) {
  work_.ratings("ratings.csv");
  expect_good(work_.train(work_.path("ratings.csv"), "run"));
  const std::string model = work_.read("run/model.safetensors");
  EXPECT_EQ(model.find(work_.path()), std::string::npos);
  EXPECT_EQ(model.find("ratings.csv"), std::string::npos);
  const std::string config = work_.read("run/config.toml");
  EXPECT_NE(config.find("\"" + work_.path("ratings.csv") + "\""), std::string::npos)
      << "the resolved config has absolute paths";
  // A finished run answers when its data is gone.
  std::filesystem::remove(work_.path("ratings.csv"));
  expect_good(belfry_run({"recommend", work_.path("run"), "--user", "user_7"}));
  expect_good(belfry_run({"evaluate", work_.path("run")}));
  std::filesystem::rename(work_.path("run"), work_.path("moved"));
  expect_good(belfry_run({"recommend", work_.path("moved"), "--user", "user_7"}));
}

}  // namespace
}  // namespace belfry::test
