// SPDX-License-Identifier: Apache-2.0
#include "engine/config_schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "engine/error.hpp"
#include "engine/metrics.hpp"
#include "engine/nearest.hpp"

namespace belfry::schema {
namespace {

constexpr std::int64_t kWidest = 65536;  // of a vector: beyond it a typing error is more likely

const Words<IdType> kIdTypes{"id type", {{IdType::text, "text"}, {IdType::integer, "int"}}, {}};
const Words<MissingRule> kMissingRules{
    "rule", {{MissingRule::error, "error"}, {MissingRule::keep, "keep"}}, {}};
const Words<CatalogueRule> kCatalogueRules{"catalogue",
                                           {{CatalogueRule::automatic, "auto"},
                                            {CatalogueRule::trained, "trained"},
                                            {CatalogueRule::all, "all"}},
                                           {}};
const Words<Duplicates> kDuplicates{"rule",
                                    {{Duplicates::keep, "keep"},
                                     {Duplicates::first, "first"},
                                     {Duplicates::last, "last"},
                                     {Duplicates::error, "error"}},
                                    {}};
const Words<SplitMethod> kSplitMethods{"split method",
                                       {{SplitMethod::none, "none"},
                                        {SplitMethod::random, "random"},
                                        {SplitMethod::shuffle, "shuffle"},
                                        {SplitMethod::temporal, "temporal"},
                                        {SplitMethod::leave_last_out, "leave-last-out"},
                                        {SplitMethod::file, "file"}},
                                       {}};
const Words<Side> kSides{"side", {{Side::query, "query"}, {Side::candidate, "candidate"}}, {}};
const Words<FeatureKind> kFeatureKinds{
    "feature kind",
    {{FeatureKind::id, "id"}, {FeatureKind::category, "category"}},
    {"hashed", "unified", "number", "bucket", "text", "list", "vector", "sequence"}};
const Words<InitKind> kInitKinds{"initialiser",
                                 {{InitKind::uniform, "uniform"},
                                  {InitKind::normal, "normal"},
                                  {InitKind::truncated_normal, "truncated-normal"},
                                  {InitKind::glorot_uniform, "glorot-uniform"},
                                  {InitKind::zeros, "zeros"},
                                  {InitKind::ones, "ones"}},
                                 {}};
const Words<LayerKind> kLayerKinds{
    "layer kind",
    {{LayerKind::mlp, "mlp"}, {LayerKind::l2_normalize, "l2-normalize"}},
    {"cross", "dot-interaction", "gru", "attention", "heads"}};
const Words<Activation> kActivations{"activation",
                                     {{Activation::linear, "linear"},
                                      {Activation::relu, "relu"},
                                      {Activation::gelu, "gelu"},
                                      {Activation::tanh, "tanh"},
                                      {Activation::sigmoid, "sigmoid"},
                                      {Activation::elu, "elu"},
                                      {Activation::selu, "selu"},
                                      {Activation::softplus, "softplus"},
                                      {Activation::swish, "swish"}},
                                     {}};
const Words<TaskKind> kTaskKinds{"task kind", {{TaskKind::retrieval, "retrieval"}}, {"ranking"}};
const Words<RetrievalLoss> kLosses{
    "loss",
    {{RetrievalLoss::in_batch_softmax, "in-batch-softmax"},
     {RetrievalLoss::sampled_softmax, "sampled-softmax"}},
    {"full-softmax", "bpr", "ccl", "hinge", "bsl", "mse", "bce", "pairwise-hinge", "listmle"}};
const Words<Similarity> kSimilarities{
    "similarity", {{Similarity::cosine, "cosine"}, {Similarity::dot, "dot"}}, {}};
const Words<SamplingCorrection> kCorrections{
    "sampling correction",
    {{SamplingCorrection::frequency, "frequency"}, {SamplingCorrection::none, "none"}},
    {"streaming"}};
const Words<bool> kReductions{"reduction", {{true, "mean"}, {false, "sum"}}, {}};
const Words<bool> kMasks{"mask", {{true, "train+validation"}, {false, "train"}}, {}};
const Words<ShuffleMode> kShuffles{
    "shuffle mode",
    {{ShuffleMode::epoch, "epoch"}, {ShuffleMode::once, "once"}, {ShuffleMode::none, "none"}},
    {}};

const Words<Precision> kPrecisions{
    "precision", {{Precision::fp32, "fp32"}, {Precision::bf16, "bf16"}}, {}};
const Words<DataPlacement> kPlacements{"placement",
                                       {{DataPlacement::automatic, "auto"},
                                        {DataPlacement::resident, "resident"},
                                        {DataPlacement::streamed, "streamed"}},
                                       {}};

Field interactions(std::vector<std::string>& member) {
  Field f{"interactions", "the file of user-item rows, or an array of files of one form; required"};
  f.example = "\"ratings.csv\"";
  f.read = [&member](const Reader& r, const Scope& s, const toml::node& node) {
    if (node.is_array()) {
      texts("interactions", member, "").read(r, s, node);
      for (std::size_t i = 0; i < member.size(); ++i) {
        member[i] = r.resolve(member[i], (*node.as_array())[i]);
      }
    } else {
      std::string one;
      path("interactions", one, "").read(r, s, node);
      member = {one};
    }
  };
  f.print = [&member]() -> std::optional<std::string> {
    if (member.empty()) return std::nullopt;
    if (member.size() == 1) return toml_string(member.front());
    return texts("interactions", member, "").print();
  };
  f.check = [&member]() -> std::optional<Complaint> {
    for (const std::string& file : member) {
      if (file.empty()) return Complaint{"interactions", "must not hold an empty name"};
    }
    return std::nullopt;
  };
  return f;
}

Field format(std::string& member, std::string help) {
  Field f = text("format", member, std::move(help));
  f.check = [&member]() -> std::optional<Complaint> {
    static const std::vector<std::string> known = {
        "auto", "csv", "tsv", "jsonl", "movielens-100k", "movielens-1m", "recbole", "adjacency"};
    if (std::find(known.begin(), known.end(), member) != known.end()) return std::nullopt;
    return Complaint{"format", "unknown format " + toml_string(member), nearest_hint(member, known),
                     true};
  };
  return f;
}

Field id_type(DataConfig& c) {
  Field f = choice("id_type", c.id_type, kIdTypes, "how ids are compared (unset: by format)");
  f.example = "\"text\"";
  f.read = [&c, read = f.read](const Reader& r, const Scope& s, const toml::node& node) {
    read(r, s, node);
    c.id_type_given = true;
  };
  f.print = [&c, print = f.print] { return c.id_type_given ? print() : std::nullopt; };
  return f;
}

Field vocabulary(std::string& member) {
  Field f =
      path("vocabulary", member, "ids with a row: \"train\", \"catalogue\", or a file of ids");
  f.read = [&member](const Reader& r, const Scope& s, const toml::node& node) {
    text("vocabulary", member, "").read(r, s, node);
    if (member != "train" && member != "catalogue") member = r.resolve(member, node);
  };
  return f;
}

Field init(std::optional<InitConfig>& member) {
  Field f{"init", "initial values of the table (unset: by preset)"};
  f.example = "{ kind = \"uniform\", low = -0.05, high = 0.05 }";
  f.read = [&member](const Reader& r, const Scope& s, const toml::node& node) {
    InitConfig init;
    table(
        "init", "[feature.init]", [&init] { return fields(init); }, "")
        .read(r, s, node);
    member = init;
  };
  f.print = [&member] {
    return member ? std::optional(inline_text(fields(*member))) : std::nullopt;
  };
  f.check = [&member]() -> std::optional<Complaint> {
    if (!member) return std::nullopt;
    auto complaint = check_fields(fields(*member));
    if (complaint) complaint->at = "init." + complaint->at;
    return complaint;
  };
  return f;
}

Field layers(std::vector<LayerConfig>& member) {
  Field f{"layers", "applied in turn to the concatenated inputs; none: the concatenation itself"};
  f.read = [&member](const Reader& r, const Scope& s, const toml::node& node) {
    member.clear();
    read_tables(r, s, "layers", "[[network.layers]]", node,
                [&](std::size_t, const Scope& inner, const toml::table& t) {
                  LayerConfig layer;
                  read_table(r, inner, t, [&layer] { return fields(layer); });
                  layer.place = r.place(t);
                  member.push_back(std::move(layer));
                });
  };
  f.print = [&member] {
    std::vector<std::string> items;
    for (LayerConfig& layer : member) items.push_back(inline_text(fields(layer)));
    return std::optional(list_text(items));
  };
  f.check = [&member]() -> std::optional<Complaint> {
    for (std::size_t i = 0; i < member.size(); ++i) {
      auto complaint = check_fields(fields(member[i]));
      if (!complaint) continue;
      complaint->at = fmt::format("layers.{}.{}", i, complaint->at);
      return complaint;
    }
    return std::nullopt;
  };
  return f;
}

std::optional<Complaint> complain_metric(const std::string& at, const std::string& name) {
  if (parse_metric(name)) return std::nullopt;
  // The forms say K where a name has a number.
  const auto digit = [](unsigned char c) { return std::isdigit(c) != 0; };
  const auto first = std::find_if(name.begin(), name.end(), digit);
  const auto last = std::find_if_not(first, name.end(), digit);
  const std::string number(first, last);
  std::string form = std::string(name.begin(), first) + (number.empty() ? "" : "K") +
                     std::string(last, name.end());
  std::string near = nearest(form, metric_forms());
  const auto k = near.rfind('K');
  if (!number.empty() && k != std::string::npos) near.replace(k, 1, number);
  const bool same = near == name;  // the number is what is wrong
  std::string hint = same           ? "K is a number of items, at least 1"
                     : near.empty() ? fmt::format("known: {}", fmt::join(metric_forms(), ", "))
                                    : "did you mean \"" + near + "\"?";
  return Complaint{at, "unknown metric " + toml_string(name), hint, true};
}

Fields early_stop_fields(EarlyStop& c) {
  Field metric = text("metric", c.metric, "the validation metric that must improve");
  metric.check = [&c]() -> std::optional<Complaint> {
    auto complaint = complain_metric("metric", c.metric);
    if (complaint) return complaint;
    const MetricKind kind = parse_metric(c.metric)->kind;
    if (kind == MetricKind::coverage || kind == MetricKind::gini ||
        kind == MetricKind::top_k_accuracy) {
      return Complaint{"metric", toml_string(c.metric) + " cannot decide when to stop",
                       "take a ranking metric such as \"ndcg@20\"", true};
    }
    return std::nullopt;
  };
  return {metric, integer("patience", c.patience, 1, kMostInt, "epochs without a better value")};
}

Field early_stop(std::optional<EarlyStop>& member) {
  Field f{"early_stop", "stop when the validation metric no longer improves, or false"};
  f.read = [&member](const Reader& r, const Scope& s, const toml::node& node) {
    if (const auto* on = node.as_boolean()) {
      member = on->get() ? std::optional(EarlyStop{}) : std::nullopt;
      return;
    }
    if (!node.is_table())
      wrong_type(r, s, "early_stop", "false or a table { metric, patience }", node);
    EarlyStop stop;
    table(
        "early_stop", "[train.early_stop]", [&stop] { return early_stop_fields(stop); }, "")
        .read(r, s, node);
    member = stop;
  };
  f.print = [&member]() -> std::optional<std::string> {
    return member ? inline_text(early_stop_fields(*member)) : "false";
  };
  f.check = [&member]() -> std::optional<Complaint> {
    if (!member) return std::nullopt;
    auto complaint = check_fields(early_stop_fields(*member));
    if (complaint) complaint->at = "early_stop." + complaint->at;
    return complaint;
  };
  return f;
}

Field logs() {
  Field f{"logs", "what a run writes beside the model (metrics.jsonl always)"};
  f.read = [](const Reader& r, const Scope& s, const toml::node& node) {
    std::vector<std::string> words;
    texts("logs", words, "").read(r, s, node);
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i] == "jsonl") continue;
      const toml::node& at = node.is_array() ? (*node.as_array())[i] : node;
      refuse_word(r.place(at), "log", words[i], {"jsonl"}, {"tensorboard", "html"});
    }
  };
  f.print = [] { return std::optional<std::string>("[\"jsonl\"]"); };
  return f;
}

}  // namespace

Fields fields(DataConfig& c) {
  return {
      interactions(c.interactions),
      path("test", c.test, "a file of test rows of the same form", "\"test.csv\""),
      format(c.format,
             "\"auto\": csv, tsv, jsonl, movielens-100k, movielens-1m, recbole or adjacency, plain "
             "or .gz or "
             ".zst"),
      text("user", c.user, "column of the user id (unset: guessed)", "\"userId\""),
      text("item", c.item,
           "column of the item id (unset: guessed); may be a column of the items table",
           "\"movieId\""),
      text("weight", c.weight, "column of row weights (unset: every row counts the same)",
           "\"rating\""),
      text("time", c.time, "column of the row's time (unset: guessed)", "\"timestamp\""),
      not_yet("label", "only ranking tasks read it"),
      path("items", c.items, "table with one row an item", "\"movies.csv\""),
      text("items_key", c.items_key, "its column with the item id (unset: guessed)", "\"movieId\""),
      path("users", c.users, "table with one row a user", "\"users.csv\""),
      text("users_key", c.users_key, "its column with the user id (unset: guessed)", "\"userId\""),
      text("where", c.where, "rows to keep, COLUMN OPERATOR VALUE (unset: all)", "\"rating >= 4\""),
      id_type(c),
      vocabulary(c.vocabulary),
      choice("on_missing", c.on_missing, kMissingRules, "items without a row in the items table"),
      choice("catalogue", c.catalogue, kCatalogueRules, "the items that can be recommended"),
      choice("duplicates", c.duplicates, kDuplicates, "rows of the same user and item"),
  };
}

Fields fields(SplitConfig& c) {
  const bool sized = c.method == SplitMethod::random || c.method == SplitMethod::shuffle ||
                     c.method == SplitMethod::temporal;
  const std::string sizes = "method = \"random\", \"shuffle\" or \"temporal\"";
  return {
      kind(choice("method", c.method, kSplitMethods, "how test rows are chosen")),
      when(sized, sizes, amount("train", c.train, "rows, or fraction, that train", "0.9")),
      when(sized, sizes, amount("test", c.test, "rows, or fraction, that test", "0.1")),
      amount("validation", c.validation,
             "rows, or fraction, of the training rows that early stopping watches", "0.05"),
      seed("seed", c.seed, "of the draw"),
  };
}

Fields fields(InitConfig& c) {
  const bool normal = c.kind == InitKind::normal || c.kind == InitKind::truncated_normal;
  const bool uniform = c.kind == InitKind::uniform;
  const std::string of_uniform = "kind = \"uniform\"";
  const std::string of_normal = "kind = \"normal\" or \"truncated-normal\"";
  return {kind(choice("kind", c.kind, kInitKinds, "distribution")),
          when(uniform, of_uniform, real("low", c.low, kAnyReal, "lower end")),
          when(uniform, of_uniform, real("high", c.high, kAnyReal, "upper end")),
          when(normal, of_normal, real("mean", c.mean, kAnyReal, "mean")),
          when(normal, of_normal, real("stddev", c.stddev, kPositive, "standard deviation"))};
}

Fields fields(FeatureConfig& c) {
  return {
      text("name", c.name, "what networks call it; required"),
      choice("of", c.of, kSides, "the side that it describes"),
      kind(choice("kind", c.kind, kFeatureKinds, "how its values become a vector")),
      text("column", c.column,
           "its column (unset: the user or item column for an id, else the name)", "\"genres\""),
      integer("dim", c.dim, 1, kWidest, "width of its vector"),
      text("table", c.table,
           "embedding table, shared by all features that name it (unset: its own)", "\"genre\""),
      integer("oov", c.oov, 0, 1'000'000, "rows for values that training never saw"),
      init(c.init),
      not_yet("pooling"),
      not_yet("boundaries"),
      not_yet("normalise"),
      not_yet("max_tokens"),
      not_yet("max_length"),
  };
}

Fields fields(LayerConfig& c) {
  const bool mlp = c.kind == LayerKind::mlp;
  const std::string of_mlp = "kind = \"mlp\"";
  return {
      kind(choice("kind", c.kind, kLayerKinds, "what the layer does")),
      when(mlp, of_mlp, integers("units", c.units, 1, kWidest, "width of each dense layer")),
      when(mlp, of_mlp, choice("activation", c.activation, kActivations, "after all but the last")),
      when(mlp, of_mlp,
           choice("final_activation", c.final_activation, kActivations, "after the last")),
      when(mlp, of_mlp, flag("use_bias", c.use_bias, "whether dense layers add a bias")),
      not_yet("projection_dim"),
      not_yet("count"),
  };
}

Fields fields(NetworkConfig& c) {
  return {text("name", c.name, "\"query\" and \"candidate\" are the two towers; required"),
          texts("inputs", c.inputs, "features or other networks, concatenated; required"),
          layers(c.layers)};
}

Fields fields(TaskConfig& c) {
  NegativesConfig& n = c.negatives;
  const std::string ranking = "only ranking tasks read it";
  return {
      kind(choice("kind", c.kind, kTaskKinds, "what is learnt")),
      real("weight", c.weight, kNotNegative, "of this task's loss in the sum of all tasks"),
      choice("loss", c.loss, kLosses, "against what the true item is scored"),
      choice("similarity", c.similarity, kSimilarities, "of a user's and an item's vector"),
      real("temperature", c.temperature, kPositive,
           "scores are divided by it in the loss (unset with \"dot\": 1.0)"),
      table(
          "negatives", "[task.negatives]",
          [&n]() -> Fields {
            return {flag("in_batch", n.in_batch, ""),
                    integer("uniform", n.uniform, 0, kMostInt, ""),
                    integer("popularity", n.popularity, 0, kMostInt, "")};
          },
          "the batch's other items, and items drawn each step: uniformly, by training count"),
      choice("sampling_correction", c.sampling_correction, kCorrections,
             "take the log of an item's chance to be a negative from its score"),
      flag("remove_accidental_hits", c.remove_accidental_hits,
           "a negative that is the row's own item leaves the row"),
      flag("mask_known_positives", c.mask_known_positives, "so do the user's other training items"),
      integer("num_hard_negatives", c.num_hard_negatives, 0, kMostInt,
              "only the so many highest-scored negatives count; 0: all"),
      choice("reduction", c.mean_reduction, kReductions, "of the rows' losses"),
      not_yet("score", ranking),
      not_yet("label", ranking),
      not_yet("label_above", ranking),
      not_yet("group_by", ranking),
      not_yet("list_size", ranking),
  };
}

Fields fields(TrainConfig& c) {
  return {
      integer("epochs", c.epochs, 1, kMostInt, "passes over the training rows"),
      integer("batch_size", c.batch_size, 1, kMostInt, "rows a step"),
      seed("seed", c.seed, "of initial values, shuffling and negatives"),
      choice("shuffle", c.shuffle, kShuffles, "anew each epoch, once for all, or not at all"),
      flag("drop_remainder", c.drop_remainder, "leave out the last, smaller batch of an epoch"),
      choice("precision", c.precision, kPrecisions,
             "bf16 stores tables in half the memory; a GPU's loss then runs on tensor cores"),
      choice("device_data", c.device_data, kPlacements,
             "a GPU's training rows: in its memory, or passed through; the results are the same"),
      early_stop(c.early_stop),
      table(
          "checkpoint", "[train.checkpoint]",
          [&c]() -> Fields {
            return {integer("steps", c.checkpoint_steps, 0, kMostInt, ""),
                    integer("keep", c.keep_checkpoints, 1, kMostInt, "")};
          },
          "one at the end of each epoch, also every so many steps (0: no); so many are kept"),
  };
}

Fields fields(EvaluateConfig& c) {
  Field metrics = texts("metrics", c.metrics,
                        "such as \"recall@20\", \"ndcg@20\", \"mrr\"; []: the usual ones");
  metrics.check = [&c]() -> std::optional<Complaint> {
    for (std::size_t i = 0; i < c.metrics.size(); ++i) {
      auto complaint = complain_metric("metrics." + std::to_string(i), c.metrics[i]);
      if (complaint) return complaint;
    }
    return std::nullopt;
  };
  return {metrics,
          flag("exclude_seen", c.exclude_seen,
               "a user's training items leave the lists, here and in recommend"),
          choice("mask", c.mask_validation, kMasks, "the rows that count as seen"),
          fixed("context", "context", "last", {},
                "the query's context is that of the user's last training row")};
}

Fields fields(IndexConfig& c) {
  return {fixed("kind", "index kind", "brute-force", {"streaming", "hnsw", "ivf-flat", "ivf-pq"},
                "exact search over all items"),
          integer("k", c.k, 1, kMostInt, "items a list")};
}

Fields fields(OutputConfig& c) {
  return {path("dir", c.dir, "folder of the run (unset: runs/NAME)", "\"runs/mine\""), logs()};
}

}  // namespace belfry::schema
