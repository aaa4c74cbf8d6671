// SPDX-License-Identifier: Apache-2.0
#include "engine/id_list.hpp"

#include <optional>
#include <string_view>

#include "engine/file_io.hpp"

namespace belfry {

namespace {

/// The two fields of `line` at the first delimiter outside quotes; nullopt unless there are exactly two.
std::optional<std::pair<std::string, std::string>> two_fields(std::string_view line) {
  std::vector<std::string> fields(1);
  const char delimiter = line.find('\t') != std::string_view::npos ? '\t' : ',';
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '"') {
      if (quoted && i + 1 < line.size() && line[i + 1] == '"') {
        fields.back() += '"';
        ++i;
      } else {
        quoted = !quoted;
      }
    } else if (c == delimiter && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  if (fields.size() != 2) return std::nullopt;
  return std::pair{fields[0], fields[1]};
}

bool is_header(std::string_view line) {
  return line == "user" || line == "item" || line == "user,item" || line == "user\titem";
}

}  // namespace

IdList read_id_list(const std::string& path, const Vocabulary& single, const Vocabulary& users,
                    const Vocabulary& items) {
  const std::string text = read_file(path);
  std::string_view rest = text;
  if (rest.substr(0, 3) == "\xEF\xBB\xBF") rest.remove_prefix(3);
  IdList out;
  bool first = true;
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const bool header = first && is_header(line) && !single.token_index(line);
    first = false;
    if (line.empty() || header) continue;
    ++out.lines;
    if (const auto id = single.token_index(line)) {
      out.ids.push_back(static_cast<std::int32_t>(*id));
      continue;
    }
    if (const auto fields = two_fields(line)) {
      const auto user = users.token_index(fields->first), item = items.token_index(fields->second);
      if (user && item) {
        out.pairs.emplace_back(static_cast<std::int32_t>(*user), static_cast<std::int32_t>(*item));
        continue;
      }
    }
    if (out.unknown++ == 0) out.first_unknown = std::string(line);
  }
  return out;
}

}  // namespace belfry
