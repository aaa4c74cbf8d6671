// SPDX-License-Identifier: Apache-2.0
#include "engine/data_source.hpp"

#include "engine/id_list.hpp"

namespace belfry {

namespace {

class Files : public DataSource {
 public:
  Schema schema(const std::string& name, const std::string& format) const override {
    return sniff(name, format);
  }
  Table read(const std::vector<std::string>& names, const std::vector<ColumnRequest>& wanted,
             const ReadOptions& options) const override {
    return read_table(names, wanted, options);
  }
  std::vector<std::string> ids(const std::string& name) const override { return read_ids(name); }
};

}  // namespace

const DataSource& files() {
  static const Files source;
  return source;
}

}  // namespace belfry
