// SPDX-License-Identifier: Apache-2.0
// WorkspacePlan: all activations and gradients of a step, sized once from the largest batch and cut from
// one block. No allocation happens after commit().
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/buffer.hpp"

namespace belfry {

class WorkspacePlan {
 public:
  /// Asks for a matrix [rows, cols] of f32 whose rows start 16 floats aligned; returns its number.
  int matrix(std::int64_t rows, std::int64_t cols) {
    const std::int64_t pitch = (cols + 15) / 16 * 16;
    places_.push_back({total_, rows, cols, pitch});
    total_ += checked_product(rows, pitch, "WorkspacePlan");
    total_ = (total_ + 15) / 16 * 16;
    return static_cast<int>(places_.size()) - 1;
  }
  /// Takes the memory; after this, at() works and matrix() must not be called.
  void commit(Backend backend) { block_ = Buffer<float>(backend, total_); }
  /// The first `rows` rows of matrix `number`.
  Matrix<float> at(int number, std::int64_t rows) {
    const Place& p = places_[static_cast<std::size_t>(number)];
    require(rows <= p.rows, "WorkspacePlan: a batch is larger than planned");
    return {block_.data() + p.first, rows, p.cols, p.pitch};
  }
  std::int64_t bytes() const { return total_ * static_cast<std::int64_t>(sizeof(float)); }

 private:
  struct Place {
    std::int64_t first, rows, cols, pitch;
  };
  std::vector<Place> places_;
  std::int64_t total_ = 0;
  Buffer<float> block_;
};

}  // namespace belfry
