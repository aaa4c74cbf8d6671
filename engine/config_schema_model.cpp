// SPDX-License-Identifier: Apache-2.0
// The keys of features, networks and tasks; the other sections are in config_schema.cpp.
#include <fmt/format.h>

#include <algorithm>

#include "engine/config_schema.hpp"
#include "engine/error.hpp"

namespace belfry::schema {
namespace {

constexpr std::int64_t kWidest = 65536;   // of a vector: beyond it a typing error is more likely
constexpr std::int64_t kLongest = 65536;  // of a list

const Words<Side> kSides{"side", {{Side::query, "query"}, {Side::candidate, "candidate"}}, {}};
const Words<FeatureKind> kFeatureKinds{"feature kind",
                                       {{FeatureKind::id, "id"},
                                        {FeatureKind::category, "category"},
                                        {FeatureKind::hashed, "hashed"},
                                        {FeatureKind::unified, "unified"},
                                        {FeatureKind::number, "number"},
                                        {FeatureKind::bucket, "bucket"},
                                        {FeatureKind::text, "text"},
                                        {FeatureKind::list, "list"},
                                        {FeatureKind::vector, "vector"},
                                        {FeatureKind::sequence, "sequence"}},
                                       {}};
const Words<Pooling> kPoolings{
    "pooling", {{Pooling::mean, "mean"}, {Pooling::sum, "sum"}, {Pooling::sqrtn, "sqrtn"}}, {}};
const Words<InitKind> kInitKinds{"initialiser",
                                 {{InitKind::uniform, "uniform"},
                                  {InitKind::normal, "normal"},
                                  {InitKind::truncated_normal, "truncated-normal"},
                                  {InitKind::glorot_uniform, "glorot-uniform"},
                                  {InitKind::zeros, "zeros"},
                                  {InitKind::ones, "ones"}},
                                 {}};
const Words<LayerKind> kLayerKinds{"layer kind",
                                   {{LayerKind::mlp, "mlp"},
                                    {LayerKind::l2_normalize, "l2-normalize"},
                                    {LayerKind::cross, "cross"},
                                    {LayerKind::dot_interaction, "dot-interaction"},
                                    {LayerKind::layer_norm, "layer-norm"},
                                    {LayerKind::dropout, "dropout"}},
                                   {"gru", "attention", "heads"}};
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
const Words<TaskKind> kTaskKinds{
    "task kind", {{TaskKind::retrieval, "retrieval"}, {TaskKind::ranking, "ranking"}}, {}};
const Words<RetrievalLoss> kLosses{"loss",
                                   {{RetrievalLoss::in_batch_softmax, "in-batch-softmax"},
                                    {RetrievalLoss::sampled_softmax, "sampled-softmax"}},
                                   {"full-softmax", "bpr", "ccl", "hinge", "bsl"}};
const Words<RankingTaskLoss> kRankingLosses{
    "loss",
    {{RankingTaskLoss::mse, "mse"},
     {RankingTaskLoss::mae, "mae"},
     {RankingTaskLoss::huber, "huber"},
     {RankingTaskLoss::bce, "bce"},
     {RankingTaskLoss::bce_logits, "bce-logits"},
     {RankingTaskLoss::pairwise_hinge, "pairwise-hinge"},
     {RankingTaskLoss::pairwise_logistic, "pairwise-logistic"},
     {RankingTaskLoss::softmax, "softmax"},
     {RankingTaskLoss::list_mle, "listmle"},
     {RankingTaskLoss::approx_ndcg, "approx-ndcg"}},
    {}};
const Words<Similarity> kSimilarities{
    "similarity", {{Similarity::cosine, "cosine"}, {Similarity::dot, "dot"}}, {}};
const Words<SamplingCorrection> kCorrections{
    "sampling correction",
    {{SamplingCorrection::frequency, "frequency"}, {SamplingCorrection::none, "none"}},
    {"streaming"}};
const Words<bool> kReductions{"reduction", {{true, "mean"}, {false, "sum"}}, {}};

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

Fields boundaries_fields(BoundariesConfig& c) {
  return {integer("linspace", c.linspace, 0, kMostInt,
                  "so many, evenly from the smallest to the largest training value"),
          integer("quantiles", c.quantiles, 0, kMostInt,
                  "between so many buckets of equally many training values")};
}

/// A list of numbers, or how they are found.
Field boundaries(BoundariesConfig& c) {
  Field f{"boundaries", "where numbers are cut: a list, or { linspace = N } or { quantiles = N }"};
  f.example = "{ quantiles = 100 }";
  f.read = [&c](const Reader& r, const Scope& s, const toml::node& node) {
    c = {};
    if (node.is_array()) return reals("boundaries", c.values, "").read(r, s, node);
    table(
        "boundaries", "[feature.boundaries]", [&c] { return boundaries_fields(c); }, "")
        .read(r, s, node);
  };
  f.print = [&c]() -> std::optional<std::string> {
    if (!c.values.empty()) return reals("boundaries", c.values, "").print();
    if (c.linspace > 0) return fmt::format("{{ linspace = {} }}", c.linspace);
    if (c.quantiles > 0) return fmt::format("{{ quantiles = {} }}", c.quantiles);
    return std::nullopt;
  };
  f.check = [&c] { return reals("boundaries", c.values, "").check(); };
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

Fields retrieval_fields(TaskConfig& c) {
  NegativesConfig& n = c.negatives;
  return {
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
  };
}

Fields ranking_fields(TaskConfig& c) {
  return {
      text("score", c.score, "the network, one column wide, whose output it is; required",
           "\"rating\""),
      choice("loss", c.ranking_loss, kRankingLosses, "between score and label"),
      text("label", c.label, "column that is learnt (unset: data.label, or the rating)",
           "\"rating\""),
      real("label_above", c.label_above, kAnyReal, "learn 1 where the column is above it, else 0",
           "3.5"),
      real("huber_delta", c.huber_delta, kPositive, "huber: where the square turns into a line"),
      text("group_by", c.group_by, "\"user\": train on lists of one user's rows", "\"user\""),
      integer("list_size", c.list_size, 0, 1024, "rows of a list"),
      integer("lists_per_user", c.lists_per_user, 1, kMostInt, "lists drawn of each user's rows"),
      real("temperature", c.temperature, kPositive,
           "losses of lists: scores are divided by it (unset: 1.0)"),
  };
}

}  // namespace

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
  const FeatureKind k = c.kind;
  const auto only = [&](bool applies, const char* kinds, Field f) {
    return when(applies, kinds, std::move(f));
  };
  const bool named = k == FeatureKind::id || k == FeatureKind::category || k == FeatureKind::list ||
                     k == FeatureKind::sequence;
  return {
      text("name", c.name, "what networks call it; required"),
      choice("of", c.of, kSides, "the side that it describes"),
      kind(choice("kind", c.kind, kFeatureKinds, "how its values become a vector")),
      text("column", c.column,
           "its column (unset: the user or item column for an id, else the name)", "\"genres\""),
      only(k != FeatureKind::number, "a table or a vector",
           integer("dim", c.dim, 1, kWidest, "width of its vector")),
      only(has_table(k), "an embedding table",
           text("table", c.table,
                "embedding table, shared by all features that name it (unset: its own)",
                "\"genre\"")),
      only(named, "a vocabulary",
           integer("oov", c.oov, 0, 1'000'000, "rows for values that training never saw")),
      only(has_table(k), "an embedding table", init(c.init)),
      only(k == FeatureKind::hashed || k == FeatureKind::unified,
           "kind = \"hashed\" or \"unified\"",
           integer("buckets", c.buckets, 0, kMostInt, "rows of its table; required")),
      only(k == FeatureKind::hashed, "kind = \"hashed\"",
           integer("salt", c.salt, 0, std::numeric_limits<std::int64_t>::max(),
                   "of SipHash; 0: FarmHash without salt")),
      only(k == FeatureKind::unified, "kind = \"unified\"",
           integer("chunks", c.chunks, 1, 64, "lookups of dim columns each, side by side")),
      only(k == FeatureKind::unified, "kind = \"unified\"",
           integer("tables", c.tables, 1, 64, "tables that all chunks take turns with")),
      only(k == FeatureKind::number, "kind = \"number\"",
           flag("normalise", c.normalise, "(x - mean) / standard deviation")),
      only(k == FeatureKind::number, "kind = \"number\"",
           real("mean", c.mean, kAnyReal, "(unset: of the training rows)", "0.0")),
      only(k == FeatureKind::number, "kind = \"number\"",
           real("variance", c.variance, kNotNegative, "(unset: of the training rows)", "1.0")),
      only(k == FeatureKind::bucket, "kind = \"bucket\"", boundaries(c.boundaries)),
      only(k == FeatureKind::text, "kind = \"text\"",
           integer("max_tokens", c.max_tokens, 2, kMostInt,
                   "rows of its table: padding, unknown words, then the most frequent")),
      only(k == FeatureKind::text, "kind = \"text\"",
           integer("ngrams", c.ngrams, 1, 8, "runs of up to so many words are tokens too")),
      only(k == FeatureKind::list || k == FeatureKind::vector, "kind = \"list\" or \"vector\"",
           text("separator", c.separator, "between the values of a field")),
      only(k == FeatureKind::list, "kind = \"list\"",
           text("weights", c.weights, "column of as many numbers (unset: 1 each)",
                "\"genre_weights\"")),
      only(is_list(k), "a list", choice("pooling", c.pooling, kPoolings, "of the rows of a list")),
      only(k == FeatureKind::list || k == FeatureKind::sequence, "kind = \"list\" or \"sequence\"",
           integer("max_length", c.max_length, 0, kLongest,
                   "the last so many count; 0: all (sequence: 50)")),
  };
}

Fields fields(LayerConfig& c) {
  const bool mlp = c.kind == LayerKind::mlp, cross = c.kind == LayerKind::cross;
  const bool dot = c.kind == LayerKind::dot_interaction;
  const std::string of_mlp = "kind = \"mlp\"", of_cross = "kind = \"cross\"";
  const std::string of_dot = "kind = \"dot-interaction\"";
  return {
      kind(choice("kind", c.kind, kLayerKinds, "what the layer does")),
      when(mlp, of_mlp, integers("units", c.units, 1, kWidest, "width of each dense layer")),
      when(mlp, of_mlp, choice("activation", c.activation, kActivations, "after all but the last")),
      when(mlp, of_mlp,
           choice("final_activation", c.final_activation, kActivations, "after the last")),
      when(mlp || cross, "kind = \"mlp\" or \"cross\"",
           flag("use_bias", c.use_bias, "whether dense layers add a bias")),
      when(cross, of_cross,
           integer("num_layers", c.num_layers, 1, 64, "stacked, all crossing with the input")),
      when(
          cross, of_cross,
          integer("projection_dim", c.projection_dim, 0, kWidest, "of the low-rank form; 0: full")),
      when(cross, of_cross,
           real("diag_scale", c.diag_scale, kNotNegative, "added to the diagonal")),
      when(cross, of_cross,
           choice("preactivation", c.preactivation, kActivations, "of the projection")),
      when(dot, of_dot,
           flag("self_interaction", c.self_interaction, "products of a feature with itself too")),
      when(dot, of_dot, flag("skip_gather", c.skip_gather, "the whole matrix, upper part zeroed")),
      when(c.kind == LayerKind::layer_norm, "kind = \"layer-norm\"",
           real("epsilon", c.epsilon, kPositive, "added to the variance")),
      when(c.kind == LayerKind::dropout, "kind = \"dropout\"",
           real("rate", c.rate, kBelowOne, "share of the values that a step leaves out")),
  };
}

Fields fields(NetworkConfig& c) {
  return {text("name", c.name, "\"query\" and \"candidate\" are the two towers; required"),
          texts("inputs", c.inputs, "features or other networks, concatenated; required"),
          layers(c.layers)};
}

Fields fields(TaskConfig& c) {
  Fields out = {
      kind(choice("kind", c.kind, kTaskKinds, "what is learnt")),
      real("weight", c.weight, kNotNegative, "of this task's loss in the sum of all tasks"),
      choice("reduction", c.mean_reduction, kReductions, "of the rows' losses"),
  };
  const bool ranking = c.kind == TaskKind::ranking;
  for (Field& f : ranking ? ranking_fields(c) : retrieval_fields(c)) out.push_back(std::move(f));
  const auto mine = static_cast<std::ptrdiff_t>(out.size());
  for (Field& f : ranking ? retrieval_fields(c) : ranking_fields(c)) {
    const bool shared = std::any_of(out.begin(), out.begin() + mine,
                                    [&](const Field& own) { return own.key == f.key; });
    const char* other = ranking ? "kind = \"retrieval\"" : "kind = \"ranking\"";
    if (!shared) out.push_back(when(false, other, std::move(f)));
  }
  return out;
}

}  // namespace belfry::schema
