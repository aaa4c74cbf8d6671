// SPDX-License-Identifier: Apache-2.0
// The models of tests/golden/trajectory.json as the engine's own configuration and data. Features are built
// from columns by the engine, as they are from files.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/feature_builder.hpp"
#include "engine/text_vectorizer.hpp"
#include "tests/support/golden.hpp"

namespace belfry::test {

/// Why it can hold the model, but not train it; empty: it can.
inline std::string missing_training(const Json& c) {
  static const std::set<std::string> known = {"sgd",     "adagrad", "adam",          "composite",
                                              "rmsprop", "ftrl",    "clippy_adagrad"};
  const auto name = c.at("params").at("optimizer").at("name").get<std::string>();
  return known.count(name) > 0 ? "" : "optimizer " + name;
}

/// By how much Keras's new Adam is slower than the engine's, 6e-6: it takes 1 - beta in float64 for the
/// moments, but of the beta that was rounded to float32 for their corrections. The engine and the legacy Adam
/// take the rounded beta for both, and the rounding cancels. A steep loss (dcn_*) shows it as 2e-4.
inline double new_adam_slowness(double beta_1, double beta_2) {
  const auto share = [](double beta) {
    return (1 - static_cast<double>(static_cast<float>(beta))) / (1 - beta);
  };
  return std::sqrt(share(beta_2)) / share(beta_1);
}

inline OptimizerGroupConfig optimizer_group(const Json& o, bool legacy) {
  OptimizerGroupConfig g;
  const auto name = o.at("name").get<std::string>();
  static const std::map<std::string, OptimizerKind> kinds = {
      {"sgd", OptimizerKind::sgd},   {"adagrad", OptimizerKind::adagrad},
      {"adam", OptimizerKind::adam}, {"rmsprop", OptimizerKind::rmsprop},
      {"ftrl", OptimizerKind::ftrl}, {"clippy_adagrad", OptimizerKind::clippy_adagrad}};
  g.options.kind = kinds.at(name);
  g.options.sparse = SparseUpdate::exact;
  g.options.epsilon = o.value("epsilon", 1e-7f);
  g.options.beta_1 = o.value("beta_1", 0.9f);
  g.options.beta_2 = o.value("beta_2", 0.999f);
  g.options.rho = o.value("rho", 0.9f);
  g.options.learning_rate_power = o.value("learning_rate_power", -0.5f);
  g.options.variable_relative_threshold = o.value("variable_relative_threshold", 0.1f);
  g.options.accumulator_relative_threshold = o.value("accumulator_relative_threshold", 0.0f);
  g.options.absolute_threshold = o.value("absolute_threshold", 1e-7f);
  g.options.clip_accumulator_update = o.value("clip_accumulator_update", false);
  g.options.use_standard_accumulator_update = o.value("use_standard_accumulator_update", false);
  g.learning_rate = o.at("learning_rate").get<double>();
  if (name == "adam" && !legacy) {
    g.learning_rate *= new_adam_slowness(o.value("beta_1", 0.9), o.value("beta_2", 0.999));
  }
  g.initial_accumulator_value = o.value("initial_accumulator", 0.1);
  return g;
}

inline std::vector<TaskConfig> tasks_of(const Json& c) {
  const Json& p = c.at("params");
  std::vector<TaskConfig> out;
  if (c.at("inputs").contains("train_rating")) {
    TaskConfig task;
    task.kind = TaskKind::ranking;
    task.score = "head";
    task.ranking_loss = RankingTaskLoss::mse;
    task.weight = p.value("rating_weight", 1.0);
    out.push_back(task);
  }
  if (c.at("expected").contains("test_rank")) {
    TaskConfig task;
    task.weight = p.value("retrieval_weight", 1.0);
    task.similarity = p.value("normalise", false) ? Similarity::cosine : Similarity::dot;
    task.temperature = p.value("temperature", 1.0);
    task.sampling_correction =
        p.value("sampling", false) ? SamplingCorrection::frequency : SamplingCorrection::none;
    task.remove_accidental_hits = p.value("remove_accidental_hits", false);
    task.num_hard_negatives = p.value("num_hard_negatives", 0);
    task.mean_reduction = p.value("reduction", "sum") == "mean";
    out.push_back(task);
  }
  return out;
}

/// The dense layers "<name>_dense0", "<name>_dense1", ... of a case over `inputs`; the last one is linear.
inline void add_mlp(const Json& c, const std::string& name, std::vector<std::string> inputs,
                    std::vector<NetworkConfig>& networks) {
  LayerConfig mlp;
  for (int i = 0;; ++i) {
    const std::string bias = "initial:" + name + "_dense" + std::to_string(i) + "_bias";
    if (!c.at("inputs").contains(bias)) break;
    mlp.units.push_back(c.at("inputs").at(bias).at("shape")[0].get<std::int64_t>());
  }
  if (mlp.units.empty()) return;
  NetworkConfig network;
  network.name = name;
  network.inputs = std::move(inputs);
  network.layers = {mlp};
  networks.push_back(network);
}

/// Networks bear the names of the golden weights: query, candidate, cross, head.
inline std::vector<NetworkConfig> networks_of(const Json& c) {
  const Json &in = c.at("inputs"), &p = c.at("params");
  std::vector<std::string> query = {"user"}, candidate = {"item"}, joint = {"user", "item"};
  if (in.contains("timestamp_mean")) query = {"user", "bucket", "stamp"};
  if (in.contains("text_vocabulary")) candidate = {"item", "text"};
  std::vector<NetworkConfig> out;
  add_mlp(c, "query", query, out);
  if (in.contains("initial:gru_kernel")) {
    NetworkConfig network;
    network.name = "query";
    network.inputs = {"history"};
    LayerConfig gru;
    gru.kind = LayerKind::gru;
    gru.units = {in.at("initial:gru_recurrent_kernel").at("shape")[0].get<std::int64_t>()};
    network.layers = {gru};
    out.push_back(network);
  }
  add_mlp(c, "candidate", candidate, out);
  if (in.contains("initial:cross_bias")) {
    NetworkConfig network;
    network.name = "cross";
    network.inputs = {"user", "item", "genre", "bucket"};
    LayerConfig cross;
    cross.kind = LayerKind::cross;
    cross.diag_scale = p.at("diag_scale").get<double>();
    cross.penalty.l2 = p.value("l2", 0.0);
    if (!p.at("projection_dim").is_null()) {
      cross.projection_dim = p.at("projection_dim").get<std::int64_t>();
    }
    network.layers = {cross};
    out.push_back(network);
    joint = {"cross"};
  }
  add_mlp(c, "head", joint, out);
  return out;
}

inline Config config_of(const Json& c) {
  const Json& p = c.at("params");
  Config config;
  if (missing_training(c).empty()) {
    const Json& o = p.at("optimizer");
    if (o.at("name") == "composite") {  // made of legacy optimizers
      config.optimizer.main = optimizer_group(o.at("others"), true);
      config.optimizer.groups.push_back(optimizer_group(o.at("tables"), true));
      config.optimizer.groups.back().match = "*.embedding";
    } else {
      config.optimizer.main = optimizer_group(o, false);
    }
  }
  config.tasks = tasks_of(c);
  config.networks = networks_of(c);
  config.train.batch_size = p.at("batch").get<std::int64_t>();
  config.train.epochs = p.at("epochs").get<std::int64_t>();
  config.train.shuffle = ShuffleMode::none;
  config.train.early_stop.reset();
  return config;
}

/// Rows of a case, "train" or "test", as the training data of a model.
class TrajectoryData {
 public:
  TrajectoryData(const Json& c, const std::string& part) : in_(c.at("inputs")), part_(part) {
    fill_entities();
    fill_interactions();
    if (has("history")) {
      add_history(c.at("params").at("mask").get<bool>());
    } else {
      add_table("user", Side::query, FeatureKind::id, "user_vocabulary", entities_);
    }
    add_table("item", Side::candidate, FeatureKind::id, "title_vocabulary", titles_);
    if (in_.contains("text_vocabulary")) add_text();
    if (in_.contains("genre_vocabulary")) {
      add_table("genre", Side::candidate, FeatureKind::category, "genre_vocabulary", genres());
    }
    if (in_.contains("bucket_boundaries")) add_bucket();
    if (in_.contains("timestamp_mean")) add_stamp();
  }
  ModelData take() { return std::move(d_); }

 private:
  std::vector<std::string> text(const std::string& name) const { return tensor(in_.at(name)).text; }
  bool has(const std::string& column) const { return in_.contains(part_ + "_" + column); }
  std::vector<float> numbers(const std::string& column) const {
    return tensor(in_.at(part_ + "_" + column)).floats();
  }

  /// Entities are all users and titles that occur, known to the tables or not.
  void fill_entities() {
    titles_ = text("title_vocabulary");
    std::set<std::string> all;
    for (const char* p : {"user_vocabulary", "train_user_id", "test_user_id"}) {
      if (!in_.contains(p)) continue;
      for (const std::string& u : text(p)) all.insert(u);
    }
    if (all.empty()) all.insert("anyone");  // a model of histories names no users
    entities_.assign(all.begin(), all.end());
    VocabularyOptions none;
    none.oov = 0;
    d_.users = Vocabulary(entities_, std::vector<std::int64_t>(entities_.size(), 1), none);
    d_.items = Vocabulary(titles_, std::vector<std::int64_t>(titles_.size(), 1), none);
    d_.item_counts = d_.items.counts();
  }

  void fill_interactions() {
    if (has("user_id")) {
      for (const std::string& u : text(part_ + "_user_id")) {
        d_.train.user.push_back(static_cast<std::int32_t>(*d_.users.token_index(u)));
      }
    } else {
      d_.train.user.assign(text(part_ + "_title").size(), 0);
    }
    for (const std::string& t : text(part_ + "_title")) {
      d_.train.item.push_back(static_cast<std::int32_t>(*d_.items.token_index(t)));
    }
    if (has("weight")) d_.train.weight = numbers("weight");
    if (has("rating")) d_.train.labels = {numbers("rating")};
    if (has("sampling_probability")) {
      d_.item_probability.assign(titles_.size(), 1.0f);
      const std::vector<float> p = numbers("sampling_probability");
      for (std::size_t i = 0; i < p.size(); ++i)
        d_.item_probability[static_cast<std::size_t>(d_.train.item[i])] = p[i];
    }
  }

  /// The genre of each title, from the rows that name both; "" where none does.
  std::vector<std::string> genres() const {
    std::map<std::string, std::string> of;
    for (const std::string p : {"train", "test"}) {
      const auto title = text(p + "_title"), genre = text(p + "_genre");
      for (std::size_t i = 0; i < title.size(); ++i) of[title[i]] = genre[i];
    }
    std::vector<std::string> out;
    for (const std::string& t : titles_) out.push_back(of[t]);
    return out;
  }

  static Column text_column(const std::vector<std::string>& values) {
    Column out;
    out.dictionary = std::make_shared<Dictionary>();
    for (const std::string& v : values) out.codes.push_back(out.dictionary->add(v));
    return out;
  }
  Column timestamps() const {
    Column out;
    out.type = ColumnType::real;
    // TFRS reads int64 timestamps as float32: steps of 64 seconds.
    for (const float x : numbers("timestamp")) out.reals.push_back(x);
    return out;
  }
  static FeatureSource all_of(const Column& column) {
    FeatureSource out{&column, nullptr, {}};
    const std::size_t n =
        column.type == ColumnType::text ? column.codes.size() : column.reals.size();
    for (std::size_t i = 0; i < n; ++i) out.rows.push_back(static_cast<std::int64_t>(i));
    return out;
  }

  FeatureData& feature(const std::string& name, Side side, FeatureKind kind) {
    FeatureData& f = d_.features.emplace_back();
    f.config.name = name;
    f.config.of = side;
    f.config.kind = kind;
    return f;
  }
  TableData& table_of_last(const std::string& name) {
    d_.features.back().table = static_cast<int>(d_.tables.size());
    TableData& t = d_.tables.emplace_back();
    t.name = name;
    t.dim = in_.at("initial:" + name + "_table").at("shape")[1].get<std::int64_t>();
    return t;
  }
  FeatureValues values_of_last(const Column& column) const {
    return build_values(d_, d_.features.size() - 1, all_of(column));
  }

  /// A table as by Keras's StringLookup; one value an entity.
  void add_table(const std::string& name, Side side, FeatureKind kind,
                 const std::string& vocabulary, const std::vector<std::string>& values) {
    feature(name, side, kind);
    table_of_last(name).vocabulary = Vocabulary(text(vocabulary), {}, {});
    d_.features.back().values = values_of_last(text_column(values));
  }

  /// The words of titles, learned from all of them.
  void add_text() {
    FeatureData& f = feature("text", Side::candidate, FeatureKind::text);
    f.config.max_tokens = in_.at("initial:text_table").at("shape")[0].get<std::int64_t>();
    const Column column = text_column(titles_);
    TokenCounts counts;
    count_tokens(f.config, all_of(column), counts);
    table_of_last("text").vocabulary =
        Vocabulary::adapt(std::move(counts.list), vocabulary_options(text_options(f.config)));
    f.values = values_of_last(column);
    const Tensor tokens = tensor(in_.at("title_tokens"));  // padded with row 0
    const auto width = static_cast<std::size_t>(tokens.cols());
    std::vector<double> padded(titles_.size() * width);
    for (std::size_t i = 0; i < titles_.size(); ++i) {
      const std::int64_t n = f.values.end[i] - f.values.begin[i];
      ASSERT_LE(n, tokens.cols());
      f.longest = std::max(f.longest, n);
      std::copy_n(f.values.rows.begin() + f.values.begin[i], n,
                  padded.begin() + static_cast<std::ptrdiff_t>(i * width));
    }
    EXPECT_EQ(padded, tokens.data) << "rows of the titles' words";
  }

  /// Padded rows of titles: without a mask padding is a value like others, the row of unknown titles.
  void add_history(bool mask) {
    FeatureData& f = feature("history", Side::query, FeatureKind::sequence);
    f.context = true;
    const Tensor padded = tensor(in_.at(part_ + "_history"));
    f.steps = f.longest = f.config.max_length = padded.cols();
    VocabularyOptions options;
    if (mask) options.mask_token = "";
    table_of_last("history").vocabulary = Vocabulary(titles_, {}, options);
    FeatureValues& values = d_.train.context.emplace_back();
    for (std::size_t i = 0; i < padded.data.size(); ++i) {
      const auto row = static_cast<std::int32_t>(padded.data[i]);
      if (i % static_cast<std::size_t>(f.steps) == 0) {
        values.begin.push_back(static_cast<std::int64_t>(values.rows.size()));
        values.end.push_back(values.begin.back());
      }
      if (mask && row == 0) continue;
      values.rows.push_back(mask ? row + 1 : row);
      ++values.end.back();
    }
  }

  void add_bucket() {
    feature("bucket", Side::query, FeatureKind::bucket).context = true;
    TableData& t = table_of_last("bucket");
    t.boundaries = tensor(in_.at("bucket_boundaries")).floats();
    t.buckets = static_cast<std::int64_t>(t.boundaries.size()) + 1;
    d_.train.context.push_back(values_of_last(timestamps()));
    if (part_ != "train" || !in_.contains("train_bucket")) return;
    const FeatureValues& values = d_.train.context.back();
    const std::vector<double> rows(values.rows.begin(), values.rows.end());
    EXPECT_EQ(rows, tensor(in_.at("train_bucket")).data) << "buckets of the timestamps";
  }

  void add_stamp() {
    FeatureData& f = feature("stamp", Side::query, FeatureKind::number);
    f.context = true;
    f.width = 1;
    f.config.mean = number(in_.at("timestamp_mean"));
    f.config.variance = number(in_.at("timestamp_variance"));
    const Column column = timestamps();
    learn_scale(f, all_of(column));
    d_.train.context.push_back(values_of_last(column));
    if (part_ != "train") return;
    const std::vector<float>& x = d_.train.context.back().numbers;
    expect_close({x.begin(), x.end()}, tensor(in_.at("train_normalised_timestamp")).data, 1e-6,
                 1e-6, "normalised timestamps");
  }

  const Json& in_;
  std::string part_;
  std::vector<std::string> entities_, titles_;
  ModelData d_;
};

inline ModelData data_of(const Json& c, const std::string& part) {
  return TrajectoryData(c, part).take();
}

/// Golden name of a parameter of the engine: "query.1.kernel" is "query_dense1_kernel", "cross.0.0.bias"
/// is "cross_bias", of a GRU "query.0.recurrent" "gru_recurrent_kernel".
inline std::string golden_name(const std::string& name, bool low_rank, bool gru) {
  const std::size_t a = name.find('.'), b = name.rfind('.');
  const std::string first = name.substr(0, a), last = name.substr(b + 1);
  if (last == "embedding") return first + "_table";
  if (gru) return last == "recurrent" ? "gru_recurrent_kernel" : "gru_" + last;
  if (first != "cross") return first + "_dense" + name.substr(a + 1, b - a - 1) + "_" + last;
  if (last == "projection") return "cross_kernel_u";
  return "cross_" + last + (low_rank && last == "kernel" ? "_v" : "");
}

}  // namespace belfry::test
