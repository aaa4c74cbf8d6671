// SPDX-License-Identifier: Apache-2.0
#include "engine/config.hpp"

#include <algorithm>

#include "engine/error.hpp"
#include "engine/nearest.hpp"

namespace belfry {
namespace {

bool is_tfrs(const std::string& preset) {
  if (preset.empty() || preset == "tfrs") return preset == "tfrs";
  throw Error(ExitCode::usage, "preset", "unknown preset \"" + preset + "\"",
              nearest_hint(preset, {"tfrs"}));
}

double default_learning_rate(bool tfrs, OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::sgd:
      return 0.01;
    case OptimizerKind::adagrad:
    case OptimizerKind::rowwise_adagrad:
      return 0.1;
    case OptimizerKind::adam:
      return tfrs ? 0.001 : 0.01;
    case OptimizerKind::rmsprop:
    case OptimizerKind::ftrl:
    case OptimizerKind::clippy_adagrad:
      return 0.001;
  }
  return 0.01;
}

}  // namespace

OptimizerGroupConfig default_optimizer(const std::string& preset, OptimizerKind kind) {
  const bool tfrs = is_tfrs(preset);
  OptimizerGroupConfig group;
  group.options.kind = kind;
  // Keras moves every row of a table that has momentum; the lazy form is as good and far cheaper.
  group.options.sparse = tfrs ? SparseUpdate::exact : SparseUpdate::lazy;
  group.learning_rate = default_learning_rate(tfrs, kind);
  return group;
}

InitConfig default_embedding_init(const std::string& preset) {
  InitConfig init;
  if (is_tfrs(preset)) init.kind = InitKind::uniform;
  return init;
}

PenaltyRows default_penalty_rows(const std::string& preset) {
  return is_tfrs(preset) ? PenaltyRows::all : PenaltyRows::batch;
}

Config default_config(const std::string& preset) {
  Config config;
  config.preset = preset;
  const bool tfrs = is_tfrs(preset);
  config.optimizer.main =
      default_optimizer(preset, tfrs ? OptimizerKind::adagrad : OptimizerKind::adam);
  TaskConfig task;
  if (tfrs) {
    task.similarity = Similarity::dot;
    task.temperature = 1.0;
    task.sampling_correction = SamplingCorrection::none;
    task.remove_accidental_hits = false;
    task.mean_reduction = false;
    config.data.catalogue = CatalogueRule::all;
    config.data.vocabulary = "catalogue";  // each item has a row, also one that no row trains
    config.train.epochs = 3;
    config.train.batch_size = 8192;
    config.train.shuffle = ShuffleMode::once;
    config.train.early_stop.reset();
    config.evaluate.exclude_seen = false;
    for (const char* k : {"1", "5", "10", "50", "100"}) {
      config.evaluate.metrics.push_back(std::string("factorized_top_k/top_") + k +
                                        "_categorical_accuracy");
    }
  }
  config.tasks.push_back(task);
  return config;
}

std::int64_t output_width(const LayerConfig& layer, std::int64_t input,
                          const std::vector<std::int64_t>& parts) {
  if (layer.kind == LayerKind::mlp || layer.kind == LayerKind::gru) {
    return layer.units.empty() ? 0 : layer.units.back();
  }
  if (layer.kind != LayerKind::dot_interaction) return input;
  const auto n = static_cast<std::int64_t>(parts.size());
  for (const std::int64_t part : parts) {
    if (part != parts.front()) return 0;
  }
  if (layer.skip_gather) return n * n;
  return layer.self_interaction ? n * (n + 1) / 2 : n * (n - 1) / 2;
}

bool starts_with_steps(const NetworkConfig& network) {
  return std::any_of(network.layers.begin(), network.layers.end(),
                     [](const LayerConfig& layer) { return reads_steps(layer.kind); });
}

std::int64_t steps_of(const Config& config, const FeatureConfig& feature) {
  for (const NetworkConfig& n : config.networks) {
    const bool reads = std::find(n.inputs.begin(), n.inputs.end(), feature.name) != n.inputs.end();
    if (!reads || !starts_with_steps(n)) continue;
    const bool unset = feature.kind == FeatureKind::sequence && feature.max_length == 0;
    return unset ? kDefaultSequenceLength : feature.max_length;
  }
  return 0;
}

std::vector<const FeatureConfig*> lookups(const Config& config) {
  std::vector<const FeatureConfig*> out;
  for (const FeatureConfig& f : config.features) {
    out.insert(out.end(), f.kind == FeatureKind::unified ? static_cast<std::size_t>(f.chunks) : 1,
               &f);
  }
  return out;
}

std::int64_t query_heads(const Config& config) {
  for (const NetworkConfig& network : config.networks) {
    if (network.name != "query" || network.layers.empty()) continue;
    const LayerConfig& last = network.layers.back();
    return last.kind == LayerKind::heads ? last.count : 1;
  }
  return 1;
}

const TaskConfig* retrieval_task(const Config& config) {
  for (const TaskConfig& task : config.tasks) {
    if (task.kind == TaskKind::retrieval) return &task;
  }
  return nullptr;
}

std::string place_of(const Config& config, const std::string& key) {
  std::string at = key;
  while (true) {
    const auto found = config.places.of.find(at);
    if (found != config.places.of.end()) return found->second;
    if (at.empty()) return key;
    const auto dot = at.rfind('.');
    at = dot == std::string::npos ? "" : at.substr(0, dot);
  }
}

}  // namespace belfry
