// SPDX-License-Identifier: Apache-2.0
// A part of preset_files() (config_toml.hpp). Internal.
#pragma once

#include <vector>

#include "engine/config_toml.hpp"

namespace belfry {

std::vector<PresetFile> ranking_preset_files();

}  // namespace belfry
