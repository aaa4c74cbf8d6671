// SPDX-License-Identifier: Apache-2.0
// Tables over files and over arrays: the same values, the same rows, the same rules.
#include "belfry/table.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/error.hpp"
#include "engine/vocabulary.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

using data::Table;

TEST(Table, ReadsAFileByColumns) {
  ModelFolder folder;
  const Table t = data::read(folder.write("r.csv", "user,item,rating\na,x,3\nb,y,5\na,z,4.5\n"));
  EXPECT_EQ(t.rows(), 3);
  EXPECT_EQ(t.columns(), (std::vector<std::string>{"user", "item", "rating"}));
  EXPECT_EQ(t["user"].text(), (std::vector<std::string>{"a", "b", "a"}));
  EXPECT_EQ(t.where("rating >= 4")["item"].text(), (std::vector<std::string>{"y", "z"}));
  EXPECT_EQ(t.where("user == a")["item"].text(), (std::vector<std::string>{"x", "z"}));
  const Vocabulary users = Vocabulary::adapt(t["user"]);
  EXPECT_EQ(users.size(), 3);  // with the row for unknown users
  EXPECT_EQ(users.row("a"), 1);
  EXPECT_EQ(error_of([] { data::read("/no/such/file.csv"); }).code(), ExitCode::io);
}

TEST(Table, ABadFieldIsNamedByItsPlace) {
  ModelFolder folder;
  const std::string path = folder.write("r.csv", "user,rating\na,3\nb,4.O\n");
  const Table t = data::read(path);
  const Error error = error_of([&] { t.read({{"rating", ColumnType::real, false}}, {}); });
  EXPECT_EQ(error.where(), path + ":3:3");
}

TEST(Table, PartsAreRowsOfTheWhole) {
  std::vector<std::int32_t> numbers(100);
  for (int i = 0; i < 100; ++i) numbers[static_cast<std::size_t>(i)] = i;
  Table t;
  t.add("n", std::span<const std::int32_t>(numbers));
  const auto [a, b] = t.shuffle(5).split(60, 30);
  EXPECT_EQ(a.rows(), 60);
  EXPECT_EQ(b.rows(), 30);
  std::set<std::string> seen;
  for (const Table* part : {&a, &b}) {
    for (const std::string& value : (*part)["n"].text()) EXPECT_TRUE(seen.insert(value).second);
  }
  EXPECT_TRUE(a.same(t.shuffle(5).split(0.6).first));
  EXPECT_FALSE(a.same(t.shuffle(6).split(0.6).first));
  EXPECT_NE(a["n"].text(), t.split(0.6).first["n"].text());
  EXPECT_EQ(a.where("n < 10").rows() + b.where("n < 10").rows() +
                t.shuffle(5).split(90, 10).second.where("n < 10").rows(),
            10);
}

TEST(Table, ArraysFollowTheRulesOfFiles) {
  const std::vector<std::string> texts{"7", "", "x\x01"}, numbers{"1", "2.5", "oops"};
  const std::vector<double> reals{1, 2, std::numeric_limits<double>::quiet_NaN()};
  const std::vector<std::int64_t> whole{3, 4, 5};
  Table t("mine");
  t.add("texts", std::span<const std::string>(texts))
      .add("numbers", std::span<const std::string>(numbers))
      .add("reals", std::span<const double>(reals))
      .add("whole", std::span<const std::int64_t>(whole));
  const auto read = [&](const char* name, ColumnType type, bool id) {
    return error_of([&] { t.read({{name, type, id}}, {}); });
  };
  EXPECT_EQ(read("texts", ColumnType::text, true).where(), "mine: row 2");
  EXPECT_EQ(read("numbers", ColumnType::real, false).where(), "mine: row 3");
  EXPECT_EQ(read("reals", ColumnType::real, false).where(), "mine: row 3");
  EXPECT_EQ(read("reals", ColumnType::text, true).code(), ExitCode::bad_data);
  EXPECT_EQ(t.read({{"whole", ColumnType::real, false}}, {}).columns[0].reals,
            (std::vector<double>{3, 4, 5}));
  const std::vector<float> shorter{1, 2};
  EXPECT_EQ(error_of([&] {
              Table("x")
                  .add("a", std::span<const float>(shorter))
                  .add("b", std::span<const std::int64_t>(whole));
            }).code(),
            ExitCode::usage);
  EXPECT_EQ(error_of([&] { Table(t).add("whole", std::span<const std::int64_t>(whole)); }).code(),
            ExitCode::usage);
}

}  // namespace
}  // namespace belfry::test
