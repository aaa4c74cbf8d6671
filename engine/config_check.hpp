// SPDX-License-Identifier: Apache-2.0
// The parts of check_config (config_toml.hpp). Internal.
#pragma once

#include <string>

#include "engine/config.hpp"

namespace belfry {

/// "feature.3.dim"; an empty key: the element itself.
std::string key_of(const char* list, std::size_t i, const std::string& key);
/// "query" or "candidate".
const char* word(Side side);
/// Error(usage) at the place where `key` was written.
[[noreturn]] void refuse_key(const Config& config, const std::string& key, const std::string& what,
                             const std::string& hint = "");
/// Names stand in parameter names and dotted keys.
void check_name(const Config& config, const std::string& key, const std::string& name);

void check_init(const Config& config, const std::string& key, const InitConfig& init);

/// Each feature by itself, and features that share a table.
void check_features(const Config& config);
/// Task i, one of ranking, whose score is a network of the config.
void check_ranking_task(const Config& config, std::size_t i);
/// What training watches must be something that a task makes.
void check_early_stop(const Config& config);
/// Network i, if it starts with the steps of a list.
void check_sequences(const Config& config, std::size_t i);

}  // namespace belfry
