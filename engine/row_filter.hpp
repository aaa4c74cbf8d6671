// SPDX-License-Identifier: Apache-2.0
// `where`: one comparison, COLUMN OP VALUE.
#pragma once

#include <string>
#include <string_view>

#include "engine/dataset.hpp"

namespace belfry {

class RowFilter {
 public:
  enum class Operator { equal, not_equal, less, less_equal, greater, greater_equal };

  /// Syntax errors, and an order asked of a text: Error(usage).
  static RowFilter parse(const std::string& text);

  const std::string& column() const { return column_; }
  /// Whether the values of a column of this type are compared as numbers.
  bool is_numeric(ColumnType type) const {
    return is_number_ && !(type == ColumnType::text && compares_equality());
  }
  bool keeps(double value) const;
  bool keeps(std::string_view value) const;

 private:
  bool compares_equality() const {
    return operator_ == Operator::equal || operator_ == Operator::not_equal;
  }
  std::string column_, value_;
  Operator operator_ = Operator::equal;
  bool is_number_ = false;
  double number_ = 0;
};

}  // namespace belfry
