// SPDX-License-Identifier: Apache-2.0
// Lists for tasks that rank lists: what tfrs.examples.movielens.sample_listwise does.
#pragma once

#include <cstdint>
#include <vector>

namespace belfry {

/// Rows of lists, one list of `list_size` after another: for each user in order of first appearance, `lists`
/// draws of distinct rows of that user, whose order is drawn too. Users with fewer rows get none. A pure
/// function of its arguments: each draw depends on (seed, user, list) alone.
std::vector<std::int64_t> sample_lists(const std::vector<std::int32_t>& users,
                                       std::int64_t list_size, std::int64_t lists,
                                       std::uint64_t seed);

}  // namespace belfry
