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
  std::size_t context = 0;
  for (const FeatureData& f : data.features) {
    place_feature(f, f.context ? data.train.context[context++] : f.values,
                  f.config.of == Side::query ? max_queries_ : candidates);
  }
  for (std::size_t t = 0; t < stream.label_count(); ++t) {
    labels_.push_back(place(max_queries_, sizeof(float)));
  }
  candidate_ids_ = place(candidates, sizeof(std::int64_t));
  if (stream.corrects()) log_probability_ = place(candidates, sizeof(float));
  if (stream.weighs()) weight_ = place(max_queries_, sizeof(float));
  if (stream.masks()) mask_offsets_ = place(max_queries_ + 1, sizeof(std::int64_t));
}

void BatchLayout::place_feature(const FeatureData& feature, const FeatureValues& values,
                                std::int64_t n) {
  FeaturePlaces p;
  p.of_query = feature.config.of == Side::query;
  switch (feature.form()) {
    case FeatureForm::row:
      p.rows = place(n, sizeof(std::int32_t));
      break;
    case FeatureForm::list: {
      p.longest = feature.longest;
      const std::int64_t most = checked_product(n, p.longest, "BatchLayout");
      p.rows = place(most, sizeof(std::int32_t));
      p.offsets = place(n + 1, sizeof(std::int64_t));
      p.steps = feature.steps;
      if (p.steps > 0) {
        p.step_offsets =
            place(checked_product(n, p.steps, "BatchLayout") + 1, sizeof(std::int64_t));
        p.lengths = place(n, sizeof(std::int32_t));
      }
      if (!values.weights.empty()) p.weights = place(most, sizeof(float));
      break;
    }
    case FeatureForm::dense:
      p.width = feature.width;
      p.numbers = place(checked_product(n, p.width, "BatchLayout"), sizeof(float));
      break;
  }
  features_.push_back(p);
}

BatchArrays BatchLayout::arrays(std::byte* block) const {
  BatchArrays a;
  a.users = at<std::int32_t>(block, users_);
  a.items = at<std::int32_t>(block, items_);
  for (const FeaturePlaces& p : features_) {
    a.features.push_back({at<std::int32_t>(block, p.rows), at<std::int64_t>(block, p.offsets),
                          at<std::int64_t>(block, p.step_offsets),
                          at<std::int32_t>(block, p.lengths), at<float>(block, p.weights),
                          at<float>(block, p.numbers)});
  }
  for (const std::int64_t place : labels_) a.labels.push_back(at<float>(block, place));
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
  for (std::size_t f = 0; f < features_.size(); ++f) {
    const FeaturePlaces& p = features_[f];
    const BatchArrays::Feature& from = a.features[f];
    const std::int64_t n = p.of_query ? b.queries : b.candidates;
    if (from.numbers != nullptr) {
      b.features.push_back({{}, {from.numbers, n, p.width}});
    } else {
      b.features.push_back({{from.rows, from.offsets, from.weights, n, n * p.longest},
                            {},
                            from.step_offsets,
                            from.lengths});
    }
  }
  for (const float* labels : a.labels) b.labels.push_back({labels, b.queries});
  b.candidate_ids = {a.candidate_ids, b.candidates};
  if (a.log_probability != nullptr) b.log_probability = {a.log_probability, b.candidates};
  if (a.weight != nullptr) b.weight = {a.weight, b.queries};
  b.masked = {a.mask_offsets, mask_columns};
  return b;
}

void BatchLayout::pack(const Batch& batch, std::byte* block,
                       std::vector<std::int32_t>& mask_columns) const {
  const BatchArrays a = arrays(block);
  for (std::size_t f = 0; f < a.features.size(); ++f) {
    const BatchArrays::Feature& to = a.features[f];
    const FeatureBatch& from = batch.features[f];
    if (to.numbers != nullptr) {
      std::copy_n(from.numbers.data, from.numbers.rows * from.numbers.cols, to.numbers);
      continue;
    }
    std::copy_n(from.ids.ids, from.ids.nnz, to.rows);
    if (to.offsets != nullptr) std::copy_n(from.ids.offsets, from.ids.bags + 1, to.offsets);
    if (to.lengths != nullptr) {
      const std::int64_t steps = features_[f].steps;
      std::copy_n(from.step_offsets, from.ids.bags * steps + 1, to.step_offsets);
      std::copy_n(from.lengths, from.ids.bags, to.lengths);
    }
    if (to.weights != nullptr) std::copy_n(from.ids.weights, from.ids.nnz, to.weights);
  }
  for (std::size_t t = 0; t < a.labels.size(); ++t) {
    std::copy_n(batch.labels[t].data, batch.queries, a.labels[t]);
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
