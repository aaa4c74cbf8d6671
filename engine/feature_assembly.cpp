// SPDX-License-Identifier: Apache-2.0
#include "engine/feature_assembly.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

#include "engine/error.hpp"
#include "engine/feature_builder.hpp"
#include "engine/hashing.hpp"
#include "engine/id_list.hpp"

namespace belfry {
namespace {

class Assembly {
 public:
  Assembly(const Config& config, const FeatureTables& from, ModelData& out)
      : config_(config), data_(config.data), from_(from), out_(out) {
    for (const auto* part : {&from.split.train, &from.split.validation}) {
      training_rows_.insert(training_rows_.end(), part->begin(), part->end());
    }
  }

  void run() {
    add_features();
    for (std::size_t t = 0; t < out_.tables.size(); ++t) fill_table(static_cast<int>(t));
    for (std::size_t f = 0; f < out_.features.size(); ++f) {
      FeatureData& feature = out_.features[f];
      if (feature.config.kind == FeatureKind::number) learn_scale(feature, training_source(f));
      if (!feature.context) fill_values(f);
    }
  }

 private:
  void add_features();
  int table_named(const std::string& name, const FeatureConfig& config);
  bool is_context(const FeatureConfig& config) const;
  std::optional<Side> stands_for(const FeatureConfig& config) const;
  const Vocabulary& entities(Side side) const {
    return side == Side::query ? out_.users : out_.items;
  }
  const Column& id_column(Side side);
  const std::vector<std::int64_t>& side_rows(Side side);
  FeatureSource entity_source(std::size_t f);
  FeatureSource training_source(std::size_t f);
  void fill_table(int t);
  void fill_boundaries(int t);
  void fill_vocabulary(int t);
  std::optional<Vocabulary> whole_entities(int t) const;
  void count_entities(Side side, TokenCounts& counts) const;
  Vocabulary given_vocabulary(const std::string& file, const VocabularyOptions& options) const;
  void fill_values(std::size_t f);
  bool vocabulary_from_file() const {
    return data_.vocabulary != "train" && data_.vocabulary != "catalogue";
  }
  /// Features of table t, in order.
  std::vector<std::size_t> users_of(int t) const;

  const Config& config_;
  const DataConfig& data_;
  const FeatureTables& from_;
  ModelData& out_;
  std::vector<std::int64_t> training_rows_;
  std::optional<Column> id_columns_[2];
  std::optional<std::vector<std::int64_t>> side_rows_[2];
};

bool Assembly::is_context(const FeatureConfig& config) const {
  if (config.of != Side::query) return false;
  if (config.kind == FeatureKind::sequence) return true;
  const auto& columns = from_.context_columns;
  return std::find(columns.begin(), columns.end(), config.column) != columns.end();
}

int Assembly::table_named(const std::string& name, const FeatureConfig& config) {
  const auto at = std::find_if(out_.tables.begin(), out_.tables.end(),
                               [&](const TableData& t) { return t.name == name; });
  const auto number = static_cast<int>(at - out_.tables.begin());
  if (at == out_.tables.end()) {
    TableData table;
    table.name = name;
    table.dim = config.dim;
    table.init = *config.init;
    out_.tables.push_back(std::move(table));
  }
  return number;
}

void Assembly::add_features() {
  std::vector<std::string> placed;  // tables of unified features that have their chunks
  for (const FeatureConfig& config : config_.features) {
    FeatureData feature;
    feature.config = config;
    feature.context = is_context(config);
    feature.steps = steps_of(config_, config);
    if (config.kind == FeatureKind::unified) {
      // One count over all features of these tables gives the turn.
      std::vector<std::int64_t> chunks;
      std::size_t number = 0;
      for (const FeatureConfig& other : config_.features) {
        if (other.kind != FeatureKind::unified || other.table != config.table) continue;
        if (other.name == config.name) number = chunks.size();
        chunks.push_back(other.chunks);
      }
      for (const UnifiedChunk& c : place_chunks(chunks, config.tables, config_.preset == "tfrs")) {
        if (c.feature != static_cast<int>(number)) continue;
        feature.chunk = c.chunk;
        feature.table = table_named(fmt::format("{}.{}", config.table, c.table), config);
        out_.features.push_back(feature);
      }
      continue;
    }
    if (has_table(config.kind)) {
      feature.table = table_named(config.table, config);
    } else {
      feature.width = config.kind == FeatureKind::number ? 1 : config.dim;
    }
    out_.features.push_back(std::move(feature));
  }
}

/// The side whose entities a feature's values are.
std::optional<Side> Assembly::stands_for(const FeatureConfig& config) const {
  const bool named = config.kind == FeatureKind::id || config.kind == FeatureKind::category;
  if (config.kind == FeatureKind::sequence) return Side::candidate;
  if (named && config.column == (config.of == Side::query ? data_.user : data_.item)) {
    return config.of;
  }
  return std::nullopt;
}

/// The ids of the entities as a column, for features that read them.
const Column& Assembly::id_column(Side side) {
  std::optional<Column>& column = id_columns_[side == Side::query ? 0 : 1];
  if (!column) {
    column.emplace();
    column->name = side == Side::query ? data_.user : data_.item;
    column->dictionary = std::make_shared<Dictionary>();
    for (const std::string& id : entities(side).all_tokens()) {
      column->codes.push_back(column->dictionary->add(id));
    }
  }
  return *column;
}

/// The side table's row of each entity; -1: it has none.
const std::vector<std::int64_t>& Assembly::side_rows(Side side) {
  std::optional<std::vector<std::int64_t>>& rows = side_rows_[side == Side::query ? 0 : 1];
  if (rows) return *rows;
  const Vocabulary& all = entities(side);
  rows.emplace(static_cast<std::size_t>(all.tokens()), -1);
  const SideTable& table = side == Side::query ? from_.users : from_.items;
  if (side == Side::query || data_.item == data_.items_key) {
    for (std::size_t e = 0; e < rows->size(); ++e) {
      const auto at = table.row_of_key.find(all.token(static_cast<std::int64_t>(e)));
      if (at != table.row_of_key.end()) (*rows)[e] = at->second;
    }
    return *rows;
  }
  // Several side rows may share one item id (a title): the first one speaks for it.
  const Column& id = table.table.at(data_.item);
  for (std::size_t r = 0; r < id.codes.size(); ++r) {
    const auto e = all.token_index(id.dictionary->text(id.codes[r]));
    if (e && (*rows)[static_cast<std::size_t>(*e)] < 0) {
      (*rows)[static_cast<std::size_t>(*e)] = static_cast<std::int64_t>(r);
    }
  }
  return *rows;
}

/// One value an entity.
FeatureSource Assembly::entity_source(std::size_t f) {
  const FeatureConfig& config = out_.features[f].config;
  const Side side = config.of;
  if (config.column != (side == Side::query ? data_.user : data_.item)) {
    const SideTable& table = side == Side::query ? from_.users : from_.items;
    return source_of(config, table.table, side_rows(side));
  }
  FeatureSource out;
  out.values = &id_column(side);
  out.rows.resize(static_cast<std::size_t>(entities(side).tokens()));
  std::iota(out.rows.begin(), out.rows.end(), 0);
  if (!config.weights.empty()) {
    throw Error(ExitCode::usage, config.place, "a list of ids has no weights");
  }
  return out;
}

/// The values that a feature learns from.
FeatureSource Assembly::training_source(std::size_t f) {
  const FeatureData& feature = out_.features[f];
  if (feature.context) return source_of(feature.config, from_.rows, training_rows_);
  FeatureSource out = entity_source(f);
  const Vocabulary& all = entities(feature.config.of);
  for (std::size_t e = 0; e < out.rows.size() && data_.vocabulary == "train"; ++e) {
    if (all.count(static_cast<std::int64_t>(e)) == 0) out.rows[e] = -1;
  }
  return out;
}

std::vector<std::size_t> Assembly::users_of(int t) const {
  std::vector<std::size_t> out;
  for (std::size_t f = 0; f < out_.features.size(); ++f) {
    if (out_.features[f].table == t) out.push_back(f);
  }
  return out;
}

void Assembly::fill_table(int t) {
  TableData& table = out_.tables[static_cast<std::size_t>(t)];
  const FeatureConfig& first = out_.features[users_of(t).front()].config;
  switch (first.kind) {
    case FeatureKind::hashed:
    case FeatureKind::unified:
      table.buckets = first.buckets;
      break;
    case FeatureKind::bucket:
      fill_boundaries(t);
      break;
    default:
      fill_vocabulary(t);
  }
  if (table.rows() == 0) {  // no token, and no row for what is none
    const auto at = std::find_if(config_.features.begin(), config_.features.end(),
                                 [&](const FeatureConfig& f) { return f.name == first.name; });
    throw Error(ExitCode::bad_data,
                place_of(config_, fmt::format("feature.{}", at - config_.features.begin())),
                fmt::format("the vocabulary of table \"{}\" is empty", table.name),
                "oov = 1 gives it a row for values that training never saw");
  }
  if (table.rows() > INT32_MAX) {
    throw Error(ExitCode::bad_data, table.name, "a table is limited to 2^31 - 1 rows");
  }
}

void Assembly::fill_boundaries(int t) {
  TableData& table = out_.tables[static_cast<std::size_t>(t)];
  const std::vector<std::size_t> users = users_of(t);
  const FeatureConfig& first = out_.features[users.front()].config;
  for (const std::size_t f : users) {
    const FeatureConfig& config = out_.features[f].config;
    if (config.boundaries == first.boundaries &&
        (config.column == first.column || !first.boundaries.values.empty())) {
      continue;
    }
    throw Error(ExitCode::usage, config.place,
                fmt::format("table \"{}\" is shared by \"{}\" and \"{}\", whose boundaries differ",
                            table.name, first.name, config.name));
  }
  table.boundaries = learn_boundaries(first, training_source(users.front()), config_.preset,
                                      config_.train.batch_size);
  table.buckets = static_cast<std::int64_t>(table.boundaries.size()) + 1;
}

/// The entities' own vocabulary where a table stands for all of them: then the ids are held once.
std::optional<Vocabulary> Assembly::whole_entities(int t) const {
  std::optional<Side> side;
  std::int64_t oov = 0;
  for (const std::size_t f : users_of(t)) {
    const FeatureConfig& config = out_.features[f].config;
    const std::optional<Side> of = stands_for(config);
    if (!of || (side && *side != *of) || !config.vocabulary.empty()) return std::nullopt;
    side = of;
    oov = config.oov;
  }
  const Vocabulary& all = entities(*side);
  const bool untrained = all.tokens() > 0 && all.count(all.tokens() - 1) == 0;
  if (vocabulary_from_file() && *side == Side::candidate) return std::nullopt;
  if (data_.vocabulary == "train" && untrained) return std::nullopt;
  return all.with_oov(oov);
}

void Assembly::count_entities(Side side, TokenCounts& counts) const {
  const Vocabulary& all = entities(side);
  for (std::int64_t e = 0; e < all.tokens(); ++e) {
    // "train": an item without a training row has no row of its own.
    if (data_.vocabulary == "train" && all.count(e) == 0) continue;
    counts.add(all.token(e), all.count(e));
  }
}

/// Rows as a list of the model's own has them, in its order.
Vocabulary Assembly::given_vocabulary(const std::string& file,
                                      const VocabularyOptions& options) const {
  std::vector<std::string> tokens = from_.source.ids(file);
  std::vector<std::int64_t> counts(tokens.size(), 0);
  try {
    return Vocabulary(std::move(tokens), std::move(counts), options);
  } catch (const Error& e) {  // an id twice, or text among integers
    throw Error(e.code(), file, e.what());
  }
}

void Assembly::fill_vocabulary(int t) {
  TableData& table = out_.tables[static_cast<std::size_t>(t)];
  if (auto whole = whole_entities(t)) {
    table.vocabulary = std::move(*whole);
    return;
  }
  TokenCounts counts;
  VocabularyOptions options;
  std::string given;
  bool counted[2] = {false, false};
  for (const std::size_t f : users_of(t)) {
    const FeatureData& feature = out_.features[f];
    const FeatureConfig& config = feature.config;
    options.oov = config.oov;
    if (!config.vocabulary.empty()) given = config.vocabulary;
    if (const std::optional<Side> side = stands_for(config)) {
      bool& done = counted[*side == Side::query ? 0 : 1];
      options.type = entities(*side).options().type;
      const bool listed = vocabulary_from_file() && *side == Side::candidate;
      if (given.empty() && listed) given = data_.vocabulary;
      if (!done) count_entities(*side, counts);
      done = true;
    } else if (config.kind == FeatureKind::text) {
      if (!options.mask_token) options = vocabulary_options(text_options(config));
      count_tokens(config, training_source(f), counts);
    } else if (feature.context) {
      count_tokens(config, training_source(f), counts);
    } else {
      FeatureSource source = entity_source(f);
      // An entity without the value teaches nothing.
      for (std::int64_t& row : source.rows) {
        const bool empty =
            row >= 0 &&
            source.values->dictionary->text(source.values->codes[static_cast<std::size_t>(row)])
                .empty();
        if (empty) row = -1;
      }
      count_tokens(config, source, counts);
    }
  }
  table.vocabulary = given.empty() ? Vocabulary::adapt(std::move(counts.list), options)
                                   : given_vocabulary(given, options);
}

void Assembly::fill_values(std::size_t f) {
  FeatureData& feature = out_.features[f];
  const std::optional<Side> side = stands_for(feature.config);
  const Vocabulary* table = feature.table < 0
                                ? nullptr
                                : &out_.tables[static_cast<std::size_t>(feature.table)].vocabulary;
  if (side && table->same_tokens(entities(*side))) {
    feature.values.rows.resize(static_cast<std::size_t>(entities(*side).tokens()));
    std::iota(feature.values.rows.begin(), feature.values.rows.end(),
              static_cast<std::int32_t>(table->first_token_row()));
    return;
  }
  feature.values = build_values(out_, f, entity_source(f));
}

}  // namespace

void assemble_features(const Config& config, const FeatureTables& from, ModelData& model) {
  Assembly(config, from, model).run();
}

std::vector<std::int32_t> rows_of_items(const ModelData& model, std::size_t f) {
  const FeatureData& feature = model.features[f];
  const Vocabulary& table = model.tables[static_cast<std::size_t>(feature.table)].vocabulary;
  std::vector<std::int32_t> out;
  for (std::int64_t e = 0; e < model.item_count(); ++e) {
    const std::optional<std::int64_t> row = table.row(model.items.token(e));
    if (!row && model.item_counts[static_cast<std::size_t>(e)] > 0) {
      throw Error(ExitCode::bad_data, "feature " + feature.config.name,
                  fmt::format("\"{}\" is not in the vocabulary and the feature has no OOV row",
                              model.items.token(e)),
                  "oov = 1 gives it one");
    }
    out.push_back(static_cast<std::int32_t>(row.value_or(0)));
  }
  return out;
}

}  // namespace belfry
