// SPDX-License-Identifier: Apache-2.0
// BatchLayout: all arrays of one batch in one block of memory, so that a chunk of batches is one copy, and
// so that a captured step finds them at fixed addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/batch_stream.hpp"

namespace belfry {

/// Where a batch's arrays lie. Arrays that the batches of a run do not have are null.
struct BatchArrays {
  std::int32_t* users = nullptr;  ///< [B]
  std::int32_t* items = nullptr;  ///< [C]
  /// Per feature; n is B or C. One form's arrays are set.
  struct Feature {
    std::int32_t* rows = nullptr;          ///< [n]; of lists [n x longest]
    std::int64_t* offsets = nullptr;       ///< lists: [n + 1]
    std::int64_t* step_offsets = nullptr;  ///< lists read step by step: [n x steps + 1]
    std::int32_t* lengths = nullptr;       ///< likewise: [n]
    float* weights = nullptr;              ///< weighted lists: [n x longest]
    float* numbers = nullptr;              ///< dense: [n x width]
  };
  std::vector<Feature> features;
  std::vector<float*> labels;             ///< per ranking task: [B]
  std::int64_t* candidate_ids = nullptr;  ///< [C]
  float* log_probability = nullptr;       ///< [C]
  float* weight = nullptr;                ///< [B]
  std::int64_t* mask_offsets = nullptr;   ///< [B + 1], into the columns of the whole chunk
};

class BatchLayout {
 public:
  /// For batches of `stream` over `data`. Masked columns, whose number is known only once a batch is
  /// made, lie elsewhere: one list for all batches of a chunk.
  BatchLayout(const ModelData& data, const BatchStream& stream);

  std::int64_t bytes() const { return bytes_; }  ///< of one batch
  /// The arrays of a batch whose block starts at `block` (host or device; nothing is read).
  BatchArrays arrays(std::byte* block) const;
  /// The batch of `queries` rows that those arrays hold; its masks point into `mask_columns`.
  Batch batch(std::byte* block, std::int64_t queries, const std::int32_t* mask_columns) const;
  /// Copies a host batch into a host block, and its masked columns to the end of `mask_columns`.
  void pack(const Batch& batch, std::byte* block, std::vector<std::int32_t>& mask_columns) const;

 private:
  std::int64_t place(std::int64_t n, std::int64_t size);
  void place_feature(const FeatureData& feature, const FeatureValues& values, std::int64_t n);

  std::int64_t bytes_ = 0, max_queries_ = 0, negatives_ = 0;
  std::int64_t users_ = 0, items_ = 0, candidate_ids_ = 0;
  std::int64_t log_probability_ = -1, weight_ = -1, mask_offsets_ = -1;
  struct FeaturePlaces {
    std::int64_t rows = -1, offsets = -1, step_offsets = -1, lengths = -1, weights = -1,
                 numbers = -1;
    std::int64_t width = 0, longest = 1, steps = 0;
    bool of_query = false;
  };
  std::vector<FeaturePlaces> features_;
  std::vector<std::int64_t> labels_;
};

}  // namespace belfry
