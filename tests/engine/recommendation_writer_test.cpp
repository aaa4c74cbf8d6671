// SPDX-License-Identifier: Apache-2.0
#include "engine/recommendation_writer.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/file_io.hpp"
#include "engine/npy.hpp"
#include "kernels/core/check.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

using Names = std::vector<std::string>;
using Rows = std::vector<std::int32_t>;
using Scores = std::vector<float>;

const Names kItems{"plain", "a,b", "say \"hi\"", "tab\there", "two\nlines", "\xc3\xa9t\xc3\xa9"};

struct List {
  std::string user;
  Rows rows;
  Scores scores;
};
const float kNone = -std::numeric_limits<float>::infinity();
const std::vector<List> kLists{{"u1", {0, 1, 2}, {1.5f, 0.1f, -3e-10f}},
                               {"u,2", {3, -1, -1}, {16777216.f, kNone, kNone}},
                               {"\"", {5, 4, -1}, {1.f / 3.f, 0.f, kNone}},
                               {"nothing", {-1, -1, -1}, {kNone, kNone, kNone}}};

void write_lists(const std::filesystem::path& path, const std::vector<List>& lists,
                 const Names& items, std::int64_t k = 3) {
  const auto writer =
      make_recommendation_writer(path, static_cast<std::int64_t>(lists.size()), k, items);
  for (const List& list : lists) writer->write({list.user, list.rows, list.scores});
  writer->commit();
}

TEST(RecommendationWriter, Csv) {
  TempFolder dir;
  write_lists(dir / "r.csv", kLists, kItems);
  EXPECT_EQ(slurp(dir / "r.csv"),
            "user,rank,item,score\n"
            "u1,1,plain,1.5\n"
            "u1,2,\"a,b\",0.100000001\n"
            "u1,3,\"say \"\"hi\"\"\",-2.99999997e-10\n"
            "\"u,2\",1,tab\there,16777216\n"
            "\"\"\"\",1,\xc3\xa9t\xc3\xa9,0.333333343\n"
            "\"\"\"\",2,\"two\nlines\",0\n");
  EXPECT_EQ(names_in(dir.path()), Names{"r.csv"});
}

TEST(RecommendationWriter, Tsv) {
  TempFolder dir;
  write_lists(dir / "r.tsv", kLists, kItems);
  const std::string text = slurp(dir / "r.tsv");
  EXPECT_TRUE(text.starts_with("user\trank\titem\tscore\nu1\t1\tplain\t1.5\nu1\t2\ta,b\t0.1"));
  EXPECT_NE(text.find("u,2\t1\t\"tab\there\"\t16777216\n"), std::string::npos);
}

TEST(RecommendationWriter, JsonLines) {
  TempFolder dir;
  const Names items{"plain", "q\"", "back\\slash", "line\n\x01\x7f", "\xc3\xa9", ""};
  write_lists(dir / "r.jsonl", kLists, items);
  const std::string text = slurp(dir / "r.jsonl");
  EXPECT_TRUE(
      text.starts_with("{\"user\":\"u1\",\"items\":[\"plain\",\"q\\\"\",\"back\\\\slash\"],"
                       "\"scores\":[1.5,0.100000001,-2.99999997e-10]}\n"));
  std::size_t begin = 0;
  for (const List& list : kLists) {
    const std::size_t end = text.find('\n', begin);
    const auto line = nlohmann::json::parse(text.substr(begin, end - begin));
    begin = end + 1;
    EXPECT_EQ(line.size(), 3u);
    EXPECT_EQ(line["user"], list.user);
    std::size_t n = 0;
    for (; n < list.rows.size() && list.rows[n] >= 0; ++n) {
      EXPECT_EQ(line["items"][n], items[static_cast<std::size_t>(list.rows[n])]);
      EXPECT_EQ(line["scores"][n].get<float>(), list.scores[n]);
    }
    EXPECT_EQ(line["items"].size(), n);
    EXPECT_EQ(line["scores"].size(), n);
  }
  EXPECT_EQ(begin, text.size());
}

TEST(RecommendationWriter, JsonHasNoInfinity) {
  TempFolder dir;
  write_lists(dir / "r.jsonl", {{"u", {0, 1}, {kNone, NAN}}}, kItems);
  EXPECT_EQ(slurp(dir / "r.jsonl"),
            "{\"user\":\"u\",\"items\":[\"plain\",\"a,b\"],"
            "\"scores\":[null,null]}\n");
}

TEST(RecommendationWriter, NpySet) {
  TempFolder dir;
  const Names items{"i0", "i1", "i2", "i3", "i4", "i5"};
  std::vector<List> lists = kLists;
  lists[0].rows = {4, 1};  // shorter than k
  lists[0].scores = {2.f, 1.f};
  write_lists(dir / "x.y.npy", lists, items);
  EXPECT_EQ(names_in(dir.path()),
            (Names{"x.y.item_ids.txt", "x.y.items.npy", "x.y.scores.npy", "x.y.users.txt"}));
  EXPECT_EQ(slurp(dir / "x.y.item_ids.txt"), "i0\ni1\ni2\ni3\ni4\ni5\n");
  EXPECT_EQ(slurp(dir / "x.y.users.txt"), "u1\nu,2\n\"\nnothing\n");
  const std::string rows = slurp(dir / "x.y.items.npy");
  ASSERT_EQ(rows.size(), 128 + 12 * 8u);
  EXPECT_NE(rows.find("'<i8'"), std::string::npos);
  EXPECT_NE(rows.find("(4, 3)"), std::string::npos);
  std::int64_t got[12];
  std::memcpy(got, rows.data() + 128, sizeof got);
  const std::int64_t wanted[12] = {4, 1, -1, 3, -1, -1, 5, 4, -1, -1, -1, -1};
  const NpyMatrix scores(dir / "x.y.scores.npy");
  std::vector<float> values(12);
  scores.read(0, {values.data(), 4, 3});
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(got[i], wanted[i]) << i;
    EXPECT_EQ(std::isnan(values[static_cast<std::size_t>(i)]), wanted[i] < 0) << i;
  }
  EXPECT_EQ(values[0], 2.f);
  EXPECT_EQ(values[6], 1.f / 3.f);
}

TEST(RecommendationWriter, ScoresAreAsPrintfWritesThem) {
  TempFolder dir;
  std::vector<List> lists;
  std::string wanted = "user,rank,item,score\n";
  std::uint32_t bits = 12345;
  for (int i = 0; i < 5000; ++i) {
    bits = bits * 1664525u + 1013904223u;
    float score = 0;
    std::memcpy(&score, &bits, sizeof score);
    if (!std::isfinite(score)) score = static_cast<float>(i) / 7.f;
    if (i % 2 == 0) score = static_cast<float>(static_cast<std::int32_t>(bits)) * 0x1p-31f;
    lists.push_back({"u", {0}, {score}});
    char line[64];
    std::snprintf(line, sizeof line, "u,1,plain,%.9g\n", static_cast<double>(score));
    wanted += line;
    EXPECT_EQ(std::strtof(line + 10, nullptr), score);
  }
  write_lists(dir / "r.csv", lists, kItems);
  EXPECT_EQ(slurp(dir / "r.csv"), wanted);
}

TEST(RecommendationWriter, UnknownEndingsAreUsageErrors) {
  TempFolder dir;
  for (const char* name : {"r.txt", "r", "r.csv.gz", "r.json", ".npy", "csv", "r.CSV"}) {
    const Error error = error_of([&] { make_recommendation_writer(dir / name, 1, 1, kItems); });
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_NE(std::string(error.what()).find(".jsonl"), std::string::npos) << error.what();
  }
  for (const char* name : {"no/r.csv", "no/r.tsv", "no/r.jsonl", "no/r.npy"}) {
    EXPECT_EQ(error_of([&] { make_recommendation_writer(dir / name, 1, 1, kItems); }).code(),
              ExitCode::io);
  }
  EXPECT_TRUE(names_in(dir.path()).empty());
}

TEST(RecommendationWriter, IdsWithLineBreaksHaveNoPlaceInLines) {
  TempFolder dir;
  EXPECT_EQ(error_of([&] { make_recommendation_writer(dir / "r.npy", 1, 1, kItems); }).code(),
            ExitCode::bad_data);
  EXPECT_TRUE(names_in(dir.path()).empty());
}

TEST(RecommendationWriter, MisuseIsABugAndLeavesNothing) {
  TempFolder dir;
  const Names items{"a", "b"};
  for (const char* name : {"r.csv", "r.jsonl", "r.npy"}) {
    const auto writer = make_recommendation_writer(dir / name, 2, 2, items);
    const Rows rows{0, 1, 0}, outside{2};
    const Scores scores{3.f, 2.f, 1.f}, one{1.f};
    EXPECT_THROW(writer->write({"u", rows, scores}), ContractError);
    EXPECT_THROW(writer->write({"u", rows, one}), ContractError);
    EXPECT_THROW(writer->commit(), ContractError);
    EXPECT_THROW(writer->write({"u", outside, one}), ContractError);
  }
  EXPECT_TRUE(names_in(dir.path()).empty());
}

TEST(RecommendationWriter, EveryFailingCallLeavesNoPartOfASet) {
  TempFolder dir;
  const Names items{"i0", "i1", "i2", "i3", "i4", "i5"};
  for (const char* name : {"r.csv", "r.jsonl", "r.npy"}) {
    for (int n = 1;; ++n) {
      int calls = 0;
      std::string at;
      set_io_fault_hook([&](const char* call) {
        if (++calls != n) return 0;
        at = call;
        return ENOSPC;
      });
      ExitCode code = ExitCode::ok;
      try {
        write_lists(dir / name, kLists, items);
      } catch (const Error& error) {
        code = error.code();
      }
      set_io_fault_hook({});
      if (at.empty()) break;
      EXPECT_EQ(code, ExitCode::io) << name << " " << at;
      for (const std::string& left : names_in(dir.path())) {
        EXPECT_FALSE(left.starts_with('.')) << left;
      }
      // Only once every file is whole do names appear, one rename after the other.
      const bool publishing = at == "rename" || at == "syncdir";
      EXPECT_TRUE(publishing || names_in(dir.path()).empty()) << at;
      for (const std::string& left : names_in(dir.path())) {
        std::filesystem::remove(dir / left);
      }
    }
    for (const std::string& left : names_in(dir.path())) std::filesystem::remove(dir / left);
  }
}

}  // namespace
}  // namespace belfry::test
