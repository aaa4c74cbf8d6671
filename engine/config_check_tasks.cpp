// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "engine/config_check.hpp"
#include "engine/rating_evaluation.hpp"

namespace belfry {
namespace {

/// Whether a network's output lies from 0 to 1.
bool ends_in_sigmoid(const Config& c, const std::string& name) {
  const auto network = std::find_if(c.networks.begin(), c.networks.end(),
                                    [&](const NetworkConfig& n) { return n.name == name; });
  if (network == c.networks.end() || network->layers.empty()) return false;
  const LayerConfig& last = network->layers.back();
  return last.kind == LayerKind::mlp && last.final_activation == Activation::sigmoid;
}

}  // namespace

void check_ranking_task(const Config& c, std::size_t i) {
  const TaskConfig& t = c.tasks[i];
  if (!t.group_by.empty() && t.group_by != "user") {
    refuse_key(c, key_of("task", i, "group_by"), "lists can be grouped by \"user\" alone");
  }
  const bool lists = t.group_by == "user" && t.list_size >= 2;
  if (is_listwise(t.ranking_loss) && !lists) {
    refuse_key(c, key_of("task", i, "list_size"), "this loss compares the rows of a list",
               "group_by = \"user\" and a list_size of at least 2");
  }
  if ((t.list_size > 0) != !t.group_by.empty()) {
    refuse_key(c, key_of("task", i, "list_size"), "\"group_by\" and \"list_size\" go together");
  }
  if (t.list_size == 1) {
    refuse_key(c, key_of("task", i, "list_size"), "a list has at least two rows");
  }
  if (t.ranking_loss == RankingTaskLoss::bce && !ends_in_sigmoid(c, t.score)) {
    refuse_key(c, key_of("task", i, "loss"),
               fmt::format("loss \"bce\" needs a probability, and \"{}\" does not end in a sigmoid",
                           t.score),
               "final_activation = \"sigmoid\" in its last layer, or loss = \"bce-logits\"");
  }
}

void check_early_stop(const Config& c) {
  if (!c.train.early_stop) return;
  const std::string key = "train.early_stop.metric";
  const std::string& name = c.train.early_stop->metric;
  const std::vector<std::string> made = rating_metrics(c);
  if (!is_rating_metric(name)) {
    // The default gives way to a metric of the ranking task, unless it was asked for.
    const bool asked = name != EarlyStop{}.metric || c.places.of.count(key) != 0;
    if (retrieval_task(c) != nullptr || !asked) return;
    refuse_key(c, key, "the metric \"" + name + "\" needs a retrieval task",
               fmt::format("this model has {}", fmt::join(made, ", ")));
  }
  if (made.empty()) refuse_key(c, key, "the metric \"" + name + "\" needs a ranking task");
  if (std::find(made.begin(), made.end(), name) == made.end()) {
    refuse_key(c, key, "no task makes the metric \"" + name + "\"",
               fmt::format("the ranking tasks make {}", fmt::join(made, ", ")));
  }
}

}  // namespace belfry
