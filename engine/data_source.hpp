// SPDX-License-Identifier: Apache-2.0
// Where the data comes from that a Config names: files, or tables that a program holds under these names.
#pragma once

#include <string>
#include <vector>

#include "engine/dataset.hpp"

namespace belfry {

/// Answers to the names in DataConfig and FeatureConfig::vocabulary. Const members may be called from one
/// thread at a time.
class DataSource {
 public:
  virtual ~DataSource() = default;
  /// What the table looks like; `format` as for sniff(). No such table: Error(io).
  virtual Schema schema(const std::string& name, const std::string& format) const = 0;
  /// As read_table: the columns asked for, of one table after the other.
  virtual Table read(const std::vector<std::string>& names,
                     const std::vector<ColumnRequest>& wanted,
                     const ReadOptions& options) const = 0;
  /// The values of a vocabulary that is given, in order.
  virtual std::vector<std::string> ids(const std::string& name) const = 0;
};

/// Names are paths.
const DataSource& files();

}  // namespace belfry
