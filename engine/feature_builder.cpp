// SPDX-License-Identifier: Apache-2.0
#include "engine/feature_builder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "engine/discretizer.hpp"
#include "engine/error.hpp"
#include "engine/field_text.hpp"
#include "engine/hashing.hpp"
#include "engine/normalizer.hpp"

namespace belfry {
namespace {

using Rows = std::vector<std::int32_t>;

[[noreturn]] void refuse(const FeatureConfig& config, const std::string& what,
                         const std::string& hint = "") {
  throw Error(ExitCode::bad_data, "feature " + config.name, what, hint);
}

bool is_numeric(FeatureKind kind) {
  return kind == FeatureKind::number || kind == FeatureKind::bucket;
}

/// All pieces between separators, empty ones too; an empty text has none.
std::vector<std::string_view> split(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const std::size_t at = text.find(separator);
    out.push_back(text.substr(0, at));
    if (at == std::string_view::npos) break;
    text.remove_prefix(at + separator.size());
    if (text.empty()) out.emplace_back();
  }
  return out;
}

std::string_view text_at(const Column& column, std::int64_t row) {
  return row < 0 ? std::string_view()
                 : column.dictionary->text(column.codes[static_cast<std::size_t>(row)]);
}

float to_float(const FeatureConfig& config, double x) {
  const auto out = static_cast<float>(x);
  if (!std::isfinite(out)) refuse(config, fmt::format("{} is beyond float32", x));
  return out;
}

float number_of(const FeatureConfig& config, std::string_view text) {
  double value = 0;
  if (!parse_real(text, value)) refuse(config, shown(text) + " is not a number");
  return to_float(config, value);
}

std::vector<double> numbers_of(const FeatureSource& source) {
  std::vector<double> out;
  out.reserve(source.rows.size());
  for (const std::int64_t row : source.rows) {
    if (row >= 0) out.push_back(number_at(*source.values, row));
  }
  return out;
}

std::int32_t row_of(const FeatureConfig& config, const Vocabulary& vocabulary,
                    std::string_view token) {
  const auto row = vocabulary.row(token);
  if (!row) {
    refuse(config,
           fmt::format("\"{}\" is not in the vocabulary and the feature has no OOV row", token),
           "oov = 1 gives it one");
  }
  return static_cast<std::int32_t>(*row);
}

/// How a lookup hashes: a unified one by its feature's number among those of its tables, and its chunk.
Hashing hashing_of(const ModelData& model, std::size_t f) {
  const FeatureData& feature = model.features[f];
  const FeatureConfig& config = feature.config;
  HashingOptions options;
  options.bins = config.buckets;
  if (config.kind == FeatureKind::unified) {
    std::set<std::string> before;
    for (std::size_t g = 0; g < f; ++g) {
      const FeatureConfig& other = model.features[g].config;
      if (other.kind == FeatureKind::unified && other.table == config.table &&
          other.name != config.name) {
        before.insert(other.name);
      }
    }
    options.salt = HashKey{before.size(), static_cast<std::uint64_t>(feature.chunk)};
  } else if (config.salt != 0) {
    const auto salt = static_cast<std::uint64_t>(config.salt);
    options.salt = HashKey{salt, salt};
  }
  return Hashing(options);
}

using Lookup = std::function<std::int32_t(std::string_view)>;

/// The row that a text stands for in the table of feature f, which is none of numbers.
Lookup lookup_of(const ModelData& model, std::size_t f) {
  const FeatureConfig& config = model.features[f].config;
  if (config.kind == FeatureKind::hashed || config.kind == FeatureKind::unified) {
    return [hashing = hashing_of(model, f)](std::string_view text) {
      return static_cast<std::int32_t>(hashing.bucket(text));
    };
  }
  const Vocabulary& vocabulary =
      model.tables[static_cast<std::size_t>(model.features[f].table)].vocabulary;
  return [&](std::string_view text) { return row_of(config, vocabulary, text); };
}

/// One row each. A distinct text is looked up once.
Rows single_rows(const ModelData& model, std::size_t f, const FeatureSource& source) {
  const FeatureData& feature = model.features[f];
  const FeatureConfig& config = feature.config;
  const TableData& table = model.tables[static_cast<std::size_t>(feature.table)];
  Rows out;
  out.reserve(source.rows.size());
  if (config.kind == FeatureKind::bucket) {
    for (const std::int64_t row : source.rows) {
      if (row < 0) {
        out.push_back(0);
        continue;
      }
      const auto x = static_cast<float>(number_at(*source.values, row));
      out.push_back(static_cast<std::int32_t>(bucket_of(x, table.boundaries)));
    }
    return out;
  }
  const Lookup lookup = lookup_of(model, f);
  Rows of_code(source.values->dictionary->size(), -1);
  for (const std::int64_t row : source.rows) {
    if (row < 0) {  // hashed: as what a model answers for an entity that it does not know
      out.push_back(table.buckets > 0 ? 0 : lookup(""));
      continue;
    }
    std::int32_t& known = of_code[source.values->codes[static_cast<std::size_t>(row)]];
    if (known < 0) known = lookup(text_at(*source.values, row));
    out.push_back(known);
  }
  return out;
}

/// Table rows of one field, and their weights.
struct Item {
  Rows rows;
  std::vector<float> weights;
};

Item list_of(const FeatureConfig& config, const Lookup& lookup, std::string_view text,
             const std::string_view* weights) {
  Item out;
  if (!is_list(config.kind)) {  // one value, or the one that stands for none
    if (text != config.mask) out.rows.push_back(lookup(text));
    return out;
  }
  if (config.kind == FeatureKind::text) {
    for (const std::string& token : tokenize(text, text_options(config))) {
      out.rows.push_back(lookup(token));
    }
    return out;
  }
  const std::vector<std::string_view> tokens = split(text, config.separator);
  std::vector<std::string_view> numbers;
  if (weights != nullptr) {
    numbers = split(*weights, config.separator);
    if (numbers.size() != tokens.size()) {
      refuse(config, fmt::format("{} has {} values, its weights {} have {}", shown(text),
                                 tokens.size(), shown(*weights), numbers.size()));
    }
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty() || tokens[i] == config.mask) continue;
    out.rows.push_back(lookup(tokens[i]));
    if (weights != nullptr) out.weights.push_back(number_of(config, numbers[i]));
  }
  const auto surplus = static_cast<std::int64_t>(out.rows.size()) - config.max_length;
  if (config.max_length > 0 && surplus > 0) {
    out.rows.erase(out.rows.begin(), out.rows.begin() + surplus);
    if (weights != nullptr) out.weights.erase(out.weights.begin(), out.weights.begin() + surplus);
  }
  return out;
}

/// Lists. Those of equal fields are one.
FeatureValues lists(const ModelData& model, std::size_t f, const FeatureSource& source) {
  const FeatureConfig& config = model.features[f].config;
  const Lookup lookup = lookup_of(model, f);
  FeatureValues out;
  tsl::robin_map<std::uint64_t, std::pair<std::int64_t, std::int64_t>> known;
  for (const std::int64_t row : source.rows) {
    if (row < 0) {
      out.begin.push_back(0);
      out.end.push_back(0);
      continue;
    }
    std::uint64_t key = source.values->codes[static_cast<std::size_t>(row)];
    if (source.weights != nullptr) {
      key |= std::uint64_t{source.weights->codes[static_cast<std::size_t>(row)]} << 32;
    }
    auto at = known.find(key);
    if (at == known.end()) {
      const std::string_view weights =
          source.weights != nullptr ? text_at(*source.weights, row) : std::string_view();
      const Item list = list_of(config, lookup, text_at(*source.values, row),
                                source.weights != nullptr ? &weights : nullptr);
      const auto first = static_cast<std::int64_t>(out.rows.size());
      out.rows.insert(out.rows.end(), list.rows.begin(), list.rows.end());
      out.weights.insert(out.weights.end(), list.weights.begin(), list.weights.end());
      at = known.try_emplace(key, first, static_cast<std::int64_t>(out.rows.size())).first;
    }
    out.begin.push_back(at->second.first);
    out.end.push_back(at->second.second);
  }
  return out;
}

/// Numbers as they enter the model; zeros where there is no value.
std::vector<float> dense_numbers(const FeatureData& feature, const FeatureSource& source) {
  const FeatureConfig& config = feature.config;
  std::vector<float> out;
  out.reserve(source.rows.size() * static_cast<std::size_t>(feature.width));
  for (const std::int64_t row : source.rows) {
    if (row < 0) {
      out.insert(out.end(), static_cast<std::size_t>(feature.width), 0.0f);
    } else if (config.kind == FeatureKind::number) {
      const double x = number_at(*source.values, row);
      out.push_back(to_float(config, (x - feature.mean) * feature.scale));
    } else {
      const std::string_view text = text_at(*source.values, row);
      const std::vector<std::string_view> fields = split(text, config.separator);
      if (static_cast<std::int64_t>(fields.size()) != feature.width) {
        refuse(config, fmt::format("{} holds {} numbers, not {}", shown(text), fields.size(),
                                   feature.width));
      }
      for (const std::string_view field : fields) out.push_back(number_of(config, field));
    }
  }
  return out;
}

}  // namespace

std::vector<ColumnRequest> column_requests(const FeatureConfig& config) {
  if (config.kind == FeatureKind::sequence) return {};
  const ColumnType type = is_numeric(config.kind) ? ColumnType::real : ColumnType::text;
  std::vector<ColumnRequest> out{{config.column, type, false}};
  if (!config.weights.empty()) out.push_back({config.weights, ColumnType::text, false});
  return out;
}

FeatureSource source_of(const FeatureConfig& config, const Table& table,
                        std::vector<std::int64_t> rows) {
  const std::vector<ColumnRequest> wanted = column_requests(config);
  FeatureSource out;
  out.values = table.find(wanted[0].name, wanted[0].type);
  if (wanted.size() > 1) out.weights = table.find(wanted[1].name, wanted[1].type);
  out.rows = std::move(rows);
  return out;
}

double number_at(const Column& column, std::int64_t row) {
  const auto at = static_cast<std::size_t>(row);
  if (column.type == ColumnType::integer) return static_cast<double>(column.integers[at]);
  if (column.type == ColumnType::real) return column.reals[at];
  double value = 0;
  const std::string_view text = text_at(column, row);
  if (!parse_real(text, value)) {
    throw Error(ExitCode::bad_data, "column " + column.name, shown(text) + " is not a number");
  }
  return value;
}

TextOptions text_options(const FeatureConfig& config) {
  TextOptions out;
  for (int n = 1; config.ngrams > 1 && n <= config.ngrams; ++n) out.ngrams.push_back(n);
  out.max_tokens = config.max_tokens;
  return out;
}

void count_tokens(const FeatureConfig& config, const FeatureSource& source, TokenCounts& counts) {
  const Column& column = *source.values;
  std::vector<std::int64_t> n(column.dictionary->size());
  for (const std::int64_t row : source.rows) {
    if (row >= 0) ++n[column.codes[static_cast<std::size_t>(row)]];
  }
  for (std::size_t c = 0; c < n.size(); ++c) {
    if (n[c] == 0) continue;
    const std::string_view text = column.dictionary->text(static_cast<std::uint32_t>(c));
    if (config.kind == FeatureKind::text) {
      for (const std::string& token : tokenize(text, text_options(config))) {
        counts.add(token, n[c]);
      }
    } else if (config.kind == FeatureKind::list) {
      for (const std::string_view token : split(text, config.separator)) {
        if (!token.empty() && token != config.mask) counts.add(token, n[c]);
      }
    } else if (text != config.mask) {
      counts.add(text, n[c]);
    }
  }
}

std::vector<float> learn_boundaries(const FeatureConfig& config, const FeatureSource& source,
                                    const std::string& preset, std::int64_t batch) {
  const BoundariesConfig& rule = config.boundaries;
  if (!rule.values.empty()) return {rule.values.begin(), rule.values.end()};
  std::vector<double> values = numbers_of(source);
  if (rule.linspace > 0) return even_boundaries(values, rule.linspace);
  if (preset != "tfrs") return exact_quantiles(std::move(values), rule.quantiles);
  QuantileSketch sketch;
  const auto step = static_cast<std::size_t>(std::max<std::int64_t>(1, batch));
  for (std::size_t i = 0; i < values.size(); i += step) {
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(i);
    const auto left = static_cast<std::ptrdiff_t>(std::min(step, values.size() - i));
    sketch.add({first, first + left});
  }
  return sketch.boundaries(rule.quantiles);
}

void learn_scale(FeatureData& feature, const FeatureSource& source) {
  const FeatureConfig& config = feature.config;
  if (!config.normalise && !config.mean) return;
  std::optional<Normalizer> normalizer;
  if (config.mean && config.variance) {
    normalizer.emplace(*config.mean, *config.variance);
  } else {
    Moments moments;
    for (const double x : numbers_of(source)) moments.add(x);
    normalizer.emplace(moments);
  }
  feature.mean = normalizer->mean();
  feature.scale = 1 / normalizer->deviation();
}

FeatureValues build_values(const ModelData& model, std::size_t f, const FeatureSource& source) {
  FeatureValues out;
  switch (model.features[f].form()) {
    case FeatureForm::row:
      out.rows = single_rows(model, f, source);
      break;
    case FeatureForm::list:
      return lists(model, f, source);
    case FeatureForm::dense:
      out.numbers = dense_numbers(model.features[f], source);
      break;
  }
  return out;
}

std::vector<std::string> unseen_tokens(const ModelData& model, std::size_t f,
                                       std::string_view text) {
  const FeatureConfig& config = model.features[f].config;
  const bool one = config.kind == FeatureKind::id || config.kind == FeatureKind::category;
  const bool many = config.kind == FeatureKind::list || config.kind == FeatureKind::sequence;
  std::vector<std::string> out;
  if (!one && !many) return out;
  const Vocabulary& known =
      model.tables[static_cast<std::size_t>(model.features[f].table)].vocabulary;
  for (const std::string_view token :
       one ? std::vector<std::string_view>{text} : split(text, config.separator)) {
    if ((many && token.empty()) || token == config.mask) continue;
    if (!known.token_index(token)) out.emplace_back(token);
  }
  return out;
}

FeatureValues value_of_text(const ModelData& model, std::size_t f, std::string_view text,
                            std::optional<std::string_view> weights) {
  const FeatureConfig& config = model.features[f].config;
  if (!config.weights.empty() != weights.has_value()) {
    refuse(config, weights ? "it has no weights" : "its weights are missing: " + config.weights);
  }
  const auto column_of = [](const std::string& name, std::string_view value) {
    Column column;
    column.name = name;
    column.dictionary = std::make_shared<Dictionary>();
    column.codes = {column.dictionary->add(value)};
    return column;
  };
  const Column values = column_of(config.column, text);
  if (!weights) return build_values(model, f, {&values, nullptr, {0}});
  const Column numbers = column_of(config.weights, *weights);
  return build_values(model, f, {&values, &numbers, {0}});
}

}  // namespace belfry
