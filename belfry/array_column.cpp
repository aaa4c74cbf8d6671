// SPDX-License-Identifier: Apache-2.0
#include "belfry/array_column.hpp"

#include <fmt/format.h>

#include <cmath>
#include <type_traits>

#include "engine/error.hpp"
#include "engine/field_text.hpp"

namespace belfry::data {

namespace {

class Converter {
 public:
  Converter(const ArrayColumn& column, const ColumnRequest& request, IdType id_type,
            const std::string& table)
      : column_(column),
        id_(request.id),
        integer_id_(id_ && id_type == IdType::integer),
        table_(table) {
    out_.name = request.name;
    out_.type = id_ ? ColumnType::text : request.type;
  }

  belfry::Column run() {
    std::visit([this](auto values) { take(values); }, column_.values);
    return std::move(out_);
  }

 private:
  template <class T>
  void take(std::span<const T> values) {
    constexpr bool kText = !std::is_arithmetic_v<T>;
    if (out_.type == ColumnType::text) out_.dictionary = std::make_shared<Dictionary>();
    for (row_ = 0; row_ < static_cast<std::int64_t>(values.size()); ++row_) {
      const T& value = values[static_cast<std::size_t>(row_)];
      if constexpr (kText) {
        take_text(value);
      } else {
        take_number(value);
      }
    }
  }

  void take_text(std::string_view text) {
    std::int64_t whole = 0;
    double real = 0;
    if (out_.type == ColumnType::real) {
      if (!parse_real(text, real)) refuse(shown(text) + " is not a number");
      out_.reals.push_back(real);
    } else if (out_.type == ColumnType::integer) {
      if (!parse_integer(text, whole)) refuse(shown(text) + " is not an integer");
      out_.integers.push_back(whole);
    } else if (integer_id_) {
      if (!parse_integer(text, whole)) refuse(shown(text) + " is not an integer");
      out_.codes.push_back(out_.dictionary->add(std::to_string(whole)));
    } else {
      const std::size_t known = out_.dictionary->size();
      out_.codes.push_back(out_.dictionary->add(text));
      if (out_.dictionary->size() > known) check(text);  // once a distinct value
    }
  }

  template <class T>
  void take_number(T value) {
    if constexpr (std::is_floating_point_v<T>) {
      if (!std::isfinite(value)) refuse(fmt::format("{} is not a finite number", value));
      if (id_) refuse("an id is a text or an integer, not a real number");
      if (out_.type == ColumnType::integer) refuse("real numbers where integers are wanted");
    }
    if (out_.type == ColumnType::real) {
      out_.reals.push_back(static_cast<double>(value));
    } else if (out_.type == ColumnType::integer) {
      out_.integers.push_back(static_cast<std::int64_t>(value));
    } else {
      out_.codes.push_back(out_.dictionary->add(fmt::format("{}", value)));
    }
  }

  void check(std::string_view text) const {
    if (id_ && text.empty()) refuse("an empty id");
    if (!is_utf8(text)) refuse(shown(text) + " is not valid UTF-8");
    if (id_ && has_control_character(text)) refuse(shown(text) + " holds a control character");
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ExitCode::bad_data, fmt::format("{}: row {}", table_, row_ + 1),
                what + " (column " + column_.name + ")");
  }

  const ArrayColumn& column_;
  bool id_, integer_id_;
  const std::string& table_;
  belfry::Column out_;
  std::int64_t row_ = 0;
};

}  // namespace

belfry::Column typed_column(const ArrayColumn& column, const ColumnRequest& request, IdType id_type,
                            const std::string& table) {
  return Converter(column, request, id_type, table).run();
}

}  // namespace belfry::data
