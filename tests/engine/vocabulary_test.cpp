// SPDX-License-Identifier: Apache-2.0
#include "engine/vocabulary.hpp"

#include <gtest/gtest.h>

#include "engine/farmhash.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

using Tokens = std::vector<std::string>;

VocabularyOptions with(IdType type, std::int64_t oov) {
  VocabularyOptions options;
  options.type = type;
  options.oov = oov;
  return options;
}

TEST(Vocabulary, RowsOfGivenTokens) {
  VocabularyOptions options = with(IdType::text, 1);
  const Vocabulary plain({"b", "a", ""}, {5, 2, 9}, options);
  EXPECT_EQ(plain.rows(), 4);
  EXPECT_EQ(plain.tokens(), 3);
  EXPECT_EQ(plain.first_token_row(), 1);
  EXPECT_EQ(plain.row("b"), 1);
  EXPECT_EQ(plain.row("a"), 2);
  EXPECT_EQ(plain.row(""), 3);
  EXPECT_EQ(plain.row("q"), 0);
  EXPECT_EQ(plain.token_index("a"), 1);
  EXPECT_EQ(plain.token_index("q"), std::nullopt);
  EXPECT_EQ(plain.count(0), 5);
  EXPECT_EQ(plain.token(1), "a");
  options.mask_token = "-";
  options.oov = 2;
  const Vocabulary masked({"b", "a"}, {}, options);
  EXPECT_EQ(masked.rows(), 5);
  EXPECT_EQ(masked.row("-"), 0);
  EXPECT_EQ(masked.row("b"), 3);
  EXPECT_EQ(masked.row("q"), 1 + static_cast<std::int64_t>(fingerprint64("q") % 2));
  EXPECT_EQ(masked.counts(), (std::vector<std::int64_t>{0, 0}));
  EXPECT_EQ(masked.inverse(0), "-");
  EXPECT_EQ(masked.inverse(1), "[UNK]");
  EXPECT_EQ(masked.inverse(4), "a");
  EXPECT_EQ(masked.inverse(5), "[UNK]");
  EXPECT_EQ(masked.inverse(-1), "[UNK]");
}

TEST(Vocabulary, WithoutOovRowsUnknownHasNoRow) {
  const Vocabulary vocabulary({"x"}, {}, with(IdType::text, 0));
  EXPECT_EQ(vocabulary.rows(), 1);
  EXPECT_EQ(vocabulary.row("x"), 0);
  EXPECT_EQ(vocabulary.row("y"), std::nullopt);
  EXPECT_EQ(Vocabulary().rows(), 0);
  EXPECT_EQ(Vocabulary().row("x"), std::nullopt);
}

TEST(Vocabulary, IntegersAreCanonicalAndWrapLikeAFloor) {
  const Vocabulary vocabulary({"12", "007", "-5"}, {}, with(IdType::integer, 3));
  EXPECT_EQ(vocabulary.all_tokens(), (Tokens{"12", "7", "-5"}));
  EXPECT_EQ(vocabulary.row("7"), 4);
  EXPECT_EQ(vocabulary.row("0007"), 4);
  EXPECT_EQ(vocabulary.token_index("-05"), 2);
  EXPECT_EQ(vocabulary.row("4"), 1);
  EXPECT_EQ(vocabulary.row("-1"), 2);
  EXPECT_EQ(vocabulary.row("-3"), 0);
  EXPECT_EQ(vocabulary.row("-9223372036854775808"), 1);  // -2^63 = -3 * 3074457345618258603 + 1
  EXPECT_EQ(vocabulary.token_index("x"), std::nullopt);
}

TEST(Vocabulary, LearnsByCountThenDescending) {
  const Vocabulary texts = Vocabulary::adapt(
      {{"a", 2}, {"b", 2}, {"\xc3\xa9", 1}, {"aa", 1}, {"never", 0}, {"c", 7}, {"Z", 1}},
      with(IdType::text, 1));
  EXPECT_EQ(texts.all_tokens(), (Tokens{"c", "b", "a", "\xc3\xa9", "aa", "Z", "never"}));
  EXPECT_EQ(texts.counts(), (std::vector<std::int64_t>{7, 2, 2, 1, 1, 1, 0}));
  const Vocabulary numbers = Vocabulary::adapt(
      {{"9", 1}, {"10", 1}, {"-3", 1}, {"-20", 1}, {"5", 2}}, with(IdType::integer, 1));
  EXPECT_EQ(numbers.all_tokens(), (Tokens{"5", "10", "9", "-3", "-20"}));
}

TEST(Vocabulary, SpecialTokensAreNotLearned) {
  VocabularyOptions options = with(IdType::text, 1);
  // ids are ids: without a name for the OOV row nothing is special
  EXPECT_EQ(Vocabulary::adapt({{"[UNK]", 3}, {"a", 1}}, options).tokens(), 2);
  options.oov_token = "[UNK]";
  options.mask_token = "";
  options.max_tokens = 4;
  const Vocabulary vocabulary =
      Vocabulary::adapt({{"[UNK]", 9}, {"", 8}, {"a", 1}, {"b", 2}, {"c", 3}}, options);
  EXPECT_EQ(vocabulary.all_tokens(), (Tokens{"c", "b"}));
  EXPECT_EQ(vocabulary.rows(), 4);
  // a given vocabulary may bring them along
  EXPECT_EQ(Vocabulary({"", "[UNK]", "a"}, {}, options).all_tokens(), (Tokens{"a"}));
}

TEST(Vocabulary, Faults) {
  VocabularyOptions options = with(IdType::text, 1);
  const auto code = [](auto call) { return error_of(call).code(); };
  EXPECT_EQ(code([&] { Vocabulary({"a", "b", "a"}, {}, options); }), ExitCode::bad_data);
  EXPECT_EQ(code([&] { Vocabulary({"a"}, {1, 2}, options); }), ExitCode::bad_data);
  EXPECT_EQ(code([&] { Vocabulary::adapt({{"a", 1}, {"a", 2}}, options); }), ExitCode::bad_data);
  options.max_tokens = 2;
  EXPECT_EQ(code([&] { Vocabulary({"a", "b"}, {}, options); }), ExitCode::bad_data);
  options.oov = 3;
  EXPECT_EQ(code([&] { Vocabulary({}, {}, options); }), ExitCode::usage);
  options = with(IdType::text, 1);
  options.mask_token = "a";
  EXPECT_EQ(code([&] { Vocabulary({"b", "a"}, {}, options); }), ExitCode::bad_data);
  options = with(IdType::integer, 1);
  EXPECT_EQ(code([&] { Vocabulary({"x"}, {}, options); }), ExitCode::bad_data);
  EXPECT_EQ(code([&] { Vocabulary({"7", "07"}, {}, options); }), ExitCode::bad_data);
  EXPECT_EQ(code([&] { Vocabulary::adapt({{"1.5", 1}}, options); }), ExitCode::bad_data);
}

TEST(Fingerprint64, KnownValues) {
  EXPECT_EQ(fingerprint64(""), 11160318154034397263u);
  EXPECT_EQ(fingerprint64("a"), 12917804110809363939u);
  EXPECT_EQ(fingerprint64("abc"), 2640714258260161385u);
  EXPECT_EQ(fingerprint64("Star Wars (1977)"), 1147870550348701016u);
}

}  // namespace
}  // namespace belfry::test
