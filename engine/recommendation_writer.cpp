// SPDX-License-Identifier: Apache-2.0
#include "engine/recommendation_writer.hpp"

#include <charconv>
#include <cmath>
#include <limits>

#include "engine/error.hpp"
#include "engine/file_io.hpp"
#include "engine/npy.hpp"
#include "kernels/core/check.hpp"

namespace belfry {
namespace fs = std::filesystem;
namespace {

/// Appends a field of delimited text, in quotes only where the reader would need them.
void append_delimited(std::string& out, std::string_view field, char delimiter) {
  const bool plain = field.find_first_of("\"\r\n") == std::string_view::npos &&
                     field.find(delimiter) == std::string_view::npos;
  if (plain) {
    out += field;
    return;
  }
  out += '"';
  for (const char c : field) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += "0123456789abcdef"[c >> 4];
      out += "0123456789abcdef"[c & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

template <class Integer>
void append_integer(std::string& out, Integer value) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

/// As printf's %.9g, whatever the locale.
void append_score(std::string& out, float score) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, static_cast<double>(score),
                                 std::chars_format::general, 9);
  out.append(digits, end.ptr);
}

/// Ids in their written form, made once each, side by side in one block.
class EscapedIds {
 public:
  template <class Append>
  EscapedIds(const std::vector<std::string>& ids, Append append) : begins_{0} {
    begins_.reserve(ids.size() + 1);
    for (const std::string& id : ids) {
      append(text_, id);
      begins_.push_back(text_.size());
    }
  }
  std::string_view operator[](std::int32_t row) const {
    require(static_cast<std::size_t>(row) + 1 < begins_.size(),
            "RecommendationWriter: rows lie inside the catalogue");
    const std::size_t begin = begins_[static_cast<std::size_t>(row)];
    return {text_.data() + begin, begins_[static_cast<std::size_t>(row) + 1] - begin};
  }

 private:
  std::string text_;
  std::vector<std::size_t> begins_;
};

/// What the forms have in common: shape checks and the count of users.
class CountingWriter : public RecommendationWriter {
 public:
  CountingWriter(std::int64_t users, std::int64_t k) : users_(users), k_(k) {}

  void write(const Recommendation& list) final {
    require(list.rows.size() == list.scores.size(), "RecommendationWriter: a score for each row");
    require(list.rows.size() <= static_cast<std::size_t>(k_),
            "RecommendationWriter: at most k rows a user");
    require(written_ < users_, "RecommendationWriter: no more users than announced");
    ++written_;
    write_list(list);
  }

  void commit() final {
    require(written_ == users_, "RecommendationWriter: every user is written");
    commit_files();
  }

 protected:
  std::int64_t users() const { return users_; }
  std::int64_t k() const { return k_; }

 private:
  virtual void write_list(const Recommendation& list) = 0;
  virtual void commit_files() = 0;
  std::int64_t users_, k_, written_ = 0;
};

class DelimitedWriter final : public CountingWriter {
 public:
  DelimitedWriter(const fs::path& path, std::int64_t users, std::int64_t k,
                  const std::vector<std::string>& item_ids, char delimiter)
      : CountingWriter(users, k),
        file_(path),
        delimiter_(delimiter),
        items_(item_ids, [&](std::string& out, const std::string& id) {
          append_delimited(out, id, delimiter);
        }) {
    std::string header = "user,rank,item,score\n";
    for (char& c : header) c = c == ',' ? delimiter : c;
    file_.write(header);
  }

 private:
  void write_list(const Recommendation& list) override {
    user_.clear();
    append_delimited(user_, list.user, delimiter_);
    user_ += delimiter_;
    text_.clear();
    std::int64_t rank = 0;
    for (std::size_t i = 0; i < list.rows.size(); ++i) {
      if (list.rows[i] < 0) continue;
      text_ += user_;
      append_integer(text_, ++rank);
      text_ += delimiter_;
      text_ += items_[list.rows[i]];
      text_ += delimiter_;
      append_score(text_, list.scores[i]);
      text_ += '\n';
    }
    file_.write(text_);
  }
  void commit_files() override { file_.commit(); }

  OutputFile file_;
  char delimiter_;
  EscapedIds items_;
  std::string user_, text_;
};

class JsonLinesWriter final : public CountingWriter {
 public:
  JsonLinesWriter(const fs::path& path, std::int64_t users, std::int64_t k,
                  const std::vector<std::string>& item_ids)
      : CountingWriter(users, k), file_(path), items_(item_ids, append_json_string) {}

 private:
  void write_list(const Recommendation& list) override {
    text_ = "{\"user\":";
    append_json_string(text_, list.user);
    text_ += ",\"items\":[";
    std::string_view comma;
    for (const std::int32_t row : list.rows) {
      if (row < 0) continue;
      text_ += comma;
      text_ += items_[row];
      comma = ",";
    }
    text_ += "],\"scores\":[";
    comma = "";
    for (std::size_t i = 0; i < list.rows.size(); ++i) {
      if (list.rows[i] < 0) continue;
      text_ += comma;
      if (std::isfinite(list.scores[i])) {
        append_score(text_, list.scores[i]);
      } else {
        text_ += "null";  // JSON has no infinity
      }
      comma = ",";
    }
    text_ += "]}\n";
    file_.write(text_);
  }
  void commit_files() override { file_.commit(); }

  OutputFile file_;
  EscapedIds items_;
  std::string text_;
};

class NpyListsWriter final : public CountingWriter {
 public:
  /// stem: the path without its ending.
  NpyListsWriter(const std::string& stem, std::int64_t users, std::int64_t k,
                 const std::vector<std::string>& item_ids)
      : CountingWriter(users, k),
        items_(stem + ".items.npy", "<i8", {users, k}),
        scores_(stem + ".scores.npy", "<f4", {users, k}),
        user_ids_(stem + ".users.txt"),
        item_ids_(stem + ".item_ids.txt"),
        catalogue_(item_ids.size()) {
    for (const std::string& id : item_ids) write_line(item_ids_, id);
  }

 private:
  void write_list(const Recommendation& list) override {
    rows_.assign(static_cast<std::size_t>(k()), -1);
    values_.assign(static_cast<std::size_t>(k()), std::numeric_limits<float>::quiet_NaN());
    std::size_t n = 0;
    for (std::size_t i = 0; i < list.rows.size(); ++i) {
      if (list.rows[i] < 0) continue;
      require(static_cast<std::size_t>(list.rows[i]) < catalogue_,
              "RecommendationWriter: rows lie inside the catalogue");
      rows_[n] = list.rows[i];
      values_[n++] = list.scores[i];
    }
    items_.write(rows_.data(), k());
    scores_.write(values_.data(), k());
    write_line(user_ids_, list.user);
  }

  void commit_files() override {
    items_.seal();
    scores_.seal();
    user_ids_.seal();
    item_ids_.seal();
    // The arrays come last: who finds them finds the ids beside them.
    item_ids_.publish();
    user_ids_.publish();
    scores_.publish();
    items_.publish();
  }

  static void write_line(OutputFile& file, std::string_view id) {
    if (id.find('\n') != std::string_view::npos) {
      throw Error(ExitCode::bad_data, file.path().string(),
                  "an id with a line break cannot be written one a line", "use .csv or .jsonl");
    }
    file.write(id);
    file.write("\n");
  }

  NpyWriter items_, scores_;
  OutputFile user_ids_, item_ids_;
  std::size_t catalogue_;
  std::vector<std::int64_t> rows_;
  std::vector<float> values_;
};

}  // namespace

std::unique_ptr<RecommendationWriter> make_recommendation_writer(
    const fs::path& path, std::int64_t users, std::int64_t k,
    const std::vector<std::string>& item_ids) {
  const std::string ending = path.extension().string();
  if (ending == ".csv" || ending == ".tsv") {
    return std::make_unique<DelimitedWriter>(path, users, k, item_ids,
                                             ending == ".csv" ? ',' : '\t');
  }
  if (ending == ".jsonl") return std::make_unique<JsonLinesWriter>(path, users, k, item_ids);
  if (ending == ".npy") {
    fs::path stem = path;
    return std::make_unique<NpyListsWriter>(stem.replace_extension().string(), users, k, item_ids);
  }
  throw Error(ExitCode::usage, path.string(),
              ending.empty() ? "a file without an ending" : "unknown ending '" + ending + "'",
              "recommendations are written as .csv, .tsv, .jsonl or .npy");
}

}  // namespace belfry
