// SPDX-License-Identifier: Apache-2.0
// What a model file can say, as plain structs with the defaults that give the user the best model
// (preset "tfrs" replaces them by TFRS's own). A program fills these structs itself; the TOML file only
// fills them too (config_toml.hpp).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/dataset.hpp"
#include "kernels/bias_act/bias_act.hpp"
#include "kernels/optimizer_step/optimizer_step.hpp"
#include "kernels/retrieval_softmax/retrieval_softmax.hpp"
#include "kernels/row_plan/row_plan.hpp"
#include "kernels/sequence_pool/sequence_pool.hpp"

namespace belfry {

/// "file:line:column" of a section, for errors that are found after parsing. Empty when set by a program.
/// Where a value was written is no part of the value: all places are equal.
struct SourcePlace : std::string {
  SourcePlace() = default;
  explicit SourcePlace(std::string text) : std::string(std::move(text)) {}
  SourcePlace& operator=(std::string text) {
    assign(std::move(text));
    return *this;
  }
  friend bool operator==(const SourcePlace&, const SourcePlace&) { return true; }
};

/// The same for every single key, by dotted name ("task.0.temperature", "network.1.inputs.0"). Ask by
/// place_of().
struct KeyPlaces {
  std::map<std::string, std::string> of;
  friend bool operator==(const KeyPlaces&, const KeyPlaces&) { return true; }
};

/// A number of rows, or a fraction of them.
struct Amount {
  double value = 0;
  bool fraction = false;
  bool operator==(const Amount&) const = default;
};

enum class CatalogueRule { automatic, trained, all };
enum class MissingRule { error, keep };

struct DataConfig {
  std::vector<std::string> interactions;
  std::string test;
  std::string format = "auto";
  /// Column names; empty: guessed (weight, label: unused).
  std::string user, item, weight, time, label;
  /// A column guessed to be a rating: parsed and checked, not used. No key of the file.
  bool time_is_integer = false;  ///< found in the data, no key of the file: bounds are then int64's
  std::string checked_weight;
  std::string items, items_key, users, users_key;
  std::string where;
  IdType id_type = IdType::text;
  bool id_type_given = false;        ///< else the format decides (adjacency, u.data: integer)
  std::string vocabulary = "train";  ///< "train", "catalogue", or a file of ids
  MissingRule on_missing = MissingRule::error;
  CatalogueRule catalogue = CatalogueRule::automatic;
  Duplicates duplicates = Duplicates::keep;
  SourcePlace place;
  bool operator==(const DataConfig&) const = default;
};

enum class SplitMethod { none, random, shuffle, temporal, leave_last_out, file };

struct SplitConfig {
  SplitMethod method = SplitMethod::none;
  std::optional<Amount> train, test;
  std::optional<Amount> validation;  ///< of train; default 0.05 when early stopping is on
  std::uint64_t seed = 42;
  SourcePlace place;
  bool operator==(const SplitConfig&) const = default;
};

enum class Side { query, candidate };
/// How a feature's values become a vector; see FeatureConfig for what each kind reads.
enum class FeatureKind {
  id,
  category,
  hashed,
  unified,
  number,
  bucket,
  text,
  list,
  vector,
  sequence
};
/// Keras's initialisers of the same names; fans are the rows (in) and columns (out) of a kernel.
enum class InitKind {
  uniform,
  normal,
  truncated_normal,
  glorot_uniform,
  zeros,
  ones,
  orthogonal,  ///< of a whole matrix; no initialiser of tables
  constant,
  glorot_normal,
  he_uniform,
  he_normal
};

struct InitConfig {
  InitKind kind = InitKind::normal;
  double low = -0.05, high = 0.05;  ///< uniform
  double mean = 0, stddev = 0.1;    ///< normal, truncated_normal (cut at 2 stddev)
  double value = 0;                 ///< constant
  bool operator==(const InitConfig&) const = default;
};

/// Keras's L1L2: l1 sum |w| + l2 sum w^2, once a step.
struct PenaltyConfig {
  double l1 = 0, l2 = 0;
  bool operator==(const PenaltyConfig&) const = default;
};
/// Which rows of a table a penalty counts: the distinct ones that a step looks up, or, as Keras does, all.
enum class PenaltyRows { batch, all };

/// Where numbers are cut into buckets: exactly one of the three is given.
struct BoundariesConfig {
  std::vector<double> values;  ///< ascending
  std::int64_t linspace = 0;   ///< so many, evenly from the smallest to the largest training value
  std::int64_t quantiles = 0;  ///< so many buckets of equally many training values
  bool operator==(const BoundariesConfig&) const = default;
};

struct FeatureConfig {
  std::string name;
  Side of = Side::query;
  FeatureKind kind = FeatureKind::id;
  std::string column;  ///< default: the user or item column for kind id, else the name
  std::int64_t dim = 64;
  std::string table;       ///< shared table; default: one of its own, named like the feature
  std::string vocabulary;  ///< id, category, list, sequence: file of its table's tokens, in order
  std::int64_t oov = 1;
  std::optional<InitConfig> init;           ///< default: by preset
  PenaltyConfig penalty;                    ///< of its table
  std::optional<PenaltyRows> penalty_rows;  ///< default: by preset
  std::optional<std::string>
      mask;                  ///< category, hashed, unified, list: the value that stands for none
  std::int64_t buckets = 0;  ///< hashed, unified: rows of a table
  std::int64_t salt = 0;     ///< hashed: of SipHash; 0: FarmHash
  std::int64_t chunks = 2;   ///< unified: lookups of `dim` columns each, side by side
  std::int64_t tables = 2;   ///< unified: tables that the chunks of all features take turns with
  bool normalise = false;    ///< number: (x - mean) / standard deviation
  std::optional<double> mean, variance;  ///< number: given; else those of the training rows
  BoundariesConfig boundaries;           ///< bucket
  std::int64_t max_tokens = 10'000;      ///< text: rows of its table, padding and unknown included
  std::int64_t ngrams = 1;               ///< text: runs of up to so many words are tokens too
  std::string separator = "|";           ///< list, vector, sequence: between the values of a field
  std::string weights;                   ///< list: column of as many numbers; empty: 1 each
  Pooling pooling = Pooling::mean;       ///< text, list, sequence
  std::int64_t max_length = 0;  ///< list, sequence: the last so many; 0: all (sequence: 50)
  SourcePlace place;
  bool operator==(const FeatureConfig&) const = default;
};

/// Whether a feature is looked up in an embedding table; the others are numbers as they stand.
constexpr bool has_table(FeatureKind kind) {
  return kind != FeatureKind::number && kind != FeatureKind::vector;
}
/// Whether a value is a list of table rows that are pooled.
constexpr bool is_list(FeatureKind kind) {
  return kind == FeatureKind::text || kind == FeatureKind::list || kind == FeatureKind::sequence;
}

enum class LayerKind {
  mlp,
  l2_normalize,
  cross,
  dot_interaction,
  layer_norm,
  dropout,
  gru,
  attention,
  sequence_pool,
  position_embedding,
  heads  ///< the last of the network "query": its output is so many vectors
};
/// Whether a layer works on the steps of a sequence instead of rows that stand alone.
constexpr bool reads_steps(LayerKind kind) {
  return kind == LayerKind::gru || kind == LayerKind::attention ||
         kind == LayerKind::sequence_pool || kind == LayerKind::position_embedding;
}
/// Whether it makes one row of them.
constexpr bool ends_steps(LayerKind kind) {
  return kind == LayerKind::gru || kind == LayerKind::sequence_pool;
}

struct LayerConfig {
  LayerKind kind = LayerKind::mlp;
  std::vector<std::int64_t> units;           ///< mlp; gru: one
  Activation activation = Activation::relu;  ///< mlp: of all but the last
  Activation final_activation = Activation::linear;
  bool use_bias = true;             ///< mlp, cross, gru, attention
  std::int64_t num_layers = 1;      ///< cross: stacked, all crossing with the first one's input
  std::int64_t projection_dim = 0;  ///< cross: of its low-rank form; 0: full rank
  double diag_scale = 0;            ///< cross
  Activation preactivation = Activation::linear;  ///< cross
  bool self_interaction = false;                  ///< dot-interaction
  bool skip_gather = false;                       ///< dot-interaction
  double epsilon = 1e-3;                          ///< layer-norm
  double rate = 0.1;                              ///< dropout
  std::int64_t count = 2;                         ///< heads
  // Of layers with kernels: penalties, and other initial values than the layer's own.
  PenaltyConfig penalty, bias_penalty;
  std::optional<InitConfig> kernel_init, bias_init;
  std::int64_t num_heads = 1;  ///< attention
  std::int64_t key_dim = 0;  ///< attention: columns of a head; 0: the input's width over num_heads
  bool causal = false;       ///< attention: a step attends to itself and earlier ones only
  bool residual = false;     ///< attention: its input is added to its output
  SequencePooling sequence_pooling = SequencePooling::mean;  ///< sequence-pool
  SourcePlace place;
  bool operator==(const LayerConfig&) const = default;
};

/// Width that a layer makes of `input` columns; parts: the widths of the network's inputs where the layer is
/// its first, else empty. 0: it cannot be (a dot-interaction over inputs of unequal width, or not the first).
std::int64_t output_width(const LayerConfig& layer, std::int64_t input,
                          const std::vector<std::int64_t>& parts);

struct NetworkConfig {
  std::string name;
  std::vector<std::string> inputs;  ///< features or other networks, concatenated
  std::vector<LayerConfig> layers;
  SourcePlace place;
  bool operator==(const NetworkConfig&) const = default;
};

enum class TaskKind { retrieval, ranking };
enum class Similarity { dot, cosine };
enum class SamplingCorrection { none, frequency };
enum class RetrievalLoss { in_batch_softmax, sampled_softmax };
/// Losses of a ranking task: of rows, or of lists of rows (kernels/ranking_loss, kernels/list_loss).
enum class RankingTaskLoss {
  mse,
  mae,
  huber,
  bce,
  bce_logits,
  pairwise_hinge,
  pairwise_logistic,
  softmax,
  list_mle,
  approx_ndcg
};
/// Whether a loss compares the rows of a list instead of judging each by itself.
constexpr bool is_listwise(RankingTaskLoss loss) {
  return loss >= RankingTaskLoss::pairwise_hinge;
}

struct NegativesConfig {
  bool in_batch = true;
  std::int64_t uniform = 0;     ///< extra negatives a step, drawn uniformly from the catalogue
  std::int64_t popularity = 0;  ///< extra negatives a step, drawn by training count
  bool operator==(const NegativesConfig&) const = default;
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
  bool mask_known_positives = false;    ///< the user's other training items leave the row too
  std::int64_t num_hard_negatives = 0;  ///< 0: all negatives are kept
  bool mean_reduction = true;
  // Of a ranking task.
  std::string score;  ///< the network, one column wide, whose output it is
  RankingTaskLoss ranking_loss = RankingTaskLoss::mse;
  std::string label;                  ///< column; default: data.label, else the weight's
  std::optional<double> label_above;  ///< label = 1 where the column is above, else 0
  double huber_delta = 1;
  std::string group_by;        ///< "user": lists of one user's rows; empty: rows
  std::int64_t list_size = 0;  ///< rows of a list, drawn from a user's
  std::int64_t lists_per_user = 10;
  SourcePlace place;
  bool operator==(const TaskConfig&) const = default;
};

enum class ScheduleKind {
  constant,
  exponential,
  cosine,
  inverse_time,
  polynomial,
  piecewise,
  cosine_restarts
};

/// How the learning rate changes with the step (schedule.hpp); the base rate is the group's.
struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::constant;
  double decay_steps = 0, decay_rate = 0;  ///< decay_steps: of the first period for cosine_restarts
  bool staircase = false;                  ///< exponential, inverse_time: whole periods only
  double alpha = 0;                        ///< cosine, cosine_restarts: floor as a fraction
  double warmup_target = 0;                ///< cosine: the top after a warm-up from the base rate
  double warmup_steps = 0;                 ///< cosine: length of the warm-up; 0: none
  double end_learning_rate = 0;            ///< polynomial
  double power = 1;                        ///< polynomial
  bool cycle = false;                      ///< polynomial
  double t_mul = 2, m_mul = 1;  ///< cosine_restarts: growth of the periods' length and height
  std::vector<double> boundaries, values;  ///< piecewise: one value more than boundaries
  bool operator==(const ScheduleConfig&) const = default;
};

struct OptimizerGroupConfig {
  std::string match = "*";   ///< glob over parameter names ("*.embedding", "movie_id.*")
  OptimizerOptions options;  ///< kind and constants (group number and rate are set by the engine)
  double learning_rate = 0.01;
  double initial_accumulator_value = 0.1;  ///< adagrad, rowwise-adagrad, ftrl, clippy-adagrad
  ScheduleConfig schedule;
  SourcePlace place;
  bool operator==(const OptimizerGroupConfig&) const = default;
};

struct OptimizerConfig {
  OptimizerGroupConfig main;
  std::vector<OptimizerGroupConfig> groups;  ///< the first whose match fits wins; else main
  std::optional<double> clipvalue, clipnorm, global_clipnorm;
  bool operator==(const OptimizerConfig&) const = default;
};

enum class ShuffleMode { epoch, once, none };

/// Where a device's batches come from. Results do not depend on it.
enum class DataPlacement {
  automatic,  ///< resident where the training data takes at most half of what the model leaves
  resident,   ///< the training data lies on the device, which makes its own batches
  streamed  ///< the host makes batches; chunks of them pass through pinned memory on a copy stream
};

struct EarlyStop {
  std::string metric = "ndcg@20";
  std::int64_t patience = 3;  ///< epochs without a better value
  bool operator==(const EarlyStop&) const = default;
};

struct TrainConfig {
  std::int64_t epochs = 30;
  std::int64_t batch_size = 1024;
  std::uint64_t seed = 42;
  ShuffleMode shuffle = ShuffleMode::epoch;
  bool drop_remainder = false;
  std::optional<EarlyStop> early_stop = EarlyStop{};
  Precision precision = Precision::fp32;  ///< bf16: tables in bf16, a GPU's loss on tensor cores
  DataPlacement device_data = DataPlacement::automatic;
  std::int64_t checkpoint_steps = 0;  ///< also every so many steps; 0: at each epoch's end alone
  std::int64_t keep_checkpoints = 2;
  SourcePlace place;
  bool operator==(const TrainConfig&) const = default;
};

struct EvaluateConfig {
  std::vector<std::string> metrics;  ///< empty: the default list
  bool exclude_seen = true;
  bool mask_validation = true;  ///< mask = "train+validation"
  SourcePlace place;
  bool operator==(const EvaluateConfig&) const = default;
};

struct IndexConfig {
  std::int64_t k = 10;
  std::string rank_by;  ///< a ranking task's network that orders what was retrieved; empty: none
  std::int64_t retrieve = 500;  ///< items that it orders
  bool operator==(const IndexConfig&) const = default;
};

struct OutputConfig {
  std::string dir;  ///< default runs/<name>
  bool operator==(const OutputConfig&) const = default;
};

struct Config {
  std::string name;    ///< default: stem of the model or data file
  std::string preset;  ///< "" or "tfrs"
  DataConfig data;
  SplitConfig split;
  std::vector<FeatureConfig> features;
  std::vector<NetworkConfig> networks;
  std::vector<TaskConfig> tasks;  ///< at least one
  OptimizerConfig optimizer;
  TrainConfig train;
  EvaluateConfig evaluate;
  IndexConfig index;
  OutputConfig output;
  KeyPlaces places;  ///< filled by the reader of model files
  bool operator==(const Config&) const = default;
};

/// The defaults of a preset ("" or "tfrs"), before any file or program says more: one retrieval task, no
/// features (id towers are filled in when the data's columns are known).
/// Error(usage) for a preset that does not exist.
Config default_config(const std::string& preset);

/// An optimizer of that kind with the preset's constants and the kind's own learning rate.
OptimizerGroupConfig default_optimizer(const std::string& preset, OptimizerKind kind);

/// Initialiser of embedding tables under a preset, and of dense kernels (glorot_uniform, zero bias).
InitConfig default_embedding_init(const std::string& preset);

/// The rows that a table's penalty counts under a preset.
PenaltyRows default_penalty_rows(const std::string& preset);

/// Whether a network starts with the steps of its one input, a list: [B T, dim], T the feature's max_length, a
/// step a row (kernels/core/steps.hpp), and a row a list again once a gru or sequence-pool has come. True
/// where any of its layers reads steps.
bool starts_with_steps(const NetworkConfig& network);
/// T of a feature that such a network reads (a sequence whose max_length is not given: 50); 0: none does.
std::int64_t steps_of(const Config& config, const FeatureConfig& feature);
/// The history that a sequence keeps where max_length is 0.
inline constexpr std::int64_t kDefaultSequenceLength = 50;

/// Features as they are looked up: a unified one stands there once a chunk.
std::vector<const FeatureConfig*> lookups(const Config& config);

/// Vectors that the query tower gives to a query: a score is the maximum over them. 1 without a heads layer.
std::int64_t query_heads(const Config& config);

/// The first retrieval task; nullptr: the model ranks only.
const TaskConfig* retrieval_task(const Config& config);

/// Where a dotted key was written: "file:line:column", "command line", the place of the nearest section
/// around it, or the key itself in a config that no file filled.
std::string place_of(const Config& config, const std::string& key);

}  // namespace belfry
