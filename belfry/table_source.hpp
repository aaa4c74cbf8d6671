// SPDX-License-Identifier: Apache-2.0
// A program's tables and vocabularies under the names that a Config has for them; other names are files. Internal.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "belfry/table.hpp"
#include "engine/data_source.hpp"
#include "engine/vocabulary.hpp"

namespace belfry {

class TableSource : public DataSource {
 public:
  explicit TableSource(const std::map<std::string, Vocabulary>& vocabularies)
      : vocabularies_(vocabularies) {}
  /// The name that the table goes by: its own, made different where another has it.
  std::string add(const data::Table& table) {
    std::string name = table.name();
    while (tables_.contains(name)) name += "'";
    tables_.emplace(name, table);
    return name;
  }

  Schema schema(const std::string& name, const std::string& format) const override {
    const auto at = tables_.find(name);
    return at != tables_.end() ? at->second.schema() : files().schema(name, format);
  }
  Table read(const std::vector<std::string>& names, const std::vector<ColumnRequest>& wanted,
             const ReadOptions& options) const override {
    const auto at = tables_.find(names.front());
    if (at == tables_.end()) return files().read(names, wanted, options);
    ReadOptions plain = options;
    plain.where.clear();
    if (options.where.empty()) return at->second.read(wanted, plain);
    const data::Table left = at->second.where(options.where);
    Table out = left.read(wanted, plain);
    out.rows_filtered = at->second.rows() - left.rows();
    return out;
  }
  std::vector<std::string> ids(const std::string& name) const override {
    const auto at = vocabularies_.find(name);
    return at != vocabularies_.end() ? at->second.all_tokens() : files().ids(name);
  }

 private:
  std::map<std::string, data::Table> tables_;
  const std::map<std::string, Vocabulary>& vocabularies_;
};

}  // namespace belfry
