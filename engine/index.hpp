// SPDX-License-Identifier: Apache-2.0
// The item vectors of a model in the layout that retrieval scans.
#pragma once

#include <cstdint>

#include "kernels/topk_scores/topk_scores.hpp"

namespace belfry {

/// n item vectors of width d, packed once. Filled in chunks, so that a file streams in without a second
/// copy; the item of row i keeps its row. Rows never added are zero vectors.
class ItemIndex {
 public:
  ItemIndex(const Context& ctx, std::int64_t n, std::int64_t d);
  /// Packs all rows of `items`.
  static ItemIndex build(const Context& ctx, Matrix<const float> items);

  /// Packs `chunk` as rows first ...; a vector with NaN or infinity is Error(bad_data) that names its
  /// row, and then nothing of the chunk is packed.
  void add(const Context& ctx, std::int64_t first, Matrix<const float> chunk);

  std::int64_t size() const { return n_; }
  std::int64_t dim() const { return d_; }
  /// Valid as long as this index is neither moved nor destroyed.
  PackedItems view() const { return {packed_.data(), n_, d_}; }
  /// The vector of row i, as it was given, into out[0 .. dim-1].
  void row(std::int64_t i, float* out) const;

 private:
  std::int64_t n_ = 0, d_ = 0;
  Buffer<float> packed_;
};

}  // namespace belfry
