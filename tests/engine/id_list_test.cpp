// SPDX-License-Identifier: Apache-2.0
#include "engine/id_list.hpp"

#include <gtest/gtest.h>

#include "engine/error.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

using Ids = std::vector<std::int32_t>;
using Pairs = std::vector<std::pair<std::int32_t, std::int32_t>>;

Vocabulary vocabulary(std::vector<std::string> tokens, IdType type = IdType::text) {
  VocabularyOptions options;
  options.oov = 0;
  options.type = type;
  std::vector<std::int64_t> counts(tokens.size());
  return Vocabulary(std::move(tokens), std::move(counts), options);
}

class IdListTest : public testing::Test {
 protected:
  IdList read(const std::string& text) const { return read(text, items); }
  IdList read(const std::string& text, const Vocabulary& single) const {
    spill(folder / "ids", text);
    return read_id_list((folder / "ids").string(), single, users, items);
  }
  TempFolder folder;
  Vocabulary users = vocabulary({"ann", "bob", "c,d", "user"});
  Vocabulary items = vocabulary({"1", "2", "Heat, The", "a\"b", "x,y"});
};

TEST_F(IdListTest, OneIdALine) {
  const IdList list = read("1\n2\n1\n");
  EXPECT_EQ(list.ids, (Ids{0, 1, 0}));
  EXPECT_EQ(list.lines, 3);
  EXPECT_EQ(list.unknown, 0);
  EXPECT_TRUE(list.pairs.empty());
  EXPECT_EQ(read("ann\nbob", users).ids, (Ids{0, 1}));  // no newline at the end
  EXPECT_TRUE(read("").ids.empty());
}

TEST_F(IdListTest, LineEndsBlankLinesAndTheMark) {
  EXPECT_EQ(read("\xEF\xBB\xBF"
                 "1\r\n\r\n2\r\n")
                .ids,
            (Ids{0, 1}));
  EXPECT_EQ(read("\n\n1\n\n").lines, 1);
}

TEST_F(IdListTest, Headers) {
  EXPECT_EQ(read("item\n1\n").lines, 1);
  EXPECT_EQ(read("user,item\nann,1\n").pairs, (Pairs{{0, 0}}));
  EXPECT_EQ(read("\xEF\xBB\xBFuser\titem\nann\t1\n").pairs, (Pairs{{0, 0}}));
  EXPECT_EQ(read("\nitem\n1\n").unknown, 0);  // the first line that is not blank
  EXPECT_EQ(read("1\nitem\n").unknown, 1);    // not a header there
  // A user of that name is no header.
  EXPECT_EQ(read("user\nann\n", users).ids, (Ids{3, 0}));
}

TEST_F(IdListTest, Pairs) {
  const IdList list = read("ann,1\nbob\t2\n\"bob\",\"1\"\n");
  EXPECT_EQ(list.pairs, (Pairs{{0, 0}, {1, 1}, {1, 0}}));
  EXPECT_TRUE(list.ids.empty());
}

TEST_F(IdListTest, IdsThatHoldCommasAndQuotes) {
  EXPECT_EQ(read("Heat, The\nx,y\na\"b\n").ids, (Ids{2, 4, 3}));
  EXPECT_EQ(read("\"Heat, The\"\n\"a\"\"b\"\n").ids, (Ids{2, 3}));
  EXPECT_EQ(read("ann,\"Heat, The\"\n\"c,d\",\"a\"\"b\"\n").pairs, (Pairs{{0, 2}, {2, 3}}));
  EXPECT_EQ(read("c,d\tHeat, The\n").pairs, (Pairs{{2, 2}}));
  EXPECT_EQ(read("ann\ta\"b\n").pairs, (Pairs{{0, 3}}));  // a quote inside a field is a character
}

TEST_F(IdListTest, UnknownIdsAreCounted) {
  const IdList list = read("1\n77\nzoe,1\nann,88\nann,1,2\n");
  EXPECT_EQ(list.lines, 5);
  EXPECT_EQ(list.unknown, 4);
  EXPECT_EQ(list.first_unknown, "77");
  EXPECT_EQ(list.ids, (Ids{0}));
  // A known user with an unknown item stays in sight: an allow-list binds that user all the same.
  EXPECT_EQ(list.pairs, (Pairs{{0, -1}}));
}

TEST_F(IdListTest, IntegersAreComparedAsNumbers) {
  const Vocabulary numbers = vocabulary({"7", "-2"}, IdType::integer);
  spill(folder / "ids", "007\n-2\nseven\n");
  const IdList list = read_id_list((folder / "ids").string(), numbers, numbers, numbers);
  EXPECT_EQ(list.ids, (Ids{0, 1}));
  EXPECT_EQ(list.unknown, 1);
}

TEST_F(IdListTest, AFileThatIsNotThere) {
  const Error e = error_of([&] { read_id_list((folder / "none").string(), items, users, items); });
  EXPECT_EQ(e.code(), ExitCode::io);
}

TEST_F(IdListTest, LinesOfAVocabulary) {
  const auto file = (folder / "v").string();
  spill(file,
        "\xEF\xBB\xBF"
        "b,1\r\n\r\n a \n");
  EXPECT_EQ(read_ids(file), (std::vector<std::string>{"b,1", " a "}));
  spill(file, "a\n\nb\x01\n");
  const Error control = error_of([&] { read_ids(file); });
  EXPECT_EQ(control.code(), ExitCode::bad_data);
  EXPECT_EQ(control.where(), file + ":3:1");
  spill(file, "\xff\n");
  EXPECT_EQ(error_of([&] { read_ids(file); }).code(), ExitCode::bad_data);
  spill(file, "\n\n");
  EXPECT_EQ(error_of([&] { read_ids(file); }).code(), ExitCode::bad_data);
}

}  // namespace
}  // namespace belfry::test
