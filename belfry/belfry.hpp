// SPDX-License-Identifier: Apache-2.0
// belfry as a library: tables, towers, tasks, a model, answers. See examples/quickstart.
#pragma once

#include "belfry/brute_force.hpp"
#include "belfry/optimizers.hpp"
#include "belfry/table.hpp"
#include "belfry/tasks.hpp"
#include "belfry/tower.hpp"
#include "belfry/two_tower.hpp"
#include "engine/config_toml.hpp"
#include "engine/error.hpp"
#include "engine/vocabulary.hpp"
