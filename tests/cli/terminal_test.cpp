// SPDX-License-Identifier: Apache-2.0
// What is said to whom: JSON for programs on stdout, plain lines for logs, a bar for people.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

using Json = nlohmann::json;

bool has_control_characters(const std::string& text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f;
  });
}

class Output : public ::testing::Test {
 protected:
  std::vector<std::string> train(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"train", data_, "--out", work_.path("run"),
                                       "train.epochs=3"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Workspace work_;
  std::string data_ = work_.ratings("ratings.csv");
};

TEST_F(Output, PlainLinesWithoutATerminal) {
  const Answer answer = belfry_run(train());
  expect_good(answer);
  EXPECT_FALSE(has_control_characters(answer.err)) << answer.err;
  EXPECT_FALSE(has_control_characters(answer.out)) << answer.out;
  EXPECT_NE(answer.err.find("user = userId   item = movieId"), std::string::npos) << answer.err;
  EXPECT_NE(answer.err.find("guessed"), std::string::npos);
  EXPECT_NE(answer.err.find("10 % of the rows are held out"), std::string::npos);
  EXPECT_NE(answer.err.find("\nepoch   3/3"), std::string::npos);
  EXPECT_NE(answer.out.find("ndcg@20"), std::string::npos);
}

TEST_F(Output, JsonIsAllThereIsOnStdout) {
  const Answer answer = belfry_run(train({"--json"}));
  expect_good(answer);
  std::vector<Json> events;
  for (const std::string& line : answer.lines()) events.push_back(Json::parse(line));
  ASSERT_EQ(events.size(), 5u) << answer.out;
  for (int e = 0; e < 3; ++e) {
    EXPECT_EQ(events[e]["event"], "epoch");
    EXPECT_EQ(events[e]["epoch"], e + 1);
    for (const char* key : {"steps", "examples", "loss_mean", "seconds"}) {
      EXPECT_TRUE(events[e][key].is_number()) << key;
    }
  }
  EXPECT_LT(events[2]["loss_mean"], events[0]["loss_mean"]);
  EXPECT_EQ(events[3]["event"], "evaluate");
  EXPECT_EQ(events[4]["event"], "done");
  EXPECT_EQ(events[4]["run"], work_.path("run"));
  EXPECT_EQ(events[4]["model_sha256"], work_.sha256("run/model.safetensors"));
  // The files of the run are JSON, too.
  Json::parse(work_.read("run/env.json"));
  Answer log;
  log.out = work_.read("run/metrics.jsonl");
  EXPECT_EQ(log.lines().size(), 4u);
  for (const std::string& line : log.lines()) Json::parse(line);
}

TEST_F(Output, EveryVerbSpeaksJson) {
  expect_good(belfry_run(train({"-q"})));
  const std::string run = work_.path("run");
  for (const std::vector<std::string>& question :
       {std::vector<std::string>{"evaluate", run},
        {"recommend", run, "--user", "user_7"},
        {"recommend", run, "--all", "-o", work_.path("recs.csv")},
        {"similar", run, "--item", "item_3"},
        {"inspect", run},
        {"inspect", run + "/model.safetensors"},
        {"inspect", data_},
        {"validate", data_},
        {"doctor"},
        {"demo", "--out", work_.path("demo")}}) {
    SCOPED_TRACE(question[0]);
    std::vector<std::string> arguments = question;
    arguments.emplace_back("--json");
    const Answer answer = belfry_run(arguments);
    expect_good(answer);
    EXPECT_FALSE(answer.out.empty());
    for (const std::string& line : answer.lines()) {
      EXPECT_TRUE(Json::parse(line, nullptr, false).is_object()) << line;
    }
  }
}

TEST_F(Output, Quiet) {
  const Answer answer = belfry_run(train({"-q"}));
  expect_good(answer);
  EXPECT_EQ(answer.err, "");
  EXPECT_NE(answer.out.find("model sha256 " + work_.sha256("run/model.safetensors")),
            std::string::npos);
  const Answer file =
      belfry_run({"recommend", work_.path("run"), "--all", "-q", "-o", work_.path("recs.csv")});
  expect_good(file);
  EXPECT_EQ(file.out + file.err, "");
  expect_error(belfry_run({"evaluate", work_.path("none"), "-q"}), ExitCode::io, "none");
}

TEST_F(Output, ProgressModes) {
  const auto err = [&](const std::string& mode) {
    const Answer answer = belfry_run(train({"--progress", mode}));
    expect_good(answer);
    return answer.err;
  };
  EXPECT_NE(err("plain").find("\nepoch   1/3"), std::string::npos);
  EXPECT_EQ(err("none").find("epoch   1/3"), std::string::npos);
  int events = 0;
  Answer json;
  json.out = err("json");
  for (const std::string& line : json.lines()) {
    if (line.starts_with("{")) events += Json::parse(line)["event"] == "epoch" ? 1 : 0;
  }
  EXPECT_EQ(events, 3);
}

TEST_F(Output, ABarOnATerminal) {
  // Long enough for a bar to be drawn: it is at most ten times a second.
  const std::string data = work_.ratings("many.csv", 60'000, true, 800, 400);
  Command command({"train", data, "--out", work_.path("run"), "train.epochs=2", "--threads", "1",
                   "train.batch_size=2048"});
  const Answer answer = command.terminal().run();
  expect_good(answer);
  EXPECT_NE(answer.err.find("\r["), std::string::npos) << answer.err;
  EXPECT_NE(answer.err.find("ETA"), std::string::npos);
  EXPECT_NE(answer.err.find("\x1b[K"), std::string::npos);
  EXPECT_FALSE(has_control_characters(answer.out)) << "stdout is no terminal";
  // The bar is gone at the end: what follows the last one begins with its removal.
  const std::string last = answer.err.substr(answer.err.rfind("ETA"));
  EXPECT_NE(last.find("\r\x1b[K"), std::string::npos) << last;
}

TEST_F(Output, NoBarOnADumbTerminal) {
  for (const auto& [name, value] : {std::pair{"TERM", "dumb"}, {"CI", "true"}}) {
    Command command(train({"train.epochs=1"}));
    const Answer answer = command.terminal().env(name, value).run();
    expect_good(answer);
    EXPECT_EQ(answer.err.find('\x1b'), std::string::npos) << name;
  }
  Command plain(train({"--progress", "plain"}));
  EXPECT_EQ(plain.terminal().run().err.find('\x1b'), std::string::npos);
  Command quiet(train({"-q"}));
  EXPECT_EQ(quiet.terminal().run().err, "");
}

}  // namespace
}  // namespace belfry::test
