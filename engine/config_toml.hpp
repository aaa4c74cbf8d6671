// SPDX-License-Identifier: Apache-2.0
// Strict TOML <-> Config. One field list per struct gives parsing, printing and the known keys; an
// unknown, mistyped or out-of-range key is Error(usage) at "file:line:column" with the nearest known key.
#pragma once

#include <string>
#include <vector>

#include "engine/config.hpp"

namespace belfry {

/// Reads a model file and applies dotted overrides ("train.epochs=3", "optimizer.kind=adagrad",
/// "feature.user_id.dim=32": arrays of tables by name or index). Paths become absolute, relative to the
/// file. An override's error says "command line: KEY".
Config load_config(const std::string& path, const std::vector<std::string>& overrides);

/// The same for text that was not a file (presets, tests); relative paths stay.
Config parse_config(const std::string& text, const std::string& source_name,
                    const std::vector<std::string>& overrides);

/// A config without a file: default_config with data.interactions = [data_path] plus overrides.
Config config_for_data(const std::string& data_path, const std::vector<std::string>& overrides);

/// Everything, fully resolved, as TOML that load_config reads back to the same Config.
std::string to_toml(const Config& config);

/// Contradictions that need no data: unknown network inputs, cycles, a shared table with two dims or two
/// sides' conventions, cosine with temperature missing, early_stop without a metric that exists, ...
/// Error(usage) with the place of the culprit.
void check_config(const Config& config);

/// Names and texts of `belfry init`.
struct PresetFile {
  std::string name, summary, text;
};
const std::vector<PresetFile>& preset_files();

}  // namespace belfry
