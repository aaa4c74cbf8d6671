// SPDX-License-Identifier: Apache-2.0
// Vocabulary: external id <-> row of an embedding table, with the semantics of Keras's StringLookup and
// IntegerLookup: row order is [mask] [out-of-vocabulary buckets] tokens; learned tokens come by
// descending count, ties by descending bytes (strings) or numbers (integers).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/dataset.hpp"

namespace belfry {

struct VocabularyOptions {
  IdType type = IdType::text;
  std::int64_t oov = 1;  ///< number of out-of-vocabulary rows; 0: unknown ids are errors
  std::optional<std::string> mask_token;  ///< row 0 when set
  /// Name of the out-of-vocabulary rows ("[UNK]", "-1" in Keras). When set it is never learned, and a given
  /// vocabulary may start with the special tokens. Unset, as for ids of users and items: no text is special.
  std::optional<std::string> oov_token;
  std::int64_t max_tokens = 0;  ///< all rows together at most; 0: no limit
};

class Vocabulary {
 public:
  Vocabulary() = default;
  /// Tokens in the order given, with their counts (or none). A token twice, the mask token among them, an
  /// integer vocabulary with other text, more than max_tokens rows: Error(bad_data).
  Vocabulary(std::vector<std::string> tokens, std::vector<std::int64_t> counts,
             const VocabularyOptions& options);
  /// Learned from (token, count) pairs: by count and ties as above, count 0 tokens included last.
  static Vocabulary adapt(std::vector<std::pair<std::string, std::int64_t>> counts,
                          const VocabularyOptions& options);

  /// Learned from the values of a column: anything that tells how often each comes (belfry/table.hpp).
  template <class Column>
  requires requires(const Column& column) { column.token_counts(); }
  static Vocabulary adapt(const Column& column, const VocabularyOptions& options = {}) {
    return adapt(column.token_counts(), options);
  }

  std::int64_t rows() const { return first_token_row_ + tokens(); }  ///< height of the table
  std::int64_t size() const { return rows(); }
  std::int64_t tokens() const { return static_cast<std::int64_t>(content_->tokens.size()); }
  std::int64_t first_token_row() const { return first_token_row_; }
  const VocabularyOptions& options() const { return options_; }

  /// Row of a token; an unknown one goes to an OOV bucket (Fingerprint64 of its bytes, or the floored
  /// modulus of an integer, by the number of buckets; one bucket: always that). nullopt: unknown and no
  /// bucket.
  std::optional<std::int64_t> row(std::string_view token) const;
  /// Token of a row: the mask token, the OOV token ("[UNK]" when unset; also beyond the table), or a token.
  std::string inverse(std::int64_t row) const;
  /// Number of a known token, 0-based and without mask and OOV rows; nullopt for an unknown one.
  std::optional<std::int64_t> token_index(std::string_view token) const;
  const std::string& token(std::int64_t index) const {
    return content_->tokens[static_cast<std::size_t>(index)];
  }
  std::int64_t count(std::int64_t index) const {
    return content_->counts[static_cast<std::size_t>(index)];
  }
  const std::vector<std::string>& all_tokens() const { return content_->tokens; }
  const std::vector<std::int64_t>& counts() const { return content_->counts; }

  /// The same tokens and counts (shared, not copied) under another number of OOV rows.
  Vocabulary with_oov(std::int64_t oov) const;
  /// Whether both share their tokens.
  bool same_tokens(const Vocabulary& other) const { return content_ == other.content_; }

 private:
  void index_tokens(std::vector<std::string> tokens, std::vector<std::int64_t> counts);
  /// Shared by copies: a million ids are held once, whatever uses them.
  struct Content {
    std::vector<std::string> tokens;
    std::vector<std::int64_t> counts;
    Dictionary dictionary;  ///< code: number of the token
  };
  VocabularyOptions options_;
  std::int64_t first_token_row_ = 0;
  std::shared_ptr<const Content> content_ = std::make_shared<Content>();
};

}  // namespace belfry
