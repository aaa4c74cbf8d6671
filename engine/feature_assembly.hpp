// SPDX-License-Identifier: Apache-2.0
// All tables and features of a model from what was read: which features share a table, what its rows stand
// for, and the values of users and items. What is learned of values (words, boundaries, mean and deviation)
// comes from training rows, those of validation included, and of items from those that such a row names
// (data.vocabulary = "train") or from the whole catalogue; of test rows nothing is learned.
#pragma once

#include "engine/interaction_encoder.hpp"
#include "engine/split.hpp"

namespace belfry {

/// What the features are made of.
struct FeatureTables {
  const DataSource& source;  ///< of vocabularies that are given
  const SideTable& users;
  const SideTable& items;
  const Table& rows;                                ///< interactions
  const std::vector<std::string>& context_columns;  ///< query columns that stand there
  const Split& split;                               ///< of its rows
};

/// Fills the tables and features of `model`, whose users and items are known.
void assemble_features(const Config& config, const FeatureTables& from, ModelData& model);

/// The table row of each item of the catalogue in the table of feature f, which stands for items.
std::vector<std::int32_t> rows_of_items(const ModelData& model, std::size_t f);

}  // namespace belfry
