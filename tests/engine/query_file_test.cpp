// SPDX-License-Identifier: Apache-2.0
// Queries of a file: what each column becomes, what is left to the user, and the place of every fault.
#include "engine/query_file.hpp"

#include <gtest/gtest.h>

#include "engine/feature_builder.hpp"
#include "engine/recommender.hpp"
#include "tests/support/table_files.hpp"
#include "tests/support/trained_model.hpp"

namespace belfry::test {
namespace {

using Rows = std::vector<std::int32_t>;
using Floats = std::vector<float>;
using Names = std::vector<std::string>;

/// Users a, b and c with a context of every kind.
const char* const kData =
    "user,item,hour,day,tags,loves,much,spot,time\n"
    "a,1,10,mon,x|y,x|y,1|2,1|2,1\n"
    "a,2,20,tue,y,y,3,0|0,2\n"
    "b,1,30,mon,,x,1,5|5,3\n"
    "b,3,40,wed,x,z|x,2|4,1|1,4\n"
    "c,2,50,sun,z,y,1,2|2,5\n";

std::string feature(const std::string& name, const std::string& kind, const std::string& more) {
  return "[[feature]]\nname = \"" + name + "\"\nof = \"query\"\nkind = \"" + kind + "\"\n" + more;
}
const std::string kFeatures =
    feature("user", "id", "dim = 2\n") + feature("hour", "number", "") +
    feature("late", "bucket", "column = \"hour\"\nboundaries = [25]\ndim = 2\n") +
    feature("day", "category", "dim = 2\n") + feature("tags", "list", "dim = 2\n") +
    feature("loves", "list", "weights = \"much\"\ndim = 2\n") +
    feature("spot", "vector", "dim = 2\n") + feature("history", "sequence", "dim = 2\n") +
    feature("mark", "hashed", "column = \"day\"\nbuckets = 4\ndim = 2\n") +
    "[[feature]]\nname = \"item\"\nof = \"candidate\"\nkind = \"id\"\ndim = 17\n";

class QueryFiles : public ::testing::Test {
 protected:
  QueryFiles() { folder.write("r.csv", kData); }
  void load(const std::string& data = "", const std::string& features = kFeatures) {
    loaded = folder.load("[data]\ninteractions = \"r.csv\"\nuser = \"user\"\nitem = \"item\"\n" +
                         data + "[train]\nearly_stop = false\n" + features);
  }
  QueryFile read(const std::string& name, const std::string& bytes, bool cold = false,
                 std::vector<FeatureValues> given = {}) {
    return read_queries(folder.write(name, bytes), loaded.config, loaded.data, std::move(given),
                        cold);
  }
  std::string fault(const std::string& name, const std::string& bytes, bool cold = false) {
    const Error e = error_of([&] { read(name, bytes, cold); });
    EXPECT_EQ(e.code(), ExitCode::bad_data) << e.what();
    std::string what = e.what();
    const std::string root = folder.root().string() + "/";
    for (std::size_t at = 0; (at = what.find(root)) != std::string::npos;)
      what.erase(at, root.size());
    return what;
  }
  void expect_fault(const std::string& bytes, const std::string& start, bool cold = false,
                    const std::string& name = "q.csv") {
    const std::string what = fault(name, bytes, cold);
    EXPECT_EQ(what.substr(0, start.size()), start) << what;
  }
  std::size_t number(const std::string& name) const {
    for (std::size_t f = 0; f < loaded.data.features.size(); ++f) {
      if (loaded.data.features[f].config.name == name) return f;
    }
    ADD_FAILURE() << name;
    return 0;
  }
  /// The values of one feature for all queries, in order.
  FeatureValues values(const QueryFile& file, const std::string& name) const {
    std::vector<std::int64_t> all(file.queries.users.size());
    std::iota(all.begin(), all.end(), 0);
    return queries_at(loaded.data, file.queries, all).features[number(name)];
  }
  Rows row(const std::string& name, const std::vector<std::string>& tokens) const {
    Rows out;
    const FeatureData& f = loaded.data.features[number(name)];
    for (const std::string& t : tokens) {
      out.push_back(static_cast<std::int32_t>(
          *loaded.data.tables[static_cast<std::size_t>(f.table)].vocabulary.row(t)));
    }
    return out;
  }
  static Rows list(const FeatureValues& v, std::size_t i) {
    return {v.rows.begin() + v.begin[i], v.rows.begin() + v.end[i]};
  }
  std::int32_t user(const std::string& id) const {
    return static_cast<std::int32_t>(*loaded.data.users.token_index(id));
  }
  ModelFolder folder;
  Loaded loaded;
};

TEST_F(QueryFiles, EveryKindOfColumn) {
  load();
  const QueryFile q = read("q.csv",
                           "day,user,hour,tags,loves,much,spot,history\n"
                           "mon,b,12,z|x,x|z,0.5|2,3|4,1|3|2\n"
                           "never,a,60,,y,7,0|-1,\n"
                           "mon,b,25,y,x,1,1|1,2\n");
  EXPECT_EQ(q.names, (Names{"b", "a", "b"}));
  EXPECT_EQ(q.queries.users, (Rows{user("b"), user("a"), user("b")}));
  EXPECT_EQ(values(q, "user").rows, row("user", {"b", "a", "b"}));
  EXPECT_EQ(values(q, "hour").numbers, (Floats{12, 60, 25}));
  EXPECT_EQ(values(q, "late").rows, (Rows{0, 1, 1}));
  EXPECT_EQ(values(q, "day").rows, row("day", {"mon", "never", "mon"}));
  EXPECT_EQ(values(q, "day").rows[1], 0);  // the OOV row
  EXPECT_EQ(q.unseen, 1);
  EXPECT_EQ(q.first_unseen, "never");
  EXPECT_EQ(values(q, "mark").rows[0], values(q, "mark").rows[2]);
  const FeatureValues tags = values(q, "tags"), loves = values(q, "loves"),
                      history = values(q, "history");
  EXPECT_EQ(list(tags, 0), row("tags", {"z", "x"}));
  EXPECT_EQ(list(tags, 1), Rows{});
  EXPECT_EQ(list(loves, 0), row("loves", {"x", "z"}));
  EXPECT_EQ(loves.weights, (Floats{0.5f, 2, 7, 1}));
  EXPECT_EQ(values(q, "spot").numbers, (Floats{3, 4, 0, -1, 1, 1}));
  EXPECT_EQ(list(history, 0), row("history", {"1", "3", "2"}));
  EXPECT_EQ(list(history, 1), Rows{});
  EXPECT_EQ(list(history, 2), row("history", {"2"}));
}

TEST_F(QueryFiles, WhatAFileLeavesOutIsTheUsers) {
  load();
  const QueryFile q = read("q.csv", "user,hour\nb,12\nc,13\n");
  const QueryRows own = queries_of_users(loaded.data, {user("b"), user("c")});
  for (const char* name : {"user", "day", "tags", "loves", "spot", "history", "mark"}) {
    EXPECT_EQ(values(q, name), own.features[number(name)]) << name;
  }
  EXPECT_EQ(values(q, "hour").numbers, (Floats{12, 13}));
  EXPECT_EQ(list(values(q, "history"), 0), row("history", {"1", "3"}));
  // One column alone, with CR LF, a byte order mark, quotes, compressed.
  for (const std::string& bytes :
       {std::string("user\nb\nc\n"), std::string("\xEF\xBB\xBFuser\r\nb\r\nc\r\n"),
        std::string("user\n\"b\"\nc"), gzipped("user\nb\nc\n")}) {
    const QueryFile one = read("one.csv", bytes);
    EXPECT_EQ(one.names, (Names{"b", "c"}));
    EXPECT_EQ(values(one, "hour"), own.features[number("hour")]);
  }
  const QueryFile tab = read("q.tsv", "day\tuser\nsun\tb\n");
  EXPECT_EQ(values(tab, "day").rows, row("day", {"sun"}));
}

TEST_F(QueryFiles, JsonLinesMayLeaveOutKeysRowByRow) {
  load();
  const QueryFile q =
      read("q.jsonl",
           "{\"user\": \"b\", \"hour\": 3, \"tags\": \"x\"}\n"
           "{\"user\": \"a\", \"day\": \"sun\"}\n"
           "{\"hour\": 4.5, \"user\": \"c\", \"history\": \"3|1\", \"tags\": null}\n");
  const QueryRows own = queries_of_users(loaded.data, {user("b"), user("a"), user("c")});
  EXPECT_EQ(values(q, "hour").numbers, (Floats{3, own.features[number("hour")].numbers[1], 4.5f}));
  EXPECT_EQ(values(q, "day").rows,
            (Rows{own.features[number("day")].rows[0], row("day", {"sun"})[0],
                  own.features[number("day")].rows[2]}));
  const FeatureValues tags = values(q, "tags"), history = values(q, "history");
  EXPECT_EQ(list(tags, 0), row("tags", {"x"}));
  EXPECT_EQ(list(tags, 1), list(own.features[number("tags")], 1));
  EXPECT_EQ(list(tags, 2), list(own.features[number("tags")], 2));
  EXPECT_EQ(list(history, 1), list(own.features[number("history")], 1));
  EXPECT_EQ(list(history, 2), row("history", {"3", "1"}));
}

/// However late a key comes: behind the part of the file that a format is guessed from.
TEST_F(QueryFiles, JsonLinesAreCheckedKeyByKey) {
  load();
  const auto expect = [&](const std::string& bytes, const std::string& start) {
    expect_fault(bytes, start, false, "q.jsonl");
  };
  const std::string good = "{\"user\": \"b\", \"hour\": 3}\n";
  std::string many;
  for (int i = 0; i < 20000; ++i) many += good;
  const QueryFile late = read("q.jsonl", many + "{\"user\": \"b\", \"day\": \"sun\"}\n");
  EXPECT_EQ(values(late, "day").rows.back(), row("day", {"sun"})[0]);
  EXPECT_EQ(values(late, "day").rows.front(), row("day", {"wed"})[0]) << "the user's last";
  expect(many + "{\"user\": \"b\", \"hours\": 3}\n",
         "q.jsonl:20001:24: the model has no query feature of column \"hours\"; did you mean "
         "\"hour\"?");
  expect(good + "\n{\"hours\" :\"x\", \"user\": \"b\"}\n",
         "q.jsonl:3:11: the model has no query feature of column \"hours\"");
  expect("{\"user\":1", "q.jsonl:1:10: is not valid JSON");
  expect(good + "{\"user\":\n" + good, "q.jsonl:2:9: is not valid JSON");
  expect("{}\n", "q.jsonl:1:1: a query without \"user\" lacks \"user\"; --cold");
  expect(good + "{}\n", "q.jsonl:2:1: a query without \"user\" lacks");
  EXPECT_EQ(read("q.jsonl", "\xEF\xBB\xBF\n {}\n", true).names, (Names{"#1"}));
  expect(good + "{\"user\": \"b\", \"history\": [\"1\", \"2\"]}\n",
         "q.jsonl:2:26: a list or an object where one value is wanted (column history); a list is "
         "one text, its values split by the separator: \"1|2\"");
  expect("{\"user\": [1]}\n", "q.jsonl:1:10: a list or an object where one value is wanted");
  expect("{\"user\": \"b\", \"much\": \"1\"}\n",
         "q.jsonl:1:23: weights without their list (column loves)");
  // What --context says for all no row may say.
  std::vector<FeatureValues> given(loaded.data.features.size());
  given[number("day")] = value_of_text(loaded.data, number("day"), "sun");
  EXPECT_EQ(values(read("q.jsonl", good, false, given), "day").rows, row("day", {"sun"}));
  const Error twice =
      error_of([&] { read("q.jsonl", good + "{\"day\": \"mon\"}\n", false, given); });
  EXPECT_EQ(twice.code(), ExitCode::usage);
  EXPECT_NE(std::string(twice.what()).find("--context: column \"day\" stands in"),
            std::string::npos);
}

TEST_F(QueryFiles, UnseenTokensOfListsAreCounted) {
  load();
  const QueryFile q = read("q.csv",
                           "user,tags,loves,much,history\n"
                           "a,x|new||y,x,1,1|99|2|98\n"
                           "b,,q,2,\n");
  EXPECT_EQ(q.unseen, 4);
  EXPECT_EQ(q.first_unseen, "new");
  EXPECT_EQ(unseen_tokens(loaded.data, number("history"), "3|99|1|98"), (Names{"99", "98"}));
  EXPECT_EQ(unseen_tokens(loaded.data, number("day"), "fri|mon"), (Names{"fri|mon"}));
  EXPECT_EQ(unseen_tokens(loaded.data, number("mark"), "fri"), Names{});
  EXPECT_EQ(unseen_tokens(loaded.data, number("hour"), "7"), Names{});
}

TEST_F(QueryFiles, StrangersNeedColdOrAllFeatures) {
  load();
  expect_fault("user,hour\nb,1\nwho,2\n",
               "q.csv:3:1: the model does not know the user \"who\"; --cold");
  const QueryFile cold = read("q.csv", "user,hour\nb,1\nwho,2\n", true);
  EXPECT_EQ(cold.names, (Names{"b", "who"}));
  EXPECT_EQ(cold.queries.users, (Rows{user("b"), -1}));
  EXPECT_EQ(values(cold, "user").rows, (Rows{row("user", {"b"})[0], 0}));
  EXPECT_EQ(list(values(cold, "history"), 1), Rows{});
  // Without the user the model's id feature is missing.
  expect_fault("day,hour\nmon,1\n", "q.csv:1:1: a query without \"user\" lacks \"user\"; --cold");
  const QueryFile nobody = read("q.csv", "day,hour\nmon,1\ntue,2\n", true);
  EXPECT_EQ(nobody.names, (Names{"#1", "#2"}));
  EXPECT_EQ(values(nobody, "day").rows, row("day", {"mon", "tue"}));
  expect_fault("{\"user\": \"b\"}\n{\"hour\": 3}\n", "q.jsonl:2:1: a query without \"user\" lacks",
               false, "q.jsonl");
}

TEST_F(QueryFiles, AModelWithoutIdsAnswersAnybody) {
  load("", feature("day", "category", "dim = 2\n") + feature("hour", "number", "") +
               "[[feature]]\nname = \"item\"\nof = \"candidate\"\nkind = \"id\"\ndim = 3\n");
  const QueryFile q = read("q.csv", "day,hour\nmon,1\ntue,2\n");
  EXPECT_EQ(q.queries.users, (Rows{-1, -1}));
  EXPECT_EQ(values(q, "hour").numbers, (Floats{1, 2}));
  expect_fault("day\nmon\n", "q.csv:1:1: a query without \"user\" lacks \"hour\"");
  // --context may say it for all.
  std::vector<FeatureValues> given(loaded.data.features.size());
  given[number("hour")] = value_of_text(loaded.data, number("hour"), "9");
  const QueryFile both = read("q.csv", "day\nmon\nsun\nmon\n", false, given);
  EXPECT_EQ(values(both, "hour").numbers, (Floats{9, 9, 9}));
  const Error twice = error_of([&] { read("q.csv", "day,hour\nmon,1\n", false, given); });
  EXPECT_EQ(twice.code(), ExitCode::usage);
  EXPECT_NE(std::string(twice.what()).find("--context: column \"hour\" stands in"),
            std::string::npos);
}

TEST_F(QueryFiles, FaultsAndTheirPlaces) {
  load();
  expect_fault(
      "user,hours\nb,1\n",
      "q.csv:1:6: the model has no query feature of column \"hours\"; did you mean \"hour\"?");
  expect_fault("user,item\nb,1\n", "q.csv:1:6: the model has no query feature of column \"item\"");
  expect_fault("\"user\",\"no\"\nb,1\n",
               "q.csv:1:8: the model has no query feature of column \"no\"");
  expect_fault("name\nb\n", "q.csv:1:1: the model has no query feature of column \"name\"");
  expect_fault("user,hour,hour\nb,1,2\n", "q.csv:1:11: two columns are named \"hour\"");
  expect_fault("b,1\nc,2\n",
               "q.csv:1:1: a file of queries needs a header; columns of a query: user");
  expect_fault("user,hour\nb,1\nb,late\n", "q.csv:3:3: column hour: \"late\" is not a number");
  expect_fault("user,hour\nb,1\nb,\n", "q.csv:3:3: column hour: \"\" is not a number");
  expect_fault("user,hour\nb,1e300\n", "q.csv:2:3: feature hour: ");
  expect_fault("user,spot\nb,1|2\nc,1|2|3\n", "q.csv:3:3: feature spot: ");
  expect_fault("user,loves,much\nb,x,1\nb,x|y,1\n", "q.csv:3:3: feature loves: ");
  expect_fault("user,loves,much\nb,x,some\n", "q.csv:2:3: feature loves: \"some\" is not a number");
  expect_fault("user,loves\nb,x\n", "q.csv:1:1: column \"loves\" comes without \"much\"");
  expect_fault("user,much\nb,1\n", "q.csv:1:1: column \"much\" comes without \"loves\"");
  expect_fault("user,hour\nb,1,2\n", "q.csv:2:");
  expect_fault("user,day\n,mon\n", "q.csv:2:1: an empty id (column user)");
  expect_fault("user,day\nb,\xff\n", "q.csv:2:3: ");
  expect_fault("user,day\n", "q.csv: it holds no query");
  expect_fault("", "q.csv: is empty");
  expect_fault("{\"user\": \"b\", \"tags\": [\"x\"]}\n", "q.jsonl:1:23: a list or an object", false,
               "q.jsonl");
  expect_fault(
      "{\"user\": \"b\", \"loves\": \"x\", \"much\": \"1\"}\n{\"user\": \"b\", \"loves\": \"x\"}\n",
      "q.jsonl:2:24: a list without its weights (column much)", false, "q.jsonl");
  EXPECT_EQ(error_of([&] {
              read_queries("/nowhere/q.csv", loaded.config, loaded.data, {}, false);
            }).code(),
            ExitCode::io);
}

TEST_F(QueryFiles, IntegerIdsAreCompared) {
  folder.write("r.csv", "user,item,hour\n1,1,1\n7,2,2\n7,3,3\n");
  load("id_type = \"int\"\n",
       feature("user", "id", "dim = 2\n") + feature("hour", "number", "") +
           "[[feature]]\nname = \"item\"\nof = \"candidate\"\nkind = \"id\"\ndim = 3\n");
  EXPECT_EQ(read("q.csv", "user,hour\n007,1\n").names, (Names{"7"}));
  expect_fault("user,hour\n1,1\nx,1\n", "q.csv:3:1: \"x\" is not an integer (column user)");
}

TEST_F(QueryFiles, WithoutAnOovRowAValueIsRefusedAtItsPlace) {
  load("",
       feature("user", "id", "dim = 2\n") + feature("day", "category", "dim = 1\noov = 0\n") +
           feature("history", "sequence", "dim = 3\nmax_length = 2\nseparator = \";\"\noov = 0\n") +
           "[[feature]]\nname = \"item\"\nof = \"candidate\"\nkind = \"id\"\ndim = 6\n");
  expect_fault("user,day\nb,mon\na,fri\n",
               "q.csv:3:3: feature day: \"fri\" is not in the vocabulary");
  expect_fault("user,history\nb,1;2\nb,1;77\n",
               "q.csv:3:3: feature history: \"77\" is not in the voc");
  const QueryFile q = read("q.csv", "user,history\nb,3;2;1\n");  // the last two
  EXPECT_EQ(list(values(q, "history"), 0), row("history", {"2", "1"}));
}

/// Thousands of rows: more than a batch of the reader, in their order; and parts of them.
TEST_F(QueryFiles, ManyRowsAndParts) {
  load();
  std::string text = "user,hour,tags\n";
  for (int i = 0; i < 3000; ++i) {
    text +=
        std::string(1, "abc"[i % 3]) + "," + std::to_string(i) + (i % 5 == 0 ? ",\n" : ",x|z\n");
  }
  const QueryFile q = read("q.csv", text);
  const Floats hours = values(q, "hour").numbers;
  const FeatureValues tags = values(q, "tags");
  ASSERT_EQ(hours.size(), 3000u);
  for (std::size_t i = 0; i < hours.size(); ++i) {
    ASSERT_EQ(hours[i], static_cast<float>(i));
    ASSERT_EQ(list(tags, i).size(), i % 5 == 0 ? 0u : 2u);
    ASSERT_EQ(q.names[i], std::string(1, "abc"[i % 3]));
  }
  QueryFile part;
  part.queries = part_of(loaded.data, q.queries, 1201, 3);
  EXPECT_EQ(part.queries.users,
            (Rows(q.queries.users.begin() + 1201, q.queries.users.begin() + 1204)));
  EXPECT_EQ(values(part, "hour").numbers, (Floats{1201, 1202, 1203}));
  EXPECT_EQ(list(values(part, "tags"), 0).size(), 2u);
  EXPECT_EQ(values(part, "day").rows.size(), 3u);
}

}  // namespace
}  // namespace belfry::test
