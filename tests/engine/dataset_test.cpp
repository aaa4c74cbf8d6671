// SPDX-License-Identifier: Apache-2.0
// Formats are recognised and read into typed columns; roles, filters, duplicates, the dictionary.
#include "engine/dataset.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <unordered_map>

#include "tests/support/table_files.hpp"

namespace belfry::test {
namespace {

using Texts = std::vector<std::string>;
using Reals = std::vector<double>;

class Dataset : public ::testing::Test {
 protected:
  Schema schema(const std::string& name, const std::string& bytes,
                const std::string& format = "auto") const {
    return sniff(files_.write(name, bytes), format);
  }
  TableFiles files_;
};

ReadOptions as(const std::string& format) {
  ReadOptions options;
  options.format = format;
  return options;
}

std::string repeated(const std::string& rows, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += rows;
  return out;
}

TEST_F(Dataset, CsvWithHeader) {
  const std::string bytes =
      "userId,movieId,rating,timestamp\n1,10,4.0,964982703\n2,20,3.5,964982704\n";
  const Schema s = schema("ratings.csv", bytes);
  EXPECT_EQ(s.format, "csv");
  EXPECT_TRUE(s.header);
  EXPECT_EQ(s.description(), "csv, comma, header");
  EXPECT_EQ(s.columns, (Texts{"userId", "movieId", "rating", "timestamp"}));
  EXPECT_EQ(s.types, (std::vector{ColumnType::integer, ColumnType::integer, ColumnType::real,
                                  ColumnType::integer}));
  const Roles roles = guess_roles(s);
  EXPECT_EQ(roles.user, "userId");
  EXPECT_EQ(roles.item, "movieId");
  EXPECT_EQ(roles.weight, "rating");
  EXPECT_EQ(roles.time, "timestamp");
  const Table table = files_.read(
      "ratings.csv", bytes, {id("movieId"), id("userId"), real("rating"), integer("timestamp")});
  EXPECT_EQ(table.rows, 2);
  EXPECT_EQ(values(table.columns[0]), (Texts{"10", "20"}));
  EXPECT_EQ(values(table.at("userId")), (Texts{"1", "2"}));
  EXPECT_EQ(table.at("rating").reals, (Reals{4.0, 3.5}));
  EXPECT_EQ(table.at("timestamp").integers, (std::vector<std::int64_t>{964982703, 964982704}));
  EXPECT_EQ(table.find("nothing"), nullptr);
  EXPECT_EQ(error_of([&] { table.at("ratings"); }).code(), ExitCode::bad_data);
}

TEST_F(Dataset, OtherDelimiters) {
  for (const auto& [delimiter, format, description] :
       {std::tuple{"\t", "tsv", "tsv, tab, header"},
        std::tuple{";", "csv", "csv, semicolon, header"}, std::tuple{"|", "csv", "csv, |, header"},
        std::tuple{" ", "csv", "csv, space, header"}, std::tuple{"::", "csv", "csv, ::, header"}}) {
    std::string bytes;
    for (const Texts& row :
         {Texts{"user", "item", "title"}, Texts{"u1", "i1", "a,b:c"}, Texts{"u2", "i2", "x:y"}}) {
      bytes += row[0] + delimiter + row[1] + delimiter + row[2] + "\n";
    }
    const Schema s = schema("d.csv", bytes);
    EXPECT_EQ(s.format, format);
    EXPECT_EQ(s.description(), description);
    const Table table = files_.read("d.csv", bytes, {id("item"), text("title")});
    EXPECT_EQ(values(table.columns[0]), (Texts{"i1", "i2"})) << description;
    EXPECT_EQ(values(table.columns[1]), (Texts{"a,b:c", "x:y"})) << description;
  }
}

TEST_F(Dataset, DoubleColonsAndSingleOnes) {
  const Table table = files_.read("m.dat", "1::A: B::x:y\n2:::C:::z:\n3::::\n",
                                  {id("item_id"), text("title"), text("genres")});
  EXPECT_EQ(values(table.columns[1]), (Texts{"A: B", ":C", ""}));
  EXPECT_EQ(values(table.columns[2]), (Texts{"x:y", ":z:", ""}));
}

TEST_F(Dataset, NoHeader) {
  const std::string rows = "u1,i1,4.0,964982703\nu2,i2,3.5,964982704\n";
  const Schema s = schema("bare.csv", rows);
  EXPECT_FALSE(s.header);
  EXPECT_EQ(s.columns, (Texts{"column_1", "column_2", "column_3", "column_4"}));
  const Roles roles = guess_roles(s);
  EXPECT_EQ(roles.user + roles.item + roles.weight + roles.time,
            "column_1column_2column_3column_4");
  EXPECT_EQ(files_.read("bare.csv", rows, {id("column_1")}).rows, 2);
  EXPECT_FALSE(schema("texts.csv", "ann,matrix\nbob,alien\nann,alien\n").header);
  EXPECT_TRUE(schema("texts.csv", "who,what\nbob,alien\nann,alien\n").header);
  EXPECT_TRUE(schema("user.csv", "user,user\nuser,alien\n").header);
  const Roles two = guess_roles(schema("two.csv", "1,2\n1,3\n"));
  EXPECT_EQ(two.user + two.item + two.weight + two.time, "column_1column_2");
}

TEST_F(Dataset, ABadRowDoesNotChangeTheTypes) {
  const Schema s = schema("r.csv", "user,item,rating\n1,2,4.0\n1,3,nan\n1,4,3.5\n1,4,4.O\n1,5,1\n");
  EXPECT_EQ(s.types[2], ColumnType::real);
  EXPECT_EQ(guess_roles(s).weight, "rating");
}

TEST_F(Dataset, Roles) {
  const auto roles = [&](const std::string& header, const std::string& row) {
    const Roles r = guess_roles(schema("r.csv", header + "\n" + row + "\n"));
    return r.user + "|" + r.item + "|" + r.weight + "|" + r.time;
  };
  EXPECT_EQ(roles("user_procid,item_procid", "0,1"), "user_procid|item_procid||");
  EXPECT_EQ(roles("reviewerID,asin,overall,unixReviewTime", "A1,B1,5.0,1300000000"),
            "reviewerID|asin|overall|unixReviewTime");
  EXPECT_EQ(roles("rating,title,text,parent_asin,user_id,timestamp", "5.0,t,x,B,A,1"),
            "user_id|parent_asin|rating|timestamp");
  EXPECT_EQ(roles("user_id,business_id,stars,date", "a,b,4,2018-01-01"),
            "user_id|business_id|stars|");  // a date is text, not a time
  EXPECT_EQ(roles("artist,plays,user", "x,5,1"), "user|artist|plays|");
  EXPECT_EQ(roles("a,b,c", "1,2,3"), "a|b||");
  EXPECT_EQ(roles("customer_no,movieId,score", "1,2,3"), "customer_no|movieId|score|");
  EXPECT_EQ(roles("timestamp,rating,who,what", "1,2,a,b"), "who|what|rating|timestamp");
}

TEST_F(Dataset, MovieLens100k) {
  const std::string data = "196\t242\t3\t881250949\n186\t302\t3\t891717742\n";
  for (const char* name : {"u.data", "u1.base", "ratings.txt", "ratings.tsv"}) {
    const Schema s = schema(name, data);
    EXPECT_EQ(s.format, "movielens-100k") << name;
    EXPECT_EQ(s.columns, (Texts{"user_id", "item_id", "rating", "timestamp"}));
    EXPECT_FALSE(s.header);
  }
  EXPECT_EQ(schema("graph.tsv", "196\t242\t30\t88\n").format, "tsv");
  ReadOptions options;
  options.id_type = IdType::integer;
  const Table ratings =
      files_.read("u.data", data, {id("user_id"), id("movie_id"), real("rating")}, options);
  EXPECT_EQ(values(ratings.at("movie_id")), (Texts{"242", "302"}));

  const std::string flags = repeated("|0", 18) + "|1\n";
  const std::string items = "1|Caf\xe9 \"x\" (1995)|01-Jan-1995||http://a/?b|0" +
                            repeated("|0", 17) + "|1\n2|Caf\xc3\xa9|01-Jan-1995||" + flags;
  const Schema s = schema("u.item", items);
  EXPECT_EQ(s.format, "movielens-100k");
  ASSERT_EQ(s.columns.size(), 24u);
  EXPECT_EQ(guess_roles(s).item, "item_id");
  const Table table = files_.read(
      "u.item", items, {id("item_id"), text("movie_title"), integer("genre_western")}, options);
  EXPECT_EQ(values(table.columns[1]), (Texts{"Caf\xc3\xa9 \"x\" (1995)", "Caf\xc3\xa9"}));
  EXPECT_EQ(table.columns[2].integers, (std::vector<std::int64_t>{1, 1}));

  const Table users = files_.read("u.user", "1|24|M|technician|85711\n2|53|F|other|94043\n",
                                  {id("user_id"), integer("age"), text("zip_code")});
  EXPECT_EQ(users.columns[1].integers, (std::vector<std::int64_t>{24, 53}));
}

TEST_F(Dataset, MovieLens1m) {
  const Table ratings =
      files_.read("ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n",
                  {id("user_id"), id("item_id"), real("rating"), integer("timestamp")});
  EXPECT_EQ(values(ratings.columns[1]), (Texts{"1193", "661"}));
  EXPECT_EQ(ratings.columns[2].reals, (Reals{5, 3}));
  const Table movies = files_.read(
      "movies.dat", "1::Toy Story (1995)::Animation|Comedy\n73::Mis\xe9rables, Les (1995)::Drama\n",
      {id("item_id"), text("title"), text("genres")});
  EXPECT_EQ(values(movies.columns[1]),
            (Texts{"Toy Story (1995)", "Mis\xc3\xa9rables, Les (1995)"}));
  EXPECT_EQ(values(movies.columns[2]), (Texts{"Animation|Comedy", "Drama"}));
  const Table users =
      files_.read("users.dat", "1::F::1::10::48067\n",
                  {id("user_id"), text("gender"), integer("age"), text("zip_code")});
  EXPECT_EQ(values(users.columns[3]), (Texts{"48067"}));
  EXPECT_EQ(schema("x.dat", "1::1193::5::978300760\n").description(), "movielens-1m");
}

TEST_F(Dataset, RecBole) {
  const std::string bytes =
      "user_id:token\titem_id:token\trating:float\ttags:token_seq\n1\ta \"b\t4.5\tx y\n2\tc\t3\t\n";
  const Schema s = schema("d.inter", bytes);
  EXPECT_EQ(s.format, "recbole");
  EXPECT_EQ(s.columns, (Texts{"user_id", "item_id", "rating", "tags"}));
  EXPECT_EQ(s.types[2], ColumnType::real);
  EXPECT_EQ(s.types[0], ColumnType::text);
  const Table table = files_.read("d.inter", bytes, {id("item_id"), real("rating"), text("tags")});
  EXPECT_EQ(values(table.columns[0]), (Texts{"a \"b", "c"}));
  EXPECT_EQ(values(table.columns[2]), (Texts{"x y", ""}));
}

TEST_F(Dataset, AdjacencyList) {
  const std::string bytes = "0 5 6 7\n1\n\n2 5 \r\n3  8\t9\n4 1";
  const Schema s = schema("train.txt", bytes);
  EXPECT_EQ(s.format, "adjacency");
  EXPECT_EQ(s.columns, (Texts{"user", "item"}));
  ReadOptions options;
  options.id_type = IdType::integer;
  const Table table = files_.read("train.txt", bytes, {id("user"), id("item")}, options);
  EXPECT_EQ(values(table.columns[0]), (Texts{"0", "0", "0", "2", "3", "3", "4"}));
  EXPECT_EQ(values(table.columns[1]), (Texts{"5", "6", "7", "5", "8", "9", "1"}));
  EXPECT_EQ(table.blank_lines, 1);
  EXPECT_EQ(schema("t.txt", "1 2 5 964982703\n1 3 4 964982704\n").description(),
            "csv, space, no header");
  EXPECT_EQ(files_.fault("t.txt", "1\n2\n3\n", {id("user")}, as("adjacency")).code(),
            ExitCode::bad_data);
}

TEST_F(Dataset, AdjacencyListBeyondOneBlock) {
  std::string bytes = "1000000009 5\n";
  for (int user = 0; user < 700; ++user) bytes += std::to_string(user) + "\n";  // without items
  bytes += "1000000007";
  for (int i = 0; i < 300'000; ++i) bytes += " " + std::to_string(i);
  for (int user = 0; user < 2000; ++user) bytes += "\n" + std::to_string(user) + " 1";
  const Table table = files_.read("long.txt", bytes, {id("user"), id("item")}, as("adjacency"));
  ASSERT_EQ(table.rows, 302'001);
  EXPECT_EQ(table.columns[0].dictionary->text(table.columns[0].codes[0]), "1000000009");
  EXPECT_EQ(table.columns[0].dictionary->text(table.columns[0].codes[300'000]), "1000000007");
  EXPECT_EQ(table.columns[1].dictionary->text(table.columns[1].codes[300'000]), "299999");
  EXPECT_EQ(table.columns[0].dictionary->text(table.columns[0].codes[302'000]), "1999");
}

TEST_F(Dataset, JsonLines) {
  const std::string bytes =
      "{\"user_id\": \"a\\u00e9\", \"item\": 12345678901234567890123, \"stars\": 4.5, \"x\": "
      "{\"user_id\": 1}}\n"
      "\n{\"stars\": 3, \"user_id\": 7, \"item\": -8, \"note\": null, \"flag\": true}";
  const Schema s = schema("r.jsonl", bytes);
  EXPECT_EQ(s.format, "jsonl");
  EXPECT_EQ(s.columns, (Texts{"user_id", "item", "stars", "x", "note", "flag"}));
  EXPECT_EQ(guess_roles(s).weight, "stars");
  const Table table =
      files_.read("r.jsonl", bytes, {id("user_id"), id("item"), real("stars"), text("note")});
  EXPECT_EQ(values(table.columns[0]), (Texts{"a\xc3\xa9", "7"}));
  EXPECT_EQ(values(table.columns[1]), (Texts{"12345678901234567890123", "-8"}));
  EXPECT_EQ(table.columns[2].reals, (Reals{4.5, 3}));
  EXPECT_EQ(values(table.columns[3]), (Texts{"", ""}));
  EXPECT_EQ(table.blank_lines, 1);
  std::string many;
  for (int i = 0; i < 20'000; ++i) {
    many +=
        "{\"user\": " + std::to_string(i % 97) + ", \"item\": \"i" + std::to_string(i) + "\"}\n";
  }
  const Table large = files_.read("many.json", many, {id("user"), id("item")});
  EXPECT_EQ(large.rows, 20'000);
  EXPECT_EQ(large.columns[1].dictionary->text(19'999), "i19999");
}

TEST_F(Dataset, ForcedFormats) {
  const std::string spaces = "0 1 2\n1 2 3\n";
  EXPECT_EQ(schema("a.txt", spaces).format, "adjacency");
  EXPECT_EQ(schema("a.txt", spaces, "csv").description(), "csv, space, no header");
  EXPECT_EQ(schema("r.tsv", "1\t2\t3\t881250949\n", "tsv").columns[0], "column_1");
  EXPECT_EQ(schema("r", "1\t2\t9\t1\n", "movielens-100k").columns[0], "user_id");
  EXPECT_EQ(error_of([&] { schema("r", "1,2\n", "movielens-1m"); }).code(), ExitCode::bad_data);
  EXPECT_EQ(error_of([&] { schema("r", "user,item\n", "recbole"); }).code(), ExitCode::bad_data);
  EXPECT_EQ(error_of([&] { schema("r", "1,2\n", "parquet"); }).code(), ExitCode::usage);
}

TEST_F(Dataset, UnknownColumnsAreNamed) {
  const Error error = files_.fault("r.csv", "userId,movieId\n1,2\n", {id("movie_id")});
  EXPECT_EQ(error.code(), ExitCode::bad_data);
  EXPECT_EQ(error.where(), "r.csv");
  EXPECT_STREQ(error.what(),
               "r.csv: no column \"movie_id\"; columns: userId, movieId; "
               "did you mean \"movieId\"?");
  EXPECT_EQ(files_.fault("r.csv", "a,b,a\n1,2,3\n", {id("a")}).code(), ExitCode::bad_data);
  EXPECT_EQ(files_.read("r.csv", "a,b,a\n1,2,3\n", {id("b")}).rows, 1);
}

TEST_F(Dataset, SeveralFilesShareTheirDictionaries) {
  const std::string a = files_.write("a.csv", "user,item\n1,x\n2,y\n");
  const std::string b = files_.write("b.csv.gz", gzipped("item,user\ny,1\nz,3\n"));
  const Table table = read_table({a, b}, {id("user"), id("item")}, {});
  EXPECT_EQ(values(table.columns[0]), (Texts{"1", "2", "1", "3"}));
  EXPECT_EQ(table.columns[1].codes, (std::vector<std::uint32_t>{0, 1, 1, 2}));
  const std::string empty = files_.write("c.csv", "user,item\n");
  EXPECT_EQ(error_of([&] { read_table({a, empty}, {id("user")}, {}); }).where(), empty);
}

TEST_F(Dataset, Where) {
  const std::string bytes =
      "user,item,rating,kind\na,1,4.0,x\nb,2,3.5,y\nc,3,5,\"x y\"\nd,4,-1,y\n";
  const auto users = [&](const std::string& where) {
    ReadOptions options;
    options.where = where;
    const Table table = files_.read("w.csv", bytes, {id("user")}, options);
    EXPECT_EQ(table.rows + table.rows_filtered, 4);
    EXPECT_EQ(static_cast<std::size_t>(table.rows), table.columns[0].codes.size());
    std::string out;
    for (const std::string& user : values(table.columns[0])) out += user;
    EXPECT_EQ(table.columns[0].dictionary->size(), out.size());  // left-out ids are not learned
    return out;
  };
  EXPECT_EQ(users("rating >= 4"), "ac");
  EXPECT_EQ(users("rating>=4.0"), "ac");
  EXPECT_EQ(users(" rating > 4 "), "c");
  EXPECT_EQ(users("rating < 4"), "bd");
  EXPECT_EQ(users("rating <= -1"), "d");
  EXPECT_EQ(users("rating == 4"), "a");
  EXPECT_EQ(users("rating != 4"), "bcd");
  EXPECT_EQ(users("kind == y"), "bd");
  EXPECT_EQ(users("kind != \"x y\""), "abd");
  EXPECT_EQ(users("kind == 'x'"), "a");
  EXPECT_EQ(users("item == 3"), "c");
}

TEST_F(Dataset, WhereFaults) {
  const std::string bytes = "user,item,rating\na,1,4.0\nb,2,1\nc,3,x\nd,4,5\nf,6,5\n";
  const auto fault = [&](const std::string& where) {
    ReadOptions options;
    options.where = where;
    return files_.fault("w.csv", bytes, {id("user")}, options);
  };
  for (const char* where :
       {"rating", "rating = 4", "rating ~ 4", ">= 4", "rating >=", "rating => 4", "rating === 4",
        "user < b", "rating ! 4", "rating >= \"4\""}) {
    EXPECT_EQ(fault(where).code(), ExitCode::usage) << where;
  }
  EXPECT_EQ(fault("rating >= 4").where(), "w.csv:4:5");
  EXPECT_EQ(fault("ratin >= 4").code(), ExitCode::bad_data);
  const Error none = fault("user == nobody");
  EXPECT_EQ(none.code(), ExitCode::bad_data);
  EXPECT_NE(std::string(none.what()).find("leaves out all 5"), std::string::npos);
  // a row that is left out must still be a good row
  ReadOptions options;
  options.where = "rating >= 4";
  EXPECT_EQ(files_.fault("v.csv", "user,rating\na,5\n\x01,1\n", {id("user")}, options).where(),
            "v.csv:3:1");
}

/// Rows with quotes, line feeds, CR LF, empty fields, across many blocks, against what wrote them.
TEST_F(Dataset, RandomCsvComesBackAsWritten) {
  std::mt19937 random(7);
  const auto draw = [&](unsigned n) { return static_cast<int>(random() % n); };
  for (const bool crlf : {false, true}) {
    std::string bytes = "key,text,number\n";
    Texts keys, texts;
    Reals numbers;
    while (bytes.size() < 1'500'000) {
      static const Texts kPieces = {"a", ",", "\"", "\n", "\r\n", "é", "long long text ",
                                    "",  ";", "9"};
      std::string text, escaped;
      for (int n = draw(12); n > 0; --n) text += kPieces[static_cast<std::size_t>(draw(10))];
      for (const char c : text) escaped += c == '"' ? "\"\"" : std::string(1, c);
      const bool quote = draw(2) == 0 || text.find_first_of(",\"\r\n") != std::string::npos;
      keys.push_back("k" + std::to_string(draw(5000)));
      texts.push_back(text);
      numbers.push_back(draw(1000) / 8.0);
      bytes += (draw(3) == 0 ? "\"" + keys.back() + "\"" : keys.back()) + "," +
               (quote ? "\"" + escaped + "\"" : escaped) + "," + std::to_string(numbers.back()) +
               (crlf && draw(2) == 0 ? "\r\n" : "\n");
    }
    const Table table = files_.read("r.csv", bytes, {id("key"), text("text"), real("number")});
    ASSERT_EQ(table.rows, static_cast<std::int64_t>(keys.size()));
    EXPECT_TRUE(values(table.columns[0]) == keys);
    EXPECT_TRUE(values(table.columns[1]) == texts);
    EXPECT_TRUE(table.columns[2].reals == numbers);
  }
}

TEST_F(Dataset, PlacesAreExactFarIntoAFile) {
  std::mt19937 random(3);
  std::string bytes = "user,item,note\n";
  std::size_t line = 2;
  for (int row = 0; row < 30'000; ++row) {
    const bool two_lines = random() % 3 == 0;
    bytes += std::to_string(row) + "," + std::to_string(random() % 100'000) +
             (two_lines ? ",\"a\nb\"\n" : ",ab\n");
    line += two_lines ? 2 : 1;
    if (row % 4999 == 0) {
      EXPECT_EQ(files_.fault("far.csv", bytes + "12345,,x\n1,2,x\n3,4,x\n", {id("item")}).where(),
                "far.csv:" + std::to_string(line) + ":7");
    }
  }
}

TEST_F(Dataset, DuplicatePairs) {
  const Table t =
      files_.read("d.csv", "user,item\na,1\nb,1\na,1\na,2\nb,1\na,1\n", {id("user"), id("item")});
  const auto rows = [&](Duplicates policy) {
    return resolve_duplicates(t.columns[0], t.columns[1], policy);
  };
  using Rows = std::vector<std::int64_t>;
  EXPECT_EQ(rows(Duplicates::keep), (Rows{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(rows(Duplicates::first), (Rows{0, 1, 3}));
  EXPECT_EQ(rows(Duplicates::last), (Rows{3, 4, 5}));
  const Error error = error_of([&] { rows(Duplicates::error); });
  EXPECT_EQ(error.code(), ExitCode::bad_data);
  EXPECT_NE(
      std::string(error.what()).find("user = \"a\", item = \"1\" comes twice, in rows 1 and 3"),
      std::string::npos)
      << error.what();
  const Column empty;
  EXPECT_TRUE(resolve_duplicates(empty, empty, Duplicates::last).empty());
}

TEST_F(Dataset, DuplicatePairsMatchASet) {
  std::mt19937 random(5);
  Column user, item;
  std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
  std::vector<std::int64_t> first;
  for (std::int64_t row = 0; row < 20'000; ++row) {
    user.codes.push_back(static_cast<std::uint32_t>(random() % 200));
    item.codes.push_back(static_cast<std::uint32_t>(random() % 100));
    if (seen.emplace(user.codes.back(), item.codes.back()).second) first.push_back(row);
  }
  EXPECT_EQ(resolve_duplicates(user, item, Duplicates::first), first);
  EXPECT_EQ(resolve_duplicates(user, item, Duplicates::last).size(), first.size());
}

TEST(DictionaryTest, CodesInOrderOfAppearance) {
  Dictionary dictionary;
  const Texts texts = {"7",
                       "007",
                       "",
                       "a",
                       "0",
                       "00",
                       "999999",
                       "1000000",
                       "-1",
                       "+1",
                       "1.0",
                       "é",
                       std::string("a\0b", 3),
                       std::string("a\0c", 3),
                       std::string(1000, 'x')};
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_FALSE(dictionary.find(texts[i]).has_value()) << texts[i];
    EXPECT_EQ(dictionary.add(texts[i]), i) << texts[i];
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(dictionary.add(texts[i]), i);
    EXPECT_EQ(dictionary.find(texts[i]).value(), i);
    EXPECT_EQ(dictionary.text(static_cast<std::uint32_t>(i)), texts[i]);
  }
  EXPECT_EQ(dictionary.size(), texts.size());
  EXPECT_FALSE(dictionary.find("8").has_value());
  EXPECT_FALSE(dictionary.find("999998").has_value());
}

TEST(DictionaryTest, MatchesAMapOneByOneAndInBatches) {
  std::mt19937 random(11);
  Dictionary one, many;
  std::unordered_map<std::string, std::uint32_t> oracle;
  Texts texts;
  for (int i = 0; i < 50'000; ++i) {
    const unsigned n = random() % 20'000;
    const unsigned kind = random() % 4;
    texts.push_back(kind == 0   ? std::to_string(n)
                    : kind == 1 ? "0" + std::to_string(n)
                    : kind == 2 ? "B00" + std::to_string(n) + "XYZ-and-a-longer-tail"
                                : std::to_string(std::uint64_t{n} * 1'000'003));
  }
  std::vector<std::string_view> views(texts.begin(), texts.end());
  std::vector<std::uint32_t> codes(texts.size());
  many.add(views.data(), views.size(), codes.data());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto code =
        oracle.emplace(texts[i], static_cast<std::uint32_t>(oracle.size())).first->second;
    ASSERT_EQ(one.add(texts[i]), code);
    ASSERT_EQ(codes[i], code);
  }
  EXPECT_EQ(one.size(), oracle.size());
  for (const auto& [text, code] : oracle) {
    ASSERT_EQ(one.text(code), text);
    ASSERT_EQ(many.find(text).value(), code);
  }
}

/// 300,000 texts hold about ten pairs of one 32-bit tag.
TEST(DictionaryTest, EqualTagsAreNotEqualTexts) {
  Dictionary dictionary;
  for (std::uint32_t i = 0; i < 300'000; ++i) {
    ASSERT_EQ(dictionary.add("x" + std::to_string(i)), i);
  }
}

}  // namespace
}  // namespace belfry::test
