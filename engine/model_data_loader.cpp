// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <tuple>

#include "engine/error.hpp"
#include "engine/feature_assembly.hpp"
#include "engine/feature_builder.hpp"
#include "engine/history.hpp"
#include "engine/interaction_encoder.hpp"
#include "engine/split.hpp"

namespace belfry {

namespace {

/// Everything that load_model_data knows on the way.
class Loader {
 public:
  Loader(const Config& config, const DataReport& found,
         const std::function<void(const std::string&)>& progress, const DataSource& source)
      : config_(config), data_(config.data), progress_(progress), source_(source) {
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
  Interactions encode(const std::vector<std::int64_t>& rows, Outside& users, Outside& items) const;
  std::vector<Moment> moments_of(const Interactions& part,
                                 const std::vector<std::int64_t>& rows) const;
  void fill_histories();
  void fill_last_context();
  void fill_longest();
  void fill_fingerprint();

  const Config& config_;
  const DataConfig& data_;
  const std::function<void(const std::string&)>& progress_;
  const DataSource& source_;
  std::vector<std::string> context_columns_;
  std::vector<ColumnRequest> context_requests_;
  SideTable users_, items_;
  Table rows_;
  std::vector<std::int64_t> kept_;     // rows of rows_ left by the duplicate rule
  Split split_;                        // of positions in kept_
  std::vector<std::string> key_item_;  // item id of each key code of rows_ (joined)
  ModelData out_;
};

void Loader::collect_context_columns() {
  // A query column that the users' side table has belongs to the user; any other to the interaction.
  Schema users;
  if (!data_.users.empty()) users = source_.schema(data_.users, "auto");
  for (const FeatureConfig& f : config_.features) {
    if (f.of != Side::query || f.column == data_.user || f.kind == FeatureKind::sequence) continue;
    if (!data_.users.empty() && has_column(users, f.column)) continue;
    context_columns_.push_back(f.column);
    request_columns(context_requests_, column_requests(f));
  }
}

void Loader::read_side_tables() {
  std::vector<ColumnRequest> user_columns, item_columns;
  for (const FeatureConfig& f : config_.features) {
    const bool context = std::find(context_columns_.begin(), context_columns_.end(), f.column) !=
                         context_columns_.end();
    const bool own_id = f.column == (f.of == Side::query ? data_.user : data_.item);
    if (own_id || (context && f.of == Side::query)) continue;
    request_columns(f.of == Side::query ? user_columns : item_columns, column_requests(f));
  }
  if (!data_.items.empty() && data_.item != data_.items_key) {
    request_columns(item_columns, {{data_.item, ColumnType::text, false}});
  }
  users_ = read_side_table(data_.users, data_.users_key, data_, user_columns, source_);
  items_ = read_side_table(data_.items, data_.items_key, data_, item_columns, source_);
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
  TokenCounts users, items;
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

/// Rows of the interactions as the model's entities.
Interactions Loader::encode(const std::vector<std::int64_t>& rows, Outside& users,
                            Outside& items) const {
  return encode_interactions(rows_, rows, data_, out_, key_item_, users, items);
}

std::vector<Moment> Loader::moments_of(const Interactions& part,
                                       const std::vector<std::int64_t>& rows) const {
  const Column* time = time_column();
  std::vector<Moment> out;
  out.reserve(part.user.size());
  for (std::size_t i = 0; i < part.user.size(); ++i) {
    const double t = time != nullptr ? number_at(*time, rows[i]) : 0;
    out.push_back({part.user[i], part.item[i], t, rows[i]});
  }
  return out;
}

/// The context of each user's last row, histories aside.
void Loader::fill_last_context() {
  std::vector<Moment> last(static_cast<std::size_t>(out_.user_count()), Moment{-1, 0, 0, -1});
  for (auto [part, rows] :
       {std::pair{&out_.train, &split_.train}, std::pair{&out_.validation, &split_.validation}}) {
    for (const Moment& m : moments_of(*part, *rows)) {
      Moment& l = last[static_cast<std::size_t>(m.user)];
      if (l.row < 0 || std::tie(m.time, m.row) > std::tie(l.time, l.row)) l = m;
    }
  }
  std::vector<std::int64_t> rows;
  for (const Moment& m : last) rows.push_back(m.row);
  for (std::size_t f = 0; f < out_.features.size(); ++f) {
    const FeatureData& feature = out_.features[f];
    if (!feature.context) continue;
    FeatureValues& values = out_.last_context.emplace_back();
    if (feature.config.kind == FeatureKind::sequence) continue;
    values = build_values(out_, f, source_of(feature.config, rows_, rows));
  }
}

/// What each interaction's user had before it, and what each user has in the end.
void Loader::fill_histories() {
  const bool any =
      std::any_of(config_.features.begin(), config_.features.end(),
                  [](const FeatureConfig& f) { return f.kind == FeatureKind::sequence; });
  if (!any) return;
  std::vector<Moment> all = moments_of(out_.train, split_.train);
  const std::vector<Moment> more = moments_of(out_.validation, split_.validation);
  all.insert(all.end(), more.begin(), more.end());
  const Histories histories(out_.user_count(), std::move(all));
  std::size_t c = 0;
  for (std::size_t f = 0; f < out_.features.size(); ++f) {
    if (!out_.features[f].context) continue;
    const std::size_t at = c++;
    if (out_.features[f].config.kind != FeatureKind::sequence) continue;
    const std::int64_t longest = out_.features[f].config.max_length;
    const std::vector<std::int32_t> rows = rows_of_items(out_, f);
    out_.last_context[at] = histories.last(longest, rows);
    for (auto [part, of] :
         {std::pair{&out_.train, &split_.train}, std::pair{&out_.validation, &split_.validation},
          std::pair{&out_.test, &split_.test}}) {
      if (part->context.empty()) continue;  // a test file is not read yet
      part->context[at] = histories.before(moments_of(*part, *of), longest, rows);
    }
  }
}

/// Rows of the longest list of each feature, wherever it stands.
void Loader::fill_longest() {
  std::size_t c = 0;
  for (FeatureData& f : out_.features) {
    std::vector<const FeatureValues*> all{&f.values};
    if (f.context) {
      for (const Interactions* part : {&out_.train, &out_.validation, &out_.test}) {
        all.push_back(&part->context[c]);
      }
      all.push_back(&out_.last_context[c++]);
    }
    for (const FeatureValues* v : all) {
      for (std::size_t i = 0; i < v->begin.size(); ++i) {
        f.longest = std::max(f.longest, v->end[i] - v->begin[i]);
      }
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
  const auto feed_values = [&](const FeatureValues& v) {
    feed(v.rows);
    feed(v.begin);
    feed(v.end);
    feed(v.weights);
    feed(v.numbers);
  };
  for (const Interactions* part : {&out_.train, &out_.validation, &out_.test}) {
    feed(part->user);
    feed(part->item);
    feed(part->weight);
    for (const auto& column : part->labels) feed(column);
    for (const FeatureValues& c : part->context) feed_values(c);
  }
  for (const Vocabulary* v : {&out_.users, &out_.items}) {
    for (const std::string& token : v->all_tokens()) feed(token);
  }
  for (const TableData& t : out_.tables) {
    for (const std::string& token : t.vocabulary.all_tokens()) feed(token);
    feed(t.boundaries);
  }
  for (const FeatureData& f : out_.features) feed_values(f.values);
  const XXH128_hash_t hash = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  out_.fingerprint = fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

ModelData Loader::load() {
  const auto start = std::chrono::steady_clock::now();
  collect_context_columns();
  read_side_tables();
  out_.labels = label_columns(config_);
  const InteractionReader reader(data_, context_requests_, out_.labels, source_);
  rows_ = reader.read(data_.interactions);
  out_.report.rows = rows_.rows;
  out_.report.filtered = rows_.rows_filtered;
  check_users();
  key_item_ = item_of_key(rows_, data_, items_);
  drop_duplicates();
  split_rows();
  build_entities();
  assemble_features(config_, {source_, users_, items_, rows_, context_columns_, split_}, out_);
  Outside users(out_.user_count()), items(out_.item_count());
  out_.train = encode(split_.train, users, items);
  out_.validation = encode(split_.validation, users, items);
  const bool apart = config_.split.method == SplitMethod::file;
  if (!apart) out_.test = encode(split_.test, users, items);
  fill_last_context();
  fill_histories();
  if (apart) {
    const Table test = reader.read_test(data_.test);
    out_.test = encode_interactions(test, all_rows(test), data_, out_,
                                    item_of_key(test, data_, items_), users, items);
  }
  out_.has_test = out_.test.size() > 0;
  fill_longest();
  fill_fingerprint();
  out_.report.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return std::move(out_);
}

}  // namespace

ModelData load_model_data(const Config& config, const DataReport& found,
                          const std::function<void(const std::string&)>& progress,
                          const DataSource& source) {
  return Loader(config, found, progress, source).load();
}

Interactions load_test_file(const Config& config, const std::string& path, const ModelData& model,
                            const DataSource& source) {
  const DataConfig& data = config.data;
  std::vector<ColumnRequest> context;
  for (const FeatureData& f : model.features) {
    if (f.context) request_columns(context, column_requests(f.config));
  }
  const bool join = data.item != key_column(data);
  SideTable items;
  if (join)
    items = read_side_table(data.items, data.items_key, data,
                            {{data.item, ColumnType::text, false}}, source);
  const Table table = InteractionReader(data, context, model.labels, source).read_test(path);
  Outside users(model.user_count()), outside(model.item_count());
  return encode_interactions(table, all_rows(table), data, model, item_of_key(table, data, items),
                             users, outside);
}

}  // namespace belfry
