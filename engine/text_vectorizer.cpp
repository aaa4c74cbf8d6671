// SPDX-License-Identifier: Apache-2.0
#include "engine/text_vectorizer.hpp"

#include <tsl/robin_map.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/field_text.hpp"

namespace belfry {
namespace {

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

std::string standardized(std::string_view text, const TextOptions& options) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (options.strip_punctuation && is_punctuation(c)) continue;
    out += options.lower && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  }
  return out;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> out;
  std::size_t i = 0;
  while (i < text.size()) {
    while (i < text.size() && is_space(text[i])) ++i;
    const std::size_t begin = i;
    while (i < text.size() && !is_space(text[i])) ++i;
    if (i > begin) out.emplace_back(text.substr(begin, i - begin));
  }
  return out;
}

std::vector<std::string> characters_of(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    std::size_t size = 1;
    while (size <= std::min<std::size_t>(4, text.size()) && !is_utf8(text.substr(0, size))) ++size;
    if (size > 4 || size > text.size()) {
      out.emplace_back("\xef\xbf\xbd");
      size = 1;
    } else {
      out.emplace_back(text.substr(0, size));
    }
    text.remove_prefix(size);
  }
  return out;
}

std::vector<std::string> runs_of(const std::vector<std::string>& words,
                                 const std::vector<int>& widths) {
  std::vector<std::string> out;
  for (const int width : widths) {
    const auto n = static_cast<std::size_t>(width);
    for (std::size_t i = 0; i + n <= words.size(); ++i) {
      std::string run = words[i];
      for (std::size_t k = 1; k < n; ++k) run.append(1, ' ').append(words[i + k]);
      out.push_back(std::move(run));
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> tokenize(std::string_view text, const TextOptions& options) {
  std::string clean = standardized(text, options);
  std::vector<std::string> out;
  switch (options.split) {
    case TextSplit::none:
      out.push_back(std::move(clean));
      break;
    case TextSplit::whitespace:
      out = words_of(clean);
      break;
    case TextSplit::character:
      out = characters_of(clean);
      break;
  }
  return options.ngrams.empty() ? out : runs_of(out, options.ngrams);
}

VocabularyOptions vocabulary_options(const TextOptions& options) {
  VocabularyOptions out;
  out.oov = 1;
  out.oov_token = "[UNK]";
  if (options.padding) out.mask_token = "";
  out.max_tokens = options.max_tokens;
  return out;
}

TextVectorizer::TextVectorizer(std::vector<std::string> tokens, const TextOptions& options)
    : TextVectorizer(Vocabulary(std::move(tokens), {}, vocabulary_options(options)), options) {}

TextVectorizer TextVectorizer::adapt(std::span<const std::string_view> texts,
                                     const TextOptions& options) {
  tsl::robin_map<std::string, std::int64_t> counts;
  for (const std::string_view text : texts) {
    for (std::string& token : tokenize(text, options)) ++counts[std::move(token)];
  }
  return {Vocabulary::adapt({counts.begin(), counts.end()}, vocabulary_options(options)), options};
}

std::vector<std::int64_t> TextVectorizer::rows(std::string_view text) const {
  std::vector<std::int64_t> out;
  for (const std::string& token : tokenize(text, options_)) {
    out.push_back(vocabulary_.row(token).value());  // unknown words have a row
  }
  return out;
}

std::vector<float> TextVectorizer::inverse_document_frequencies(
    std::span<const std::string_view> texts) const {
  std::vector<std::int64_t> found(static_cast<std::size_t>(vocabulary_.rows()));
  for (const std::string_view text : texts) {
    std::vector<std::int64_t> distinct = rows(text);
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    for (const std::int64_t row : distinct) ++found[static_cast<std::size_t>(row)];
  }
  std::vector<float> out(1, 0);
  double sum = 0;
  for (std::int64_t row = vocabulary_.first_token_row(); row < vocabulary_.rows(); ++row) {
    const auto with = static_cast<double>(found[static_cast<std::size_t>(row)]);
    const double idf = std::log(1 + static_cast<double>(texts.size()) / (1 + with));
    out.push_back(static_cast<float>(idf));
    sum += idf;
  }
  if (vocabulary_.tokens() > 0) {
    out[0] = static_cast<float>(sum / static_cast<double>(vocabulary_.tokens()));
  }
  return out;
}

}  // namespace belfry
