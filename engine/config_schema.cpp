// SPDX-License-Identifier: Apache-2.0
#include "engine/config_schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "engine/error.hpp"
#include "engine/metrics.hpp"
#include "engine/nearest.hpp"
#include "engine/rating_evaluation.hpp"

namespace belfry::schema {
namespace {

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
    if (is_rating_metric(c.metric)) return std::nullopt;
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
      text("label", c.label, "column that ranking tasks learn (unset: the rating)", "\"rating\""),
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
          integer("k", c.k, 1, kMostInt, "items a list"),
          text("rank_by", c.rank_by,
               "a ranking task\'s network that orders what was retrieved (unset: none does)",
               "\"rating\""),
          integer("retrieve", c.retrieve, 1, kMostInt, "items that it orders")};
}

Fields fields(OutputConfig& c) {
  return {path("dir", c.dir, "folder of the run (unset: runs/NAME)", "\"runs/mine\""), logs()};
}

}  // namespace belfry::schema
