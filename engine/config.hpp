// SPDX-License-Identifier: Apache-2.0
// What a model file can say, as plain structs with the defaults that give the user the best model
// (preset "tfrs" replaces them by TFRS's own). A program fills these structs itself; the TOML file only
// fills them too (config_toml.hpp).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/dataset.hpp"
#include "kernels/bias_act/bias_act.hpp"
#include "kernels/optimizer_step/optimizer_step.hpp"

namespace belfry {

/// "file:line:column" of a key, for errors that are found after parsing. Empty when set by a program.
using SourcePlace = std::string;

/// A number of rows, or a fraction of them.
struct Amount {
  double value = 0;
  bool fraction = false;
};

enum class CatalogueRule { automatic, trained, all };
enum class MissingRule { error, keep };

struct DataConfig {
  std::vector<std::string> interactions;
  std::string test;
  std::string format = "auto";
  std::string user, item, weight, time, label;  ///< column names; empty: guessed (weight, label: unused)
  std::string items, items_key, users, users_key;
  std::string where;
  IdType id_type = IdType::text;
  bool id_type_given = false;                   ///< else the format decides (adjacency, u.data: integer)
  std::string vocabulary = "train";             ///< "train", "catalogue", or a file of ids
  MissingRule on_missing = MissingRule::error;
  CatalogueRule catalogue = CatalogueRule::automatic;
  Duplicates duplicates = Duplicates::keep;
  SourcePlace place;
};

enum class SplitMethod { none, random, shuffle, temporal, leave_last_out, file };

struct SplitConfig {
  SplitMethod method = SplitMethod::none;
  std::optional<Amount> train, test;
  std::optional<Amount> validation;  ///< of train; default 0.05 when early stopping is on
  std::uint64_t seed = 42;
  SourcePlace place;
};

enum class Side { query, candidate };
enum class FeatureKind { id, category };
enum class InitKind { uniform, normal, truncated_normal, glorot_uniform, zeros, ones };

struct InitConfig {
  InitKind kind = InitKind::normal;
  double low = -0.05, high = 0.05;  ///< uniform
  double mean = 0, stddev = 0.1;    ///< normal, truncated_normal (cut at 2 stddev)
};

struct FeatureConfig {
  std::string name;
  Side of = Side::query;
  FeatureKind kind = FeatureKind::id;
  std::string column;               ///< default: the user or item column for kind id, else the name
  std::int64_t dim = 64;
  std::string table;                ///< shared table; default: one of its own, named like the feature
  std::int64_t oov = 1;
  std::optional<InitConfig> init;   ///< default: by preset
  SourcePlace place;
};

enum class LayerKind { mlp, l2_normalize };

struct LayerConfig {
  LayerKind kind = LayerKind::mlp;
  std::vector<std::int64_t> units;
  Activation activation = Activation::relu;          ///< of all but the last
  Activation final_activation = Activation::linear;
  bool use_bias = true;
  SourcePlace place;
};

struct NetworkConfig {
  std::string name;
  std::vector<std::string> inputs;  ///< features or other networks, concatenated
  std::vector<LayerConfig> layers;
  SourcePlace place;
};

enum class TaskKind { retrieval, ranking };
enum class Similarity { dot, cosine };
enum class SamplingCorrection { none, frequency };
enum class RetrievalLoss { in_batch_softmax, sampled_softmax };

struct NegativesConfig {
  bool in_batch = true;
  std::int64_t uniform = 0;      ///< extra negatives a step, drawn uniformly from the catalogue
  std::int64_t popularity = 0;   ///< extra negatives a step, drawn by training count
};

struct TaskConfig {
  TaskKind kind = TaskKind::retrieval;
  double weight = 1.0;
  RetrievalLoss loss = RetrievalLoss::in_batch_softmax;
  Similarity similarity = Similarity::cosine;
  double temperature = 0.15;
  NegativesConfig negatives;
  SamplingCorrection sampling_correction = SamplingCorrection::frequency;
  bool remove_accidental_hits = true;
  bool mask_known_positives = false;   ///< the user's other training items leave the row too
  std::int64_t num_hard_negatives = 0; ///< 0: all negatives are kept
  bool mean_reduction = true;
  SourcePlace place;
};

enum class ScheduleKind { constant, exponential, cosine, inverse_time, polynomial, piecewise };

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::constant;
  double decay_steps = 0, decay_rate = 0;
  bool staircase = false;
  double alpha = 0;                  ///< cosine: floor as a fraction
  double warmup_target = 0, warmup_steps = 0;  ///< cosine with warm-up
  double end_learning_rate = 0, power = 1;     ///< polynomial
  bool cycle = false;
  std::vector<double> boundaries, values;      ///< piecewise
};

struct OptimizerGroupConfig {
  std::string match = "*";           ///< glob over parameter names ("*.embedding", "movie_id.*")
  OptimizerOptions options;          ///< kind and constants (group number and rate are set by the engine)
  double learning_rate = 0.01;
  double initial_accumulator_value = 0.1;  ///< adagrad, rowwise-adagrad
  ScheduleConfig schedule;
  SourcePlace place;
};

struct OptimizerConfig {
  OptimizerGroupConfig main;
  std::vector<OptimizerGroupConfig> groups;  ///< the first whose match fits wins; else main
  std::optional<double> clipvalue, clipnorm, global_clipnorm;
};

enum class ShuffleMode { epoch, once, none };

struct EarlyStop {
  std::string metric = "ndcg@20";
  std::int64_t patience = 3;         ///< epochs without a better value
};

struct TrainConfig {
  std::int64_t epochs = 30;
  std::int64_t batch_size = 1024;
  std::uint64_t seed = 42;
  ShuffleMode shuffle = ShuffleMode::epoch;
  bool drop_remainder = false;
  std::optional<EarlyStop> early_stop = EarlyStop{};
  std::int64_t checkpoint_steps = 0;  ///< also every so many steps; 0: at the end of each epoch alone
  std::int64_t keep_checkpoints = 2;
  SourcePlace place;
};

struct EvaluateConfig {
  std::vector<std::string> metrics;   ///< empty: the default list
  bool exclude_seen = true;
  bool mask_validation = true;        ///< mask = "train+validation"
  SourcePlace place;
};

struct IndexConfig {
  std::int64_t k = 10;
};

struct OutputConfig {
  std::string dir;                    ///< default runs/<name>
};

struct Config {
  std::string name;                   ///< default: stem of the model or data file
  std::string preset;                 ///< "" or "tfrs"
  DataConfig data;
  SplitConfig split;
  std::vector<FeatureConfig> features;
  std::vector<NetworkConfig> networks;
  std::vector<TaskConfig> tasks;      ///< at least one
  OptimizerConfig optimizer;
  TrainConfig train;
  EvaluateConfig evaluate;
  IndexConfig index;
  OutputConfig output;
};

/// The defaults of a preset ("" or "tfrs"), before any file or program says more: one retrieval task, no
/// features (id towers are filled in when the data's columns are known).
Config default_config(const std::string& preset);

/// Initialiser of embedding tables under a preset, and of dense kernels (glorot_uniform, zero bias).
InitConfig default_embedding_init(const std::string& preset);

}  // namespace belfry
