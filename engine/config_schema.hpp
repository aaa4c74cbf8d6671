// SPDX-License-Identifier: Apache-2.0
// The model file, key by key: one field list per struct of config.hpp. Reading, printing, checking, the
// known keys and the explained defaults all come from these lists. Internal, like config_fields.hpp.
#pragma once

#include <string>
#include <vector>

#include "engine/config_fields.hpp"

namespace belfry::schema {

Fields fields(DataConfig& c);
Fields fields(SplitConfig& c);
Fields fields(FeatureConfig& c);
Fields fields(NetworkConfig& c);
Fields fields(LayerConfig& c);
Fields fields(TaskConfig& c);
/// The keys of [optimizer] (group: of [[optimizer.group]]) that belong to one optimizer.
Fields fields(OptimizerGroupConfig& c, bool group);
/// [optimizer]: its own optimizer, clipping, and the groups, which start from it.
Fields fields(OptimizerConfig& c, const std::string& preset);
Fields fields(TrainConfig& c);
Fields fields(EvaluateConfig& c);
Fields fields(IndexConfig& c);
Fields fields(OutputConfig& c);
Fields fields(InitConfig& c);
Fields fields(ScheduleConfig& c);

/// The top level: schema, name, preset, and one field for each section. Reading it reads all.
Fields root_fields(Config& c);
/// Puts the preset's defaults under what the file goes on to say; name and places stay.
void apply_preset(Config& c);

/// One section or one element of an array of tables, in the order of the file.
struct Section {
  std::string label;  ///< "[train]", "[[feature]]"
  std::string key;    ///< "train", "feature.0"
  Fields fields;
};
std::vector<Section> sections(Config& c);

/// Puts `key=value` overrides into the parsed file, before anything is read from it. Values are TOML;
/// what is not is a string.
void apply_overrides(toml::table& root, const std::vector<std::string>& overrides);

}  // namespace belfry::schema
