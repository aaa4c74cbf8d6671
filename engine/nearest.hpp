// SPDX-License-Identifier: Apache-2.0
// "did you mean ...?": the known word that a mistyped one is closest to.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace belfry {

/// Edits (insert, delete, replace, swap of neighbours) between two words, letter case aside.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The known word within a third of the word's length in edits, or "" when none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

/// A hint for an unknown word: `did you mean "x"?`, or the list of all known words.
std::string nearest_hint(std::string_view word, const std::vector<std::string>& known);

}  // namespace belfry
