// SPDX-License-Identifier: Apache-2.0
// Files of ids: one id a line, or two columns `user,item`. Used for --users, --exclude and --only, and for
// a vocabulary that a model file names.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/vocabulary.hpp"

namespace belfry {

struct IdList {
  std::vector<std::int32_t> ids;  ///< one id a line
  /// (user, item); item -1: of a known user, but unknown, so that an allow-list still binds its user.
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
  std::int64_t unknown = 0;  ///< lines whose ids no vocabulary has
  std::int64_t lines = 0;
  std::string first_unknown;
};

/// Reads a list whose single ids are of `single` (users or items) and whose pairs are (user, item). A line
/// is one id when the vocabulary knows it whole (an id may hold commas), else one or two fields in CSV or
/// TSV form. Blank lines, CRLF, a BOM and a header line `user`, `item` or `user,item` are accepted.
IdList read_id_list(const std::string& path, const Vocabulary& single, const Vocabulary& users,
                    const Vocabulary& items);

/// The lines of a file of ids, each as it stands: no blank ones, no CR, no BOM. Broken UTF-8 or a control
/// character: Error(bad_data) at FILE:LINE:1, and so is a file without an id.
std::vector<std::string> read_ids(const std::string& path);

}  // namespace belfry
