// SPDX-License-Identifier: Apache-2.0
#include "engine/category_encoding.hpp"

#include <algorithm>
#include <string>

#include "engine/error.hpp"

namespace belfry {

void encode_categories(std::span<const std::int64_t> categories, std::span<const float> weights,
                       EncodingMode mode, std::span<float> columns) {
  if (mode == EncodingMode::one_hot && categories.size() != 1) {
    throw Error(ExitCode::bad_data, "",
                "one-hot encoding of " + std::to_string(categories.size()) + " categories");
  }
  if (!weights.empty() && (mode != EncodingMode::count || weights.size() != categories.size())) {
    throw Error(ExitCode::bad_data, "",
                std::to_string(categories.size()) + " categories cannot take " +
                    std::to_string(weights.size()) + " weights");
  }
  std::fill(columns.begin(), columns.end(), 0.0f);
  for (std::size_t i = 0; i < categories.size(); ++i) {
    const std::int64_t c = categories[i];
    if (c < 0 || c >= static_cast<std::int64_t>(columns.size())) {
      throw Error(ExitCode::bad_data, "",
                  "category " + std::to_string(c) + " of " + std::to_string(columns.size()));
    }
    float& cell = columns[static_cast<std::size_t>(c)];
    cell = mode == EncodingMode::count ? cell + (weights.empty() ? 1.0f : weights[i]) : 1.0f;
  }
}

}  // namespace belfry
