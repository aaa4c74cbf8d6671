// SPDX-License-Identifier: Apache-2.0
// What a feature makes of its column: rows of tables, lists of them, or numbers; and what it learns of the
// values before (tokens with their counts, boundaries, mean and deviation).
#pragma once

#include <tsl/robin_map.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/model_data.hpp"
#include "engine/text_vectorizer.hpp"

namespace belfry {

/// Tokens while they are collected, in order of appearance.
struct TokenCounts {
  std::vector<std::pair<std::string, std::int64_t>> list;
  tsl::robin_map<std::string, std::size_t> at;
  void add(std::string_view token, std::int64_t n) {
    const auto [it, fresh] = at.try_emplace(std::string(token), list.size());
    if (fresh) list.emplace_back(token, 0);
    list[it->second].second += n;
  }
};

/// The columns of a feature, and the column row of each of its values; -1: there is none.
struct FeatureSource {
  const Column* values = nullptr;
  const Column* weights = nullptr;  ///< of a list
  std::vector<std::int64_t> rows;
};

/// How a feature's columns are read.
std::vector<ColumnRequest> column_requests(const FeatureConfig& config);
/// Those columns of a table.
FeatureSource source_of(const FeatureConfig& config, const Table& table,
                        std::vector<std::int64_t> rows);

/// A number of a column, whatever its type. Text that is none: Error(bad_data).
double number_at(const Column& column, std::int64_t row);

TextOptions text_options(const FeatureConfig& config);

/// Counts the tokens of a category, list or text, without its mask.
void count_tokens(const FeatureConfig& config, const FeatureSource& source, TokenCounts& counts);
/// The boundaries of a bucket feature, given or learned; `preset` "tfrs" learns quantiles by Keras's
/// sketch of batches of `batch` values, any other by sorting.
std::vector<float> learn_boundaries(const FeatureConfig& config, const FeatureSource& source,
                                    const std::string& preset, std::int64_t batch);
/// Fills the mean and scale of a number feature.
void learn_scale(FeatureData& feature, const FeatureSource& source);

/// Values of feature f of the model, whose tables are complete. Sequences have none here (history.hpp).
/// What does not stand for a value (a token without a row, a list with other weights, a vector of another
/// width): Error(bad_data) naming the feature.
FeatureValues build_values(const ModelData& model, std::size_t f, const FeatureSource& source);

/// The tokens of an id, category, list or sequence in `text` that training never saw, in order; the mask and
/// empty tokens of a list stand for no value. Empty for other kinds.
std::vector<std::string> unseen_tokens(const ModelData& model, std::size_t f,
                                       std::string_view text);

}  // namespace belfry
