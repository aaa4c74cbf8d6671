// SPDX-License-Identifier: Apache-2.0
// The parts of loading that training data and test files share: reading interactions with the columns that
// a model needs, side tables joined by id, and rows as interactions of a model's entities.
#pragma once

#include <fmt/format.h>
#include <tsl/robin_map.h>

#include <string>
#include <string_view>
#include <vector>

#include "engine/data_source.hpp"
#include "engine/model_data.hpp"

namespace belfry {

bool has_column(const Schema& schema, const std::string& name);

/// The interactions' column that names the item: the side table's key where items are joined.
const std::string& key_column(const DataConfig& data);

/// Numbers entities outside of a vocabulary, distinct ids getting distinct numbers from `first` on.
class Outside {
 public:
  explicit Outside(std::int64_t first) : first_(first) {}
  std::int32_t number(std::string_view id);

 private:
  std::int64_t first_;
  tsl::robin_map<std::string, std::int32_t> seen_;
};

/// Reads one set of tables with the columns that the model needs.
class InteractionReader {
 public:
  InteractionReader(const DataConfig& data, const std::vector<ColumnRequest>& context,
                    const std::vector<LabelColumn>& labels, const DataSource& source);
  Table read(const std::vector<std::string>& files) const;
  /// The same for test rows, which need no weight, and no time that is no context.
  Table read_test(const std::string& file) const;

 private:
  ReadOptions options() const;
  DataConfig data_;
  const DataSource& source_;
  std::vector<ColumnRequest> wanted_, wanted_of_test_;
};

/// A side table (items or users) with its key column.
struct SideTable {
  Table table;
  std::string key;
  tsl::robin_map<std::string, std::int64_t> row_of_key;
  bool present = false;
};

/// Empty (not present) for an empty file name. A key that stands twice: Error(bad_data).
SideTable read_side_table(const std::string& file, const std::string& key, const DataConfig& data,
                          const std::vector<ColumnRequest>& columns, const DataSource& source);

/// The item id of each distinct key of an interactions table: the key itself, or the side table's item column.
std::vector<std::string> item_of_key(const Table& table, const DataConfig& data,
                                     const SideTable& items);

/// Adds what is not asked for yet.
void request_columns(std::vector<ColumnRequest>& wanted, const std::vector<ColumnRequest>& more);

/// Rows of a table as interactions of the model's entities. item_ids: item_of_key of that table. A user's
/// history is the one that the model ends with; while it has none, sequences are left empty.
Interactions encode_interactions(const Table& table, const std::vector<std::int64_t>& rows,
                                 const DataConfig& data, const ModelData& model,
                                 const std::vector<std::string>& item_ids, Outside& users,
                                 Outside& items);

/// 0 .. rows-1.
std::vector<std::int64_t> all_rows(const Table& table);

}  // namespace belfry
