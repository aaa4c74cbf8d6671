// SPDX-License-Identifier: Apache-2.0
// Queries of a file, one a row: who asks and in which context. Its columns are the user column and those of the
// model's query features; what a file leaves out the model takes from what it keeps of the user.
#pragma once

#include <string>
#include <vector>

#include "engine/model_data.hpp"
#include "engine/two_tower.hpp"

namespace belfry {

struct QueryFile {
  QuerySet queries;
  std::vector<std::string>
      names;  ///< of each query: the user as the file has it; "#ROW" without one
  std::int64_t unseen =
      0;  ///< values of ids, categories, lists and histories that training never saw
  std::string first_unseen;
};

/// What a query column is called: the feature's column; of a sequence, which has none, its name.
const std::string& query_column(const FeatureConfig& feature);
/// The same of all query features beside the user's id, and of the weights of lists, each once.
std::vector<std::string> query_columns(const Config& config, const ModelData& data);

/// Reads the queries of `path` ("-": standard input), in any format with named columns (a header, or JSON keys;
/// one column alone will do). A value is written as in training data; that of a sequence is a list of item ids,
/// oldest first, split by the feature's separator: one text in JSON too. In JSON lines a key that a row lacks is left out by that row.
/// given: values for all queries, as QuerySet's (--context). cold: unknown users take the OOV rows.
/// Error(bad_data) at FILE:LINE:COLUMN: an unknown column, a value that stands for none, an unknown user without
/// cold, a query without a user that lacks a feature.
QueryFile read_queries(const std::string& path, const Config& config, const ModelData& data,
                       std::vector<FeatureValues> given, bool cold);

}  // namespace belfry
