// SPDX-License-Identifier: Apache-2.0
// A column over a program's own array, and the typed column that the engine makes of it. Internal.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "engine/dataset.hpp"

namespace belfry::data {

struct ArrayColumn {
  std::string name;
  ColumnType type;
  std::variant<std::span<const std::string>, std::span<const std::string_view>,
               std::span<const std::int64_t>, std::span<const std::int32_t>,
               std::span<const double>, std::span<const float>>
      values;
  std::int64_t size() const {
    return std::visit([](auto v) { return static_cast<std::int64_t>(v.size()); }, values);
  }
};

/// The values as they were asked for, under the rules that a file's fields are held to (dataset.hpp): a value
/// that is none of them is Error(bad_data) at "TABLE: row N".
belfry::Column typed_column(const ArrayColumn& column, const ColumnRequest& request, IdType id_type,
                            const std::string& table);

}  // namespace belfry::data
