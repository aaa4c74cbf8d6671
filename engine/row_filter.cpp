// SPDX-License-Identifier: Apache-2.0
#include "engine/row_filter.hpp"

#include "engine/error.hpp"
#include "engine/field_text.hpp"

namespace belfry {
namespace {

std::string trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(" \t") - begin + 1));
}

/// Takes a pair of quotes off.
bool unquote(std::string& text) {
  if (text.size() < 2 || (text[0] != '"' && text[0] != '\'') || text.back() != text[0])
    return false;
  text = text.substr(1, text.size() - 2);
  return true;
}

}  // namespace

RowFilter RowFilter::parse(const std::string& text) {
  const auto refuse = [&](const std::string& hint) {
    return Error(ExitCode::usage, "where", shown(text) + " is not COLUMN OP VALUE", hint);
  };
  static const std::string form = "for example: rating >= 4, with one of == != < <= > >=";
  const auto at = text.find_first_of("=!<>");
  if (at == std::string::npos) throw refuse(form);
  const bool two = at + 1 < text.size() && text[at + 1] == '=';
  RowFilter filter;
  switch (text[at]) {
    case '<':
      filter.operator_ = two ? Operator::less_equal : Operator::less;
      break;
    case '>':
      filter.operator_ = two ? Operator::greater_equal : Operator::greater;
      break;
    case '=':
      filter.operator_ = Operator::equal;
      break;
    default:
      filter.operator_ = Operator::not_equal;
  }
  if (!two && text[at] == '=') throw refuse("equality is ==");
  if (!two && text[at] == '!') throw refuse(form);
  filter.column_ = trimmed(std::string_view(text).substr(0, at));
  filter.value_ = trimmed(std::string_view(text).substr(at + (two ? 2 : 1)));
  const bool quoted_value = unquote(filter.value_);
  unquote(filter.column_);
  if (filter.column_.empty() || (filter.value_.empty() && !quoted_value)) throw refuse(form);
  if (!quoted_value && std::string("=<>!").find(filter.value_[0]) != std::string::npos) {
    throw refuse(form);
  }
  filter.is_number_ = !quoted_value && parse_real(filter.value_, filter.number_);
  if (!filter.is_number_ && !filter.compares_equality()) {
    throw refuse("texts have == and != only; " + shown(filter.value_) + " is not a number");
  }
  return filter;
}

bool RowFilter::keeps(double value) const {
  switch (operator_) {
    case Operator::equal:
      return value == number_;
    case Operator::not_equal:
      return value != number_;
    case Operator::less:
      return value < number_;
    case Operator::less_equal:
      return value <= number_;
    case Operator::greater:
      return value > number_;
    case Operator::greater_equal:
      return value >= number_;
  }
  return false;
}

bool RowFilter::keeps(std::string_view value) const {
  return (value == value_) == (operator_ == Operator::equal);
}

}  // namespace belfry
