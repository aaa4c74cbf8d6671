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
#include "kernels/row_plan/row_plan.hpp"
#include "kernels/step/step.hpp"

namespace belfry {

/// One batch, valid until the next one is made. Candidates: the B positives, then extra negatives.
struct Batch {
  std::int64_t queries = 0, candidates = 0;  ///< B, C
  std::vector<FeatureBatch> features;        ///< per feature of the model
  Vector<const std::int64_t> candidate_ids;  ///< [C] item numbers
  Vector<const float> log_probability;       ///< [C] log q; empty without correction
  Vector<const float> weight;                ///< [B]; empty: 1
  std::vector<Vector<const float>> labels;   ///< per ranking task [B]
  RowLists masked;                           ///< the user's other training items in the batch
  /// Per parameter: what its gradient owes to the ids, where that was made ahead; empty otherwise.
  std::vector<RowPlan> plans;
};

class BatchStream {
 public:
  /// Keeps references to `data` and `train`, which must outlive it. Memory: the largest batch, and the drawn
  /// lists of a task that ranks lists.
  BatchStream(const ModelData& data, const TrainConfig& train,
              const std::vector<TaskConfig>& tasks);

  std::int64_t batch_size() const { return batch_size_; }
  std::int64_t max_candidates() const { return batch_size_ + negatives_; }
  std::int64_t rows() const;  ///< of an epoch: the training rows, or those of all lists
  std::int64_t steps_per_epoch() const;
  /// Rows of batch number `step`; all but the last of an epoch have batch_size().
  std::int64_t rows_of(std::int64_t step) const;
  const ModelData& data() const { return data_; }
  std::int64_t data_bytes() const;  ///< of what batches are made from, on a device
  bool masks() const { return retrieval_.mask_known_positives; }
  std::int64_t list_size() const { return list_size_; }  ///< consecutive rows of a list; 1: rows
  std::size_t label_count() const { return data_.train.labels.size(); }
  bool corrects() const { return !item_log_probability_.empty(); }
  bool weighs() const { return !data_.train.weight.empty(); }
  ShuffleOrder order() const;
  const ItemLists& known() const { return known_; }  ///< training items of each user, for masks
  /// Masked columns that no batch exceeds, whatever is drawn; 0 without masks.
  std::int64_t mask_capacity() const;
  const NegativesConfig& negatives() const { return retrieval_.negatives; }
  const std::vector<float>& item_log_probability() const { return item_log_probability_; }
  const std::vector<float>& alias_keep() const { return alias_keep_; }
  const std::vector<std::int32_t>& alias_row() const { return alias_row_; }
  /// Batch number `step` of `epoch` (both from 0). Extra negatives are drawn by ctx.state()->step.
  const Batch& make(const Context& ctx, std::int64_t epoch, std::int64_t step);

 private:
  void choose_rows(const Context& ctx, std::int64_t epoch, std::int64_t first, std::int64_t n);
  void draw(const Context& ctx);
  void fill_features();
  void fill_labels();
  void fill_corrections();
  void fill_masks(const Context& ctx);

  const ModelData& data_;
  const TrainConfig& train_;
  TaskConfig retrieval_;             ///< the retrieval task; without one, it asks for nothing
  std::vector<std::int64_t> lists_;  ///< training rows of the drawn lists, one list after another
  std::int64_t list_size_ = 1;
  std::int64_t batch_size_ = 0, negatives_ = 0;
  std::vector<float> item_log_probability_;  // per catalogue item
  std::vector<float> alias_keep_;
  std::vector<std::int32_t> alias_row_;
  ItemLists known_;  // per user, for mask_known_positives
  // of the batch being made
  Batch batch_;
  std::vector<std::int64_t> rows_;           // training rows
  std::vector<std::int32_t> users_, items_;  // [B], [C]
  std::vector<FeatureGather> gathers_;       // per feature
  std::vector<std::vector<float>> labels_;
  std::vector<std::int64_t> candidate_ids_;
  std::vector<float> log_probability_, weight_;
  std::vector<std::int64_t> mask_offsets_;
  std::vector<std::int32_t> mask_columns_;
};

}  // namespace belfry
