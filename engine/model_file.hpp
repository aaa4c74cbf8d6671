// SPDX-License-Identifier: Apache-2.0
// model.safetensors: all that answering needs, in one file: networks, vocabularies, item vectors, seen
// items, each training user's features and last context. No path, time, thread count or fingerprint of a
// raw file is inside: same data and seed, same bytes. test.safetensors beside it keeps a run's test part
// by entity, so that `evaluate RUN` needs no raw data.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "engine/evaluator.hpp"
#include "engine/index.hpp"
#include "engine/model_data.hpp"
#include "engine/two_tower.hpp"

namespace belfry {

/// A trained model as it is used. `data` holds users, items, tables, features (with the rows of training
/// users and catalogue items), last_context and item_counts; its interactions are empty.
struct LoadedModel {
  Config config;  ///< the parts that shape the model: features, networks, tasks, evaluation
  ModelData data;
  ItemLists seen;  ///< training (and, where masked, validation) items of each user
  std::unique_ptr<TowerNetworks> model;
  std::unique_ptr<ItemIndex> index;  ///< none where the model does not retrieve
};

/// A model that answers, whoever owns its parts.
struct ModelView {
  const Config& config;
  const ModelData& data;
  const ItemLists& seen;
  TowerNetworks* model;
  const ItemIndex* index;
  ModelView(const Config& config, const ModelData& data, const ItemLists& seen,
            TowerNetworks& model, const ItemIndex* index)
      : config(config), data(data), seen(seen), model(&model), index(index) {}
  ModelView(LoadedModel& m) : ModelView(m.config, m.data, m.seen, *m.model, m.index.get()) {}
};

/// Writes the model. `seen` as above; index: nullptr where it does not retrieve.
void write_model_file(const Context& ctx, const std::filesystem::path& path, const Config& config,
                      const ModelData& data, const ItemLists& seen, const TowerNetworks& model,
                      const ItemIndex* index);

/// Reads and checks a model; damaged, hostile or of another major version: Error(bad_model).
std::unique_ptr<LoadedModel> load_model_file(const Context& ctx, const std::filesystem::path& path);

void write_test_file(const std::filesystem::path& path, const ModelData& data);
Interactions load_test_part(const std::filesystem::path& path, const ModelData& model);

}  // namespace belfry
