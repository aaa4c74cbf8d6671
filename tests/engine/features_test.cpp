// SPDX-License-Identifier: Apache-2.0
// Features of every kind from files: values of items, users and interactions, and what is learned of them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "engine/farmhash.hpp"
#include "engine/hashing.hpp"
#include "engine/model_file.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

using Names = std::vector<std::string>;
using Rows = std::vector<std::int32_t>;
using Floats = std::vector<float>;

std::vector<std::size_t> features(const ModelData& data, const std::string& name) {
  std::vector<std::size_t> out;
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    if (data.features[f].config.name == name) out.push_back(f);
  }
  return out;
}
const FeatureData& feature(const ModelData& data, const std::string& name) {
  return data.features[features(data, name).at(0)];
}
const TableData& table(const ModelData& data, const std::string& name) {
  return data.tables[static_cast<std::size_t>(feature(data, name).table)];
}
/// The values of the c-th context feature in order of the data.
std::size_t context_of(const ModelData& data, const std::string& name) {
  std::size_t c = 0;
  for (const FeatureData& f : data.features) {
    if (f.config.name == name) return c;
    c += f.context ? 1 : 0;
  }
  return c;
}
Rows list(const FeatureValues& v, std::size_t i) {
  return {v.rows.begin() + v.begin[i], v.rows.begin() + v.end[i]};
}
std::size_t item(const ModelData& data, const std::string& id) {
  return static_cast<std::size_t>(data.items.token_index(id).value());
}

std::string feature_of(const std::string& side, const std::string& name, const std::string& kind,
                       const std::string& keys) {
  return fmt::format("[[feature]]\nname = \"{}\"\nof = \"{}\"\nkind = \"{}\"\n{}", name, side, kind,
                     keys);
}
/// Towers of one width over all features of a text.
std::string towers(const std::string& text) {
  std::string out = text;
  for (const std::string side : {"query", "candidate"}) {
    std::string inputs;
    const std::string before = "[[feature]]\nname = ";
    for (std::size_t at = text.find(before); at != std::string::npos; at = text.find(before, at)) {
      at += before.size();
      const std::size_t end = text.find('\n', at);
      if (text.compare(end, 7 + side.size(), "\nof = \"" + side) != 0) continue;
      inputs += (inputs.empty() ? "" : ", ") + text.substr(at, end - at);
    }
    out += fmt::format(
        "[[network]]\nname = \"{}\"\ninputs = [{}]\nlayers = [{{ kind = \"mlp\", units = [4] }}]\n",
        side, inputs);
  }
  return out;
}
const std::string kTowers = feature_of("query", "user", "id", "dim = 4\n") +
                            feature_of("candidate", "item", "id", "dim = 4\n");

class Features : public ::testing::Test {
 protected:
  Features() {
    folder.write("r.csv",
                 "user,item,hour,time\n"
                 "a,1,10,30\na,2,20,10\nb,1,30,5\nb,2,40,5\nc,1,50,1\n");
    folder.write("m.csv",
                 "item,title,genres,shares,year,point\n"
                 "1,The Red Sea!,x|y,1|0.5,1990,1 2\n"
                 "2,the SEA,y,3,2000,-1 0.5\n"
                 "3,Blue sky,z||x,1|2|3,2060,0 0\n");
  }
  ModelData load(const std::string& more, const std::string& data = "") const {
    return loaded(more, data).data;
  }
  Loaded loaded(const std::string& more, const std::string& data = "") const {
    return folder.load(preset + "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\n" + data +
                       towers(more + kTowers));
  }
  std::string message(const std::string& more, ExitCode code = ExitCode::bad_data) const {
    const Error e = error_of([&] { load(more); });
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ModelFolder folder;
  std::string preset;
};

TEST_F(Features, HashedByFarmHashOrSalt) {
  const ModelData data =
      load(feature_of("candidate", "genres", "hashed", "buckets = 7\ndim = 4\n") +
           feature_of("query", "hour", "hashed", "buckets = 5\nsalt = 9\ndim = 4\n") +
           feature_of("query", "who", "hashed", "column = \"user\"\nbuckets = 3\ndim = 4\n"));
  EXPECT_EQ(table(data, "genres").rows(), 7);
  const auto farm = [](const char* s, int n) {
    return static_cast<std::int32_t>(fingerprint64(s) % n);
  };
  EXPECT_EQ(feature(data, "genres").values.rows[item(data, "1")], farm("x|y", 7));
  EXPECT_EQ(feature(data, "genres").values.rows[item(data, "2")], farm("y", 7));
  EXPECT_TRUE(feature(data, "hour").context);
  Rows hours;
  for (const char* h : {"10", "20", "30", "40", "50"}) {
    hours.push_back(static_cast<std::int32_t>(siphash64(h, {9, 9}) % 5));
  }
  EXPECT_EQ(data.train.context[context_of(data, "hour")].rows, hours);
  EXPECT_FALSE(feature(data, "who").context);
  EXPECT_EQ(feature(data, "who").values.rows, (Rows{farm("b", 3), farm("a", 3), farm("c", 3)}));
}

TEST_F(Features, UnifiedChunksTakeTurnsOnSharedTables) {
  const std::string keys = "buckets = 11\ntables = 2\ntable = \"all\"\ndim = 4\n";
  const std::string text =
      feature_of("query", "who", "unified", "column = \"user\"\nchunks = 3\n" + keys) +
      feature_of("candidate", "title", "unified", "chunks = 2\n" + keys);
  const ModelData data = load(text);
  const auto who = features(data, "who"), title = features(data, "title");
  ASSERT_EQ(who.size(), 3u);
  ASSERT_EQ(title.size(), 2u);
  Names tables;
  for (const auto& list : {who, title}) {
    for (const std::size_t f : list) {
      const TableData& t = data.tables[static_cast<std::size_t>(data.features[f].table)];
      EXPECT_EQ(t.rows(), 11);
      tables.push_back(t.name);
    }
  }
  EXPECT_EQ(tables, (Names{"all.0", "all.1", "all.0", "all.1", "all.0"}));
  for (std::uint64_t c = 0; c < 3; ++c) {
    EXPECT_EQ(data.features[who[c]].values.rows[1], siphash64("a", {0, c}) % 11);
  }
  for (std::uint64_t c = 0; c < 2; ++c) {
    EXPECT_EQ(data.features[title[c]].values.rows[item(data, "2")],
              siphash64("the SEA", {1, c}) % 11);
  }
}

TEST_F(Features, ManyUnifiedChunksStandInOrderOfNumberOrOfName) {
  const std::string text = feature_of("query", "who", "unified",
                                      "column = \"user\"\nbuckets = 9\nchunks = 11\ndim = 1\n");
  const auto order = [&] {
    std::vector<int> out;
    const ModelData data = load(text);
    for (const std::size_t f : features(data, "who")) out.push_back(data.features[f].chunk);
    return out;
  };
  EXPECT_EQ(order(), (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  preset = "preset = \"tfrs\"\n";
  EXPECT_EQ(order(), (std::vector<int>{0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST_F(Features, NumbersAsTheyAreOrNormalised) {
  const ModelData data =
      load(feature_of("candidate", "year", "number", "") +
           feature_of("candidate", "age", "number", "column = \"year\"\nnormalise = true\n") +
           feature_of("query", "hour", "number", "normalise = true\n") +
           feature_of("query", "given", "number",
                      "column = \"hour\"\nnormalise = true\nmean = 20\nvariance = 25\n"));
  EXPECT_EQ(feature(data, "year").form(), FeatureForm::dense);
  EXPECT_EQ(feature(data, "year").width, 1);
  EXPECT_EQ(feature(data, "year").values.numbers[item(data, "3")], 2060);
  // Learned of the items that were trained on: 1990 and 2000, not 2060.
  EXPECT_DOUBLE_EQ(feature(data, "age").mean, 1995);
  EXPECT_DOUBLE_EQ(feature(data, "age").scale, 0.2);
  EXPECT_EQ(feature(data, "age").values.numbers[item(data, "1")], -1);
  EXPECT_EQ(feature(data, "age").values.numbers[item(data, "3")], 13);
  // Hours 10 .. 50: mean 30, population variance 200.
  EXPECT_DOUBLE_EQ(feature(data, "hour").mean, 30);
  const Floats& hours = data.train.context[context_of(data, "hour")].numbers;
  EXPECT_FLOAT_EQ(hours[0], static_cast<float>(-20 / std::sqrt(200.0)));
  EXPECT_EQ(data.train.context[context_of(data, "given")].numbers, (Floats{-2, 0, 2, 4, 6}));
  // The whole catalogue, where its vocabulary is asked for.
  EXPECT_DOUBLE_EQ(feature(load(feature_of("candidate", "age", "number",
                                           "column = \"year\"\nnormalise = true\n"),
                                "vocabulary = \"catalogue\"\n"),
                           "age")
                       .mean,
                   (1990 + 2000 + 2060) / 3.0);
}

TEST_F(Features, AConstantAndASingleNumber) {
  folder.write("r.csv", "user,item,hour\na,1,7\n");
  const ModelData data = load(feature_of("query", "hour", "number", "normalise = true\n"));
  EXPECT_DOUBLE_EQ(feature(data, "hour").scale, 1e7);
  EXPECT_EQ(data.train.context[0].numbers, (Floats{0}));
}

TEST_F(Features, BucketsBetweenBoundaries) {
  const ModelData data =
      load(feature_of("query", "given", "bucket",
                      "column = \"hour\"\nboundaries = [20, 35]\ndim = 4\n") +
           feature_of("query", "even", "bucket",
                      "column = \"hour\"\nboundaries = { linspace = 3 }\ndim = 4\n") +
           feature_of("query", "equal", "bucket",
                      "column = \"hour\"\nboundaries = { quantiles = 4 }\ndim = 4\n") +
           feature_of("candidate", "year", "bucket", "boundaries = { linspace = 2 }\ndim = 4\n"));
  EXPECT_EQ(table(data, "given").rows(), 3);
  EXPECT_EQ(data.train.context[context_of(data, "given")].rows, (Rows{0, 1, 1, 2, 2}));
  EXPECT_EQ(table(data, "even").boundaries, (Floats{10, 30, 50}));
  EXPECT_EQ(data.train.context[context_of(data, "even")].rows, (Rows{1, 1, 2, 2, 3}));
  EXPECT_EQ(table(data, "equal").boundaries, (Floats{20, 30, 40}));
  EXPECT_EQ(data.train.context[context_of(data, "equal")].rows, (Rows{0, 1, 2, 3, 3}));
  EXPECT_EQ(table(data, "year").boundaries, (Floats{1990, 2000}));
  EXPECT_EQ(feature(data, "year").values.rows[item(data, "3")], 2);
  // The last row of each user: c's only one, b's second, a's by time.
  EXPECT_EQ(data.last_context[context_of(data, "given")].rows,
            (Rows{2, 0, 2}));  // b: 40, a: 10, c: 50
}

TEST_F(Features, QuantilesOfTheTfrsPresetAreKerasSketch) {
  preset = "preset = \"tfrs\"\n";
  const std::string keys = "boundaries = { quantiles = 4 }\ndim = 4\n";
  const ModelData data = load(feature_of("query", "hour", "bucket", keys));
  // Shares 0.2 .. 1 of 10 .. 50: a quarter lies a quarter of the way from 10 to 20.
  const Floats& b = table(data, "hour").boundaries;
  ASSERT_EQ(b.size(), 3u);
  EXPECT_FLOAT_EQ(b[0], 12.5f);
  EXPECT_FLOAT_EQ(b[1], 25);
  EXPECT_FLOAT_EQ(b[2], 37.5f);
}

TEST_F(Features, TextIsAListOfWords) {
  const ModelData data =
      load(feature_of("candidate", "title", "text", "dim = 4\n") +
           feature_of("candidate", "pairs", "text",
                      "column = \"title\"\nngrams = 2\nmax_tokens = 4\ndim = 4\n"));
  // Words of what was trained: the 2, sea 2, red 1; padding and unknown words before them.
  EXPECT_EQ(table(data, "title").vocabulary.all_tokens(), (Names{"the", "sea", "red"}));
  EXPECT_EQ(table(data, "title").rows(), 5);
  const FeatureValues& v = feature(data, "title").values;
  EXPECT_EQ(list(v, item(data, "1")), (Rows{2, 4, 3}));
  EXPECT_EQ(list(v, item(data, "2")), (Rows{2, 3}));
  EXPECT_EQ(list(v, item(data, "3")), (Rows{1, 1}));
  EXPECT_EQ(feature(data, "title").longest, 3);
  EXPECT_EQ(table(data, "pairs").vocabulary.all_tokens(), (Names{"the", "sea"}));
  // the red sea, then "the red", "red sea"
  EXPECT_EQ(list(feature(data, "pairs").values, item(data, "1")), (Rows{2, 1, 3, 1, 1}));
}

TEST_F(Features, TextWithoutWordsAndBrokenItems) {
  folder.write("m.csv", "item,title\n1,...\n2,\"\"\n3,a\n");
  const ModelData data = load(feature_of("candidate", "title", "text", "dim = 4\n"));
  EXPECT_EQ(table(data, "title").rows(), 2);
  EXPECT_EQ(list(feature(data, "title").values, item(data, "1")), Rows{});
  EXPECT_EQ(list(feature(data, "title").values, item(data, "2")), Rows{});
  EXPECT_EQ(feature(data, "title").longest, 1);
}

TEST_F(Features, ListsWithWeightsAndALength) {
  const ModelData data = load(
      feature_of("candidate", "genres", "list", "weights = \"shares\"\ndim = 4\n") +
      feature_of("candidate", "last", "list", "column = \"genres\"\nmax_length = 1\ndim = 4\n"));
  // x 2, y 2, z 1: by count, then descending.
  EXPECT_EQ(table(data, "genres").vocabulary.all_tokens(), (Names{"y", "x", "z"}));
  const FeatureValues& v = feature(data, "genres").values;
  const auto weights = [&](const char* id) {
    const std::size_t i = item(data, id);
    return Floats(v.weights.begin() + v.begin[i], v.weights.begin() + v.end[i]);
  };
  EXPECT_EQ(list(v, item(data, "1")), (Rows{2, 1}));
  EXPECT_EQ(weights("1"), (Floats{1, 0.5f}));
  EXPECT_EQ(list(v, item(data, "3")), (Rows{3, 2}));  // nothing between two separators
  EXPECT_EQ(weights("3"), (Floats{1, 3}));
  EXPECT_EQ(list(feature(data, "last").values, item(data, "1")), (Rows{1}));
  EXPECT_EQ(feature(data, "last").longest, 1);
  EXPECT_TRUE(feature(data, "last").values.weights.empty());
}

TEST_F(Features, SameListOtherWeights) {
  folder.write("m.csv", "item,genres,shares\n1,x,4\n2,x,5\n3,x,4\n");
  const FeatureValues v =
      feature(load(feature_of("candidate", "genres", "list", "weights = \"shares\"\ndim = 4\n")),
              "genres")
          .values;
  EXPECT_EQ(v.rows, (Rows{1, 1}));  // equal fields are one list
  ASSERT_EQ(v.begin.size(), 3u);
  std::multiset<float> weights;
  for (const std::int64_t at : v.begin) weights.insert(v.weights[static_cast<std::size_t>(at)]);
  EXPECT_EQ(weights, (std::multiset<float>{4, 4, 5}));
}

TEST_F(Features, ListFaults) {
  folder.write("m.csv", "item,genres,shares\n1,x|y,1\n2,y,1\n");
  const std::string weighted =
      feature_of("candidate", "genres", "list", "weights = \"shares\"\ndim = 4\n");
  EXPECT_NE(message(weighted).find("\"x|y\" has 2 values"), std::string::npos);
  folder.write("m.csv", "item,genres,shares\n1,x|y,1|high\n2,y,1\n");
  EXPECT_NE(message(weighted).find("\"high\" is not a number"), std::string::npos);
  EXPECT_NE(message(feature_of("candidate", "genres", "list", "weights = \"none\"\ndim = 4\n"))
                .find("none"),
            std::string::npos);
}

TEST_F(Features, VectorsHoldNumbersOfOneWidth) {
  const std::string keys = "separator = \" \"\n";
  const ModelData data = load(feature_of("candidate", "point", "vector", keys + "dim = 2\n"));
  EXPECT_EQ(feature(data, "point").width, 2);
  const Floats& v = feature(data, "point").values.numbers;
  ASSERT_EQ(v.size(), 6u);
  EXPECT_EQ(v[2 * item(data, "2")], -1);
  EXPECT_EQ(v[2 * item(data, "2") + 1], 0.5f);
  EXPECT_NE(
      message(feature_of("candidate", "point", "vector", keys + "dim = 3\n")).find("2 numbers"),
      std::string::npos);
  EXPECT_NE(message(feature_of("candidate", "title", "vector", keys + "dim = 2\n")).find("numbers"),
            std::string::npos);
  folder.write("m.csv", "item,point\n1,1 nan\n2,1 2\n");
  EXPECT_NE(message(feature_of("candidate", "point", "vector", keys + "dim = 2\n")).find("\"nan\""),
            std::string::npos);
}

TEST_F(Features, NumbersThatAreNone) {
  folder.write("m.csv", "item,year\n1,1990\n2,\n");
  const std::string year = feature_of("candidate", "year", "number", "");
  EXPECT_NE(message(year).find("m.csv:3"), std::string::npos);
  folder.write("m.csv", "item,year\n1,1990\n2,1e300\n");
  EXPECT_NE(message(year).find("float32"), std::string::npos);
  folder.write("m.csv", "item,year\n1,1990\n2,2000\n");
  EXPECT_NE(message(feature_of("query", "who", "number", "column = \"user\"\n")).find("\"b\""),
            std::string::npos);
}

TEST_F(Features, ItemsWithoutASideRowHaveNoValue) {
  folder.write("m.csv", "item,title,year,genres\n1,sea,1990,x\n");
  const ModelData data =
      load(feature_of("candidate", "title", "text", "dim = 4\n") +
               feature_of("candidate", "year", "number", "normalise = true\n") +
               feature_of("candidate", "when", "bucket",
                          "column = \"year\"\nboundaries = [0]\ndim = 4\n") +
               feature_of("candidate", "genres", "hashed", "buckets = 9\ndim = 4\n"),
           "on_missing = \"keep\"\n");
  const std::size_t none = item(data, "2");
  EXPECT_EQ(list(feature(data, "title").values, none), Rows{});
  EXPECT_EQ(feature(data, "year").values.numbers[none], 0);
  EXPECT_DOUBLE_EQ(feature(data, "year").mean, 1990);
  EXPECT_EQ(feature(data, "when").values.rows[none], 0);
  EXPECT_EQ(feature(data, "when").values.rows[item(data, "1")], 1);
  EXPECT_EQ(feature(data, "genres").values.rows[none], 0);
}

TEST_F(Features, ASequenceIsWhatTheUserHadBefore) {
  folder.write("r.csv",
               "user,item,time\n"
               "a,1,30\na,2,10\na,3,20\nb,2,7\nb,1,7\nc,1,1\n");
  const ModelData data =
      folder
          .load("[data]\ninteractions = \"r.csv\"\n" +
                towers(feature_of("query", "user", "id", "dim = 4\n") +
                       feature_of("candidate", "item", "id", "dim = 4\ntable = \"items\"\n") +
                       feature_of("query", "history", "sequence",
                                  "dim = 4\ntable = \"items\"\nmax_length = 2\n")))
          .data;
  ASSERT_EQ(data.tables.size(), 2u);
  EXPECT_TRUE(table(data, "item").vocabulary.same_tokens(data.items));
  EXPECT_EQ(data.items.all_tokens(), (Names{"1", "2", "3"}));
  const FeatureValues& v = data.train.context[0];
  EXPECT_EQ(list(v, 0), (Rows{2, 3}));
  EXPECT_EQ(list(v, 1), Rows{});
  EXPECT_EQ(list(v, 2), (Rows{2}));
  EXPECT_EQ(list(v, 3), Rows{});
  EXPECT_EQ(list(v, 4), (Rows{2}));
  EXPECT_EQ(list(v, 5), Rows{});
  const auto user = [&](const char* id) {
    return static_cast<std::size_t>(*data.users.token_index(id));
  };
  EXPECT_EQ(list(data.last_context[0], user("a")), (Rows{3, 1}));
  EXPECT_EQ(list(data.last_context[0], user("b")), (Rows{2, 1}));
  EXPECT_EQ(list(data.last_context[0], user("c")), (Rows{1}));
  EXPECT_EQ(feature(data, "history").longest, 2);
}

TEST_F(Features, ATableOfIdsAndHistoriesCountsEachItemOnce) {
  const ModelData data =
      folder
          .load("[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\ncatalogue = \"all\"\n" +
                towers(feature_of("candidate", "item", "id", "dim = 4\ntable = \"items\"\n") +
                       feature_of("query", "history", "sequence", "dim = 4\ntable = \"items\"\n")))
          .data;
  EXPECT_EQ(data.item_count(), 3);
  EXPECT_EQ(table(data, "item").vocabulary.all_tokens(), (Names{"1", "2"}));  // 3 is untrained
  EXPECT_EQ(table(data, "item").vocabulary.counts(), (std::vector<std::int64_t>{3, 2}));
}

TEST_F(Features, AVocabularyThatIsGivenIsTheTableInItsOrder) {
  folder.write("users.txt", "b\nzz\na\n");
  folder.write("genres.txt", "z\nx\n");
  const ModelData data =
      folder
          .load("[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\n" +
                towers(feature_of("query", "user", "id", "dim = 4\nvocabulary = \"users.txt\"\n") +
                       feature_of("candidate", "item", "id", "dim = 4\n") +
                       feature_of("candidate", "genres", "list",
                                  "dim = 4\nvocabulary = \"genres.txt\"\n")))
          .data;
  EXPECT_EQ(table(data, "user").vocabulary.all_tokens(), (Names{"b", "zz", "a"}));
  const auto row = [&](const char* id) {
    return feature(data, "user").values.rows[static_cast<std::size_t>(*data.users.token_index(id))];
  };
  EXPECT_EQ(row("a"), 3);
  EXPECT_EQ(row("b"), 1);
  EXPECT_EQ(row("c"), 0);  // trained on, but not in the list
  EXPECT_EQ(table(data, "genres").vocabulary.all_tokens(), (Names{"z", "x"}));
  folder.write("users.txt", "b\na\nb\n");
  EXPECT_EQ(error_of([&] {
              load(feature_of("query", "user2", "id",
                              "column = \"user\"\ndim = 4\nvocabulary = \"users.txt\"\n"));
            }).code(),
            ExitCode::bad_data);
}

TEST_F(Features, TestRowsAreInNobodysHistoryAndTeachNothing) {
  std::string rows = "user,item,hour,time\n";
  for (int u = 0; u < 8; ++u) {
    for (int t = 0; t < 6; ++t) {
      rows += fmt::format("u{},i{},{},{}\n", u, (u + t) % 9, t == 5 ? 1000 : t, t);
    }
  }
  folder.write("r.csv", rows);
  const std::string text =
      feature_of("query", "user", "id", "dim = 4\n") +
      feature_of("candidate", "item", "id", "dim = 4\ntable = \"items\"\n") +
      feature_of("query", "history", "sequence", "dim = 4\ntable = \"items\"\n") +
      feature_of("query", "hour", "number", "normalise = true\n") +
      feature_of("query", "part", "bucket",
                 "column = \"hour\"\nboundaries = { linspace = 2 }\ndim = 4\n");
  const ModelData data =
      folder
          .load("[data]\ninteractions = \"r.csv\"\n[split]\nmethod = \"leave-last-out\"\n" +
                towers(text))
          .data;
  ASSERT_EQ(data.test.size(), 8);
  for (std::size_t i = 0; i < 8; ++i) {
    const Rows history = list(data.test.context[0], i);
    ASSERT_EQ(history.size(), 5u);  // all training rows of the user
    EXPECT_EQ(history, list(data.last_context[0], static_cast<std::size_t>(data.test.user[i])));
    for (const std::int32_t row : history) EXPECT_NE(row - 1, data.test.item[i]);
  }
  EXPECT_DOUBLE_EQ(feature(data, "hour").mean, 2);
  EXPECT_EQ(table(data, "part").boundaries, (Floats{0, 4}));
}

TEST_F(Features, ATestFileTakesTheHistoriesOfTheModel) {
  folder.write("t.csv", "user,item,hour,time\nb,1,11,1\nz,2,12,2\na,9,13,3\n");
  const std::string text =
      feature_of("query", "user", "id", "dim = 4\n") +
      feature_of("candidate", "item", "id", "dim = 4\ntable = \"items\"\n") +
      feature_of("query", "history", "sequence", "dim = 4\ntable = \"items\"\n") +
      feature_of("query", "hour", "number", "") +
      feature_of("query", "word", "text", "column = \"hour\"\ndim = 4\n");
  const auto [config, data] = folder.load(
      "[data]\ninteractions = \"r.csv\"\ntest = \"t.csv\"\n[split]\nmethod = \"file\"\n" +
      towers(text));
  const auto check = [&, &data = data](const Interactions& test) {
    ASSERT_EQ(test.size(), 3);
    ASSERT_EQ(test.context.size(), 3u);
    EXPECT_EQ(list(test.context[0], 0).size(), 2u);
    EXPECT_EQ(list(test.context[0], 1), Rows{});
    EXPECT_EQ(list(test.context[0], 2).size(), 2u);
    EXPECT_EQ(test.context[1].numbers, (Floats{11, 12, 13}));
    EXPECT_EQ(list(test.context[2], 0), (Rows{1}));  // a word that training never saw
  };
  check(data.test);
  check(load_test_file(config, folder.path("t.csv"), data));
}

TEST_F(Features, ASequenceIsOfTheItems) {
  const std::string text =
      feature_of("query", "history", "sequence", "dim = 4\ncolumn = \"hour\"\n");
  EXPECT_NE(message(text, ExitCode::usage).find("\"hour\""), std::string::npos);
}

TEST_F(Features, SharedBucketsHaveOneSetOfBoundaries) {
  const auto two = [&](const std::string& a, const std::string& b) {
    return feature_of("query", "hour", "bucket",
                      "table = \"t\"\ndim = 4\nboundaries = " + a + "\n") +
           feature_of("candidate", "year", "bucket",
                      "table = \"t\"\ndim = 4\nboundaries = " + b + "\n");
  };
  EXPECT_EQ(table(load(two("[20, 1995]", "[20, 1995]")), "year").rows(), 3);
  EXPECT_NE(message(two("[20]", "[21]"), ExitCode::usage).find("boundaries differ"),
            std::string::npos);
  EXPECT_NE(message(two("{ linspace = 2 }", "{ linspace = 2 }"), ExitCode::usage).find("differ"),
            std::string::npos);
}

TEST_F(Features, AValueAsText) {
  const ModelData data = load(
      feature_of("query", "hour", "number", "normalise = true\n") +
      feature_of("query", "part", "bucket", "column = \"hour\"\nboundaries = [20]\ndim = 4\n") +
      feature_of("query", "text", "text", "column = \"hour\"\ndim = 4\n") +
      feature_of("query", "history", "sequence", "dim = 4\n"));
  const auto value = [&](const char* name, const char* text) {
    return value_of_text(data, features(data, name).at(0), text);
  };
  EXPECT_EQ(value("hour", "30").numbers, (Floats{0}));
  EXPECT_EQ(value("part", "19.5").rows, (Rows{0}));
  EXPECT_EQ(value("part", "20").rows, (Rows{1}));
  EXPECT_EQ(list(value("text", "10 and 99"), 0).size(), 3u);
  EXPECT_EQ(list(value("text", ""), 0), Rows{});
  EXPECT_EQ(error_of([&] { value("hour", "late"); }).code(), ExitCode::bad_data);
  EXPECT_EQ(error_of([&] { value("hour", ""); }).code(), ExitCode::bad_data);
  EXPECT_EQ(list(value("history", ""), 0), Rows{});
}

TEST_F(Features, AModelFileKeepsThem) {
  const auto [config, data] =
      loaded(feature_of("query", "hour", "number", "normalise = true\n") +
             feature_of("query", "part", "bucket",
                        "column = \"hour\"\nboundaries = { quantiles = 3 }\ndim = 4\n") +
             feature_of("query", "words", "text", "column = \"hour\"\ndim = 4\n") +
             feature_of("query", "who", "unified", "column = \"user\"\nbuckets = 5\ndim = 4\n") +
             feature_of("query", "history", "sequence", "dim = 4\n") +
             feature_of("candidate", "title", "text", "dim = 4\n") +
             feature_of("candidate", "genres", "list", "weights = \"shares\"\ndim = 4\n") +
             feature_of("candidate", "point", "vector", "separator = \" \"\ndim = 2\n"));
  const Context ctx = make_context(1);
  TowerNetworks towers(ctx, config, data, 4, 4, false);
  towers.commit(ctx);
  towers.registry().initialise(ctx, 3);
  const auto index = build_index(ctx, towers, data);
  const ItemLists seen = items_by_user(data.user_count(), data.item_count(), {&data.train});
  write_model_file(ctx, folder.path("model"), config, data, seen, towers, index.get());
  const auto model = load_model_file(ctx, folder.path("model"));
  EXPECT_EQ(model->data.last_context, data.last_context);
  ASSERT_EQ(model->data.features.size(), data.features.size());
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    const FeatureData &a = data.features[f], &b = model->data.features[f];
    SCOPED_TRACE(a.config.name);
    EXPECT_EQ(b.values, a.values);
    EXPECT_EQ(b.chunk, a.chunk);
    EXPECT_EQ(b.width, a.width);
    EXPECT_EQ(b.mean, a.mean);
    EXPECT_EQ(b.scale, a.scale);
    if (a.config.kind == FeatureKind::sequence || !a.config.weights.empty()) continue;
    const char* text = a.config.kind == FeatureKind::vector ? "3 4" : "12";
    EXPECT_EQ(value_of_text(model->data, f, text), value_of_text(data, f, text));
  }
  for (std::size_t t = 0; t < data.tables.size(); ++t) {
    EXPECT_EQ(model->data.tables[t].rows(), data.tables[t].rows());
    EXPECT_EQ(model->data.tables[t].boundaries, data.tables[t].boundaries);
    EXPECT_EQ(model->data.tables[t].vocabulary.row(""), data.tables[t].vocabulary.row(""));
  }
}

}  // namespace
}  // namespace belfry::test
