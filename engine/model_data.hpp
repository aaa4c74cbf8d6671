// SPDX-License-Identifier: Apache-2.0
// From files to what a model trains on: users and items as entities 0 .. n-1, interactions as pairs of
// them, features as rows of embedding tables. Item features are stored once an item, user features once a
// user; a feature whose column stands in the interactions is a context feature, one value a row.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config.hpp"
#include "engine/data_source.hpp"
#include "engine/dataset.hpp"
#include "engine/feature_values.hpp"
#include "engine/vocabulary.hpp"

namespace belfry {

/// A table and the values that its rows stand for; shared by all features that name it.
struct TableData {
  std::string name;
  std::int64_t dim = 0;
  InitConfig init;
  Vocabulary vocabulary;          ///< of ids, categories, lists and words
  std::int64_t buckets = 0;       ///< rows, where they stand for hash values or ranges of numbers
  std::vector<float> boundaries;  ///< between the ranges
  std::int64_t rows() const { return buckets > 0 ? buckets : vocabulary.rows(); }
};

/// One lookup, or the numbers, of a feature. A unified feature has several, all of its name, in order.
struct FeatureData {
  FeatureConfig config;
  int table = -1;              ///< index into ModelData::tables; -1: dense
  int chunk = 0;               ///< of a unified feature
  std::int64_t width = 0;      ///< dense: numbers a value
  bool context = false;        ///< one value an interaction instead of one an entity
  double mean = 0, scale = 1;  ///< of a number: x enters as (x - mean) * scale
  std::int64_t longest = 1;    ///< of lists: rows of the longest one
  std::int64_t steps = 0;      ///< of lists that a network reads step by step: steps_of(config)
  FeatureValues values;        ///< [entities of its side]; context: empty
  FeatureForm form() const {
    if (table < 0) return FeatureForm::dense;
    // A value that may be none is a list of none or one.
    return is_list(config.kind) || config.mask ? FeatureForm::list : FeatureForm::row;
  }
};

/// Interactions by entity. An item number >= the catalogue's size, or a user number >= the number of
/// users, stands for a distinct id outside of them (test data only).
struct Interactions {
  std::vector<std::int32_t> user, item;
  std::vector<float> weight;               ///< empty: 1
  std::vector<std::vector<float>> labels;  ///< per ranking task, in order of tasks
  std::vector<FeatureValues> context;      ///< per context feature, in order of features
  std::int64_t size() const { return static_cast<std::int64_t>(user.size()); }
};

/// Per user: the items of a set of interactions, ascending and distinct.
struct ItemLists {
  std::vector<std::int64_t> offsets;  ///< [users + 1]
  std::vector<std::int32_t> items;
};

/// What the reader found and decided, for the log and for env.json.
struct DataReport {
  std::string schema;  ///< "csv, comma, header"
  std::string user, item, weight, time;
  bool user_guessed = false, item_guessed = false, weight_guessed = false, time_guessed = false;
  std::int64_t rows = 0, filtered = 0, duplicates_dropped = 0;
  double seconds = 0;
};

/// What a ranking task learns of a row.
struct LabelColumn {
  std::string column;
  std::optional<double> above;  ///< the label is 1 where the column is above, else 0
  /// What its loss can learn, and that as a sentence; where `above` is set, any number.
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  std::string why = {};
};
/// Those of a config's ranking tasks, in order.
std::vector<LabelColumn> label_columns(const Config& config);

struct ModelData {
  Vocabulary users, items;  ///< entities in order; items = the catalogue
  std::vector<TableData> tables;
  std::vector<FeatureData> features;  ///< query features and candidate features
  std::vector<LabelColumn> labels;    ///< of the ranking tasks
  Interactions train;                 ///< in the split's order
  Interactions validation, test;
  bool has_test = false;
  /// Context of each user's last training interaction (by time, then row), validation rows included:
  /// [context features], of each user.
  std::vector<FeatureValues> last_context;
  std::vector<std::int64_t> item_counts;  ///< training and validation rows of each catalogue item
  std::vector<float> item_probability;    ///< given sampling probabilities; empty: from item_counts
  std::string fingerprint;                ///< XXH3-128 of the encoded interactions and vocabularies
  DataReport report;

  std::int64_t user_count() const { return users.tokens(); }
  std::int64_t item_count() const { return items.tokens(); }
  std::vector<int> features_of(Side side) const;
};

/// Every column that a resolved config names stands in its file; Error(bad_data) "FILE: no column ..".
/// Reads the first lines of each file.
void check_columns(const Config& config, const DataSource& source = files());

/// Fills the gaps of `config` that need the data: column names, id type, the two default id towers.
/// Sniffs, reads no rows, checks the columns. Errors as dataset.hpp, or Error(usage) at the place of the key.
void resolve_config(Config& config, DataReport* report = nullptr,
                    const DataSource& source = files());

/// Reads everything that a resolved config names. found: what resolve_config reported. `progress` gets one line a finished part.
ModelData load_model_data(const Config& config, const DataReport& found,
                          const std::function<void(const std::string&)>& progress,
                          const DataSource& source = files());

/// Reads a test file for a model whose entities and features are known (evaluate --test); of `model` its
/// vocabularies, tables and features are used.
Interactions load_test_file(const Config& config, const std::string& path, const ModelData& model,
                            const DataSource& source = files());

/// The one value of feature f that a field with this text stands for, as in --context; of a weighted list with
/// the field of its weights, of a sequence with its items' ids in order of time. Text that stands for none, or
/// weights that are missing: Error(bad_data).
FeatureValues value_of_text(const ModelData& model, std::size_t f, std::string_view text,
                            std::optional<std::string_view> weights = std::nullopt);

/// The distinct items of each user, from one or two sets of interactions, catalogue items alone.
ItemLists items_by_user(std::int64_t users, std::int64_t items,
                        const std::vector<const Interactions*>& parts);

}  // namespace belfry
