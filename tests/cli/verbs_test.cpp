// SPDX-License-Identifier: Apache-2.0
// Every verb does what its page says: help, version, init, validate, doctor, inspect, demo.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/table_files.hpp"
#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

using Json = nlohmann::json;

class Verbs : public ::testing::Test {
 protected:
  Workspace work_;
};

TEST_F(Verbs, Version) {
  const Answer answer = belfry_run({"--version"});
  expect_good(answer);
  EXPECT_TRUE(std::regex_search(answer.out, std::regex("^belfry [0-9]+\\.[0-9]+\\.[0-9]+ ")))
      << answer.out;
  EXPECT_EQ(answer.err, "");
}

TEST_F(Verbs, HelpWithAnExample) {
  const Answer top = belfry_run({"--help"});
  expect_good(top);
  for (const std::string verb : {"demo", "init", "validate", "train", "resume", "evaluate",
                                 "recommend", "similar", "search", "export", "inspect", "doctor"}) {
    const Answer answer = belfry_run({verb, "--help"});
    expect_good(answer);
    EXPECT_NE(answer.out.find("Example: belfry " + verb), std::string::npos) << verb;
    EXPECT_NE(top.out.find("\n  " + verb + " "), std::string::npos) << verb << " is not listed";
    EXPECT_EQ(answer.err, "");
  }
}

TEST_F(Verbs, EveryPresetIsAValidModelFile) {
  work_.ratings("ratings.csv", 3000, false);
  work_.movies("movies.csv");
  const Answer list = belfry_run({"init", "--list"});
  expect_good(list);
  std::vector<std::string> names;
  for (const std::string& line : list.lines()) names.push_back(line.substr(0, line.find(' ')));
  EXPECT_GE(names.size(), 4u);
  EXPECT_EQ(names[0], "quickstart");
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const Answer text = belfry_run({"init", name});
    expect_good(text);
    EXPECT_NE(text.out.find('#'), std::string::npos) << "commented";
    const std::string file = work_.write(name + ".toml", text.out);
    const Answer valid = belfry_run({"validate", file, "-q"});
    expect_good(valid);
    EXPECT_EQ(valid.err, "");
    EXPECT_FALSE(work_.exists("runs"));
    expect_good(belfry_run({"train", file, "-q", "--out", work_.path("run"), "train.epochs=1"}));
    expect_good(belfry_run({"recommend", work_.path("run"), "--user", "7", "-k", "3"}));
  }
  EXPECT_EQ(belfry_run({"init"}).out, belfry_run({"init", "quickstart"}).out);
}

TEST_F(Verbs, TheTfrsPresetKeepsSeenItems) {
  work_.ratings("ratings.csv", 3000, false);
  work_.movies("movies.csv");
  const std::string file = work_.write("m.toml", belfry_run({"init", "basic-retrieval"}).out);
  expect_good(belfry_run({"train", file, "-q", "--out", work_.path("run")}));
  const Answer answer =
      belfry_run({"recommend", work_.path("run"), "--user", "7", "-k", "200", "--json"});
  expect_good(answer);
  const Json json = Json::parse(answer.out);
  EXPECT_EQ(json["items"].size(), 80u);
  // The item is the title, with its comma and all.
  EXPECT_TRUE(json["items"][0].get<std::string>().starts_with("Film, the "));
  const Answer csv = belfry_run(
      {"recommend", work_.path("run"), "--user", "7", "-k", "1", "-o", work_.path("recs.csv")});
  expect_good(csv);
  EXPECT_NE(work_.read("recs.csv").find(",\"Film, the "), std::string::npos)
      << work_.read("recs.csv");
}

TEST_F(Verbs, RunsGoByTheirName) {
  work_.ratings("my-ratings.csv");
  expect_good(Command({"train", "my-ratings.csv", "-q", "train.epochs=1"}).cwd(work_.path()).run());
  EXPECT_TRUE(work_.exists("runs/my-ratings/model.safetensors"));
  work_.write("model.toml", "name = \"other\"\n[data]\ninteractions = \"my-ratings.csv\"\n");
  expect_good(Command({"train", "model.toml", "-q", "train.epochs=1"}).cwd(work_.path()).run());
  EXPECT_TRUE(work_.exists("runs/other/model.safetensors"));
  expect_good(Command({"train", "-", "-q", "train.epochs=1"})
                  .cwd(work_.path())
                  .input(work_.read("my-ratings.csv"))
                  .run());
  EXPECT_EQ(names_in(work_.path("runs")).size(), 3u);
}

TEST_F(Verbs, Inspect) {
  const std::string data = work_.ratings("ratings.csv");
  expect_good(work_.train(data, "run"));
  Answer answer = belfry_run({"inspect", data});
  expect_good(answer);
  for (const char* text :
       {"csv", "userId", "user", "movieId", "item", "rating", "timestamp", "time"}) {
    EXPECT_NE(answer.out.find(text), std::string::npos) << text;
  }
  answer =
      belfry_run({"inspect", work_.write("ratings.csv.gz", gzipped(work_.read("ratings.csv")))});
  expect_good(answer);
  EXPECT_NE(answer.out.find("userId"), std::string::npos);
  answer = belfry_run({"inspect", work_.path("run"), "--json"});
  expect_good(answer);
  const Json json = Json::parse(answer.out);
  EXPECT_EQ(json["checksum"], "good");
  std::vector<std::string> tensors;
  for (const Json& t : json["tensors"]) tensors.push_back(t["name"]);
  EXPECT_EQ(std::count(tensors.begin(), tensors.end(), "item_vectors"), 1);
  expect_error(belfry_run({"inspect", work_.write("m.toml", "[data]\n")}), ExitCode::usage,
               "m\\.toml: .*belfry validate");
  expect_error(belfry_run({"inspect", work_.path("gone")}), ExitCode::io, "gone");
}

TEST_F(Verbs, Doctor) {
  const Answer people = belfry_run({"doctor"});
  expect_good(people);
  EXPECT_NE(people.out.find("cuda"), std::string::npos);
  const Answer program = belfry_run({"doctor", "--json", "--threads", "3"});
  expect_good(program);
  const Json json = Json::parse(program.out);
  EXPECT_EQ(json["threads"], 3);
  EXPECT_TRUE(json["simd"].is_string());
  EXPECT_EQ(json["backends"]["cpu"], "available");
}

TEST_F(Verbs, Demo) {
  const Answer answer = Command({"demo", "-q", "--seed", "5"}).cwd(work_.path()).run();
  expect_good(answer);
  EXPECT_TRUE(work_.exists("runs/demo/model.safetensors"));
  EXPECT_NE(answer.out.find("recommendations for user_42"), std::string::npos);
  EXPECT_NE(answer.out.find("belfry recommend"), std::string::npos);
}

TEST_F(Verbs, FormatsOfData) {
  // The same interactions in other clothes.
  const std::string csv =
      work_.read(work_.ratings("r.csv", 3000, false).substr(work_.path().size()));
  std::string u_data, dat, jsonl;
  Answer file;
  file.out = csv;
  const std::vector<std::string> rows = file.lines();
  std::map<std::string, std::string> lists;
  for (std::size_t i = 1; i < rows.size(); ++i) {
    std::vector<std::string> f(1);
    for (const char c : rows[i]) c == ',' ? (void)f.emplace_back() : (void)(f.back() += c);
    u_data += f[0] + "\t" + f[1] + "\t" + f[2] + "\t" + f[3] + "\n";
    dat += f[0] + "::" + f[1] + "::" + f[2] + "::" + f[3] + "\n";
    jsonl += "{\"user\":\"" + f[0] + "\",\"item\":\"" + f[1] + "\",\"rating\":" + f[2] + "}\n";
    lists[f[0]] += " " + f[1];
  }
  std::string adjacency;
  for (const auto& [user, items] : lists) adjacency += user + items + "\n";
  std::string atomic = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + u_data;
  std::filesystem::create_directory(work_.path("ml-100k"));
  const std::map<std::string, std::string> files{{"ml-100k/u.data", u_data},
                                                 {"ratings.dat", dat},
                                                 {"r.jsonl", jsonl},
                                                 {"r.inter", atomic},
                                                 {"r.txt", adjacency}};
  for (const auto& [name, text] : files) {
    SCOPED_TRACE(name);
    expect_good(work_.train(work_.write(name, text), "run"));
    expect_good(belfry_run({"recommend", work_.path("run"), "--user", "7", "-k", "3"}));
    const Json env = Json::parse(work_.read("run/env.json"));
    EXPECT_EQ(env["rows"], 3000);
    EXPECT_EQ(env["users"], 120);
  }
}

}  // namespace
}  // namespace belfry::test
