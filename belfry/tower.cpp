// SPDX-License-Identifier: Apache-2.0
#include "belfry/tower.hpp"

#include "engine/error.hpp"

namespace belfry {

namespace layers {

namespace {
LayerConfig of(LayerKind kind) {
  LayerConfig layer;
  layer.kind = kind;
  return layer;
}
}  // namespace

LayerConfig mlp(std::vector<std::int64_t> units, Activation activation,
                Activation final_activation) {
  LayerConfig layer = of(LayerKind::mlp);
  layer.units = std::move(units);
  layer.activation = activation;
  layer.final_activation = final_activation;
  return layer;
}

LayerConfig cross(std::int64_t num_layers, std::int64_t projection_dim) {
  LayerConfig layer = of(LayerKind::cross);
  layer.num_layers = num_layers;
  layer.projection_dim = projection_dim;
  return layer;
}

LayerConfig dot_interaction() {
  return of(LayerKind::dot_interaction);
}
LayerConfig l2_normalize() {
  return of(LayerKind::l2_normalize);
}
LayerConfig layer_norm() {
  return of(LayerKind::layer_norm);
}

LayerConfig dropout(double rate) {
  LayerConfig layer = of(LayerKind::dropout);
  layer.rate = rate;
  return layer;
}

}  // namespace layers

Feature::Feature(std::string column, const Preprocessing& preprocessing, const Embedding& embedding)
    : config(preprocessing.config), vocabulary(preprocessing.vocabulary), rows(embedding.rows) {
  config.name = config.column = std::move(column);
  config.dim = embedding.dim;
  config.init = embedding.init;
  config.table = embedding.table;
  if (has_table(config.kind)) return;
  throw Error(ExitCode::usage, config.name, "numbers are looked up in no table",
              "Discretization gives them rows");
}

Feature::Feature(std::string column, const Preprocessing& numbers) : config(numbers.config) {
  config.name = config.column = std::move(column);
  if (has_table(config.kind)) throw Error(ExitCode::usage, config.name, "it needs an Embedding");
}

Tower::Tower(std::initializer_list<Part> parts) {
  for (const Part& part : parts) {
    if (part.feature_) features_.push_back(*part.feature_);
    if (part.layer_) layers_.push_back(*part.layer_);
    const bool first = features_.empty() && layers_.empty();
    const bool twice = part.preprocessing_ ? preprocessing_.has_value() : embedding_.has_value();
    if ((part.preprocessing_ || part.embedding_) && (!first || twice)) {
      throw Error(ExitCode::usage, "Tower",
                  "a preprocessing and its Embedding come first, and once",
                  "Feature{column, ..} is another column's");
    }
    if (part.preprocessing_) preprocessing_ = part.preprocessing_;
    if (part.embedding_) embedding_ = part.embedding_;
  }
  if (embedding_ && !preprocessing_) {
    throw Error(ExitCode::usage, "Tower", "an Embedding needs a Lookup before it");
  }
}

std::vector<Feature> Tower::features(Side side, const std::string& column) const {
  std::vector<Feature> out;
  if (preprocessing_) {
    Feature own = embedding_ ? Feature(column, *preprocessing_, *embedding_)
                             : Feature(column, *preprocessing_);
    // The ids of users and items, whose rows are those of the entities.
    if (own.config.kind == FeatureKind::category) own.config.kind = FeatureKind::id;
    out.push_back(std::move(own));
  }
  out.insert(out.end(), features_.begin(), features_.end());
  for (Feature& feature : out) feature.config.of = side;
  return out;
}

}  // namespace belfry
