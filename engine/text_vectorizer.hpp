// SPDX-License-Identifier: Apache-2.0
// Free text -> rows of a table of words, as Keras's TextVectorization does it: ASCII lower case, ASCII
// punctuation dropped, split at ASCII white space; row 0 is padding, row 1 unknown words. Bytes beyond ASCII,
// valid or not, are parts of words.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/vocabulary.hpp"

namespace belfry {

enum class TextSplit { none, whitespace, character };

struct TextOptions {
  bool lower = true;
  bool strip_punctuation = true;
  TextSplit split = TextSplit::whitespace;
  /// Runs of so many words are tokens, joined by one space: all runs of the first width, then of the next.
  /// {1, 2} are words and pairs. Empty: words.
  std::vector<int> ngrams;
  std::int64_t max_tokens = 0;  ///< rows together, padding and unknown included; 0: no limit
  bool padding = true;          ///< row 0 is padding (the empty token); else row 0 is unknown
};

/// The tokens of a text in order. Characters are those of UTF-8; a byte of none is U+FFFD.
std::vector<std::string> tokenize(std::string_view text, const TextOptions& options);

class TextVectorizer {
 public:
  /// Tokens as given, in order (see Vocabulary for what may be wrong with them).
  TextVectorizer(std::vector<std::string> tokens, const TextOptions& options);
  /// Learned: by descending count, ties by descending bytes.
  static TextVectorizer adapt(std::span<const std::string_view> texts, const TextOptions& options);

  const Vocabulary& vocabulary() const { return vocabulary_; }
  const TextOptions& options() const { return options_; }
  /// Rows of a text's tokens; none for a text without tokens.
  std::vector<std::int64_t> rows(std::string_view text) const;
  /// log(1 + texts / (1 + texts with the token)) of every row but padding; of unknown words their mean.
  std::vector<float> inverse_document_frequencies(std::span<const std::string_view> texts) const;

 private:
  TextVectorizer(Vocabulary vocabulary, const TextOptions& options)
      : options_(options), vocabulary_(std::move(vocabulary)) {}
  TextOptions options_;
  Vocabulary vocabulary_;
};

/// The vocabulary's options that go with a text's.
VocabularyOptions vocabulary_options(const TextOptions& options);

}  // namespace belfry
