// SPDX-License-Identifier: Apache-2.0
// Towers: what is made of the columns of one side. These are values that say the same as [[feature]] and
// [[network]] of a model file, under the names of Keras and TFRS; engine/config.hpp has every field, and
// whatever has no class here is said by these structs themselves.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/vocabulary.hpp"

namespace belfry {

/// How a column's values become rows of a table, or numbers.
struct Preprocessing {
  FeatureConfig config;
  std::optional<Vocabulary> vocabulary;  ///< that is given; else learned of the training rows

 protected:
  explicit Preprocessing(FeatureKind kind) { config.kind = kind; }
};

/// Values by a vocabulary (StringLookup, IntegerLookup).
struct Lookup : Preprocessing {
  /// Of the values of the training rows; of items: of all candidates that are in the catalogue.
  Lookup() : Preprocessing(FeatureKind::category) {}
  /// Of a vocabulary in its order, with its rows for unknown values.
  explicit Lookup(Vocabulary given) : Lookup() {
    config.oov = given.options().oov;
    vocabulary = std::move(given);
  }
};
/// Several values in a field ("Comedy|Drama"), pooled.
struct ListLookup : Preprocessing {
  explicit ListLookup(std::string separator = "|", Pooling pooling = Pooling::mean)
      : Preprocessing(FeatureKind::list) {
    config.separator = std::move(separator);
    config.pooling = pooling;
  }
};
/// Values by their hash (Hashing). salt 0: FarmHash, else SipHash.
struct HashedLookup : Preprocessing {
  explicit HashedLookup(std::int64_t buckets, std::int64_t salt = 0)
      : Preprocessing(FeatureKind::hashed) {
    config.buckets = buckets;
    config.salt = salt;
  }
};
/// Numbers by the range that they lie in (Discretization).
struct Discretization : Preprocessing {
  explicit Discretization(BoundariesConfig boundaries) : Preprocessing(FeatureKind::bucket) {
    config.boundaries = std::move(boundaries);
  }
};
/// Numbers to mean 0 and variance 1 over the training rows (Normalization). No embedding follows.
struct Normalization : Preprocessing {
  Normalization() : Preprocessing(FeatureKind::number) { config.normalise = true; }
};
/// Words of a text, pooled (TextVectorization).
struct TextVectorization : Preprocessing {
  explicit TextVectorization(std::int64_t max_tokens = 10'000, std::int64_t ngrams = 1)
      : Preprocessing(FeatureKind::text) {
    config.max_tokens = max_tokens;
    config.ngrams = ngrams;
  }
};

/// The table that a preprocessing's rows are looked up in.
struct Embedding {
  explicit Embedding(std::int64_t dim) : dim(dim) {}
  /// `rows` is checked against the height that the vocabulary gives: Vocabulary::size().
  Embedding(std::int64_t rows, std::int64_t dim) : rows(rows), dim(dim) {}
  std::int64_t rows = 0, dim = 0;
  std::optional<InitConfig> init;  ///< default: by preset
  std::string table;               ///< shared by all features that name it; default: one of its own
};

/// Layers of a tower or a ranking network, as LayerConfig says them.
namespace layers {
/// Dense layers one after the other; `activation` of all but the last.
LayerConfig mlp(std::vector<std::int64_t> units, Activation activation = Activation::relu,
                Activation final_activation = Activation::linear);
/// DCN-v2's crosses, stacked. projection_dim 0: full rank.
LayerConfig cross(std::int64_t num_layers = 1, std::int64_t projection_dim = 0);
LayerConfig dot_interaction();
LayerConfig l2_normalize();
LayerConfig layer_norm();
LayerConfig dropout(double rate);
}  // namespace layers

/// One column and what becomes of it.
struct Feature {
  Feature(std::string column, const Preprocessing& preprocessing, const Embedding& embedding);
  /// Numbers as they stand or normalised.
  Feature(std::string column, const Preprocessing& numbers);
  /// Whatever a model file can say of a feature; its side is that of the tower.
  explicit Feature(FeatureConfig config) : config(std::move(config)) {}
  FeatureConfig config;
  std::optional<Vocabulary> vocabulary;
  std::int64_t rows = 0;  ///< that the table must have; 0: any
};

/// What makes one side's vectors: features in order, concatenated, and layers on top.
class Tower {
 public:
  class Part {
   public:
    Part(const Preprocessing& p) : preprocessing_(p) {}
    Part(const Embedding& e) : embedding_(e) {}
    Part(Feature f) : feature_(std::move(f)) {}
    Part(LayerConfig l) : layer_(std::move(l)) {}

   private:
    friend class Tower;
    std::optional<Preprocessing> preprocessing_;
    std::optional<Embedding> embedding_;
    std::optional<Feature> feature_;
    std::optional<LayerConfig> layer_;
  };
  /// {Lookup, Embedding} are of the column that the model gives the tower; features of other columns and layers
  /// may follow. Anything else in a preprocessing's place: Error(usage).
  Tower(std::initializer_list<Part> parts);

  /// The features, that of the model's own column named `column`, for this side.
  std::vector<Feature> features(Side side, const std::string& column) const;
  const std::vector<LayerConfig>& layers() const { return layers_; }
  /// Whether one is a copy of the other.
  bool same(const Tower& other) const { return identity_ == other.identity_; }

 private:
  std::optional<Preprocessing> preprocessing_;
  std::optional<Embedding> embedding_;
  std::shared_ptr<const char> identity_ = std::make_shared<const char>();
  std::vector<Feature> features_;
  std::vector<LayerConfig> layers_;
};

}  // namespace belfry
