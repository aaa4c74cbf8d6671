// SPDX-License-Identifier: Apache-2.0
// Strict TOML <-> Config. One field list per struct gives parsing, printing and the known keys; an
// unknown, mistyped or out-of-range key is Error(usage) at "file:line:column" with the nearest known key.
#pragma once

#include <string>
#include <vector>

#include "engine/config.hpp"

namespace belfry {

/// Reads a model file and applies dotted overrides ("train.epochs=3", "optimizer.kind=adagrad",
/// "feature.user_id.dim=32", "task.temperature=0.1": tables of arrays by name or number, the only task
/// without). A value is TOML, else a string; a,b is a list where one is wanted. Paths become absolute:
/// those of the file beside it, those of overrides in the current folder. An override's error is at
/// "command line". Where an override changes a kind (optimizer.kind, split.method), keys of the file that
/// the new kind lacks are dropped. A contradiction is left to check_config.
Config load_config(const std::string& path, const std::vector<std::string>& overrides);

/// The same for text that was not a file (presets, tests); relative paths stay.
Config parse_config(const std::string& text, const std::string& source_name,
                    const std::vector<std::string>& overrides);

/// A config without a file: default_config with data.interactions = [data_path], a tenth of the rows held
/// out at random unless the overrides split them, named by the stem of the file.
Config config_for_data(const std::string& data_path, const std::vector<std::string>& overrides);

/// Everything, fully resolved, as TOML that load_config reads back to the same Config.
std::string to_toml(const Config& config);

/// Contradictions that need no data: unknown network inputs, cycles, unused features, a tower that reads
/// the other side, towers of two widths, a shared table with two dims, a task without negatives, ...; and
/// for structs that a program filled, the ranges that the reader holds a file to. Error(usage) at
/// place_of(the key). Once more after the data has filled in the id towers it sees their width too.
void check_config(const Config& config);

/// Names and texts of `belfry init`.
struct PresetFile {
  std::string name, summary, text;
};
const std::vector<PresetFile>& preset_files();

}  // namespace belfry
