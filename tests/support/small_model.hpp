// SPDX-License-Identifier: Apache-2.0
// Small data sets and models for the tests of the engine's middle: files in a folder of the test's own,
// read the way `belfry train` reads them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/config_toml.hpp"
#include "engine/model_data.hpp"
#include "engine/parameter_registry.hpp"
#include "engine/run.hpp"
#include "engine/synthesize.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {

/// A resolved config and the data that it names.
struct Loaded {
  Config config;
  ModelData data;
};

inline Loaded load(Config config) {
  Loaded out;
  DataReport found;
  resolve_config(config, &found);
  check_config(config);
  out.data = load_model_data(config, found, [](const std::string&) {});
  out.config = std::move(config);
  return out;
}

/// Files and model files in a folder that goes away.
class ModelFolder {
 public:
  std::string write(const std::string& name, const std::string& text) const {
    spill(folder_ / name, text);
    return path(name);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  const std::filesystem::path& root() const { return folder_.path(); }
  /// The config of a model file with this text, its paths beside it.
  Config config(const std::string& toml, const std::vector<std::string>& overrides = {}) const {
    return load_config(write("model.toml", toml), overrides);
  }
  Loaded load(const std::string& toml) const { return test::load(config(toml)); }

 private:
  TempFolder folder_;
};

/// Ratings with planted tastes, and a config that trains on them in a moment.
class SmallRatings {
 public:
  explicit SmallRatings(std::int64_t users = 60, std::int64_t items = 40,
                        std::int64_t ratings = 900) {
    SynthesisOptions options;
    options.users = users;
    options.items = items;
    options.ratings = ratings;
    options.clusters = 4;
    write_ratings_csv(synthesize(options), folder_ / "ratings.csv");
  }
  std::string csv() const { return (folder_ / "ratings.csv").string(); }
  const std::filesystem::path& root() const { return folder_.path(); }
  Config config(std::vector<std::string> overrides = {}) const {
    std::vector<std::string> all{"train.epochs=2", "train.batch_size=100",
                                 "train.early_stop=false"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    Config c = config_for_data(csv(), all);
    if (c.features.empty()) {
      c.features = {id_feature("user", Side::query), id_feature("item", Side::candidate)};
    }
    return c;
  }
  static FeatureConfig id_feature(const std::string& name, Side side, std::int64_t dim = 8) {
    FeatureConfig f;
    f.name = name;
    f.of = side;
    f.dim = dim;
    return f;
  }

 private:
  TempFolder folder_;
};

/// Values and optimizer slots of all parameters, one after the other.
inline std::vector<float> all_values(const ParameterRegistry& registry, bool with_slots = true) {
  std::vector<float> out;
  for (int p = 0; p < registry.size(); ++p) {
    const Parameter& parameter = registry.at(p);
    std::vector<float> values = host_values(parameter.value);
    for (const bf16 x : host_values(parameter.value16)) values.push_back(to_float(x));
    out.insert(out.end(), values.begin(), values.end());
    for (std::size_t s = 0; with_slots && s < parameter.slots.size(); ++s) {
      const std::vector<float> slot = host_values(parameter.slots[s]);
      out.insert(out.end(), slot.begin(), slot.end());
    }
  }
  return out;
}

/// Keeps what training reports; `on_step` may ask for a stop.
class Recorder : public RunObserver {
 public:
  void step(const StepReport& r) override {
    ++steps;
    if (on_step) on_step(r);
  }
  void epoch(const EpochReport& r) override { epochs.push_back(r); }
  void note(const std::string& text) override { notes.push_back(text); }
  bool noted(const std::string& part) const {
    for (const std::string& n : notes) {
      if (n.find(part) != std::string::npos) return true;
    }
    return false;
  }
  std::int64_t steps = 0;
  std::vector<EpochReport> epochs;
  std::vector<std::string> notes;
  std::function<void(const StepReport&)> on_step;
};

}  // namespace belfry::test
