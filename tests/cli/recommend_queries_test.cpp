// SPDX-License-Identifier: Apache-2.0
// recommend --queries and --context on a model of many features and three heads, and what else a command does
// with heads.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/npy_file.hpp"
#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

using Json = nlohmann::json;
using Items = std::vector<std::string>;

constexpr const char* kModel = R"([data]
interactions = "rows.csv"
user = "user"
item = "item"
time = "time"
[split]
method = "leave-last-out"
[[feature]]
name = "user"
of = "query"
kind = "id"
dim = 8
[[feature]]
name = "day"
of = "query"
kind = "category"
dim = 4
[[feature]]
name = "moods"
of = "query"
kind = "list"
weights = "strengths"
dim = 4
[[feature]]
name = "hour"
of = "query"
kind = "number"
normalise = true
[[feature]]
name = "history"
of = "query"
kind = "sequence"
table = "item"
dim = 8
[[feature]]
name = "item"
of = "candidate"
kind = "id"
dim = 8
[[network]]
name = "query"
inputs = ["user", "day", "moods", "hour", "history"]
layers = [{ kind = "mlp", units = [24] }, { kind = "heads", count = 3 }]
[train]
epochs = 3
batch_size = 64
early_stop = false
)";

class RecommendQueries : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    work_ = new Workspace;
    std::string text = "user,item,day,moods,strengths,hour,time\n";
    const char* const days[] = {"mon", "tue", "sun"};
    const char* const moods[] = {"calm|wild", "calm", "wild"};
    const char* const strengths[] = {"1|0.5", "2", "1"};
    for (int i = 0; i < 900; ++i) {
      const int user = i % 30, item = (i * 7 + user * 3 + i / 90) % 40;
      text += "u" + std::to_string(user) + ",i" + std::to_string(item) + "," + days[i % 3] + "," +
              moods[i % 3] + "," + strengths[i % 3] + "," + std::to_string(i % 24) + "," +
              std::to_string(i) + "\n";
    }
    work_->write("rows.csv", text);
    expect_good(belfry_run(
        {"train", work_->write("model.toml", kModel), "-q", "--out", work_->path("run")}));
  }
  static void TearDownTestSuite() {
    delete work_;
    work_ = nullptr;
  }
  static Answer ask(std::vector<std::string> more) {
    const bool sized = std::find(more.begin(), more.end(), "-k") != more.end();
    if (!sized) more.insert(more.end(), {"-k", "6"});
    more.insert(more.begin(), {"recommend", work_->path("run")});
    return belfry_run(more);
  }
  static Answer query(const std::string& name, const std::string& text,
                      std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"--queries", work_->write(name, text), "--json"});
    return ask(more);
  }
  static std::vector<Json> answers(const Answer& answer) {
    EXPECT_EQ(answer.code, 0) << answer.err;
    std::vector<Json> out;
    for (const std::string& line : answer.lines()) out.push_back(Json::parse(line));
    return out;
  }
  static Json one(std::vector<std::string> more) {
    more.emplace_back("--json");
    const auto all = answers(ask(more));
    return all.empty() ? Json() : all.front();
  }
  static Workspace* work_;
};
Workspace* RecommendQueries::work_ = nullptr;

TEST_F(RecommendQueries, EachRowIsOneAnswerInOrder) {
  const auto rows = answers(query("q.csv", "user,day\nu7,mon\nu3,sun\nu7,sun\n"));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0]["user"], "u7");
  EXPECT_EQ(rows[1]["user"], "u3");
  EXPECT_EQ(rows[0]["items"].size(), 6u);
  EXPECT_EQ(rows[0], one({"--user", "u7", "--context", "day=mon"}));
  EXPECT_EQ(rows[1], one({"--user", "u3", "--context", "day=sun"}));
  EXPECT_EQ(rows[2], one({"--user", "u7", "--context", "day=sun"}));
  EXPECT_NE(rows[0]["scores"], rows[2]["scores"]);
  // Without more than the user: as --user; one column will do, and so does standard input.
  const Json own = one({"--user", "u3"});
  EXPECT_EQ(answers(query("q.csv", "user\nu3\n")).at(0), own);
  Command piped({"recommend", work_->path("run"), "-k", "6", "--queries", "-", "--json"});
  const Answer answer = piped.input("user\nu3\n").run();
  EXPECT_EQ(answers(answer).at(0), own);
}

TEST_F(RecommendQueries, EveryFeatureByFileAndByContext) {
  const auto row =
      answers(query("q.jsonl",
                    "{\"user\": \"u5\", \"moods\": \"wild|calm\", \"strengths\": \"3|1\", "
                    "\"hour\": 23, \"history\": \"i4|i17|i2\", \"day\": \"tue\"}\n"))
          .at(0);
  EXPECT_EQ(
      row, one({"--user", "u5", "--context", "moods=wild|calm", "--context", "strengths=3|1",
                "--context", "hour=23", "--context", "history=i4|i17|i2", "--context", "day=tue"}));
  // Each of them counts.
  const Json own = one({"--user", "u5"});
  for (const char* context : {"hour=0", "history=i30|i31", "history=", "day=never"}) {
    EXPECT_NE(one({"--user", "u5", "--context", context})["scores"], own["scores"]) << context;
  }
  const auto moods = [](const std::string& strengths) {
    return one({"--user", "u5", "--context", "moods=wild|calm", "--context",
                "strengths=" + strengths})["scores"];
  };
  EXPECT_NE(moods("9|1"), moods("1|9"));  // the mean is weighted
  // A column of the file beside one for all.
  EXPECT_EQ(answers(query("q.csv", "user,hour\nu5,4\n", {"--context", "day=tue"})).at(0),
            one({"--user", "u5", "--context", "hour=4", "--context", "day=tue"}));
}

TEST_F(RecommendQueries, SeenItemsFiltersAndShardsGoByTheRow) {
  const std::string text = "user,day\nu1,mon\nu2,mon\nu1,tue\n";
  const auto all = answers(query("q.csv", text, {"--include-seen", "-k", "40"}));
  const auto unseen = answers(query("q.csv", text, {"--exclude-seen", "-k", "40"}));
  ASSERT_EQ(all.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(all[i]["items"].size(), 40u);
    EXPECT_LT(unseen[i]["items"].size(), 40u);
  }
  EXPECT_EQ(unseen[0]["items"].size(), unseen[2]["items"].size());
  const std::string pairs = work_->write("only.csv", "u2,i3\nu2,i5\n");
  const auto only = answers(query("q.csv", text, {"--include-seen", "--only", pairs}));
  EXPECT_EQ(only[0]["items"].size(), 0u);
  EXPECT_EQ(only[1]["items"].size(), 2u);
  const auto second = answers(query("q.csv", text, {"--shard", "1/3"}));
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0], answers(query("q.csv", text))[1]);
  // Files: a line a query, also of one user.
  expect_good(ask({"--queries", work_->path("q.csv"), "-q", "-o", work_->path("out.csv")}));
  const std::string out = work_->read("out.csv");
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 19);
  EXPECT_EQ(out.substr(0, 33), "user,rank,item,score\nu1,1,i" + out.substr(27, 6));
}

TEST_F(RecommendQueries, Strangers) {
  const std::string text = "user,day\nu1,mon\nwho,tue\n";
  expect_error(query("q.csv", text), ExitCode::bad_data,
               "q\\.csv:3:1: the model does not know the user \"who\"; --cold");
  const auto cold = answers(query("q.csv", text, {"--cold"}));
  ASSERT_EQ(cold.size(), 2u);
  EXPECT_EQ(cold[1]["user"], "who");
  EXPECT_EQ(cold[1], one({"--user", "who", "--cold", "--context", "day=tue"}));
  expect_error(query("q.csv", "day,hour\nmon,1\n"), ExitCode::bad_data,
               "q\\.csv:1:1: a query without \"user\" lacks \"user\"");
  EXPECT_EQ(answers(query("q.csv", "day,hour\nmon,1\n", {"--cold"})).at(0)["user"], "#1");
  const Answer unseen = query("q.csv", "user,day\nu1,never\nu1,ever\n");
  EXPECT_EQ(unseen.code, 0);
  EXPECT_NE(unseen.err.find("2 values that training never saw (first: \"never\")"),
            std::string::npos)
      << unseen.err;
}

TEST_F(RecommendQueries, UnseenItemsOfAHistoryAreToldOf) {
  const auto told = [](const Answer& answer, const std::string& text) {
    EXPECT_EQ(answer.code, 0) << answer.err;
    EXPECT_NE(answer.err.find(text), std::string::npos) << answer.err;
  };
  told(query("q.csv", "user,history\nu1,i3|i999|i4\nu2,i998\n"),
       "2 values that training never saw (first: \"i999\")");
  told(ask({"--user", "u1", "--context", "history=i3|i999|i998"}),
       "--context history=i3|i999|i998: 2 values that training never saw (first: \"i999\")");
  told(ask({"--user", "u1", "--context", "day=never"}),
       "--context day=never: a value that training never saw");
  EXPECT_EQ(ask({"--user", "u1", "--context", "history=i3|i4"}).err.find("never saw"),
            std::string::npos);
}

TEST_F(RecommendQueries, WrongQuestions) {
  expect_error(ask({"--queries", work_->path("gone.csv")}), ExitCode::io, "gone\\.csv");
  expect_error(
      query("q.csv", "user,dai\nu1,mon\n"), ExitCode::bad_data,
      "q\\.csv:1:6: the model has no query feature of column \"dai\"; did you mean \"day\"");
  expect_error(query("q.csv", "user,hour\nu1,3\nu1,x\n"), ExitCode::bad_data,
               "q\\.csv:3:4: column hour: \"x\" is not a number");
  expect_error(query("q.csv", "user,day\nu1,mon\n", {"--context", "day=tue"}), ExitCode::usage,
               "--context: column \"day\" stands in");
  expect_error(query("q.csv", "user\nu1\n", {"--all"}), ExitCode::usage, "one of them");
  const auto context = [&](const std::string& text) {
    return ask({"--user", "u1", "--context", text});
  };
  expect_error(context("moods=wild"), ExitCode::bad_data,
               "--context: feature moods: its weights are missing: strengths");
  expect_error(context("strengths=1"), ExitCode::usage, "weights of \"moods\"");
  expect_error(context("item=i3"), ExitCode::usage, "names no context column");
  expect_error(context("user=u3"), ExitCode::usage, "names no context column");
  expect_error(ask({"--user", "u1", "--context", "moods=wild|calm", "--context", "strengths=1"}),
               ExitCode::bad_data, "--context: feature moods: .*has 2 values");
}

TEST_F(RecommendQueries, HeadsAreExportedApart) {
  const std::string q = work_->path("q.npy"), v = work_->path("v.npy");
  expect_good(belfry_run({"export", work_->path("run"), "--queries", q, "--items", v}));
  const NpyFile queries(q), items(v);
  ASSERT_EQ(queries.shape(), (std::vector<std::int64_t>{30, 3, 8}));
  ASSERT_EQ(items.shape(), (std::vector<std::int64_t>{40, 8}));
  expect_good(belfry_run(
      {"recommend", work_->path("run"), "--all", "-k", "3", "-q", "-o", work_->path("all.npy")}));
  const NpyFile rows(work_->path("all.items.npy")), scores(work_->path("all.scores.npy"));
  std::int64_t heads[3] = {0, 0, 0};
  for (std::size_t i = 0; i < 90; ++i) {  // the best of the three products
    const auto row = static_cast<std::size_t>(rows.values<std::int64_t>()[i]);
    float best = 0;
    std::size_t by = 0;
    for (std::size_t h = 0; h < 3; ++h) {
      float dot = 0;
      for (std::size_t k = 0; k < 8; ++k) {
        dot = std::fma(queries.values<float>()[(i / 3 * 3 + h) * 8 + k],
                       items.values<float>()[row * 8 + k], dot);
      }
      if (h == 0 || dot > best) by = h;
      if (h == 0 || dot > best) best = dot;
    }
    ++heads[by];
    EXPECT_EQ(best, scores.values<float>()[i]) << i;
  }
  for (const std::int64_t n : heads) EXPECT_LT(n, 90);
  // The same lists by `search` over what was exported, but for the items that recommend leaves out.
  expect_good(belfry_run({"search", v, q, "-k", "3", "-q", "-o", work_->path("found.npy")}));
  expect_good(belfry_run({"recommend", work_->path("run"), "--all", "--include-seen", "-k", "3",
                          "-q", "-o", work_->path("every.npy")}));
  EXPECT_EQ(work_->read("found.items.npy"), work_->read("every.items.npy"));
  EXPECT_EQ(work_->read("found.scores.npy"), work_->read("every.scores.npy"));
  expect_good(belfry_run({"similar", work_->path("run"), "--item", "i3"}));
  const Answer evaluated = belfry_run({"evaluate", work_->path("run"), "--json"});
  expect_good(evaluated);
  EXPECT_TRUE(Json::parse(evaluated.out)["metrics"].contains("recall@20"));
}

}  // namespace
}  // namespace belfry::test
