// SPDX-License-Identifier: Apache-2.0
#include "engine/model_data.hpp"

#include <algorithm>
#include <numeric>

#include "engine/error.hpp"
#include "engine/interaction_encoder.hpp"
#include "engine/rating_evaluation.hpp"

namespace belfry {

namespace {
ColumnType type_of(const Schema& schema, const std::string& name) {
  const auto at = std::find(schema.columns.begin(), schema.columns.end(), name);
  return at == schema.columns.end()
             ? ColumnType::text
             : schema.types[static_cast<std::size_t>(at - schema.columns.begin())];
}

}  // namespace

std::vector<LabelColumn> label_columns(const Config& config) {
  std::vector<LabelColumn> out;
  for (const TaskConfig& task : config.tasks) {
    if (task.kind != TaskKind::ranking) continue;
    LabelColumn& label = out.emplace_back();
    label.column = task.label;
    label.above = task.label_above;
    if (label.above) continue;
    if (is_listwise(task.ranking_loss)) {
      label.least = 0;
      label.why = "a label of a list's loss is not negative";
    } else if (task.ranking_loss == RankingTaskLoss::bce ||
               task.ranking_loss == RankingTaskLoss::bce_logits) {
      label.least = 0;
      label.most = 1;
      label.why = "a label of a cross-entropy lies from 0 to 1 (label_above = .. makes it 0 or 1)";
    }
  }
  return out;
}

std::vector<int> ModelData::features_of(Side side) const {
  std::vector<int> out;
  for (std::size_t f = 0; f < features.size(); ++f) {
    if (features[f].config.of == side) out.push_back(static_cast<int>(f));
  }
  return out;
}

void resolve_config(Config& config, DataReport* report, const DataSource& source) {
  DataConfig& data = config.data;
  if (data.interactions.empty()) {
    throw Error(ExitCode::usage, data.place, "data.interactions is missing");
  }
  const Schema schema = source.schema(data.interactions.front(), data.format);
  const Roles roles = guess_roles(schema);
  DataReport local;
  DataReport& r = report != nullptr ? *report : local;
  r.schema = schema.description();
  const auto choose = [&](std::string& name, const std::string& guess, bool& guessed,
                          bool numeric) {
    if (!name.empty() || guess.empty()) return;
    if (numeric && type_of(schema, guess) == ColumnType::text) return;
    name = guess;
    guessed = true;
  };
  choose(data.user, roles.user, r.user_guessed, false);
  // An item column that stands only in the side table (a title) is joined through items_key.
  if (!data.items.empty()) {
    const Schema items = source.schema(data.items, "auto");
    if (data.items_key.empty()) {
      // The item column itself where both files have it, else what looks like the interactions' item.
      const bool both = has_column(schema, data.item) && has_column(items, data.item);
      data.items_key = both ? data.item : (has_column(items, roles.item) ? roles.item : "");
      if (data.items_key.empty()) {
        throw Error(ExitCode::usage, data.place,
                    "data.items_key is missing, and no id column stands in both files");
      }
    }
    if (data.item.empty()) data.item = data.items_key;
  }
  choose(data.item, roles.item, r.item_guessed, false);
  // A guessed rating is parsed and checked; it weights nothing unless the model file says so.
  if (data.weight.empty()) choose(data.checked_weight, roles.weight, r.weight_guessed, true);
  choose(data.time, roles.time, r.time_guessed, true);
  data.time_is_integer = !data.time.empty() && type_of(schema, data.time) == ColumnType::integer;
  if (!data.users.empty() && data.users_key.empty()) data.users_key = data.user;
  if (data.user.empty() || data.item.empty()) {
    throw Error(ExitCode::bad_data, data.interactions.front(),
                "no user and item columns were found",
                "name them: data.user=COLUMN data.item=COLUMN");
  }
  if (!data.id_type_given && (schema.format == "adjacency" || schema.format == "movielens-100k")) {
    data.id_type = IdType::integer;
  }
  data.id_type_given = true;
  r.user = data.user;
  r.item = data.item;
  r.weight = data.weight.empty() ? data.checked_weight : data.weight;
  r.time = data.time;
  const auto has_side = [&](Side side) {
    return std::any_of(config.features.begin(), config.features.end(),
                       [&](const FeatureConfig& f) { return f.of == side; });
  };
  if (!has_side(Side::query)) {
    FeatureConfig f;
    f.name = data.user;
    f.of = Side::query;
    config.features.push_back(f);
  }
  if (!has_side(Side::candidate)) {
    FeatureConfig f;
    f.name = data.item;
    f.of = Side::candidate;
    config.features.push_back(f);
  }
  for (FeatureConfig& f : config.features) {
    if (f.column.empty()) {
      f.column = f.kind == FeatureKind::sequence ? data.item
                 : f.kind == FeatureKind::id     ? (f.of == Side::query ? data.user : data.item)
                                                 : f.name;
    }
    if (f.table.empty()) f.table = f.name;
    if (!f.init) f.init = default_embedding_init(config.preset);
    if (f.kind == FeatureKind::sequence && f.max_length == 0) f.max_length = kDefaultSequenceLength;
  }
  for (TaskConfig& task : config.tasks) {
    if (task.kind != TaskKind::ranking || !task.label.empty()) continue;
    task.label = !data.label.empty() ? data.label : r.weight;
    if (task.label.empty()) {
      throw Error(ExitCode::usage, task.place, "the ranking task has no label",
                  "name the column: label = \"rating\"");
    }
  }
  if (config.train.early_stop && retrieval_task(config) == nullptr &&
      config.train.early_stop->metric == EarlyStop{}.metric) {
    const TaskConfig& first = config.tasks.front();
    config.train.early_stop->metric = (config.tasks.size() > 1 ? first.score + "/" : "") +
                                      default_rating_metric(first.ranking_loss);
  }
  if (!config.split.validation && config.train.early_stop)
    config.split.validation = Amount{0.05, true};
  check_columns(config, source);
}

ItemLists items_by_user(std::int64_t users, std::int64_t items,
                        const std::vector<const Interactions*>& parts) {
  ItemLists out;
  out.offsets.assign(static_cast<std::size_t>(users) + 1, 0);
  const auto each = [&](auto&& f) {
    for (const Interactions* part : parts) {
      for (std::size_t i = 0; i < part->user.size(); ++i) {
        if (part->user[i] < users && part->item[i] < items) f(part->user[i], part->item[i]);
      }
    }
  };
  each([&](std::int32_t u, std::int32_t) { ++out.offsets[static_cast<std::size_t>(u) + 1]; });
  std::partial_sum(out.offsets.begin(), out.offsets.end(), out.offsets.begin());
  out.items.resize(static_cast<std::size_t>(out.offsets.back()));
  std::vector<std::int64_t> next(out.offsets.begin(), out.offsets.end() - 1);
  each([&](std::int32_t u, std::int32_t i) {
    out.items[static_cast<std::size_t>(next[static_cast<std::size_t>(u)]++)] = i;
  });
  // Sort and compact each list in place.
  std::int64_t write = 0;
  for (std::int64_t u = 0; u < users; ++u) {
    const auto begin = out.items.begin() + out.offsets[static_cast<std::size_t>(u)];
    const auto end = out.items.begin() + out.offsets[static_cast<std::size_t>(u) + 1];
    std::sort(begin, end);
    const auto last = std::unique(begin, end);
    out.offsets[static_cast<std::size_t>(u)] = write;
    write = std::copy(begin, last, out.items.begin() + write) - out.items.begin();
  }
  out.offsets[static_cast<std::size_t>(users)] = write;
  out.items.resize(static_cast<std::size_t>(write));
  return out;
}

}  // namespace belfry
