// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file, parsed without trust. Internal to the reader.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/safetensors.hpp"

namespace belfry {

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<TensorInfo> tensors;  ///< in the order of the text; offsets not yet compared
  std::string error;                ///< why the text is refused; empty: it is good
};

/// Accepts {"__metadata__": {string: string}, NAME: {"dtype", "shape", "data_offsets"}, ...} and trailing
/// spaces, nothing else: no duplicate or unknown key, no other nesting, unsigned integers only, rank <= 4,
/// extents <= 2^40, end - begin == size of the dtype * product of the shape.
SafetensorsHeader parse_safetensors_header(std::string_view text);

/// `text` for an error line: control characters and non-ASCII bytes escaped, cut at 60 characters.
std::string printable(std::string_view text);

}  // namespace belfry
