// SPDX-License-Identifier: Apache-2.0
#include "engine/text_vectorizer.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

using Tokens = std::vector<std::string>;
using Texts = std::vector<std::string_view>;
using Rows = std::vector<std::int64_t>;

TEST(Tokenize, LowerCaseWithoutPunctuation) {
  const TextOptions options;
  EXPECT_EQ(tokenize("One Flew Over the Cuckoo's Nest (1975)", options),
            (Tokens{"one", "flew", "over", "the", "cuckoos", "nest", "1975"}));
  EXPECT_EQ(tokenize("!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'", options), Tokens{});
  EXPECT_EQ(tokenize("a!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'Z", options), (Tokens{"az"}));
  EXPECT_EQ(tokenize("", options), Tokens{});
  EXPECT_EQ(tokenize(" \t\n\v\f\r", options), Tokens{});
  EXPECT_EQ(tokenize("\ta  b\n\v\f\rc ", options), (Tokens{"a", "b", "c"}));
  EXPECT_EQ(tokenize("- a - b -", options), (Tokens{"a", "b"}));
  EXPECT_EQ(tokenize(std::string_view("a\0b c", 5), options),
            (Tokens{std::string("a\0b", 3), "c"}));
}

TEST(Tokenize, OnlyAsciiIsTouched) {
  const TextOptions options;
  // E acute stays; a no-break space, an ideographic space and a guillemet are letters of a word.
  EXPECT_EQ(tokenize("\xc3\x89T\xc3\x89", options), (Tokens{"\xc3\x89t\xc3\x89"}));
  EXPECT_EQ(tokenize("non\xc2\xa0"
                     "breaking",
                     options),
            (Tokens{"non\xc2\xa0"
                    "breaking"}));
  EXPECT_EQ(tokenize("a\xe3\x80\x80"
                     "b",
                     options),
            (Tokens{"a\xe3\x80\x80"
                    "b"}));
  EXPECT_EQ(tokenize("\xc2\xab"
                     "A\xc2\xbb",
                     options),
            (Tokens{"\xc2\xab"
                    "a\xc2\xbb"}));
  // Broken UTF-8 goes through as bytes.
  EXPECT_EQ(tokenize("\xff\xc3 \x80X", options), (Tokens{"\xff\xc3", "\x80x"}));
}

TEST(Tokenize, Standards) {
  TextOptions options;
  options.lower = false;
  EXPECT_EQ(tokenize("It's A-b", options), (Tokens{"Its", "Ab"}));
  options.strip_punctuation = false;
  EXPECT_EQ(tokenize("It's A-b", options), (Tokens{"It's", "A-b"}));
  options.lower = true;
  EXPECT_EQ(tokenize("It's A-b", options), (Tokens{"it's", "a-b"}));
}

TEST(Tokenize, Splits) {
  TextOptions options;
  options.split = TextSplit::none;
  EXPECT_EQ(tokenize(" A b! ", options), (Tokens{" a b "}));
  EXPECT_EQ(tokenize("", options), (Tokens{""}));
  options.split = TextSplit::character;
  EXPECT_EQ(tokenize("A\xc3\xa9 \xf0\x9f\x98\x80", options),
            (Tokens{"a", "\xc3\xa9", " ", "\xf0\x9f\x98\x80"}));
  EXPECT_EQ(tokenize("\xc3"
                     "a\x80\xf0\x9f\x98",
                     options),
            (Tokens{"\xef\xbf\xbd", "a", "\xef\xbf\xbd", "\xef\xbf\xbd", "\xef\xbf\xbd",
                    "\xef\xbf\xbd"}));
  EXPECT_EQ(tokenize("", options), Tokens{});
}

TEST(Tokenize, RunsOfWords) {
  TextOptions options;
  options.ngrams = {1, 2, 3};
  EXPECT_EQ(tokenize("a b c", options), (Tokens{"a", "b", "c", "a b", "b c", "a b c"}));
  EXPECT_EQ(tokenize("a", options), (Tokens{"a"}));
  EXPECT_EQ(tokenize("", options), Tokens{});
  options.ngrams = {3, 1};
  EXPECT_EQ(tokenize("a b c d", options), (Tokens{"a b c", "b c d", "a", "b", "c", "d"}));
  options.ngrams = {2};
  EXPECT_EQ(tokenize("a", options), Tokens{});
}

TEST(TextVectorizer, LearnsByCountThenDescendingBytes) {
  const Texts data = {"b a", "C c!", "a B d", "", "[UNK]"};
  const auto vectorizer = TextVectorizer::adapt(data, {});
  EXPECT_EQ(vectorizer.vocabulary().all_tokens(), (Tokens{"c", "b", "a", "unk", "d"}));
  EXPECT_EQ(vectorizer.vocabulary().rows(), 7);
  EXPECT_EQ(vectorizer.rows("A new c"), (Rows{4, 1, 2}));
  EXPECT_EQ(vectorizer.rows("..."), Rows{});
  TextOptions options;
  options.max_tokens = 4;
  const auto few = TextVectorizer::adapt(data, options);
  EXPECT_EQ(few.vocabulary().all_tokens(), (Tokens{"c", "b"}));
  EXPECT_EQ(few.rows("a b c d"), (Rows{1, 3, 2, 1}));
  options.padding = false;
  EXPECT_EQ(TextVectorizer::adapt(data, options).rows("a b c d"), (Rows{3, 2, 1, 0}));
}

TEST(TextVectorizer, PaddingAndUnknownAreNoWords) {
  TextOptions options;
  options.strip_punctuation = false;
  options.lower = false;
  options.split = TextSplit::none;
  const Texts data = {"", "[UNK]", "x"};
  const auto vectorizer = TextVectorizer::adapt(data, options);
  EXPECT_EQ(vectorizer.vocabulary().all_tokens(), (Tokens{"x"}));
  EXPECT_EQ(vectorizer.rows(""), (Rows{0}));
  EXPECT_EQ(vectorizer.rows("[UNK]"), (Rows{1}));
}

TEST(TextVectorizer, GivenAndEmptyVocabularies) {
  const TextVectorizer given({"x", "a b"}, {});
  EXPECT_EQ(given.rows("X y"), (Rows{2, 1}));
  EXPECT_EQ(error_of([] { TextVectorizer({"x", "x"}, {}); }).code(), ExitCode::bad_data);
  EXPECT_EQ(error_of([] { TextVectorizer({""}, {}); }).code(), ExitCode::bad_data);
  const auto none = TextVectorizer::adapt({}, {});
  EXPECT_EQ(none.vocabulary().rows(), 2);
  EXPECT_EQ(none.rows("a b"), (Rows{1, 1}));
  EXPECT_EQ(none.inverse_document_frequencies({}), (std::vector<float>{0}));
}

TEST(TextVectorizer, InverseDocumentFrequencies) {
  TextOptions options;
  options.padding = false;
  const Texts data = {"a a b", "a", "c", "zz"};
  const TextVectorizer vectorizer({"a", "b", "never"}, options);
  const std::vector<float> idf = vectorizer.inverse_document_frequencies(data);
  const double a = std::log(1 + 4.0 / 3), b = std::log(1 + 4.0 / 2), never = std::log(5.0);
  ASSERT_EQ(idf.size(), 4u);
  EXPECT_FLOAT_EQ(idf[0], static_cast<float>((a + b + never) / 3));
  EXPECT_FLOAT_EQ(idf[1], static_cast<float>(a));
  EXPECT_FLOAT_EQ(idf[2], static_cast<float>(b));
  EXPECT_FLOAT_EQ(idf[3], static_cast<float>(never));
}

}  // namespace
}  // namespace belfry::test
