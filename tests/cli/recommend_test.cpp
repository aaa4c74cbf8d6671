// SPDX-License-Identifier: Apache-2.0
// recommend, similar, export, evaluate on one small run: forms, restrictions, wrong questions.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/npy_file.hpp"
#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

using Json = nlohmann::json;
using Items = std::vector<std::string>;

std::vector<std::string> lines_of(const std::string& text) {
  Answer answer;
  answer.out = text;
  return answer.lines();
}

std::vector<std::string> fields(const std::string& line, char delimiter = ',') {
  std::vector<std::string> out(1);
  for (const char c : line) {
    if (c == delimiter) {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

class Recommend : public WithRun {
 protected:
  static Answer ask(std::vector<std::string> more) {
    more.insert(more.begin(), {"recommend", run()});
    return belfry_run(more);
  }
  static Json json(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = more;
    arguments.emplace_back("--json");
    const Answer answer = ask(arguments);
    expect_good(answer);
    return answer.lines().empty() ? Json() : Json::parse(answer.lines()[0]);
  }
  static Items items(const std::vector<std::string>& more) { return json(more)["items"]; }
  /// user -> items of every user, by the .jsonl form.
  static std::map<std::string, Items> all(const std::string& k) {
    expect_good(ask({"--all", "-k", k, "-q", "-o", path("all.jsonl")}));
    std::map<std::string, Items> out;
    for (const std::string& line : lines_of(work_->read("all.jsonl"))) {
      const Json json = Json::parse(line);
      out[json["user"]] = json["items"].get<Items>();
    }
    return out;
  }
  static std::map<std::string, std::set<std::string>> seen() {
    std::map<std::string, std::set<std::string>> out;
    const auto rows = lines_of(work_->read("ratings.csv"));
    for (std::size_t i = 1; i < rows.size(); ++i)
      out[fields(rows[i])[0]].insert(fields(rows[i])[1]);
    return out;
  }
  static std::string file(const std::string& name, const std::string& text) {
    return work_->write(name, text);
  }
};

TEST_F(Recommend, PeopleAndPrograms) {
  const Answer people = ask({"--user", "user_7", "-k", "3"});
  expect_good(people);
  ASSERT_EQ(people.lines().size(), 4u);
  EXPECT_EQ(people.lines()[0], "user user_7");
  EXPECT_EQ(people.err, "");
  const Json program = json({"--user", "user_7", "-k", "3"});
  EXPECT_EQ(program["user"], "user_7");
  ASSERT_EQ(program["items"].size(), 3u);
  ASSERT_EQ(program["scores"].size(), 3u);
  for (std::size_t r = 0; r < 3; ++r) {
    EXPECT_TRUE(people.lines()[r + 1].ends_with("  " + program["items"][r].get<std::string>()));
    if (r > 0) {
      EXPECT_GE(program["scores"][r - 1], program["scores"][r]);
    }
  }
}

TEST_F(Recommend, SeveralUsersInTheirOrder) {
  const Answer answer =
      ask({"--user", "user_9", "user_2", "--user", "user_5", "-k", "2", "--json"});
  expect_good(answer);
  Items users;
  for (const std::string& line : answer.lines()) users.push_back(Json::parse(line)["user"]);
  EXPECT_EQ(users, (Items{"user_9", "user_2", "user_5"}));
}

TEST_F(Recommend, EveryFormHoldsTheSameLists) {
  const auto lists = all("5");
  EXPECT_EQ(lists.size(), 120u);
  for (const std::string ending : {"csv", "tsv"}) {
    const std::string name = "recs." + ending;
    expect_good(ask({"--all", "-k", "5", "-q", "-o", path(name)}));
    const auto rows = lines_of(work_->read(name));
    const char d = ending == "csv" ? ',' : '\t';
    EXPECT_EQ(fields(rows[0], d), (Items{"user", "rank", "item", "score"}));
    std::map<std::string, Items> read;
    for (std::size_t i = 1; i < rows.size(); ++i) {
      const auto f = fields(rows[i], d);
      ASSERT_EQ(f.size(), 4u);
      read[f[0]].push_back(f[2]);
      EXPECT_EQ(f[1], std::to_string(read[f[0]].size()));
      EXPECT_GT(f[3].size(), 4u);
    }
    EXPECT_EQ(read, lists);
  }
  expect_good(ask({"--all", "-k", "5", "-q", "-o", path("recs.npy")}));
  const NpyFile rows(path("recs.items.npy")), scores(path("recs.scores.npy"));
  EXPECT_EQ(rows.descr(), "<i8");
  EXPECT_EQ(scores.descr(), "<f4");
  EXPECT_EQ(rows.shape(), (std::vector<std::int64_t>{120, 5}));
  EXPECT_EQ(scores.shape(), rows.shape());
  const auto users = lines_of(work_->read("recs.users.txt"));
  const auto ids = lines_of(work_->read("recs.item_ids.txt"));
  ASSERT_EQ(users.size(), 120u);
  for (std::size_t u = 0; u < users.size(); ++u) {
    Items list;
    for (std::size_t r = 0; r < 5; ++r)
      list.push_back(ids[static_cast<std::size_t>(rows.values<std::int64_t>()[u * 5 + r])]);
    EXPECT_EQ(list, lists.at(users[u]));
  }
}

TEST_F(Recommend, SeenItemsAreLeftOutUnlessAskedFor) {
  const auto mine = seen();  // training and test rows
  const auto everything = items({"--user", "user_7", "-k", "1000", "--include-seen"});
  const auto unseen = items({"--user", "user_7", "-k", "1000", "--exclude-seen"});
  EXPECT_EQ(std::set<std::string>(everything.begin(), everything.end()).size(), everything.size());
  EXPECT_LT(unseen.size(), everything.size());
  for (const std::string& item : everything) {
    const bool kept = std::count(unseen.begin(), unseen.end(), item) == 1;
    if (!kept) {
      EXPECT_TRUE(mine.at("user_7").contains(item)) << item;
    }
  }
  EXPECT_EQ(items({"--user", "user_7", "-k", "1000"}), unseen) << "the default";
  // What is left keeps its order.
  Items filtered;
  std::copy_if(everything.begin(), everything.end(), std::back_inserter(filtered),
               [&](const auto& i) { return std::count(unseen.begin(), unseen.end(), i) == 1; });
  EXPECT_EQ(filtered, unseen);
}

TEST_F(Recommend, ExcludeAndOnly) {
  const auto list = items({"--user", "user_7", "-k", "6"});
  const std::string ban = file("ban.txt", list[0] + "\n" + list[2] + "\n");
  EXPECT_EQ(items({"--user", "user_7", "-k", "4", "--exclude", ban}),
            (Items{list[1], list[3], list[4], list[5]}));
  const std::string allow = file("allow.txt", list[4] + "\r\n\n" + list[1]);
  EXPECT_EQ(items({"--user", "user_7", "-k", "4", "--only", allow}), (Items{list[1], list[4]}));
  EXPECT_EQ(items({"--user", "user_7", "-k", "4", "--only", allow, "--exclude",
                   file("one.txt", list[1] + "\n")}),
            (Items{list[4]}));
  EXPECT_EQ(items({"--user", "user_7", "-k", "4", "--only", file("none.txt", "")}), Items{})
      << "an empty allow-list allows nothing";
}

TEST_F(Recommend, ExcludeAndOnlyByPairs) {
  const auto seven = items({"--user", "user_7", "-k", "4"}),
             nine = items({"--user", "user_9", "-k", "4"});
  const std::string pairs = file("pairs.csv", "user,item\nuser_7," + seven[0] + "\n");
  EXPECT_EQ(items({"--user", "user_7", "-k", "3", "--exclude", pairs}),
            (Items{seven[1], seven[2], seven[3]}));
  EXPECT_EQ(items({"--user", "user_9", "-k", "4", "--exclude", pairs}), nine);
  EXPECT_EQ(items({"--user", "user_7", "-k", "3", "--only", pairs}), (Items{seven[0]}));
  EXPECT_EQ(items({"--user", "user_9", "-k", "4", "--only", pairs}), Items{})
      << "an allow-list that does not name a user allows that user nothing";
}

TEST_F(Recommend, UnknownIdsInFilesAreCounted) {
  const auto list = items({"--user", "user_7", "-k", "3"});
  const std::string ids = file("some.txt", list[0] + "\nno-such-item\nnor-this\n");
  Answer answer = ask({"--user", "user_7", "-k", "2", "--exclude", ids, "--json"});
  expect_good(answer);
  EXPECT_EQ(Json::parse(answer.out)["items"].get<Items>(), (Items{list[1], list[2]}));
  EXPECT_TRUE(
      std::regex_search(answer.err, std::regex("^warning: .*some\\.txt: 2 of 3 .*no-such-item")))
      << answer.err;
  answer = ask({"--user", "user_7", "-k", "2", "--only", ids, "--json"});
  expect_good(answer);
  EXPECT_EQ(Json::parse(answer.out)["items"].get<Items>(), (Items{list[0]}));
  EXPECT_NE(answer.err.find("2 of 3"), std::string::npos) << answer.err;
  answer = ask({"--users", file("users.txt", "user_7\nnobody\nuser_9\n"), "-k", "2", "--json"});
  expect_good(answer);
  EXPECT_EQ(answer.lines().size(), 2u);
  EXPECT_NE(answer.err.find("1 of 3"), std::string::npos) << answer.err;
  EXPECT_NE(answer.err.find("nobody"), std::string::npos) << answer.err;
}

TEST_F(Recommend, ShardsTogetherAreTheWhole) {
  expect_good(ask({"--all", "-k", "3", "-q", "-o", path("whole.csv")}));
  std::string joined;
  for (const std::string shard : {"0/7", "1/7", "2/7", "3/7", "4/7", "5/7", "6/7"}) {
    expect_good(ask({"--all", "-k", "3", "-q", "--shard", shard, "-o", path("part.csv")}));
    const std::string part = work_->read("part.csv");
    joined += joined.empty() ? part : part.substr(part.find('\n') + 1);
  }
  EXPECT_EQ(joined, work_->read("whole.csv"));
  for (const std::string bad : {"", "7/7", "-1/7", "1", "1/0", "1/7/2", "a/b", "1/7 "}) {
    expect_error(ask({"--all", "--shard", bad, "-o", path("part.csv")}), ExitCode::usage,
                 "--shard");
  }
}

TEST_F(Recommend, UnknownUserAndItem) {
  expect_error(ask({"--user", "nobody", "-k", "3"}), ExitCode::bad_data,
               "--user: .*\"nobody\"; --cold");
  expect_error(ask({"--user", "user_7", "nobody", "-k", "3"}), ExitCode::bad_data, "\"nobody\"");
  expect_error(belfry_run({"similar", run(), "--item", "nothing"}), ExitCode::bad_data,
               "--item: .*\"nothing\"");
  const Json cold = json({"--user", "nobody", "-k", "3", "--cold"});
  EXPECT_EQ(cold["user"], "nobody");
  EXPECT_EQ(cold["items"].size(), 3u);
}

TEST_F(Recommend, BadK) {
  for (const std::string k :
       {"0", "-1", "1.5", "x", "", "1e3", " 3", "2147483648", "99999999999999999999"}) {
    expect_error(ask({"--user", "user_7", "-k", k}), ExitCode::usage, "-k");
    expect_error(belfry_run({"similar", run(), "--item", "item_3", "-k", k}), ExitCode::usage,
                 "-k");
  }
  EXPECT_EQ(items({"--user", "user_7", "-k", "2147483647", "--include-seen"}).size(),
            json({"--user", "user_7", "-k", "80", "--include-seen"})["items"].size());
}

TEST_F(Recommend, WithoutKTheModelSaysHowMany) {
  EXPECT_EQ(items({"--user", "user_7"}).size(), 10u);
  expect_good(belfry_run(
      {"train", path("ratings.csv"), "index.k=4", "train.epochs=1", "-q", "--out", path("four")}));
  const auto lines = [](std::vector<std::string> words) {
    const Answer answer = belfry_run(words);
    expect_good(answer);
    return answer.lines().size();
  };
  EXPECT_EQ(lines({"recommend", path("four"), "--user", "user_7"}), 1u + 4u);
  EXPECT_EQ(lines({"recommend", path("four"), "--user", "user_7", "-k", "2"}), 1u + 2u);
  EXPECT_EQ(lines({"similar", path("four"), "--item", "item_3"}), 1u + 4u);
}

TEST_F(Recommend, QuestionsThatContradictThemselves) {
  expect_error(ask({}), ExitCode::usage, "--user");
  expect_error(ask({"--all", "--user", "user_7"}), ExitCode::usage, "one of them");
  expect_error(ask({"--all", "--exclude-seen", "--include-seen"}), ExitCode::usage, "contradict");
  expect_error(ask({"--user", "user_7", "--context", "rating=4"}), ExitCode::usage, "--context");
  for (const std::string name : {"recs.txt", "recs", "recs.csv.bak"}) {
    expect_error(ask({"--all", "-o", path(name)}), ExitCode::usage, "ending");
    EXPECT_FALSE(work_->exists(name));
  }
}

TEST_F(Recommend, FilesThatAreNotThere) {
  for (const std::string option : {"--users", "--exclude", "--only"}) {
    std::vector<std::string> arguments{option, path("gone.txt")};
    if (option != "--users") arguments.insert(arguments.end(), {"--user", "user_7"});
    expect_error(ask(arguments), ExitCode::io, "gone\\.txt: .*No such file");
    arguments[1] = work_->path();
    expect_error(ask(arguments), ExitCode::io, "directory|folder");
  }
  for (const std::string verb : {"evaluate", "inspect", "resume"}) {
    expect_error(belfry_run({verb, path("no-run")}), ExitCode::io, "no-run: ");
  }
  expect_error(belfry_run({"recommend", path("no-run"), "--all"}), ExitCode::io, "no such run");
  expect_error(belfry_run({"recommend", work_->path(), "--all"}), ExitCode::bad_model,
               "no model\\.safetensors");
}

TEST_F(Recommend, ExportHasTheOrderOfRecommend) {
  expect_good(belfry_run({"export", run(), "--queries", path("q.npy"), "--items", path("v.npy")}));
  expect_good(ask({"--all", "-k", "2", "-q", "-o", path("order.npy")}));
  EXPECT_EQ(work_->read("q.ids.txt"), work_->read("order.users.txt"));
  EXPECT_EQ(work_->read("v.ids.txt"), work_->read("order.item_ids.txt"));
  const NpyFile q(path("q.npy")), v(path("v.npy"));
  ASSERT_EQ(q.shape(), (std::vector<std::int64_t>{120, 64}));
  ASSERT_EQ(v.shape(), (std::vector<std::int64_t>{80, 64}));
  // A score is the dot product of the exported vectors.
  const NpyFile rows(path("order.items.npy")), scores(path("order.scores.npy"));
  for (std::size_t u = 0; u < 120; ++u) {
    const auto row = static_cast<std::size_t>(rows.values<std::int64_t>()[u * 2]);
    float dot = 0;
    for (std::size_t k = 0; k < 64; ++k)
      dot = std::fma(q.values<float>()[u * 64 + k], v.values<float>()[row * 64 + k], dot);
    EXPECT_EQ(dot, scores.values<float>()[u * 2]);
  }
}

TEST_F(Recommend, ExportWrongQuestions) {
  expect_error(belfry_run({"export", run()}), ExitCode::usage, "--queries");
  expect_error(belfry_run({"export", run(), "--items", path("v.csv")}), ExitCode::usage, "\\.npy");
  expect_error(belfry_run({"export", run(), "--items", path("x.npy"), "--queries", path("x.npy")}),
               ExitCode::usage, "same file");
  EXPECT_FALSE(work_->exists("v.csv"));
  EXPECT_FALSE(work_->exists("x.npy"));
}

TEST_F(Recommend, SimilarLeavesTheItemOut) {
  const Answer answer = belfry_run({"similar", run(), "--item", "item_3", "-k", "100", "--json"});
  expect_good(answer);
  const Json json = Json::parse(answer.out);
  EXPECT_EQ(json["item"], "item_3");
  EXPECT_EQ(json["items"].size(), 79u);
  const Items list = json["items"];
  EXPECT_EQ(std::count(list.begin(), list.end(), "item_3"), 0);
  for (const double score : json["scores"]) EXPECT_LE(std::abs(score), 1.0 + 1e-6);
}

TEST_F(Recommend, Evaluate) {
  const Answer answer = belfry_run({"evaluate", run(), "--json"});
  expect_good(answer);
  EXPECT_EQ(answer.err, "");
  const Json json = Json::parse(answer.out);
  EXPECT_EQ(json["event"], "evaluate");
  EXPECT_EQ(json["exclude_seen"], true);
  EXPECT_GT(json["users"], 0);
  EXPECT_TRUE(json["metrics"].contains("recall@20"));
  EXPECT_TRUE(json["baselines"]["popularity"].contains("ndcg@20"));
  EXPECT_TRUE(json["baselines"]["random"].contains("ndcg@20"));
  // The same as training said.
  std::string last;
  for (const std::string& line : lines_of(work_->read("run/metrics.jsonl"))) last = line;
  EXPECT_EQ(Json::parse(last)["metrics"], json["metrics"]);
}

TEST_F(Recommend, EvaluateWithoutATestPart) {
  expect_good(work_->train(path("ratings.csv"), "all", {"split.method=none"}));
  expect_error(belfry_run({"evaluate", path("all")}), ExitCode::usage, "no test part; --test");
  const Answer answer =
      belfry_run({"evaluate", path("all"), "--test", path("ratings.csv"), "--json"});
  expect_good(answer);
  EXPECT_EQ(Json::parse(answer.out)["users"], 0) << "every test pair is a training pair";
  expect_error(belfry_run({"evaluate", path("all"), "--test", path("gone.csv")}), ExitCode::io,
               "gone");
  expect_error(
      belfry_run({"evaluate", path("all"), "--test", file("t.csv", "userId,movieId\n1,2,3\n")}),
      ExitCode::bad_data, "t\\.csv:2");
}

}  // namespace
}  // namespace belfry::test
