// SPDX-License-Identifier: Apache-2.0
// The keys of features, networks and tasks; the other sections are in config_schema.cpp.
#include <fmt/format.h>

#include <algorithm>

#include "engine/config_schema.hpp"
#include "engine/error.hpp"
#include "kernels/attention/attention.hpp"

namespace belfry::schema {
namespace {

constexpr std::int64_t kWidest = 65536;   // of a vector: beyond it a typing error is more likely
constexpr std::int64_t kLongest = 65536;  // of a list
constexpr std::int64_t kMostHeads = 32;   // of a query: what the loss takes on a GPU
// Weights and penalties are float32 (largest: 3.4e38): beyond these a sum over a step would overflow.
constexpr double kLargest = 1e30;
constexpr Range kWeight{-kLargest, kLargest};
constexpr Range kFactor{0, kLargest};

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
                                  {InitKind::ones, "ones"},
                                  {InitKind::constant, "constant"},
                                  {InitKind::glorot_normal, "glorot-normal"},
                                  {InitKind::he_uniform, "he-uniform"},
                                  {InitKind::he_normal, "he-normal"}},
                                 {}};
const Words<PenaltyRows> kPenaltyRows{
    "rule", {{PenaltyRows::batch, "batch"}, {PenaltyRows::all, "all"}}, {}};
const Words<LayerKind> kLayerKinds{"layer kind",
                                   {{LayerKind::mlp, "mlp"},
                                    {LayerKind::l2_normalize, "l2-normalize"},
                                    {LayerKind::cross, "cross"},
                                    {LayerKind::dot_interaction, "dot-interaction"},
                                    {LayerKind::layer_norm, "layer-norm"},
                                    {LayerKind::dropout, "dropout"},
                                    {LayerKind::gru, "gru"},
                                    {LayerKind::attention, "attention"},
                                    {LayerKind::sequence_pool, "sequence-pool"},
                                    {LayerKind::position_embedding, "position-embedding"},
                                    {LayerKind::heads, "heads"}},
                                   {}};
const Words<SequencePooling> kSequencePoolings{
    "pooling", {{SequencePooling::mean, "mean"}, {SequencePooling::last, "last"}}, {}};
const Words<Activation> kActivations{"activation",
                                     {{Activation::linear, "linear"},
                                      {Activation::relu, "relu"},
                                      {Activation::gelu, "gelu"},
                                      {Activation::tanh, "tanh"},
                                      {Activation::sigmoid, "sigmoid"},
                                      {Activation::elu, "elu"},
                                      {Activation::selu, "selu"},
                                      {Activation::softplus, "softplus"},
                                      {Activation::swish, "swish"},
                                      {Activation::gelu_tanh, "gelu-tanh"}},
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

Field init(const std::string& key, const std::string& label, std::optional<InitConfig>& member,
           std::string help) {
  Field f{key, std::move(help)};
  f.example = "{ kind = \"uniform\", low = -0.05, high = 0.05 }";
  f.read = [key, label, &member](const Reader& r, const Scope& s, const toml::node& node) {
    InitConfig init;
    table(
        key, label, [&init] { return fields(init); }, "")
        .read(r, s, node);
    member = init;
  };
  f.print = [&member] {
    return member ? std::optional(inline_text(fields(*member))) : std::nullopt;
  };
  f.check = [key, &member]() -> std::optional<Complaint> {
    if (!member) return std::nullopt;
    auto complaint = check_fields(fields(*member));
    if (complaint) complaint->at = key + "." + complaint->at;
    return complaint;
  };
  return f;
}

/// A factor of a penalty, which is not printed where there is none.
Field factor(const std::string& key, double& member, std::string help) {
  Field f = real(key, member, kFactor, std::move(help));
  f.example = "1e-6";
  f.print = [&member, print = f.print] { return member == 0 ? std::nullopt : print(); };
  return f;
}

Field penalty_rows(std::optional<PenaltyRows>& member) {
  static PenaltyRows none = PenaltyRows::batch;
  Field f = choice("penalty_rows", none, kPenaltyRows,
                   "rows that count, those of the step's lookups or the whole table (unset: batch, "
                   "all under tfrs)");
  f.example = "\"batch\"";
  f.read = [&member](const Reader& r, const Scope& s, const toml::node& node) {
    PenaltyRows rows = PenaltyRows::batch;
    choice("penalty_rows", rows, kPenaltyRows, "").read(r, s, node);
    member = rows;
  };
  f.print = [&member] {
    return member ? std::optional(toml_string(kPenaltyRows.of(*member))) : std::nullopt;
  };
  return f;
}

Field mask(std::optional<std::string>& member) {
  Field f{"mask", "the value that stands for none: it is no token, and its vector is zero"};
  f.example = "\"\"";
  f.read = [&member](const Reader& r, const Scope& s, const toml::node& node) {
    std::string value;
    text("mask", value, "").read(r, s, node);
    member = value;
  };
  f.print = [&member] { return member ? std::optional(toml_string(*member)) : std::nullopt; };
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

/// The one width of a gru: a number, or a list of one.
Field one_width(std::vector<std::int64_t>& member) {
  Field f = integers("units", member, 1, kWidest, "width of each dense layer; gru: of its state");
  f.read = [&member](const Reader& r, const Scope& s, const toml::node& node) {
    if (node.is_array()) return integers("units", member, 1, kWidest, "").read(r, s, node);
    std::int64_t width = 0;
    integer("units", width, 1, kWidest, "").read(r, s, node);
    member = {width};
  };
  f.print = [&member]() -> std::optional<std::string> {
    if (member.size() != 1) return integers("units", member, 1, kWidest, "").print();
    return std::to_string(member.front());
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
          when(uniform, of_uniform, real("low", c.low, kWeight, "lower end")),
          when(uniform, of_uniform, real("high", c.high, kWeight, "upper end")),
          when(normal, of_normal, real("mean", c.mean, kWeight, "mean")),
          when(normal, of_normal,
               real("stddev", c.stddev, Range{0, kLargest, true, false}, "standard deviation")),
          when(c.kind == InitKind::constant, "kind = \"constant\"",
               real("value", c.value, kWeight, "of every element"))};
}

Fields fields(FeatureConfig& c) {
  const FeatureKind k = c.kind;
  const auto only = [&](bool applies, const char* kinds, Field f) {
    return when(applies, kinds, std::move(f));
  };
  const bool named = k == FeatureKind::id || k == FeatureKind::category || k == FeatureKind::list ||
                     k == FeatureKind::sequence;
  const bool masked = k == FeatureKind::category || k == FeatureKind::hashed ||
                      k == FeatureKind::unified || k == FeatureKind::list;
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
           path("vocabulary", c.vocabulary,
                "file of the table's values, one a line (unset: those of the training rows)",
                "\"users.txt\"")),
      only(named, "a vocabulary",
           integer("oov", c.oov, 0, 1'000'000, "rows for values that training never saw")),
      only(
          has_table(k), "an embedding table",
          init("init", "[feature.init]", c.init, "initial values of the table (unset: by preset)")),
      only(has_table(k), "an embedding table",
           factor("l1", c.penalty.l1, "times the sum of |w| of the table's rows joins the loss")),
      only(has_table(k), "an embedding table",
           factor("l2", c.penalty.l2, "times the sum of w^2 of the table's rows joins the loss")),
      only(has_table(k), "an embedding table", penalty_rows(c.penalty_rows)),
      only(masked, "kind = \"category\", \"hashed\", \"unified\" or \"list\"", mask(c.mask)),
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
      only(k == FeatureKind::list || k == FeatureKind::vector || k == FeatureKind::sequence,
           "kind = \"list\", \"vector\" or \"sequence\"",
           text("separator", c.separator,
                "between the values of a field (sequence: where a query gives one)")),
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
  const bool gru = c.kind == LayerKind::gru, attention = c.kind == LayerKind::attention;
  const bool kernels = mlp || cross || gru || attention;
  const std::string of_kernels = "kind = \"mlp\", \"cross\", \"gru\" or \"attention\"";
  const std::string of_attention = "kind = \"attention\"";
  const std::string of_mlp = "kind = \"mlp\"", of_cross = "kind = \"cross\"";
  const std::string of_dot = "kind = \"dot-interaction\"";
  return {
      kind(choice("kind", c.kind, kLayerKinds, "what the layer does")),
      when(mlp || gru, "kind = \"mlp\" or \"gru\"",
           gru ? one_width(c.units)
               : integers("units", c.units, 1, kWidest,
                          "width of each dense layer; gru: of its state")),
      when(mlp, of_mlp, choice("activation", c.activation, kActivations, "after all but the last")),
      when(mlp, of_mlp,
           choice("final_activation", c.final_activation, kActivations, "after the last")),
      when(mlp || cross || gru || attention, "kind = \"mlp\", \"cross\", \"gru\" or \"attention\"",
           flag("use_bias", c.use_bias, "whether dense layers add a bias")),
      when(cross, of_cross,
           integer("num_layers", c.num_layers, 1, 64, "stacked, all crossing with the input")),
      when(
          cross, of_cross,
          integer("projection_dim", c.projection_dim, 0, kWidest, "of the low-rank form; 0: full")),
      when(cross, of_cross, real("diag_scale", c.diag_scale, kFactor, "added to the diagonal")),
      when(cross, of_cross,
           choice("preactivation", c.preactivation, kActivations, "of the projection")),
      when(dot, of_dot,
           flag("self_interaction", c.self_interaction, "products of a feature with itself too")),
      when(dot, of_dot, flag("skip_gather", c.skip_gather, "the whole matrix, upper part zeroed")),
      when(c.kind == LayerKind::layer_norm, "kind = \"layer-norm\"",
           real("epsilon", c.epsilon, kPositive, "added to the variance")),
      when(c.kind == LayerKind::dropout, "kind = \"dropout\"",
           real("rate", c.rate, kBelowOne, "share of the values that a step leaves out")),
      when(c.kind == LayerKind::heads, "kind = \"heads\"",
           integer("count", c.count, 1, kMostHeads,
                   "vectors of a query; an item's score is the best of them")),
      when(attention, of_attention,
           integer("num_heads", c.num_heads, 1, 256, "each attends by itself")),
      when(attention, of_attention,
           integer("key_dim", c.key_dim, 0, kAttentionMaxKeys,
                   "columns of a head; 0: the input's width over num_heads")),
      when(attention, of_attention,
           flag("causal", c.causal, "a step attends to itself and earlier ones only")),
      when(attention, of_attention,
           flag("residual", c.residual, "its input is added to its output")),
      when(c.kind == LayerKind::sequence_pool, "kind = \"sequence-pool\"",
           choice("pooling", c.sequence_pooling, kSequencePoolings, "of the steps of a sequence")),
      when(mlp || cross || gru, "kind = \"mlp\", \"cross\" or \"gru\"",
           init("kernel_init", "[network.layers.kernel_init]", c.kernel_init,
                "initial values of its kernels (unset: the layer's own)")),
      when(mlp || cross || gru, "kind = \"mlp\", \"cross\" or \"gru\"",
           init("bias_init", "[network.layers.bias_init]", c.bias_init,
                "initial values of its biases (unset: zeros)")),
      when(kernels, of_kernels,
           factor("l1", c.penalty.l1, "times the sum of |w| of its kernels joins the loss")),
      when(kernels, of_kernels,
           factor("l2", c.penalty.l2, "times the sum of w^2 of its kernels joins the loss")),
      when(kernels, of_kernels, factor("bias_l1", c.bias_penalty.l1, "l1 of its biases")),
      when(kernels, of_kernels, factor("bias_l2", c.bias_penalty.l2, "l2 of its biases")),
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
