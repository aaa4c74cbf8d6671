// SPDX-License-Identifier: Apache-2.0
// Categories as columns, as Keras's CategoryEncoding and the output modes of its lookups give them.
#pragma once

#include <cstdint>
#include <span>

namespace belfry {

enum class EncodingMode {
  one_hot,    ///< of exactly one category
  multi_hot,  ///< 1 for each category that occurs
  count,      ///< how often it occurs, or the sum of its weights
};

/// One sample's categories (column numbers) into its row of columns. `weights` has one number a category,
/// for `count` alone, or is empty. A category without a column, or several under one_hot: Error(bad_data).
void encode_categories(std::span<const std::int64_t> categories, std::span<const float> weights,
                       EncodingMode mode, std::span<float> columns);

}  // namespace belfry
