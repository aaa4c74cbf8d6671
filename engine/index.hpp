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
  /// Packs all rows of `items` (in the backend's memory, as the chunks of add).
  static ItemIndex build(const Context& ctx, Matrix<const float> items);

  /// Packs `chunk` as rows first ...; a vector with NaN or infinity is Error(bad_data) that names its
  /// row, and then nothing of the chunk is packed. Waits for that check.
  void add(const Context& ctx, std::int64_t first, Matrix<const float> chunk);

  std::int64_t size() const { return n_; }
  std::int64_t dim() const { return d_; }
  /// Valid as long as this index is neither moved nor destroyed.
  PackedItems view() const { return {packed_.data(), n_, d_}; }
  /// The vectors of rows first, first + 1, ..., as they were given, into `out` in host memory.
  void read_rows(const Context& ctx, std::int64_t first, Matrix<float> out) const;

 private:
  std::int64_t n_ = 0, d_ = 0;
  Buffer<float> packed_;
};

}  // namespace belfry
