// SPDX-License-Identifier: Apache-2.0
// belfry recommend, similar
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/common.hpp"
#include "apps/progress.hpp"
#include "engine/recommendation_writer.hpp"
#include "engine/recommender.hpp"

namespace belfry::app {

namespace {

struct Options {
  CommonOptions common;
  std::string run, users_file, out, exclude, only, shard = "0/1", k = "10", item;
  std::vector<std::string> users, contexts;
  bool all = false, exclude_seen = false, include_seen = false, cold = false;
};

void report_unknown(const std::string& file, const IdList& list) {
  if (list.unknown > 0) {
    warn(fmt::format("{}: {} of {} ids are unknown to the model (first: \"{}\")", file,
                     list.unknown, list.lines, list.first_unknown));
  }
}

/// Users to answer, as (number or -1, the id as given).
struct Questions {
  std::vector<std::int32_t> users;
  std::vector<std::string> names;  // of unknown users; empty entry: the vocabulary has the name
};

Questions questions(const Options& o, const LoadedModel& m) {
  Questions q;
  for (const std::string& id : o.users) {
    const auto u = m.data.users.token_index(id);
    if (!u && !o.cold) {
      throw Error(ExitCode::bad_data, "--user",
                  fmt::format("the model does not know the user \"{}\"", id),
                  "--cold answers unknown users through the out-of-vocabulary row");
    }
    q.users.push_back(u ? static_cast<std::int32_t>(*u) : -1);
    q.names.push_back(u ? "" : id);
  }
  if (!o.users_file.empty()) {
    const IdList list = read_id_list(o.users_file, m.data.users, m.data.users, m.data.items);
    report_unknown(o.users_file, list);
    q.users.insert(q.users.end(), list.ids.begin(), list.ids.end());
    q.names.resize(q.users.size());
  }
  if (o.all) {
    q.users.resize(static_cast<std::size_t>(m.data.user_count()));
    std::iota(q.users.begin(), q.users.end(), 0);
    q.names.resize(q.users.size());
  }
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

/// The value of context feature f in `text`, with a warning where training never saw it.
FeatureValues context_of(const ModelData& data, std::size_t f, const std::string& text,
                         const std::string& option) {
  const FeatureData& feature = data.features[f];
  const bool category =
      feature.config.kind == FeatureKind::id || feature.config.kind == FeatureKind::category;
  if (category) {
    const Vocabulary& v = data.tables[static_cast<std::size_t>(feature.table)].vocabulary;
    if (!v.row(text)) {
      throw Error(ExitCode::bad_data, "--context", fmt::format("unknown value in \"{}\"", option));
    }
    if (!v.token_index(text)) {
      warn(fmt::format("--context {}: a value that training never saw", option));
    }
  }
  try {
    return value_of_text(data, f, text);
  } catch (const Error& e) {
    throw Error(e.code(), "--context", e.what());
  }
}

/// --context column=value -> the value of each context feature, empty where none is given.
std::vector<FeatureValues> contexts_of(const Options& o, const ModelData& data) {
  std::vector<std::size_t> features;
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    if (data.features[f].context) features.push_back(f);
  }
  std::vector<FeatureValues> values(features.size());
  for (const std::string& text : o.contexts) {
    const std::size_t equals = text.find('=');
    const std::string column = text.substr(0, equals);
    bool found = false;
    for (std::size_t c = 0; c < features.size(); ++c) {
      const FeatureConfig& config = data.features[features[c]].config;
      if (config.column != column || equals == std::string::npos) continue;
      if (config.kind == FeatureKind::sequence) continue;  // a history, not a column
      values[c] = context_of(data, features[c], text.substr(equals + 1), text);
      found = true;
    }
    if (!found) {
      throw Error(ExitCode::usage, "--context",
                  fmt::format("\"{}\" names no context column of the model", text),
                  "form: column=value");
    }
  }
  return values;
}

/// --shard i/n: the i-th (from 0) of n nearly equal parts of the users, in order.
void take_shard(const std::string& shard, Questions& q) {
  std::int64_t i = -1, n = 0;
  const char* end = shard.data() + shard.size();
  const auto first = std::from_chars(shard.data(), end, i);
  const bool slash = first.ec == std::errc() && first.ptr != end && *first.ptr == '/';
  const auto second = slash ? std::from_chars(first.ptr + 1, end, n) : first;
  if (!slash || second.ec != std::errc() || second.ptr != end || n < 1 || i < 0 || i >= n) {
    throw Error(ExitCode::usage, "--shard",
                fmt::format("\"{}\" is not i/n with 0 <= i < n", shard));
  }
  const auto total = static_cast<std::int64_t>(q.users.size());
  const auto part = [&](auto& v) {
    v = {v.begin() + total * i / n, v.begin() + total * (i + 1) / n};
  };
  part(q.users);
  part(q.names);
}

std::string user_name(const LoadedModel& m, const Questions& q, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  return q.users[at] < 0 ? q.names[at] : m.data.users.token(q.users[at]);
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

int recommend(const Options& o) {
  const std::int64_t k = parse_k(o.k);
  if (static_cast<int>(!o.users.empty()) + static_cast<int>(!o.users_file.empty()) +
          static_cast<int>(o.all) !=
      1) {
    throw Error(ExitCode::usage, "recommend",
                "say for whom: --user ID, --users FILE or --all, one of them");
  }
  if (o.exclude_seen && o.include_seen)
    throw Error(ExitCode::usage, "recommend",
                "--exclude-seen and --include-seen contradict each other");
  const std::string path = model_path(o.run);
  const auto ctx = make_context(o.common);
  const auto model = load_model_file(*ctx, path);
  Questions q = questions(o, *model);
  take_shard(o.shard, q);
  Recommender recommender(*ctx, *model, filter_of(o, *model));
  const auto contexts = contexts_of(o, model->data);
  const auto total = static_cast<std::int64_t>(q.users.size());
  if (o.out.empty()) {
    recommender.recommend(q.users, k, contexts, [&](std::int64_t i, auto rows, auto scores) {
      print_answer(o.common, "user", user_name(*model, q, i), model->data.items, rows, scores);
    });
    return 0;
  }
  const auto writer = make_recommendation_writer(o.out, total, k, model->data.items.all_tokens());
  ProgressLine line(o.common, "users", total);
  recommender.recommend(q.users, k, contexts, [&](std::int64_t i, auto rows, auto scores) {
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
  const std::int64_t k = parse_k(o.k);
  const std::string path = model_path(o.run);
  const auto ctx = make_context(o.common);
  const auto model = load_model_file(*ctx, path);
  const auto item = model->data.items.token_index(o.item);
  if (!item)
    throw Error(ExitCode::bad_data, "--item",
                fmt::format("the model does not know the item \"{}\"", o.item));
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
  verb->add_flag("--all", o->all, "every user of the training data");
  verb->add_option("-k", o->k, "items a user")->capture_default_str();
  verb->add_option("-o,--output", o->out, "file: .csv, .tsv, .jsonl or .npy");
  verb->add_option("--shard", o->shard, "i/n: the i-th (from 0) of n parts of the users");
  verb->add_flag("--exclude-seen", o->exclude_seen,
                 "leave out items of the user's training rows (default, but under preset tfrs)");
  verb->add_flag("--include-seen", o->include_seen, "keep them");
  verb->add_option("--exclude", o->exclude, "file: item ids, or user,item");
  verb->add_option("--only", o->only, "file: item ids, or user,item: nothing else is given");
  verb->add_option("--context", o->contexts, "column=value in place of the user's last one");
  verb->add_flag("--cold", o->cold, "answer unknown users through the out-of-vocabulary row");
  add_common_options(*verb, o->common);
  verb->footer(
      "Example: belfry recommend runs/ratings --user 42 -k 10\n         belfry recommend "
      "runs/ratings --all -k 100 -o recs.csv");
  verb->callback([o, &action] { action = [o] { return recommend(*o); }; });
}

void add_similar(CLI::App& app, Action& action) {
  CLI::App* verb =
      app.add_subcommand("similar", "items most like an item, by the cosine of their vectors");
  auto o = std::make_shared<Options>();
  verb->add_option("run", o->run, "RUN folder")->required();
  verb->add_option("--item", o->item, "item ID")->required();
  verb->add_option("-k", o->k, "items")->capture_default_str();
  add_common_options(*verb, o->common);
  verb->footer("Example: belfry similar runs/ratings --item 318 -k 5");
  verb->callback([o, &action] { action = [o] { return similar(*o); }; });
}

}  // namespace belfry::app
