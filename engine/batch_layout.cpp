// SPDX-License-Identifier: Apache-2.0
#include "engine/batch_layout.hpp"

#include <algorithm>

namespace belfry {

namespace {
constexpr std::int64_t kAlignment = 256;

template <class T>
T* at(std::byte* block, std::int64_t place) {
  return place < 0 ? nullptr : reinterpret_cast<T*>(block + place);
}
}  // namespace

std::int64_t BatchLayout::place(std::int64_t n, std::int64_t size) {
  const std::int64_t start = bytes_;
  bytes_ += (checked_product(n, size, "BatchLayout") + kAlignment - 1) / kAlignment * kAlignment;
  return start;
}

BatchLayout::BatchLayout(const ModelData& data, const BatchStream& stream)
    : max_queries_(stream.batch_size()), negatives_(stream.max_candidates() - stream.batch_size()) {
  const std::int64_t candidates = stream.max_candidates();
  users_ = place(max_queries_, sizeof(std::int32_t));
  items_ = place(candidates, sizeof(std::int32_t));
  for (const FeatureData& f : data.features) {
    of_query_.push_back(f.config.of == Side::query);
    ids_.push_back(place(of_query_.back() ? max_queries_ : candidates, sizeof(std::int32_t)));
  }
  candidate_ids_ = place(candidates, sizeof(std::int64_t));
  if (stream.corrects()) log_probability_ = place(candidates, sizeof(float));
  if (stream.weighs()) weight_ = place(max_queries_, sizeof(float));
  if (stream.masks()) mask_offsets_ = place(max_queries_ + 1, sizeof(std::int64_t));
}

BatchArrays BatchLayout::arrays(std::byte* block) const {
  BatchArrays a;
  a.users = at<std::int32_t>(block, users_);
  a.items = at<std::int32_t>(block, items_);
  for (const std::int64_t place : ids_) a.ids.push_back(at<std::int32_t>(block, place));
  a.candidate_ids = at<std::int64_t>(block, candidate_ids_);
  a.log_probability = at<float>(block, log_probability_);
  a.weight = at<float>(block, weight_);
  a.mask_offsets = at<std::int64_t>(block, mask_offsets_);
  return a;
}

Batch BatchLayout::batch(std::byte* block, std::int64_t queries,
                         const std::int32_t* mask_columns) const {
  const BatchArrays a = arrays(block);
  Batch b;
  b.queries = queries;
  b.candidates = queries + negatives_;
  for (std::size_t f = 0; f < a.ids.size(); ++f) {
    const std::int64_t n = of_query_[f] ? b.queries : b.candidates;
    b.ids.push_back({a.ids[f], nullptr, nullptr, n, n});
  }
  b.candidate_ids = {a.candidate_ids, b.candidates};
  if (a.log_probability != nullptr) b.log_probability = {a.log_probability, b.candidates};
  if (a.weight != nullptr) b.weight = {a.weight, b.queries};
  b.masked = {a.mask_offsets, mask_columns};
  return b;
}

void BatchLayout::pack(const Batch& batch, std::byte* block,
                       std::vector<std::int32_t>& mask_columns) const {
  const BatchArrays a = arrays(block);
  for (std::size_t f = 0; f < a.ids.size(); ++f) {
    std::copy_n(batch.ids[f].ids, batch.ids[f].nnz, a.ids[f]);
  }
  std::copy_n(batch.candidate_ids.data, batch.candidates, a.candidate_ids);
  if (a.log_probability != nullptr) {
    std::copy_n(batch.log_probability.data, batch.candidates, a.log_probability);
  }
  if (a.weight != nullptr) std::copy_n(batch.weight.data, batch.queries, a.weight);
  if (a.mask_offsets == nullptr) return;
  const auto before = static_cast<std::int64_t>(mask_columns.size());
  for (std::int64_t i = 0; i <= batch.queries; ++i) {
    a.mask_offsets[i] = before + batch.masked.offsets[i];
  }
  mask_columns.insert(mask_columns.end(), batch.masked.rows,
                      batch.masked.rows + batch.masked.offsets[batch.queries]);
}

}  // namespace belfry
