// SPDX-License-Identifier: Apache-2.0
// BatchStream: training batches in an order that is a pure function of (seed, epoch, position): a keyed
// bijection instead of a shuffle buffer, so that any step of any epoch can be made at once (resume).
#pragma once

#include <cstdint>
#include <vector>

#include "engine/config.hpp"
#include "engine/model_data.hpp"
#include "kernels/core/context.hpp"
#include "kernels/draw_negatives/draw_negatives.hpp"

namespace belfry {

/// One batch, valid until the next one is made. Candidates: the B positives, then extra negatives.
struct Batch {
  std::int64_t queries = 0, candidates = 0;  ///< B, C
  std::vector<Ragged> ids;                   ///< per feature of the model
  Vector<const std::int64_t> candidate_ids;  ///< [C] item numbers
  Vector<const float> log_probability;       ///< [C] log q; empty without correction
  Vector<const float> weight;                ///< [B]; empty: 1
  RowLists masked;                           ///< the user's other training items in the batch
};

class BatchStream {
 public:
  /// Keeps references to `data`, which must outlive it. Memory: the largest batch.
  BatchStream(const ModelData& data, const TrainConfig& train, const TaskConfig& task);

  std::int64_t batch_size() const { return batch_size_; }
  std::int64_t max_candidates() const { return batch_size_ + negatives_; }
  std::int64_t steps_per_epoch() const;
  /// Batch number `step` of `epoch` (both from 0). Extra negatives are drawn by ctx.state()->step.
  const Batch& make(const Context& ctx, std::int64_t epoch, std::int64_t step);

 private:
  void choose_rows(const Context& ctx, std::int64_t epoch, std::int64_t first, std::int64_t n);
  void draw(const Context& ctx);
  void fill_ids();
  void fill_corrections();
  void fill_masks();

  const ModelData& data_;
  const TrainConfig& train_;
  const TaskConfig& task_;
  std::int64_t batch_size_ = 0, negatives_ = 0;
  std::vector<float> item_log_probability_;  // per catalogue item
  std::vector<float> alias_keep_;
  std::vector<std::int32_t> alias_row_;
  ItemLists known_;  // per user, for mask_known_positives
  // of the batch being made
  Batch batch_;
  std::vector<std::int64_t> rows_;           // training rows
  std::vector<std::int32_t> users_, items_;  // [B], [C]
  std::vector<std::vector<std::int32_t>> feature_rows_;
  std::vector<std::int64_t> candidate_ids_;
  std::vector<float> log_probability_, weight_;
  std::vector<std::int64_t> mask_offsets_;
  std::vector<std::int32_t> mask_columns_;
  std::vector<std::int32_t> first_column_;  // per item: a batch column + 1, or 0
  std::vector<std::int32_t> next_column_;   // [C] chain of columns with the same item
};

}  // namespace belfry
