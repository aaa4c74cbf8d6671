// SPDX-License-Identifier: Apache-2.0
// Names that columns of users, items, weights and times usually have.
#pragma once

#include <string>

namespace belfry {

/// Whether a column of this name has a role by its name.
bool is_role_name(const std::string& name);

}  // namespace belfry
