// SPDX-License-Identifier: Apache-2.0
#include "engine/vocabulary.hpp"

#include <algorithm>
#include <numeric>

#include "engine/error.hpp"
#include "engine/farmhash.hpp"
#include "engine/field_text.hpp"

namespace belfry {
namespace {

/// The one text of an integer; other text stays as it is.
std::string canonical(std::string_view token, IdType type) {
  std::int64_t value = 0;
  if (type == IdType::integer && parse_integer(token, value)) return std::to_string(value);
  return std::string(token);
}

void check_options(const VocabularyOptions& options) {
  const std::int64_t special = options.oov + (options.mask_token ? 1 : 0);
  if (options.oov < 0 || options.max_tokens < 0 ||
      (options.max_tokens > 0 && options.max_tokens < special)) {
    throw Error(ExitCode::usage, "",
                "a vocabulary of at most " + std::to_string(options.max_tokens) +
                    " rows cannot hold " + std::to_string(special) + " special rows");
  }
}

std::vector<std::string> special_tokens(const VocabularyOptions& options) {
  std::vector<std::string> special;
  if (options.mask_token) special.push_back(canonical(*options.mask_token, options.type));
  if (options.oov_token) {
    special.insert(special.end(), static_cast<std::size_t>(options.oov),
                   canonical(*options.oov_token, options.type));
  }
  return special;
}

}  // namespace

Vocabulary::Vocabulary(std::vector<std::string> tokens, std::vector<std::int64_t> counts,
                       const VocabularyOptions& options)
    : options_(options) {
  check_options(options_);
  if (!counts.empty() && counts.size() != tokens.size()) {
    throw Error(ExitCode::bad_data, "",
                std::to_string(tokens.size()) + " tokens have " + std::to_string(counts.size()) +
                    " counts");
  }
  counts.resize(tokens.size());
  first_token_row_ = options_.oov + (options_.mask_token ? 1 : 0);
  if (options_.type == IdType::integer) {
    for (std::string& token : tokens) {
      std::int64_t value = 0;
      if (!parse_integer(token, value)) {
        throw Error(ExitCode::bad_data, "", shown(token) + " is not an integer");
      }
      token = std::to_string(value);
    }
  }
  const std::vector<std::string> special = special_tokens(options_);
  const bool complete = options_.oov == 0 || options_.oov_token.has_value();
  if (complete && !special.empty() && tokens.size() >= special.size() &&
      std::equal(special.begin(), special.end(), tokens.begin())) {
    const auto n = static_cast<std::ptrdiff_t>(special.size());
    tokens.erase(tokens.begin(), tokens.begin() + n);
    counts.erase(counts.begin(), counts.begin() + n);
  }
  const std::int64_t rows = first_token_row_ + static_cast<std::int64_t>(tokens.size());
  if (options_.max_tokens > 0 && rows > options_.max_tokens) {
    throw Error(ExitCode::bad_data, "",
                "a vocabulary of " + std::to_string(rows) + " rows where max_tokens is " +
                    std::to_string(options_.max_tokens));
  }
  index_tokens(std::move(tokens), std::move(counts));
}

void Vocabulary::index_tokens(std::vector<std::string> tokens, std::vector<std::int64_t> counts) {
  if (options_.mask_token) {
    options_.mask_token = canonical(*options_.mask_token, options_.type);
  }
  auto content = std::make_shared<Content>();
  for (const std::string& token : tokens) {
    const std::size_t known = content->dictionary.size();
    if (content->dictionary.add(token) != known) {
      throw Error(ExitCode::bad_data, "", shown(token) + " comes twice in the vocabulary");
    }
    if (options_.mask_token == token) {
      throw Error(ExitCode::bad_data, "",
                  "the mask token " + shown(token) + " is in the vocabulary");
    }
  }
  content->tokens = std::move(tokens);
  content->counts = std::move(counts);
  content_ = std::move(content);
}

Vocabulary Vocabulary::with_oov(std::int64_t oov) const {
  Vocabulary out = *this;
  out.options_.oov = oov;
  check_options(out.options_);
  out.first_token_row_ = oov + (options_.mask_token ? 1 : 0);
  return out;
}

Vocabulary Vocabulary::adapt(std::vector<std::pair<std::string, std::int64_t>> counts,
                             const VocabularyOptions& options) {
  check_options(options);
  std::vector<std::int64_t> numbers;
  for (auto& [token, count] : counts) {
    token = canonical(token, options.type);
    if (options.type != IdType::integer) continue;
    std::int64_t value = 0;
    if (!parse_integer(token, value)) {
      throw Error(ExitCode::bad_data, "", shown(token) + " is not an integer");
    }
    numbers.push_back(value);
  }
  std::vector<std::size_t> order(counts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (counts[a].second != counts[b].second) return counts[a].second > counts[b].second;
    return numbers.empty() ? counts[a].first > counts[b].first : numbers[a] > numbers[b];
  });
  const std::int64_t special = options.oov + (options.mask_token ? 1 : 0);
  const auto room = options.max_tokens > 0 ? static_cast<std::size_t>(options.max_tokens - special)
                                           : counts.size();
  const std::vector<std::string> never = special_tokens(options);
  std::vector<std::string> tokens;
  std::vector<std::int64_t> kept;
  for (const std::size_t i : order) {
    if (tokens.size() == room) break;
    if (std::find(never.begin(), never.end(), counts[i].first) != never.end()) continue;
    tokens.push_back(std::move(counts[i].first));
    kept.push_back(counts[i].second);
  }
  return Vocabulary(std::move(tokens), std::move(kept), options);
}

std::optional<std::int64_t> Vocabulary::token_index(std::string_view token) const {
  const auto code = options_.type == IdType::integer
                        ? content_->dictionary.find(canonical(token, options_.type))
                        : content_->dictionary.find(token);
  if (!code) return std::nullopt;
  return static_cast<std::int64_t>(*code);
}

std::optional<std::int64_t> Vocabulary::row(std::string_view token) const {
  if (options_.mask_token &&
      (token == *options_.mask_token || canonical(token, options_.type) == *options_.mask_token)) {
    return 0;
  }
  if (const auto index = token_index(token)) return first_token_row_ + *index;
  if (first_token_row_ == 0 || options_.oov == 0) return std::nullopt;  // empty, or no OOV row
  const std::int64_t first = options_.mask_token ? 1 : 0;
  if (options_.oov == 1) return first;
  std::int64_t value = 0;
  if (options_.type == IdType::integer && parse_integer(token, value)) {
    const std::int64_t remainder = value % options_.oov;
    return first + (remainder < 0 ? remainder + options_.oov : remainder);
  }
  const auto bucket = fingerprint64(token) % static_cast<std::uint64_t>(options_.oov);
  return first + static_cast<std::int64_t>(bucket);
}

std::string Vocabulary::inverse(std::int64_t row) const {
  if (options_.mask_token && row == 0) return *options_.mask_token;
  if (row >= first_token_row_ && row < rows()) return token(row - first_token_row_);
  return options_.oov_token.value_or("[UNK]");
}

}  // namespace belfry
