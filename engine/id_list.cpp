// SPDX-License-Identifier: Apache-2.0
#include "engine/id_list.hpp"

#include <fmt/format.h>

#include <string_view>

#include "engine/error.hpp"
#include "engine/field_text.hpp"
#include "engine/file_io.hpp"

namespace belfry {

namespace {

/// Calls f(line, number from 1) for each line that is not blank.
template <class F>
void each_line(std::string_view text, F&& f) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  for (std::int64_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!line.empty()) f(line, number);
  }
}

/// The fields of a line; a field that starts with a quote goes on to the closing one (RFC 4180).
std::vector<std::string> fields_of(std::string_view line) {
  std::vector<std::string> fields(1);
  const char delimiter = line.find('\t') != std::string_view::npos ? '\t' : ',';
  bool quoted = false, fresh = true;  // fresh: at the start of a field
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted && c == '"') {
      const bool escaped = i + 1 < line.size() && line[i + 1] == '"';
      if (escaped) fields.back() += line[++i];
      quoted = escaped;
    } else if (!quoted && fresh && c == '"') {
      quoted = true;
      fresh = false;
    } else if (!quoted && c == delimiter) {
      fields.emplace_back();
      fresh = true;
    } else {
      fields.back() += c;
      fresh = false;
    }
  }
  return fields;
}

bool is_header(std::string_view line) {
  return line == "user" || line == "item" || line == "user,item" || line == "user\titem";
}

/// Puts what a line of one or two fields names into `out`; false where an id is unknown.
bool add_fields(const std::vector<std::string>& fields, const Vocabulary& single,
                const Vocabulary& users, const Vocabulary& items, IdList& out) {
  if (fields.size() == 1) {
    const auto id = single.token_index(fields[0]);
    if (id) out.ids.push_back(static_cast<std::int32_t>(*id));
    return id.has_value();
  }
  const auto user = fields.size() == 2 ? users.token_index(fields[0]) : std::nullopt;
  if (!user) return false;
  const auto item = items.token_index(fields[1]);
  out.pairs.emplace_back(static_cast<std::int32_t>(*user),
                         item ? static_cast<std::int32_t>(*item) : -1);
  return item.has_value();
}

}  // namespace

IdList read_id_list(const std::string& path, const Vocabulary& single, const Vocabulary& users,
                    const Vocabulary& items) {
  IdList out;
  bool first = true;
  each_line(read_file(path), [&](std::string_view line, std::int64_t) {
    const auto id = single.token_index(line);
    const bool header = first && is_header(line) && !id;
    first = false;
    if (header) return;
    ++out.lines;
    if (id) {
      out.ids.push_back(static_cast<std::int32_t>(*id));
    } else if (!add_fields(fields_of(line), single, users, items, out) && out.unknown++ == 0) {
      out.first_unknown = std::string(line);
    }
  });
  return out;
}

std::vector<std::string> read_ids(const std::string& path) {
  std::vector<std::string> out;
  each_line(read_file(path), [&](std::string_view line, std::int64_t number) {
    if (!is_utf8(line) || has_control_character(line)) {
      throw Error(ExitCode::bad_data, fmt::format("{}:{}:1", path, number),
                  "an id holds a control character or broken UTF-8");
    }
    out.emplace_back(line);
  });
  if (out.empty()) throw Error(ExitCode::bad_data, path, "no id is in it");
  return out;
}

}  // namespace belfry
