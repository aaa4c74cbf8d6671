// SPDX-License-Identifier: Apache-2.0
// Entities, tables and features from files: which ids become rows, and of which table.
#include "engine/model_data.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "engine/error.hpp"
#include "kernels/core/context.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

using Names = std::vector<std::string>;

Names items_of(const ModelData& data, const Interactions& part) {
  Names out;
  for (const std::int32_t i : part.item) {
    out.push_back(i < data.item_count() ? data.items.token(i) : "outside");
  }
  return out;
}

const FeatureData& feature(const ModelData& data, const std::string& name) {
  for (const FeatureData& f : data.features) {
    if (f.config.name == name) return f;
  }
  throw std::runtime_error("no feature " + name);
}

const Vocabulary& vocabulary(const ModelData& data, const std::string& name) {
  return data.tables[static_cast<std::size_t>(feature(data, name).table)].vocabulary;
}

/// The value that an entity's table row stands for.
std::string value(const ModelData& data, const std::string& name, const std::string& entity) {
  const FeatureData& f = feature(data, name);
  const Vocabulary& entities = f.config.of == Side::query ? data.users : data.items;
  return vocabulary(data, name)
      .inverse(f.values.rows[static_cast<std::size_t>(*entities.token_index(entity))]);
}

constexpr const char* kRatings =
    "user_id,movie_id,rating\n"
    "a,1,5\n"
    "a,2,3\n"
    "b,1,4\n"
    "b,3,1\n"
    "c,2,2\n";

TEST(ModelData, IdTowersComeFromTheInteractionsAlone) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  const auto [config, data] = folder.load("[data]\ninteractions = \"r.csv\"\n");
  ASSERT_EQ(config.features.size(), 2u);
  EXPECT_EQ(config.features[0].name, "user_id");
  EXPECT_EQ(config.features[1].name, "movie_id");
  // By count, ties by descending bytes (Keras's StringLookup).
  EXPECT_EQ(data.users.all_tokens(), (Names{"b", "a", "c"}));
  EXPECT_EQ(data.items.all_tokens(), (Names{"2", "1", "3"}));
  EXPECT_EQ(data.item_counts, (std::vector<std::int64_t>{2, 2, 1}));
  EXPECT_EQ(data.train.user.size(), 5u);
  EXPECT_EQ(items_of(data, data.train), (Names{"1", "2", "1", "3", "2"}));
  EXPECT_TRUE(data.train.weight.empty());  // a guessed rating weights nothing
  EXPECT_EQ(data.report.weight, "rating");
  EXPECT_TRUE(data.report.weight_guessed);
  EXPECT_FALSE(data.has_test);
  // One row for unknown ids, then the entities in order.
  EXPECT_EQ(vocabulary(data, "user_id").rows(), 4);
  EXPECT_EQ(feature(data, "user_id").values.rows, (std::vector<std::int32_t>{1, 2, 3}));
}

TEST(ModelData, AGuessedRatingIsCheckedAndAGivenWeightIsUsed) {
  const ModelFolder folder;
  folder.write("r.csv", "user,item,rating\na,1,5\nb,2,high\n");
  const Error guessed =
      error_of([&] { folder.load("[data]\ninteractions = \"r.csv\"\nweight = \"rating\"\n"); });
  EXPECT_EQ(guessed.code(), ExitCode::bad_data);
  EXPECT_NE(guessed.where().find("r.csv:3:5"), std::string::npos) << guessed.where();
  folder.write("r.csv", "user,item,rating\na,1,5\nb,2,0.5\n");
  const auto [config, data] =
      folder.load("[data]\ninteractions = \"r.csv\"\nweight = \"rating\"\n");
  EXPECT_EQ(data.train.weight, (std::vector<float>{5, 0.5f}));
  folder.write("r.csv", "user,item,rating\na,1,5\nb,2,-0.5\n");
  const Error negative =
      error_of([&] { folder.load("[data]\ninteractions = \"r.csv\"\nweight = \"rating\"\n"); });
  EXPECT_EQ(negative.code(), ExitCode::bad_data);
  EXPECT_NE(std::string(negative.what()).find("negative"), std::string::npos);
}

TEST(ModelData, TwoIdsOfOneTitleAreOneItem) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  folder.write(
      "m.csv",
      "movie_id,title,genre\n1,Alien,horror\n2,Brazil,satire\n3,Alien,remake\n4,Dune,sf\n");
  const char* toml =
      "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\nitem = \"title\"\n%s"
      "[[feature]]\nname = \"title\"\nof = \"candidate\"\nkind = \"id\"\ndim = 32\n"
      "[[feature]]\nname = \"genre\"\nof = \"candidate\"\nkind = \"category\"\ndim = 32\n";
  std::string with_key = toml;
  with_key.replace(with_key.find("%s"), 2, "items_key = \"movie_id\"\n");
  std::string without_key = toml;
  without_key.replace(without_key.find("%s"), 2, "");
  for (const std::string& text : {with_key, without_key}) {
    const auto [config, data] = folder.load(text);
    EXPECT_EQ(config.data.items_key, "movie_id");
    EXPECT_EQ(items_of(data, data.train), (Names{"Alien", "Brazil", "Alien", "Alien", "Brazil"}));
    // A feature beside the id: the catalogue is the side table, Dune without a training row last.
    EXPECT_EQ(data.items.all_tokens(), (Names{"Alien", "Brazil", "Dune"}));
    EXPECT_EQ(data.item_counts, (std::vector<std::int64_t>{3, 2, 0}));
    EXPECT_EQ(value(data, "genre", "Alien"), "horror");  // the first row speaks for the title
    EXPECT_EQ(value(data, "genre", "Dune"), "sf");
    EXPECT_EQ(value(data, "title", "Dune"), "[UNK]");  // vocabulary = "train"
  }
}

TEST(ModelData, TheCatalogueFollowsItsRule) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  folder.write("m.csv", "movie_id,genre\n1,x\n2,y\n3,x\n9,z\n");
  const std::string data = "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\n";
  const std::string genre =
      "[[feature]]\nname = \"movie_id\"\nof = \"candidate\"\nkind = \"id\"\ndim = 32\n"
      "[[feature]]\nname = \"genre\"\nof = \"candidate\"\nkind = \"category\"\ndim = 32\n";
  EXPECT_EQ(folder.load(data).data.item_count(), 3);  // ids alone: what was trained
  EXPECT_EQ(folder.load(data + "catalogue = \"all\"\n").data.item_count(), 4);
  EXPECT_EQ(folder.load(data + genre).data.item_count(), 4);
  EXPECT_EQ(folder.load(data + "catalogue = \"trained\"\n" + genre).data.item_count(), 3);
}

TEST(ModelData, TheVocabularyFollowsItsRule) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  folder.write("m.csv", "movie_id,genre\n1,x\n2,y\n3,x\n9,z\n");
  folder.write("ids.txt", "3\n9\n77\n");
  const std::string all =
      "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\ncatalogue = \"all\"\n";
  const auto train = folder.load(all).data;
  EXPECT_EQ(vocabulary(train, "movie_id").all_tokens(), (Names{"2", "1", "3"}));
  EXPECT_EQ(value(train, "movie_id", "9"), "[UNK]");
  const auto catalogue = folder.load(all + "vocabulary = \"catalogue\"\n").data;
  EXPECT_EQ(vocabulary(catalogue, "movie_id").all_tokens(), (Names{"2", "1", "3", "9"}));
  EXPECT_EQ(value(catalogue, "movie_id", "9"), "9");
  const auto file = folder.load(all + "vocabulary = \"ids.txt\"\n").data;
  EXPECT_EQ(vocabulary(file, "movie_id").all_tokens(), (Names{"3", "9", "77"}));  // as given
  EXPECT_EQ(value(file, "movie_id", "3"), "3");
  EXPECT_EQ(value(file, "movie_id", "1"), "[UNK]");
  EXPECT_EQ(vocabulary(file, "user_id").tokens(), 3);  // users are not in the file's hands
}

TEST(ModelData, WithoutAnOovRowAnUnknownValueIsAnError) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  folder.write("m.csv", "movie_id,genre\n1,x\n2,y\n3,x\n9,z\n");
  const Error e = error_of([&] {
    folder.load(
        "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\ncatalogue = \"all\"\n"
        "[[feature]]\nname = \"movie_id\"\nof = \"candidate\"\nkind = \"id\"\noov = 0\n");
  });
  EXPECT_EQ(e.code(), ExitCode::bad_data);
  EXPECT_NE(std::string(e.what()).find("\"9\""), std::string::npos) << e.what();
}

TEST(ModelData, ItemsMissingFromTheSideTable) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  folder.write("m.csv", "movie_id,title\n1,Alien\n2,Brazil\n");
  const std::string data =
      "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\nitem = \"title\"\n";
  const Error e = error_of([&] { folder.load(data); });
  EXPECT_EQ(e.code(), ExitCode::bad_data);
  EXPECT_NE(e.where().find("m.csv"), std::string::npos);
  EXPECT_NE(std::string(e.what()).find("\"3\""), std::string::npos) << e.what();
  const auto kept = folder.load(data + "on_missing = \"keep\"\n").data;
  EXPECT_EQ(items_of(kept, kept.train), (Names{"Alien", "Brazil", "Alien", "3", "Brazil"}));
  // A row that `where` leaves out needs no row of the side table.
  const auto filtered = folder.load(data + "where = \"rating >= 2\"\n").data;
  EXPECT_EQ(filtered.train.size(), 4);
}

TEST(ModelData, UsersAndTheirSideTable) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  folder.write("u.csv", "user_id,city\nb,Rome\na,Oslo\nc,Rome\nd,Wien\n");
  const std::string toml =
      "[data]\ninteractions = \"r.csv\"\nusers = \"u.csv\"\n%s"
      "[[feature]]\nname = \"user_id\"\nof = \"query\"\nkind = \"id\"\ndim = 32\n"
      "[[feature]]\nname = \"city\"\nof = \"query\"\nkind = \"category\"\ndim = 32\n";
  const auto with = [&](const std::string& keys) {
    std::string text = toml;
    return text.replace(text.find("%s"), 2, keys);
  };
  const auto data = folder.load(with("")).data;
  EXPECT_EQ(data.user_count(), 3);  // d never interacts
  EXPECT_FALSE(feature(data, "city").context);
  EXPECT_EQ(value(data, "city", "a"), "Oslo");
  EXPECT_EQ(value(data, "city", "b"), "Rome");
  EXPECT_EQ(vocabulary(data, "city").all_tokens(), (Names{"Rome", "Oslo"}));
  folder.write("u.csv", "user_id,city\nb,Rome\na,Oslo\n");
  const Error e = error_of([&] { folder.load(with("")); });
  EXPECT_EQ(e.code(), ExitCode::bad_data);
  EXPECT_NE(e.where().find("u.csv"), std::string::npos) << e.what();
  EXPECT_NE(std::string(e.what()).find("\"c\""), std::string::npos) << e.what();
  EXPECT_EQ(value(folder.load(with("on_missing = \"keep\"\n")).data, "city", "c"), "[UNK]");
  folder.write("u.csv", "user_id,city\nb,Rome\na,Oslo\nb,Wien\nc,x\n");
  const Error twice = error_of([&] { folder.load(with("")); });
  EXPECT_EQ(twice.code(), ExitCode::bad_data);
  EXPECT_NE(std::string(twice.what()).find("twice"), std::string::npos);
}

TEST(ModelData, ContextIsOneValueAnInteraction) {
  const ModelFolder folder;
  folder.write("r.csv",
               "user,item,device,time\n"
               "a,1,phone,30\na,2,tv,10\nb,1,tv,5\nb,2,phone,5\nc,1,web,1\n");
  const auto data =
      folder
          .load(
              "[data]\ninteractions = \"r.csv\"\n"
              "[[feature]]\nname = \"user\"\nof = \"query\"\nkind = \"id\"\ndim = 32\n"
              "[[feature]]\nname = \"device\"\nof = \"query\"\nkind = \"category\"\ndim = 32\n")
          .data;
  const FeatureData& device = feature(data, "device");
  EXPECT_TRUE(device.context);
  EXPECT_TRUE(device.values.rows.empty());
  const Vocabulary& v = vocabulary(data, "device");
  EXPECT_EQ(v.all_tokens(), (Names{"tv", "phone", "web"}));
  ASSERT_EQ(data.train.context.size(), 1u);
  EXPECT_EQ(data.train.context[0].rows, (std::vector<std::int32_t>{2, 1, 1, 2, 3}));
  // The last by time; among equal times the later row.
  ASSERT_EQ(data.last_context.size(), 1u);
  const auto last = [&](const char* user) {
    return v.inverse(
        data.last_context[0].rows[static_cast<std::size_t>(*data.users.token_index(user))]);
  };
  EXPECT_EQ(last("a"), "phone");
  EXPECT_EQ(last("b"), "phone");
  EXPECT_EQ(last("c"), "web");
}

TEST(ModelData, LastContextSeesValidationRowsButNotTestRows) {
  const ModelFolder folder;
  std::string rows = "user,item,hour,time\n";
  for (int u = 0; u < 8; ++u) {
    for (int t = 0; t < 6; ++t) {
      rows += fmt::format("u{},i{},h{},{}\n", u, (u + t) % 9, t, t);
    }
  }
  folder.write("r.csv", rows);
  const auto data =
      folder
          .load(
              "[data]\ninteractions = \"r.csv\"\n[split]\nmethod = \"leave-last-out\"\n"
              "validation = 0.3\n"
              "[[feature]]\nname = \"user\"\nof = \"query\"\nkind = \"id\"\ndim = 32\n"
              "[[feature]]\nname = \"hour\"\nof = \"query\"\nkind = \"category\"\ndim = 32\n")
          .data;
  ASSERT_EQ(data.test.size(), 8);
  ASSERT_GT(data.validation.size(), 4);
  const Vocabulary& v = vocabulary(data, "hour");
  EXPECT_FALSE(v.token_index("h5").has_value());  // stands in test rows alone
  for (const std::int32_t row : data.test.context[0].rows) EXPECT_EQ(row, 0);
  for (const std::int32_t row : data.last_context[0].rows) EXPECT_EQ(v.inverse(row), "h4");
}

TEST(ModelData, TestItemsAndUsersOutsideTheModelAreNumberedApart) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  folder.write("t.csv", "user_id,movie_id,rating\nz,1,1\na,8,2\nz,9,3\ny,8,4\nb,3,5\n");
  const std::string toml =
      "[data]\ninteractions = \"r.csv\"\ntest = \"t.csv\"\n[split]\nmethod = \"file\"\n";
  const auto [config, data] = folder.load(toml);
  EXPECT_TRUE(data.has_test);
  const auto user = [&](const char* id) {
    return static_cast<std::int32_t>(*data.users.token_index(id));
  };
  const auto item = [&](const char* id) {
    return static_cast<std::int32_t>(*data.items.token_index(id));
  };
  EXPECT_EQ(data.test.user, (std::vector<std::int32_t>{3, user("a"), 3, 4, user("b")}));
  EXPECT_EQ(data.test.item, (std::vector<std::int32_t>{item("1"), 3, 4, 3, item("3")}));
  // The same from load_test_file, also where the file has no other columns.
  const Interactions again = load_test_file(config, folder.path("t.csv"), data);
  EXPECT_EQ(again.user, data.test.user);
  EXPECT_EQ(again.item, data.test.item);
  const Interactions bare =
      load_test_file(config, folder.write("b.csv", "movie_id,user_id\n1,z\n8,a\n"), data);
  EXPECT_EQ(bare.user, (std::vector<std::int32_t>{3, user("a")}));
  EXPECT_EQ(bare.item, (std::vector<std::int32_t>{item("1"), 3}));
  const Error e =
      error_of([&] { load_test_file(config, folder.write("w.csv", "user_id,film\na,1\n"), data); });
  EXPECT_EQ(e.code(), ExitCode::bad_data);
  EXPECT_NE(std::string(e.what()).find("movie_id"), std::string::npos) << e.what();
}

TEST(ModelData, DuplicatesFollowTheirPolicy) {
  const ModelFolder folder;
  folder.write("r.csv", "user,item,weight\na,1,1\nb,1,2\na,1,3\na,2,4\na,1,5\n");
  const std::string toml = "[data]\ninteractions = \"r.csv\"\nweight = \"weight\"\nduplicates = ";
  const auto weights = [&](const char* policy) {
    return folder.load(toml + policy + "\n").data.train.weight;
  };
  EXPECT_EQ(weights("\"keep\""), (std::vector<float>{1, 2, 3, 4, 5}));
  EXPECT_EQ(weights("\"first\""), (std::vector<float>{1, 2, 4}));
  EXPECT_EQ(weights("\"last\""), (std::vector<float>{2, 4, 5}));
  EXPECT_EQ(folder.load(toml + "\"first\"\n").data.report.duplicates_dropped, 2);
  const Error e = error_of([&] { folder.load(toml + "\"error\"\n"); });
  EXPECT_EQ(e.code(), ExitCode::bad_data);
}

TEST(ModelData, DuplicateIdsOfOneTitleAreDuplicates) {
  const ModelFolder folder;
  folder.write("r.csv", "user,movie_id\na,1\na,3\nb,2\n");
  folder.write("m.csv", "movie_id,title\n1,Alien\n2,Brazil\n3,Alien\n");
  const auto data =
      folder
          .load(
              "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\nitem = \"title\"\n"
              "duplicates = \"first\"\n")
          .data;
  EXPECT_EQ(data.train.size(), 2);
  EXPECT_EQ(items_of(data, data.train), (Names{"Alien", "Brazil"}));
}

TEST(ModelData, WhereLeavesRowsOut) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  const auto data = folder.load("[data]\ninteractions = \"r.csv\"\nwhere = \"rating >= 3\"\n").data;
  EXPECT_EQ(data.train.size(), 3);
  EXPECT_EQ(data.report.rows, 3);
  EXPECT_EQ(data.report.filtered, 2);
  EXPECT_EQ(data.user_count(), 2);  // c is gone
  EXPECT_EQ(data.item_count(), 2);
}

TEST(ModelData, IntegerIdsAreNumbers) {
  const ModelFolder folder;
  folder.write("r.csv", "user,item\n007,1\n7,01\n10,2\n");
  const auto text = folder.load("[data]\ninteractions = \"r.csv\"\n").data;
  EXPECT_EQ(text.user_count(), 3);
  const auto data = folder.load("[data]\ninteractions = \"r.csv\"\nid_type = \"int\"\n").data;
  EXPECT_EQ(data.users.all_tokens(), (Names{"7", "10"}));
  EXPECT_EQ(data.items.all_tokens(), (Names{"1", "2"}));
  EXPECT_EQ(data.users.token_index("0007"), data.users.token_index("7"));
  folder.write("r.csv", "user,item\n7,1\nx,2\n");
  const Error e =
      error_of([&] { folder.load("[data]\ninteractions = \"r.csv\"\nid_type = \"int\"\n"); });
  EXPECT_EQ(e.code(), ExitCode::bad_data);
  EXPECT_NE(e.where().find("r.csv:3:1"), std::string::npos) << e.where();
}

TEST(ModelData, IntegerKeysJoinTitlesThatAreText) {
  const ModelFolder folder;
  folder.write("r.csv", "user,movie_id\n1,7\n2,08\n");
  folder.write("m.csv", "movie_id,title\n007,Alien\n8,1984\n");
  const auto data =
      folder
          .load(
              "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\nitem = \"title\"\n"
              "id_type = \"int\"\n")
          .data;
  EXPECT_EQ(items_of(data, data.train), (Names{"Alien", "1984"}));
  EXPECT_FALSE(data.items.token_index("01984").has_value());
}

TEST(ModelData, FeaturesOfBothTowersShareATable) {
  const ModelFolder folder;
  folder.write("r.csv", "user,item,lang\na,1,en\na,2,de\nb,1,en\n");
  folder.write("m.csv", "item,original\n1,fr\n2,en\n");
  const auto data =
      folder
          .load(
              "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\n"
              "[[feature]]\nname = \"user\"\nof = \"query\"\nkind = \"id\"\ndim = 32\n"
              "[[feature]]\nname = \"lang\"\nof = \"query\"\nkind = \"category\"\ndim = 32\ntable "
              "= \"language\"\n"
              "[[feature]]\nname = \"item\"\nof = \"candidate\"\nkind = \"id\"\ndim = 32\n"
              "[[feature]]\nname = \"original\"\nof = \"candidate\"\nkind = \"category\"\ndim = "
              "32\n"
              "table = \"language\"\n")
          .data;
  ASSERT_EQ(data.tables.size(), 3u);
  EXPECT_EQ(feature(data, "lang").table, feature(data, "original").table);
  // en: two rows and one item.
  EXPECT_EQ(vocabulary(data, "lang").all_tokens(), (Names{"en", "fr", "de"}));
  EXPECT_EQ(data.train.context[0].rows, (std::vector<std::int32_t>{1, 3, 1}));
  EXPECT_EQ(value(data, "original", "1"), "fr");
  EXPECT_EQ(value(data, "original", "2"), "en");
}

TEST(ModelData, TheFingerprintIsOfTheData) {
  const ModelFolder folder;
  const std::string toml = "[data]\ninteractions = \"r.csv\"\nweight = \"rating\"\n";
  std::set<std::string> seen;
  std::string text = kRatings;
  folder.write("r.csv", text);
  const std::string first = folder.load(toml).data.fingerprint;
  EXPECT_EQ(first.size(), 32u);
  EXPECT_EQ(folder.load(toml).data.fingerprint, first);
  seen.insert(first);
  for (const auto& [from, to] :
       std::map<std::string, std::string>{{"a,1,5", "a,1,4"},  // a weight
                                          {"c,2,2", "c,3,2"},  // an item
                                          {"c,2,2", "d,2,2"},  // a name
                                          {"a,2,3\nb,1,4", "b,1,4\na,2,3"}}) {
    std::string other = text;
    other.replace(other.find(from), from.size(), to);
    folder.write("r.csv", other);
    EXPECT_TRUE(seen.insert(folder.load(toml).data.fingerprint).second) << to;
  }
}

TEST(ModelData, ItemsByUserAreDistinctAscendingAndInside) {
  Interactions a, b;
  a.user = {1, 0, 1, 1, 5};
  a.item = {3, 2, 0, 3, 1};
  b.user = {1, 2, 0};
  b.item = {1, 9, 2};
  const ItemLists lists = items_by_user(3, 4, {&a, &b});
  EXPECT_EQ(lists.offsets, (std::vector<std::int64_t>{0, 1, 4, 4}));
  EXPECT_EQ(lists.items, (std::vector<std::int32_t>{2, 0, 1, 3}));
  EXPECT_EQ(items_by_user(0, 0, {}).offsets, (std::vector<std::int64_t>{0}));
}

TEST(ModelData, ColumnsThatNobodyNamed) {
  const ModelFolder folder;
  folder.write("r.csv", kRatings);
  const Error column =
      error_of([&] { folder.load("[data]\ninteractions = \"r.csv\"\nuser = \"userid\"\n"); });
  EXPECT_EQ(column.code(), ExitCode::bad_data);
  EXPECT_NE(std::string(column.what()).find("user_id"), std::string::npos) << column.what();
  const Error side = error_of([&] {
    folder.load(
        "[data]\ninteractions = \"r.csv\"\n"
        "[[feature]]\nname = \"genre\"\nof = \"candidate\"\nkind = \"category\"\n");
  });
  EXPECT_EQ(side.code(), ExitCode::usage);
  EXPECT_NE(std::string(side.what()).find("data.items"), std::string::npos) << side.what();
  folder.write("m.csv", "id,genre\n1,x\n");
  const Error key =
      error_of([&] { folder.load("[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\n"); });
  EXPECT_EQ(key.code(), ExitCode::usage);
  EXPECT_NE(std::string(key.what()).find("items_key"), std::string::npos) << key.what();
}

TEST(ModelData, AnItemColumnOfBothFilesIsTheKey) {
  const ModelFolder folder;
  folder.write("r.csv", "who,what\na,1\nb,2\n");
  folder.write("m.csv", "what,genre\n1,x\n2,y\n");
  const auto [config, data] = folder.load(
      "[data]\ninteractions = \"r.csv\"\nuser = \"who\"\nitem = \"what\"\nitems = \"m.csv\"\n");
  EXPECT_EQ(config.data.items_key, "what");
  EXPECT_EQ(data.item_count(), 2);
}

}  // namespace
}  // namespace belfry::test
