// SPDX-License-Identifier: Apache-2.0
// belfry recommend, similar
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>

#include "apps/common.hpp"
#include "apps/progress.hpp"
#include "engine/feature_builder.hpp"
#include "engine/query_file.hpp"
#include "engine/recommendation_writer.hpp"
#include "engine/recommender.hpp"

namespace belfry::app {

namespace {

struct Options {
  CommonOptions common;
  std::string run, users_file, queries_file, out, exclude, only, shard = "0/1", item;
  std::optional<std::string> k;  ///< default: the model's index.k
  std::vector<std::string> users, contexts;
  bool all = false, exclude_seen = false, include_seen = false, cold = false;
};

void report_unknown(const std::string& file, const IdList& list) {
  if (list.unknown > 0) {
    warn(fmt::format("{}: {} of {} ids are unknown to the model (first: \"{}\")", file,
                     list.unknown, list.lines, list.first_unknown));
  }
}

/// The value of context feature f in `text`, with a warning where training never saw it or parts of it.
FeatureValues context_of(const ModelData& data, std::size_t f, const std::string& text,
                         std::optional<std::string_view> weights) {
  const FeatureData& feature = data.features[f];
  const std::string option = query_column(feature.config) + "=" + text;
  const bool category =
      feature.config.kind == FeatureKind::id || feature.config.kind == FeatureKind::category;
  if (category) {
    const Vocabulary& v = data.tables[static_cast<std::size_t>(feature.table)].vocabulary;
    if (!v.row(text)) {
      throw Error(ExitCode::bad_data, "--context", fmt::format("unknown value in \"{}\"", option));
    }
  }
  try {
    FeatureValues value = value_of_text(data, f, text, weights);
    const std::vector<std::string> unseen = unseen_tokens(data, f, text);
    if (!unseen.empty() && category) {
      warn(fmt::format("--context {}: a value that training never saw", option));
    } else if (!unseen.empty()) {
      warn(fmt::format("--context {}: {} values that training never saw (first: \"{}\")", option,
                       unseen.size(), unseen.front()));
    }
    return value;
  } catch (const Error& e) {
    throw Error(e.code(), "--context", e.what());
  }
}

/// --context column=value: the texts by column. A column of no context feature: Error(usage).
std::map<std::string, std::string> context_texts(const Options& o, const ModelData& data) {
  std::set<std::string> known;
  for (const FeatureData& feature : data.features) {
    if (!feature.context) continue;
    known.insert(query_column(feature.config));
    if (!feature.config.weights.empty()) known.insert(feature.config.weights);
  }
  std::map<std::string, std::string> out;
  for (const std::string& text : o.contexts) {
    const std::size_t equals = text.find('=');
    const std::string column = text.substr(0, equals);
    if (equals == std::string::npos || known.count(column) == 0) {
      throw Error(ExitCode::usage, "--context",
                  fmt::format("\"{}\" names no context column of the model", text),
                  "form: column=value");
    }
    out[column] = text.substr(equals + 1);
  }
  return out;
}

/// The value that --context gives to each feature, empty where it gives none.
std::vector<FeatureValues> contexts_of(const Options& o, const LoadedModel& m) {
  const std::map<std::string, std::string> texts = context_texts(o, m.data);
  std::vector<FeatureValues> values(m.data.features.size());
  for (std::size_t f = 0; f < values.size(); ++f) {
    const FeatureConfig& config = m.data.features[f].config;
    if (!m.data.features[f].context) continue;
    const auto text = texts.find(query_column(config)), weights = texts.find(config.weights);
    if (text == texts.end()) {
      if (weights == texts.end()) continue;
      throw Error(ExitCode::usage, "--context",
                  fmt::format("\"{}\" are the weights of \"{}\", which is not given",
                              config.weights, config.column));
    }
    values[f] = context_of(
        m.data, f, text->second,
        weights == texts.end() ? std::nullopt : std::optional<std::string_view>(weights->second));
  }
  return values;
}

/// What to answer, and what each query is called; an empty name: the vocabulary has it.
struct Questions {
  QuerySet set;
  std::vector<std::string> names;
};

/// The users that --user, --users or --all name.
void add_users(const Options& o, const LoadedModel& m, Questions& q) {
  std::vector<std::int32_t>& users = q.set.users;
  for (const std::string& id : o.users) {
    const auto u = m.data.users.token_index(id);
    if (!u && !o.cold) {
      throw Error(ExitCode::bad_data, "--user",
                  fmt::format("the model does not know the user \"{}\"", id),
                  "--cold answers unknown users through the out-of-vocabulary row");
    }
    users.push_back(u ? static_cast<std::int32_t>(*u) : -1);
    q.names.push_back(u ? "" : id);
  }
  if (!o.users_file.empty()) {
    const IdList list = read_id_list(o.users_file, m.data.users, m.data.users, m.data.items);
    report_unknown(o.users_file, list);
    users.insert(users.end(), list.ids.begin(), list.ids.end());
  }
  if (o.all) {
    users.resize(static_cast<std::size_t>(m.data.user_count()));
    std::iota(users.begin(), users.end(), 0);
  }
  q.names.resize(users.size());
}

Questions questions(const Options& o, const LoadedModel& m) {
  Questions q;
  std::vector<FeatureValues> given = contexts_of(o, m);
  if (o.queries_file.empty()) {
    q.set.given = std::move(given);
    add_users(o, m, q);
    return q;
  }
  QueryFile file = read_queries(o.queries_file, m.config, m.data, std::move(given), o.cold);
  if (file.unseen > 0) {
    warn(fmt::format("{}: {} values that training never saw (first: \"{}\")", o.queries_file,
                     file.unseen, file.first_unseen));
  }
  q.set = std::move(file.queries);
  q.names = std::move(file.names);
  return q;
}

RecommendFilter filter_of(const Options& o, const LoadedModel& m) {
  RecommendFilter f;
  f.exclude_seen = o.exclude_seen || (!o.include_seen && m.config.evaluate.exclude_seen);
  if (!o.exclude.empty()) {
    const IdList list = read_id_list(o.exclude, m.data.items, m.data.users, m.data.items);
    report_unknown(o.exclude, list);
    f.exclude = list.ids;
    f.exclude_pairs = list.pairs;
  }
  if (!o.only.empty()) {
    const IdList list = read_id_list(o.only, m.data.items, m.data.users, m.data.items);
    report_unknown(o.only, list);
    f.only = list.ids;
    f.only_pairs = list.pairs;
    f.has_only = true;
  }
  return f;
}

/// --shard i/n: the i-th (from 0) of n nearly equal parts of the queries, in order.
void take_shard(const std::string& shard, const ModelData& data, Questions& q) {
  std::int64_t i = -1, n = 0;
  const char* end = shard.data() + shard.size();
  const auto first = std::from_chars(shard.data(), end, i);
  const bool slash = first.ec == std::errc() && first.ptr != end && *first.ptr == '/';
  const auto second = slash ? std::from_chars(first.ptr + 1, end, n) : first;
  if (!slash || second.ec != std::errc() || second.ptr != end || n < 1 || i < 0 || i >= n) {
    throw Error(ExitCode::usage, "--shard",
                fmt::format("\"{}\" is not i/n with 0 <= i < n", shard));
  }
  if (n == 1) return;
  const std::int64_t from = q.set.size() * i / n, to = q.set.size() * (i + 1) / n;
  q.set = part_of(data, q.set, from, to - from);
  q.names = {q.names.begin() + from, q.names.begin() + to};
}

std::string user_name(const LoadedModel& m, const Questions& q, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  const bool kept = q.set.users[at] >= 0 && q.names[at].empty();
  return kept ? m.data.users.token(q.set.users[at]) : q.names[at];
}

void print_answer(const CommonOptions& common, const char* key, const std::string& name,
                  const Vocabulary& items, std::span<const std::int32_t> rows,
                  std::span<const float> scores) {
  if (common.json) {
    nlohmann::ordered_json line;
    line[key] = name;
    line["items"] = nlohmann::ordered_json::array();
    line["scores"] = nlohmann::ordered_json::array();
    for (std::size_t r = 0; r < rows.size(); ++r) {
      line["items"].push_back(items.token(rows[r]));
      line["scores"].push_back(scores[r]);
    }
    result(line.dump());
    return check_output();
  }
  result(fmt::format("{} {}", key, name));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    result(fmt::format("{:>5}  {:>12.9g}  {}", r + 1, scores[r], items.token(rows[r])));
  }
  check_output();
}

/// Looked at before the model is read, which may take its time.
std::optional<std::int64_t> asked_k(const Options& o) {
  return o.k ? std::optional(parse_k(*o.k)) : std::nullopt;
}

int recommend(const Options& o) {
  const std::optional<std::int64_t> asked = asked_k(o);
  const bool ways[] = {!o.users.empty(), !o.users_file.empty(), !o.queries_file.empty(), o.all};
  if (std::count(std::begin(ways), std::end(ways), true) != 1) {
    throw Error(ExitCode::usage, "recommend",
                "say for whom: --user ID, --users FILE, --queries FILE or --all, one of them");
  }
  if (o.exclude_seen && o.include_seen)
    throw Error(ExitCode::usage, "recommend",
                "--exclude-seen and --include-seen contradict each other");
  const std::string path = model_path(o.run);
  const auto ctx = make_context(o.common);
  const auto model = load_model_file(*ctx, path);
  const std::int64_t k = asked.value_or(model->config.index.k);
  Questions q = questions(o, *model);
  take_shard(o.shard, model->data, q);
  Recommender recommender(*ctx, *model, filter_of(o, *model));
  const std::int64_t total = q.set.size();
  if (o.out.empty()) {
    recommender.recommend(q.set, k, [&](std::int64_t i, auto rows, auto scores) {
      print_answer(o.common, "user", user_name(*model, q, i), model->data.items, rows, scores);
    });
    return 0;
  }
  const auto writer = make_recommendation_writer(o.out, total, k, model->data.items.all_tokens());
  ProgressLine line(o.common, "users", total);
  recommender.recommend(q.set, k, [&](std::int64_t i, auto rows, auto scores) {
    writer->write({user_name(*model, q, i), rows, scores});
    line.update(i + 1);
  });
  writer->commit();
  line.clear();
  if (o.common.json) {
    result(
        nlohmann::ordered_json{{"event", "recommend"}, {"users", total}, {"k", k}, {"file", o.out}}
            .dump());
  } else {
    inform(o.common, fmt::format("{} users -> {}", total, o.out));
  }
  return 0;
}

int similar(const Options& o) {
  const std::optional<std::int64_t> asked = asked_k(o);
  const std::string path = model_path(o.run);
  const auto ctx = make_context(o.common);
  const auto model = load_model_file(*ctx, path);
  const auto item = model->data.items.token_index(o.item);
  if (!item)
    throw Error(ExitCode::bad_data, "--item",
                fmt::format("the model does not know the item \"{}\"", o.item));
  const std::int64_t k = asked.value_or(model->config.index.k);
  Recommender recommender(*ctx, *model, {});
  recommender.similar(static_cast<std::int32_t>(*item), k,
                      [&](std::int64_t, auto rows, auto scores) {
                        print_answer(o.common, "item", o.item, model->data.items, rows, scores);
                      });
  return 0;
}

}  // namespace

void add_recommend(CLI::App& app, Action& action) {
  CLI::App* verb = app.add_subcommand("recommend", "the best items of users, exact");
  auto o = std::make_shared<Options>();
  verb->add_option("run", o->run, "RUN folder")->required();
  verb->add_option("--user", o->users, "user ID (several may follow)");
  verb->add_option("--users", o->users_file, "file of user ids, one a line");
  verb->add_option(
      "--queries", o->queries_file,
      "table of queries, one a row: a user and/or columns of the model's query features; a "
      "query without a user is called #ROW");
  verb->add_flag("--all", o->all, "every user of the training data");
  verb->add_option("-k", o->k, "items a user (default: the model's index.k, 10)");
  verb->add_option("-o,--output", o->out, "file: .csv, .tsv, .jsonl or .npy");
  verb->add_option("--shard", o->shard, "i/n: the i-th (from 0) of n parts of the users");
  verb->add_flag("--exclude-seen", o->exclude_seen,
                 "leave out items of the user's training rows (default, but under preset tfrs)");
  verb->add_flag("--include-seen", o->include_seen, "keep them");
  verb->add_option("--exclude", o->exclude, "file: item ids, or user,item");
  verb->add_option("--only", o->only, "file: item ids, or user,item: nothing else is given");
  verb->add_option("--context", o->contexts,
                   "column=value in place of the user's last one; a list as in the data; "
                   "name=item|item of a history, oldest first");
  verb->add_flag("--cold", o->cold, "answer unknown users through the out-of-vocabulary row");
  add_common_options(*verb, o->common);
  verb->footer(
      "Example: belfry recommend runs/ratings --user 42 -k 10\n         belfry recommend "
      "runs/ratings --all -k 100 -o recs.csv\n         belfry recommend runs/ratings --queries "
      "today.csv -k 10 --json");
  verb->callback([o, &action] { action = [o] { return recommend(*o); }; });
}

void add_similar(CLI::App& app, Action& action) {
  CLI::App* verb =
      app.add_subcommand("similar", "items most like an item, by the cosine of their vectors");
  auto o = std::make_shared<Options>();
  verb->add_option("run", o->run, "RUN folder")->required();
  verb->add_option("--item", o->item, "item ID")->required();
  verb->add_option("-k", o->k, "items (default: the model's index.k, 10)");
  add_common_options(*verb, o->common);
  verb->footer("Example: belfry similar runs/ratings --item 318 -k 5");
  verb->callback([o, &action] { action = [o] { return similar(*o); }; });
}

}  // namespace belfry::app
