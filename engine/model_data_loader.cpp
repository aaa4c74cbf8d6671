// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <tsl/robin_map.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>

#include "engine/error.hpp"
#include "engine/id_list.hpp"
#include "engine/interaction_encoder.hpp"
#include "engine/split.hpp"

namespace belfry {

namespace {

/// Entities while they are collected: ids with their number of training rows.
struct IdCounts {
  std::vector<std::pair<std::string, std::int64_t>> list;
  tsl::robin_map<std::string, std::size_t> at;
  void add(std::string_view id, std::int64_t n) {
    const auto [it, fresh] = at.try_emplace(std::string(id), list.size());
    if (fresh) list.emplace_back(id, 0);
    list[it->second].second += n;
  }
};

double number_at(const Column& column, std::int64_t row) {
  const auto at = static_cast<std::size_t>(row);
  return column.type == ColumnType::integer ? static_cast<double>(column.integers[at])
                                            : column.reals[at];
}

/// Everything that load_model_data knows on the way.
class Loader {
 public:
  Loader(const Config& config, const DataReport& found,
         const std::function<void(const std::string&)>& progress)
      : config_(config), data_(config.data), progress_(progress) {
    out_.report = found;
  }

  ModelData load();

 private:
  void read_side_tables();
  void collect_context_columns();
  void check_users() const;
  void drop_duplicates();
  const Column* time_column() const;
  void split_rows();
  void build_entities();
  void build_features();
  std::optional<Vocabulary> whole_entities(int table, bool from_file) const;
  Vocabulary given_vocabulary(const VocabularyOptions& options) const;
  void build_tables_and_rows();
  void fill_last_context();
  void fill_fingerprint();
  const SideTable& side_of(Side side) const { return side == Side::query ? users_ : items_; }
  std::vector<std::string> values_of_entities(const FeatureData& f) const;

  const Config& config_;
  const DataConfig& data_;
  const std::function<void(const std::string&)>& progress_;
  std::vector<std::string> context_columns_;
  SideTable users_, items_;
  Table rows_;
  std::vector<std::int64_t> kept_;     // rows of rows_ left by the duplicate rule
  Split split_;                        // of positions in kept_
  std::vector<std::string> key_item_;  // item id of each key code of rows_ (joined)
  ModelData out_;
};

void Loader::collect_context_columns() {
  // A query column that the users' side table has belongs to the user; any other to the interaction.
  const std::vector<std::string> none;
  Schema users;
  if (!data_.users.empty()) users = sniff(data_.users);
  for (const FeatureConfig& f : config_.features) {
    if (f.of != Side::query || f.column == data_.user) continue;
    if (!data_.users.empty() && has_column(users, f.column)) continue;
    if (std::find(context_columns_.begin(), context_columns_.end(), f.column) ==
        context_columns_.end()) {
      context_columns_.push_back(f.column);
    }
  }
}

void Loader::read_side_tables() {
  std::vector<std::string> user_columns, item_columns;
  for (const FeatureConfig& f : config_.features) {
    const bool context = std::find(context_columns_.begin(), context_columns_.end(), f.column) !=
                         context_columns_.end();
    if (f.of == Side::query && f.column != data_.user && !context) user_columns.push_back(f.column);
    if (f.of == Side::candidate && f.column != data_.item) item_columns.push_back(f.column);
  }
  if (!data_.items.empty() && data_.item != data_.items_key) item_columns.push_back(data_.item);
  users_ = read_side_table(data_.users, data_.users_key, data_, user_columns);
  items_ = read_side_table(data_.items, data_.items_key, data_, item_columns);
  if (items_.present)
    progress_(fmt::format("items   {}   {} rows", data_.items, items_.table.rows));
  if (users_.present)
    progress_(fmt::format("users   {}   {} rows", data_.users, users_.table.rows));
}

/// A user without a row in the users' table has no features; items are held to the same in item_of_key.
void Loader::check_users() const {
  if (!users_.present || data_.on_missing == MissingRule::keep) return;
  const Dictionary& ids = *rows_.at(data_.user).dictionary;
  for (std::uint32_t c = 0; c < ids.size(); ++c) {
    if (users_.row_of_key.contains(std::string(ids.text(c)))) continue;
    throw Error(ExitCode::bad_data, data_.users,
                fmt::format("no row for the user \"{}\" of the interactions", ids.text(c)),
                "data.on_missing = \"keep\" keeps such rows");
  }
}

void Loader::drop_duplicates() {
  if (data_.duplicates == Duplicates::keep) {
    kept_.resize(static_cast<std::size_t>(rows_.rows));
    std::iota(kept_.begin(), kept_.end(), 0);
    return;
  }
  // The same item is what the model takes for one: two ids of one title are.
  const Column& key = rows_.at(key_column(data_));
  Column item;
  item.name = data_.item;
  item.dictionary = std::make_shared<Dictionary>();
  std::vector<std::uint32_t> code_of(key_item_.size());
  for (std::size_t c = 0; c < code_of.size(); ++c) code_of[c] = item.dictionary->add(key_item_[c]);
  for (const std::uint32_t code : key.codes) item.codes.push_back(code_of[code]);
  try {
    kept_ = resolve_duplicates(rows_.at(data_.user), item, data_.duplicates);
  } catch (const Error& e) {
    throw Error(e.code(), data_.interactions.front(), e.what());
  }
  out_.report.duplicates_dropped = rows_.rows - static_cast<std::int64_t>(kept_.size());
}

/// The times as numbers of either type; nullptr without them.
const Column* Loader::time_column() const {
  const Column* real = rows_.find(data_.time, ColumnType::real);
  return real != nullptr ? real : rows_.find(data_.time, ColumnType::integer);
}

void Loader::split_rows() {
  const Column& user = rows_.at(data_.user);
  const Column* time = time_column();
  std::vector<std::uint32_t> users(kept_.size());
  std::vector<double> times(time != nullptr ? kept_.size() : 0);
  for (std::size_t i = 0; i < kept_.size(); ++i) {
    users[i] = user.codes[static_cast<std::size_t>(kept_[i])];
    if (time != nullptr) times[i] = number_at(*time, kept_[i]);
  }
  split_ = make_split(config_.split, config_.train.early_stop.has_value(), users, times,
                      static_cast<std::int64_t>(kept_.size()));
  for (auto* part : {&split_.train, &split_.validation, &split_.test}) {
    for (std::int64_t& row : *part) row = kept_[static_cast<std::size_t>(row)];
  }
}

void Loader::build_entities() {
  const Column& user = rows_.at(data_.user);
  const Column& key = rows_.at(key_column(data_));
  std::vector<std::int64_t> user_rows(user.dictionary->size()), key_rows(key.dictionary->size());
  for (const auto* part : {&split_.train, &split_.validation}) {
    for (const std::int64_t row : *part) {
      ++user_rows[user.codes[static_cast<std::size_t>(row)]];
      ++key_rows[key.codes[static_cast<std::size_t>(row)]];
    }
  }
  IdCounts users, items;
  for (std::size_t c = 0; c < user_rows.size(); ++c) {
    if (user_rows[c] > 0)
      users.add(user.dictionary->text(static_cast<std::uint32_t>(c)), user_rows[c]);
  }
  for (std::size_t c = 0; c < key_rows.size(); ++c) {
    if (key_rows[c] > 0) items.add(key_item_[c], key_rows[c]);
  }
  const bool ids_alone = std::all_of(
      config_.features.begin(), config_.features.end(),
      [&](const FeatureConfig& f) { return f.of == Side::query || f.column == data_.item; });
  const bool all = data_.catalogue == CatalogueRule::all ||
                   (data_.catalogue == CatalogueRule::automatic && !ids_alone);
  if (all && items_.present) {
    const Column& id = items_.table.at(data_.item);
    for (const std::uint32_t code : id.codes) items.add(id.dictionary->text(code), 0);
  }
  VocabularyOptions options;
  options.oov = 0;
  // A title joined by an integer key is text.
  options.type = data_.id_type;
  out_.users = Vocabulary::adapt(std::move(users.list), options);
  if (items_.present && data_.item != data_.items_key) options.type = IdType::text;
  out_.items = Vocabulary::adapt(std::move(items.list), options);
  out_.item_counts = out_.items.counts();
}

/// The value of an entity feature for each entity; empty where the side table lacks the entity.
std::vector<std::string> Loader::values_of_entities(const FeatureData& f) const {
  const bool query = f.config.of == Side::query;
  const Vocabulary& entities = query ? out_.users : out_.items;
  if (f.config.column == (query ? data_.user : data_.item)) return entities.all_tokens();
  const SideTable& side = side_of(f.config.of);
  const Column& values = side.table.at(f.config.column);
  std::vector<std::string> out(static_cast<std::size_t>(entities.tokens()));
  if (query || data_.item == data_.items_key) {
    for (std::size_t e = 0; e < out.size(); ++e) {
      const auto at = side.row_of_key.find(entities.token(static_cast<std::int64_t>(e)));
      if (at == side.row_of_key.end()) continue;
      out[e] = values.dictionary->text(values.codes[static_cast<std::size_t>(at->second)]);
    }
    return out;
  }
  // Several side rows may share one item id (a title): the first one speaks for it.
  const Column& id = side.table.at(data_.item);
  std::vector<char> filled(out.size(), 0);
  for (std::size_t r = 0; r < id.codes.size(); ++r) {
    const auto e = entities.token_index(id.dictionary->text(id.codes[r]));
    if (!e || filled[static_cast<std::size_t>(*e)] != 0) continue;
    filled[static_cast<std::size_t>(*e)] = 1;
    out[static_cast<std::size_t>(*e)] = values.dictionary->text(values.codes[r]);
  }
  return out;
}

void Loader::build_features() {
  for (const FeatureConfig& config : config_.features) {
    FeatureData f;
    f.config = config;
    f.context = config.of == Side::query &&
                std::find(context_columns_.begin(), context_columns_.end(), config.column) !=
                    context_columns_.end();
    const auto at = std::find_if(out_.tables.begin(), out_.tables.end(),
                                 [&](const TableData& t) { return t.name == config.table; });
    f.table = static_cast<int>(at - out_.tables.begin());
    if (at == out_.tables.end())
      out_.tables.push_back({config.table, config.dim, *config.init, {}});
    out_.features.push_back(std::move(f));
  }
}

/// The entities' own vocabulary where a table stands for all of them: then the ids are held once.
std::optional<Vocabulary> Loader::whole_entities(int table, bool from_file) const {
  const FeatureData* user = nullptr;
  for (const FeatureData& f : out_.features) {
    if (f.table != table) continue;
    const bool own_id = f.config.column == (f.config.of == Side::query ? data_.user : data_.item);
    if (user != nullptr || !own_id) return std::nullopt;
    user = &f;
  }
  const bool query = user->config.of == Side::query;
  const Vocabulary& entities = query ? out_.users : out_.items;
  const bool untrained = entities.tokens() > 0 && entities.count(entities.tokens() - 1) == 0;
  if ((from_file && !query) || (data_.vocabulary == "train" && untrained)) return std::nullopt;
  return entities.with_oov(user->config.oov);
}

/// The items' rows as the model file's own list has them, in its order.
Vocabulary Loader::given_vocabulary(const VocabularyOptions& options) const {
  std::vector<std::string> tokens = read_ids(data_.vocabulary);
  std::vector<std::int64_t> counts(tokens.size(), 0);
  try {
    return Vocabulary(std::move(tokens), std::move(counts), options);
  } catch (const Error& e) {  // an id twice, or text among integers
    throw Error(e.code(), data_.vocabulary, e.what());
  }
}

void Loader::build_tables_and_rows() {
  std::vector<std::vector<std::string>> values(out_.features.size());
  for (std::size_t f = 0; f < out_.features.size(); ++f) {
    if (!out_.features[f].context) values[f] = values_of_entities(out_.features[f]);
  }
  const bool from_file = data_.vocabulary != "train" && data_.vocabulary != "catalogue";
  for (std::size_t t = 0; t < out_.tables.size(); ++t) {
    if (auto entities = whole_entities(static_cast<int>(t), from_file)) {
      out_.tables[t].vocabulary = std::move(*entities);
      continue;
    }
    IdCounts counts;
    VocabularyOptions options;
    bool given = false;
    for (std::size_t i = 0; i < out_.features.size(); ++i) {
      const FeatureData& f = out_.features[i];
      if (f.table != static_cast<int>(t)) continue;
      options.oov = f.config.oov;
      const bool query = f.config.of == Side::query;
      const bool own_id = f.config.column == (query ? data_.user : data_.item);
      if (own_id) {
        const Vocabulary& entities = query ? out_.users : out_.items;
        options.type = entities.options().type;
        given = given || (from_file && !query);
        for (std::int64_t e = 0; e < entities.tokens(); ++e) {
          // "train": an item without a training row has no row of its own.
          if (data_.vocabulary == "train" && entities.count(e) == 0) continue;
          counts.add(entities.token(e), entities.count(e));
        }
      } else if (f.context) {
        const Column& column = *rows_.find(f.config.column, ColumnType::text);
        std::vector<std::int64_t> n(column.dictionary->size());
        for (const auto* part : {&split_.train, &split_.validation}) {
          for (const std::int64_t row : *part) ++n[column.codes[static_cast<std::size_t>(row)]];
        }
        for (std::size_t c = 0; c < n.size(); ++c) {
          if (n[c] > 0) counts.add(column.dictionary->text(static_cast<std::uint32_t>(c)), n[c]);
        }
      } else {
        for (const std::string& v : values[i]) {
          if (!v.empty()) counts.add(v, 1);
        }
      }
    }
    out_.tables[t].vocabulary =
        given ? given_vocabulary(options) : Vocabulary::adapt(std::move(counts.list), options);
    if (out_.tables[t].vocabulary.rows() > INT32_MAX) {
      throw Error(ExitCode::bad_data, out_.tables[t].name, "a table is limited to 2^31 - 1 rows");
    }
  }
  for (std::size_t i = 0; i < out_.features.size(); ++i) {
    FeatureData& f = out_.features[i];
    if (f.context) continue;
    const Vocabulary& vocabulary = out_.tables[static_cast<std::size_t>(f.table)].vocabulary;
    f.rows.resize(values[i].size());
    for (std::size_t e = 0; e < values[i].size(); ++e) {
      const auto row = vocabulary.row(values[i][e]);
      if (!row) {
        throw Error(ExitCode::bad_data, f.config.name,
                    fmt::format("\"{}\" is not in the vocabulary and the feature has no OOV row",
                                values[i][e]),
                    "oov = 1 gives it one");
      }
      f.rows[e] = static_cast<std::int32_t>(*row);
    }
  }
}

void Loader::fill_last_context() {
  const Column* time = time_column();
  const auto users = static_cast<std::size_t>(out_.user_count());
  struct Last {
    double time = 0;
    std::int64_t row = -1;
    std::int32_t position = 0;
    const Interactions* part = nullptr;
  };
  std::vector<Last> last(users);
  const std::pair<const Interactions*, const std::vector<std::int64_t>*> parts[] = {
      {&out_.train, &split_.train}, {&out_.validation, &split_.validation}};
  for (const auto& [part, rows] : parts) {
    for (std::size_t i = 0; i < rows->size(); ++i) {
      const std::int64_t row = (*rows)[i];
      const double t = time != nullptr ? number_at(*time, row) : 0;
      Last& l = last[static_cast<std::size_t>(part->user[i])];
      if (l.row < 0 || t > l.time || (t == l.time && row > l.row)) {
        l = {t, row, static_cast<std::int32_t>(i), part};
      }
    }
  }
  const std::size_t n = out_.train.context.size();
  out_.last_context.assign(n, std::vector<std::int32_t>(users));
  for (std::size_t c = 0; c < n; ++c) {
    for (std::size_t u = 0; u < users; ++u) {
      out_.last_context[c][u] =
          last[u].part->context[c][static_cast<std::size_t>(last[u].position)];
    }
  }
}

void Loader::fill_fingerprint() {
  XXH3_state_t* state = XXH3_createState();
  XXH3_128bits_reset(state);
  const auto feed = [&](const auto& v) {
    const std::uint64_t n = v.size();
    XXH3_128bits_update(state, &n, sizeof n);
    XXH3_128bits_update(state, v.data(), v.size() * sizeof(v[0]));
  };
  for (const Interactions* part : {&out_.train, &out_.validation, &out_.test}) {
    feed(part->user);
    feed(part->item);
    feed(part->weight);
    for (const auto& c : part->context) feed(c);
  }
  for (const Vocabulary* v : {&out_.users, &out_.items}) {
    for (const std::string& token : v->all_tokens()) feed(token);
  }
  for (const TableData& t : out_.tables) {
    for (const std::string& token : t.vocabulary.all_tokens()) feed(token);
  }
  for (const FeatureData& f : out_.features) feed(f.rows);
  const XXH128_hash_t hash = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  out_.fingerprint = fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

ModelData Loader::load() {
  const auto start = std::chrono::steady_clock::now();
  collect_context_columns();
  read_side_tables();
  const InteractionReader reader(data_, context_columns_);
  rows_ = reader.read(data_.interactions);
  out_.report.rows = rows_.rows;
  out_.report.filtered = rows_.rows_filtered;
  check_users();
  key_item_ = item_of_key(rows_, data_, items_);
  drop_duplicates();
  split_rows();
  build_entities();
  build_features();
  build_tables_and_rows();
  Outside users(out_.user_count()), items(out_.item_count());
  out_.train = encode_interactions(rows_, split_.train, data_, out_, key_item_, users, items);
  out_.validation =
      encode_interactions(rows_, split_.validation, data_, out_, key_item_, users, items);
  if (config_.split.method == SplitMethod::file) {
    const Table test = reader.read_test(data_.test);
    out_.test = encode_interactions(test, all_rows(test), data_, out_,
                                    item_of_key(test, data_, items_), users, items);
  } else {
    out_.test = encode_interactions(rows_, split_.test, data_, out_, key_item_, users, items);
  }
  out_.has_test = out_.test.size() > 0;
  fill_last_context();
  fill_fingerprint();
  out_.report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return std::move(out_);
}

}  // namespace

ModelData load_model_data(const Config& config, const DataReport& found,
                          const std::function<void(const std::string&)>& progress) {
  return Loader(config, found, progress).load();
}

Interactions load_test_file(const Config& config, const std::string& path, const ModelData& model) {
  const DataConfig& data = config.data;
  std::vector<std::string> context;
  for (const FeatureData& f : model.features) {
    if (f.context) context.push_back(f.config.column);
  }
  const bool join = data.item != key_column(data);
  SideTable items;
  if (join) items = read_side_table(data.items, data.items_key, data, {data.item});
  const Table table = InteractionReader(data, context).read_test(path);
  Outside users(model.user_count()), outside(model.item_count());
  return encode_interactions(table, all_rows(table), data, model, item_of_key(table, data, items),
                             users, outside);
}

}  // namespace belfry
