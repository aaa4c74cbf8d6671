// SPDX-License-Identifier: Apache-2.0
// Recognises a file by its first lines (and, for MovieLens, by its name).
#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/byte_source.hpp"
#include "engine/column_roles.hpp"
#include "engine/dataset.hpp"
#include "engine/error.hpp"
#include "engine/field_text.hpp"

namespace belfry {
namespace {

using Record = std::vector<std::string>;
using Names = std::vector<std::string>;
using Types = std::vector<ColumnType>;

constexpr std::size_t kSampleBytes = std::size_t{1} << 17;
constexpr std::size_t kSampleRecords = 1000;
constexpr const char* kFormats =
    "formats: auto, csv, tsv, movielens-100k, movielens-1m, recbole, adjacency, jsonl";

/// The start of the file. `whole`: there is no more, so the last line is complete.
struct Sample {
  std::string path, text;
  bool whole = false;
};

Sample take_sample(const std::string& path) {
  Sample sample{path, std::string(kSampleBytes, '\0'), false};
  ByteSource source(path, ByteSource::Mode::peek);
  std::size_t size = 0;
  while (size < kSampleBytes) {
    const std::size_t got = source.read(sample.text.data() + size, kSampleBytes - size);
    if (got == 0) break;
    size += got;
  }
  sample.whole = size < kSampleBytes;
  sample.text.resize(size);
  if (sample.text.starts_with("\xef\xbb\xbf")) sample.text.erase(0, 3);
  return sample;
}

void refuse_other_kinds(const Sample& sample) {
  struct Kind {
    std::string_view start;
    const char* what;
    const char* hint;
  };
  static constexpr Kind kKinds[] = {
      {"PAR1", "is a Parquet file", "write it as CSV first"},
      {"ARROW1", "is an Arrow file", "write it as CSV first"},
      {"SQLite format 3", "is an SQLite database", "export the table as CSV first"},
      {"PK\x03\x04", "is a zip archive", "unpack it first"},
      {"\x89HDF", "is an HDF5 file", "write it as CSV first"},
      {"\xff\xfe", "is UTF-16 text", "convert it to UTF-8 first"},
      {"\xfe\xff", "is UTF-16 text", "convert it to UTF-8 first"},
  };
  if (sample.text.find_first_not_of(" \t\r\n") == std::string::npos) {
    throw Error(ExitCode::bad_data, sample.path, "is empty: no usable row");
  }
  for (const Kind& kind : kKinds) {
    if (sample.text.starts_with(kind.start)) {
      throw Error(ExitCode::bad_data, sample.path, kind.what, kind.hint);
    }
  }
}

/// Records of the sample cut by one separator (none: whole lines). Leaves the last one out when it may go on.
std::vector<Record> records(const Sample& sample, std::string_view separator, bool quotes) {
  std::vector<Record> out;
  Record record(1);
  bool in_quotes = false;
  const std::string& text = sample.text;
  const auto close = [&] {
    if (!record.back().empty() && record.back().back() == '\r') record.back().pop_back();
    if (record.size() > 1 || !record[0].empty()) out.push_back(std::move(record));
    record.assign(1, {});
  };
  for (std::size_t i = 0; i < text.size() && out.size() < kSampleRecords; ++i) {
    if (in_quotes) {
      if (text[i] != '"') {
        record.back() += text[i];
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        record.back() += text[i++];
      } else {
        in_quotes = false;
      }
    } else if (quotes && text[i] == '"' && record.back().empty()) {
      in_quotes = true;
    } else if (!separator.empty() && text.compare(i, separator.size(), separator) == 0) {
      record.emplace_back();
      i += separator.size() - 1;
    } else if (text[i] == '\n') {
      close();
    } else {
      record.back() += text[i];
    }
  }
  if (out.size() < kSampleRecords && (sample.whole || out.empty())) close();
  return out;
}

bool is_integer(const std::string& text) {
  std::int64_t value;
  return parse_integer(text, value);
}
bool is_real(const std::string& text) {
  double value;
  return parse_real(text, value);
}

/// Digits alone, of whatever size: one number beyond int64 is a bad row of an integer column, and does not
/// make it a column of reals.
bool is_whole(std::string_view text) {
  if (!text.empty() && text.front() == '-') text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// A first record without any number is a header, unless its texts turn up again as data.
bool looks_like_header(const std::vector<Record>& all) {
  const Record& first = all[0];
  if (std::any_of(first.begin(), first.end(), is_real)) return false;
  if (std::any_of(first.begin(), first.end(), is_role_name)) return true;
  for (std::size_t r = 1; r < all.size(); ++r) {
    for (std::size_t c = 0; c < std::min(first.size(), all[r].size()); ++c) {
      if (!first[c].empty() && first[c] == all[r][c]) return false;
    }
  }
  return true;
}

/// The type of most values, so that a bad row shows up as one and does not turn its column into text.
ColumnType common_type(std::size_t values, std::size_t integers, std::size_t reals) {
  if (2 * reals <= values) return ColumnType::text;
  return integers < reals ? ColumnType::real : ColumnType::integer;
}

Types types_of(const std::vector<Record>& all, std::size_t begin, std::size_t columns) {
  Types types;
  for (std::size_t c = 0; c < columns; ++c) {
    std::size_t values = 0, integers = 0, reals = 0;
    for (std::size_t r = begin; r < all.size(); ++r) {
      if (c >= all[r].size()) continue;
      ++values;
      integers += is_whole(all[r][c]) ? 1 : 0;
      reals += is_real(all[r][c]) ? 1 : 0;
    }
    types.push_back(common_type(values, integers, reals));
  }
  return types;
}

std::optional<Schema> as_jsonl(const Sample& sample, bool forced) {
  const std::size_t start = sample.text.find_first_not_of(" \t\r\n");
  if (sample.text[start] == '[') {
    throw Error(ExitCode::bad_data, sample.path, "is one JSON array",
                "write one object a line (JSON lines)");
  }
  if (sample.text[start] != '{' && !forced) return std::nullopt;
  Schema schema;
  schema.format = "jsonl";
  schema.header = false;
  schema.delimiter = '\0';
  struct Seen {
    std::size_t values = 0, integers = 0, reals = 0;
  };
  std::vector<Seen> seen;
  for (const Record& line : records(sample, "", false)) {
    const nlohmann::ordered_json object = nlohmann::ordered_json::parse(line[0], nullptr, false);
    if (!object.is_object()) continue;  // the reader says where
    for (const auto& [key, value] : object.items()) {
      auto at = std::find(schema.columns.begin(), schema.columns.end(), key);
      const auto c = static_cast<std::size_t>(at - schema.columns.begin());
      if (at == schema.columns.end()) {
        schema.columns.push_back(key);
        seen.emplace_back();
      }
      ++seen[c].values;
      seen[c].integers += value.is_number_integer() ? 1 : 0;
      seen[c].reals += value.is_number() ? 1 : 0;
    }
  }
  if (schema.columns.empty()) {
    throw Error(ExitCode::bad_data, sample.path,
                "none of its first lines is a JSON object with keys");
  }
  for (const Seen& s : seen) {
    schema.types.push_back(common_type(s.values, s.integers, s.reals));
  }
  return schema;
}

std::optional<Schema> as_recbole(const Sample& sample, bool forced) {
  Sample first_line = sample;
  if (const auto end = sample.text.find('\n'); end != std::string::npos) {
    first_line.text.resize(end);
  }
  first_line.whole = true;
  Schema schema;
  schema.format = "recbole";
  schema.delimiter = '\t';
  const std::vector<Record> header = records(first_line, "\t", false);
  if (header.empty()) return std::nullopt;
  for (const std::string& field : header[0]) {
    const std::size_t colon = field.rfind(':');
    const std::string type = colon == std::string::npos ? "" : field.substr(colon + 1);
    if (colon == 0 ||
        (type != "token" && type != "float" && type != "token_seq" && type != "float_seq")) {
      if (!forced) return std::nullopt;
      throw Error(ExitCode::bad_data, sample.path + ":1", shown(field) + " is not a RecBole column",
                  "name:token, name:float, name:token_seq or name:float_seq, split by tabs");
    }
    schema.columns.push_back(field.substr(0, colon));
    schema.types.push_back(type == "float" ? ColumnType::real : ColumnType::text);
  }
  return schema;
}

Schema movielens(const char* format, const char* separator, Names columns, Types types) {
  Schema schema;
  schema.format = format;
  schema.header = false;
  schema.delimiter = separator[0];
  if (separator[1] != 0) schema.separator = separator;
  schema.columns = std::move(columns);
  schema.types = std::move(types);
  return schema;
}

constexpr auto kText = ColumnType::text;
constexpr auto kInteger = ColumnType::integer;
constexpr auto kReal = ColumnType::real;

Schema ratings(const char* format, const char* separator) {
  return movielens(format, separator, {"user_id", "item_id", "rating", "timestamp"},
                   {kInteger, kInteger, kReal, kInteger});
}

/// Name without folder and compression suffix.
std::string plain_name(const std::string& path) {
  std::filesystem::path name = std::filesystem::path(path).filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  return name.string();
}

/// u.data and its splits (ua.base, u1.test): four tab-separated integers, the third one to five.
bool is_rating_row(const Record& r) {
  std::int64_t rating = 0, time = 0;
  return r.size() == 4 && is_integer(r[0]) && is_integer(r[1]) && parse_integer(r[2], rating) &&
         parse_integer(r[3], time) && rating >= 1 && rating <= 5 && time >= 100'000'000;
}

std::optional<Schema> as_movielens_100k(const Sample& sample, bool forced) {
  const std::string name = plain_name(sample.path);
  const std::vector<Record> tab = records(sample, "\t", false), bar = records(sample, "|", false);
  if (tab.empty() || bar.empty()) return std::nullopt;
  const bool named =
      forced || (name.starts_with("u") &&
                 (name.ends_with(".data") || name.ends_with(".base") || name.ends_with(".test")));
  const auto fitting =
      static_cast<std::size_t>(std::count_if(tab.begin(), tab.end(), is_rating_row));
  if ((named && tab[0].size() == 4) || (is_rating_row(tab[0]) && 2 * fitting > tab.size())) {
    return ratings("movielens-100k", "\t");
  }
  if (bar[0].size() == 24 && (forced || name == "u.item" || is_integer(bar[0][0]))) {
    Schema schema =
        movielens("movielens-100k", "|",
                  {"item_id", "movie_title", "release_date", "video_release_date", "imdb_url"},
                  {kInteger, kText, kText, kText, kText});
    for (const char* genre :
         {"unknown", "action", "adventure", "animation", "childrens", "comedy", "crime",
          "documentary", "drama", "fantasy", "film_noir", "horror", "musical", "mystery", "romance",
          "sci_fi", "thriller", "war", "western"}) {
      schema.columns.push_back(std::string("genre_") + genre);
      schema.types.push_back(kInteger);
    }
    return schema;
  }
  if (bar[0].size() == 5 && (forced || name == "u.user" ||
                             (is_integer(bar[0][0]) && is_integer(bar[0][1]) &&
                              (bar[0][2] == "M" || bar[0][2] == "F")))) {
    return movielens("movielens-100k", "|", {"user_id", "age", "gender", "occupation", "zip_code"},
                     {kInteger, kInteger, kText, kText, kText});
  }
  return std::nullopt;
}

std::optional<Schema> as_movielens_1m(const Sample& sample) {
  const std::string name = plain_name(sample.path);
  const std::vector<Record> all = records(sample, "::", false);
  if (all.empty() || all[0].size() < 2 || !is_integer(all[0][0])) return std::nullopt;
  const Record& first = all[0];
  if (name == "tags.dat" && first.size() == 4) {
    return movielens("movielens-1m", "::", {"user_id", "item_id", "tag", "timestamp"},
                     {kInteger, kInteger, kText, kInteger});
  }
  if (first.size() == 4 && is_integer(first[1])) return ratings("movielens-1m", "::");
  if (first.size() == 5 && (name == "users.dat" || first[1] == "M" || first[1] == "F")) {
    return movielens("movielens-1m", "::", {"user_id", "gender", "age", "occupation", "zip_code"},
                     {kInteger, kText, kInteger, kInteger, kText});
  }
  if (first.size() == 3 && (name == "movies.dat" || !is_real(first[1]))) {
    return movielens("movielens-1m", "::", {"item_id", "title", "genres"},
                     {kInteger, kText, kText});
  }
  return std::nullopt;
}

/// Lines of integers split by spaces: `user item item ...`. A table of three or four columns in which
/// the first one repeats is rather `user item rating time`.
std::optional<Schema> as_adjacency(const Sample& sample, bool forced) {
  std::size_t lines = 0, good = 0, longest = 0;
  bool first_good = false, ragged = false, user_again = false;
  std::size_t first_size = 0;
  std::set<std::string> users;
  for (Record& record : records(sample, " ", false)) {
    std::erase_if(record, [](const std::string& field) { return field.empty(); });
    if (record.empty()) continue;
    if (lines++ == 0 && !sample.whole && sample.text.find('\n') == std::string::npos &&
        record.size() > 1) {
      record.pop_back();  // one line longer than the sample: its last number may be cut
    }
    const bool fits = std::all_of(record.begin(), record.end(), is_integer);
    good += fits ? 1 : 0;
    if (lines == 1) {
      first_good = fits;
      first_size = record.size();
    }
    longest = std::max(longest, record.size());
    ragged = ragged || record.size() != first_size;
    user_again = !users.insert(record[0]).second || user_again;
  }
  const bool table = !ragged && user_again && (first_size == 3 || first_size == 4);
  if (!forced && (!first_good || 2 * good <= lines || longest < 2 || table)) return std::nullopt;
  Schema schema;
  schema.format = "adjacency";
  schema.delimiter = ' ';
  schema.header = false;
  schema.columns = {"user", "item"};
  schema.types = {kInteger, kInteger};
  return schema;
}

/// The separator that cuts most records into as many fields as the first one (two at least).
Schema as_delimited(const Sample& sample, std::initializer_list<const char*> separators) {
  std::vector<Record> best;
  const char* chosen = nullptr;
  double best_share = 0;
  for (const char* separator : separators) {
    std::vector<Record> all = records(sample, separator, separator[1] == 0);
    if (all.empty() || all[0].size() < 2) continue;
    const auto alike = std::count_if(all.begin(), all.end(),
                                     [&](const Record& r) { return r.size() == all[0].size(); });
    const double share = static_cast<double>(alike) / static_cast<double>(all.size());
    if (share <= best_share) continue;
    best_share = share;
    chosen = separator;
    best = std::move(all);
  }
  if (chosen == nullptr) {
    throw Error(ExitCode::bad_data, sample.path,
                "is in no known format: its first line has no "
                "column delimiter",
                "two columns at least, split by comma, tab, ;, |, :: or space");
  }
  Schema schema;
  schema.format = chosen[0] == '\t' ? "tsv" : "csv";
  schema.delimiter = chosen[0];
  if (chosen[1] != 0) schema.separator = chosen;
  schema.header = looks_like_header(best);
  schema.types = types_of(best, schema.header ? 1 : 0, best[0].size());
  for (std::size_t c = 0; c < best[0].size(); ++c) {
    schema.columns.push_back(schema.header ? best[0][c] : "column_" + std::to_string(c + 1));
  }
  return schema;
}

Schema recognise(const Sample& sample) {
  if (auto schema = as_jsonl(sample, false)) return *schema;
  if (auto schema = as_recbole(sample, false)) return *schema;
  if (auto schema = as_movielens_100k(sample, false)) return *schema;
  if (auto schema = as_movielens_1m(sample)) return *schema;
  if (auto schema = as_adjacency(sample, false)) return *schema;
  return as_delimited(sample, {"::", "\t", ",", ";", "|", " "});
}

std::optional<Schema> as_named(const Sample& sample, const std::string& format) {
  if (format == "auto") return recognise(sample);
  if (format == "csv") return as_delimited(sample, {",", ";", "|", " ", "\t"});
  if (format == "tsv") return as_delimited(sample, {"\t"});
  if (format == "jsonl") return as_jsonl(sample, true);
  if (format == "recbole") return as_recbole(sample, true);
  if (format == "movielens-100k") return as_movielens_100k(sample, true);
  if (format == "movielens-1m") return as_movielens_1m(sample);
  return as_adjacency(sample, true);
}

}  // namespace

std::string Schema::description() const {
  if (format == "adjacency") return "adjacency list";
  if (format != "csv" && format != "tsv") return format;
  std::string cut = !separator.empty()  ? separator
                    : delimiter == ','  ? "comma"
                    : delimiter == '\t' ? "tab"
                    : delimiter == ';'  ? "semicolon"
                    : delimiter == ' '  ? "space"
                                        : std::string(1, delimiter);
  return format + ", " + cut + (header ? ", header" : ", no header");
}

Schema sniff(const std::string& path, const std::string& format) {
  static const std::set<std::string> known = {
      "auto", "csv", "tsv", "jsonl", "movielens-1m", "recbole", "adjacency", "movielens-100k"};
  if (known.count(format) == 0) {
    throw Error(ExitCode::usage, "", "no format " + shown(format), kFormats);
  }
  const Sample sample = take_sample(path);
  refuse_other_kinds(sample);
  if (auto schema = as_named(sample, format)) return *schema;
  throw Error(ExitCode::bad_data, path, "does not look like " + format, kFormats);
}

}  // namespace belfry
