// SPDX-License-Identifier: Apache-2.0
#include "engine/batch_stream.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/error.hpp"
#include "engine/list_sampler.hpp"
#include "kernels/batch_masks/batch_masks.hpp"
#include "kernels/shuffle/shuffle.hpp"

namespace belfry {

namespace {

/// log of the probability that a given candidate column holds item j: training frequency for in-batch
/// columns, mixed with the distributions of the extra negatives (Yang et al., "Mixed negative sampling",
/// 2020). Items that never occur keep TFRS's floor of 1e-6.
std::vector<float> log_probabilities(const ModelData& data, const TaskConfig& task, double batch) {
  const auto n = static_cast<double>(data.item_count());
  double total = 0;
  for (const std::int64_t c : data.item_counts) total += static_cast<double>(c);
  const double in_batch = task.negatives.in_batch ? batch : 0.0;
  const auto uniform = static_cast<double>(task.negatives.uniform);
  const double by_count = in_batch + static_cast<double>(task.negatives.popularity);
  std::vector<float> out(data.item_counts.size());
  if (!data.item_probability.empty()) {
    for (std::size_t j = 0; j < out.size(); ++j) {
      out[j] = std::log(std::clamp(data.item_probability[j], 1e-6f, 1.0f));
    }
    return out;
  }
  for (std::size_t j = 0; j < out.size(); ++j) {
    const double p = (by_count * static_cast<double>(data.item_counts[j]) / total + uniform / n) /
                     (by_count + uniform);
    out[j] = static_cast<float>(std::log(std::clamp(p, 1e-6, 1.0)));
  }
  return out;
}

}  // namespace

namespace {
/// What a batch owes to the retrieval task; nothing where there is none.
TaskConfig retrieval_of(const std::vector<TaskConfig>& tasks) {
  for (const TaskConfig& task : tasks) {
    if (task.kind == TaskKind::retrieval) return task;
  }
  TaskConfig none;
  none.sampling_correction = SamplingCorrection::none;
  none.mask_known_positives = false;
  return none;
}
}  // namespace

BatchStream::BatchStream(const ModelData& data, const TrainConfig& train,
                         const std::vector<TaskConfig>& tasks)
    : data_(data), train_(train), retrieval_(retrieval_of(tasks)) {
  for (const TaskConfig& task : tasks) {
    if (task.list_size == 0) continue;
    list_size_ = task.list_size;
    lists_ = sample_lists(data.train.user, task.list_size, task.lists_per_user, train.seed);
    if (lists_.empty()) {
      throw Error(ExitCode::bad_data, "task.list_size",
                  fmt::format("no user has {} training rows, so that there is no list", list_size_),
                  "a smaller list_size");
    }
  }
  const std::int64_t most = std::max(list_size_, train.batch_size / list_size_ * list_size_);
  batch_size_ = std::min(most, rows());
  negatives_ = retrieval_.negatives.uniform + retrieval_.negatives.popularity;
  if (retrieval_.sampling_correction == SamplingCorrection::frequency) {
    item_log_probability_ = log_probabilities(data, retrieval_, static_cast<double>(batch_size_));
  }
  if (retrieval_.negatives.popularity > 0) {
    std::vector<double> weights(data.item_counts.begin(), data.item_counts.end());
    alias_keep_.resize(weights.size());
    alias_row_.resize(weights.size());
    build_alias_table({weights.data(), static_cast<std::int64_t>(weights.size())},
                      {alias_keep_.data(), static_cast<std::int64_t>(alias_keep_.size())},
                      {alias_row_.data(), static_cast<std::int64_t>(alias_row_.size())});
  }
  if (retrieval_.mask_known_positives) {
    known_ = items_by_user(data.user_count(), data.item_count(), {&data.train});
  }
  gathers_.resize(data.features.size());
  labels_.resize(data.train.labels.size());
}

std::int64_t BatchStream::rows() const {
  return list_size_ > 1 || !lists_.empty() ? static_cast<std::int64_t>(lists_.size())
                                           : data_.train.size();
}

std::int64_t BatchStream::steps_per_epoch() const {
  if (batch_size_ == 0) return 0;
  return train_.drop_remainder ? rows() / batch_size_ : (rows() + batch_size_ - 1) / batch_size_;
}

std::int64_t BatchStream::rows_of(std::int64_t step) const {
  return std::min(batch_size_, rows() - step * batch_size_);
}

std::int64_t BatchStream::data_bytes() const {
  const auto words_of = [](const FeatureValues& v) {
    return static_cast<std::int64_t>(v.rows.size() + 2 * v.begin.size() + 2 * v.end.size() +
                                     v.weights.size() + v.numbers.size());
  };
  std::int64_t words =
      2 * data_.train.size() + static_cast<std::int64_t>(data_.train.weight.size());
  for (const auto& column : data_.train.labels) words += static_cast<std::int64_t>(column.size());
  for (const FeatureValues& column : data_.train.context) words += words_of(column);
  for (const FeatureData& f : data_.features) words += words_of(f.values);
  words += 5 * data_.item_count();  // numbers, log q, alias table
  words += static_cast<std::int64_t>(2 * known_.offsets.size() + known_.items.size());
  return words * 4;
}

std::int64_t BatchStream::mask_capacity() const {
  if (!masks()) return 0;
  // Columns that hold item i: as many as rows train it, in a batch at most, and whatever is drawn.
  std::vector<std::int64_t> columns(static_cast<std::size_t>(data_.item_count()));
  for (const std::int32_t i : data_.train.item) ++columns[static_cast<std::size_t>(i)];
  for (std::int64_t& n : columns) n = std::min(n, batch_size_);
  std::vector<std::int64_t> of_user;  // of all items that it knows
  for (std::size_t u = 0; u + 1 < known_.offsets.size(); ++u) {
    std::int64_t& sum = of_user.emplace_back(0);
    for (std::int64_t j = known_.offsets[u]; j < known_.offsets[u + 1]; ++j) {
      sum += columns[static_cast<std::size_t>(known_.items[static_cast<std::size_t>(j)])];
    }
  }
  // Rows by what they can mask at most: all columns but those of its own item.
  std::vector<std::int64_t> rows(static_cast<std::size_t>(max_candidates()));
  for (std::size_t r = 0; r < data_.train.user.size(); ++r) {
    const std::int64_t others = of_user[static_cast<std::size_t>(data_.train.user[r])] -
                                columns[static_cast<std::size_t>(data_.train.item[r])];
    if (others > 0)
      ++rows[static_cast<std::size_t>(std::min(others + negatives_, max_candidates() - 1))];
  }
  std::int64_t capacity = 0, left = batch_size_;
  for (std::int64_t n = max_candidates() - 1; n > 0 && left > 0; --n) {
    const std::int64_t taken = std::min(left, rows[static_cast<std::size_t>(n)]);
    capacity += taken * n;
    left -= taken;
  }
  return capacity;
}

ShuffleOrder BatchStream::order() const {
  switch (train_.shuffle) {
    case ShuffleMode::none:
      return ShuffleOrder::none;
    case ShuffleMode::once:
      return ShuffleOrder::once;
    case ShuffleMode::epoch:
      return ShuffleOrder::every_epoch;
  }
  throw ContractError("BatchStream: an unknown order");
}

const Batch& BatchStream::make(const Context& ctx, std::int64_t epoch, std::int64_t step) {
  const std::int64_t first = step * batch_size_;
  batch_.queries = rows_of(step);
  batch_.candidates = batch_.queries + negatives_;
  choose_rows(ctx, epoch, first, batch_.queries);
  draw(ctx);
  fill_features();
  fill_labels();
  fill_corrections();
  if (retrieval_.mask_known_positives) fill_masks(ctx);
  return batch_;
}

void BatchStream::choose_rows(const Context& ctx, std::int64_t epoch, std::int64_t first,
                              std::int64_t n) {
  rows_.resize(static_cast<std::size_t>(n));
  const std::int64_t lists = n / list_size_;  // rows are lists of one
  if (train_.shuffle == ShuffleMode::none) {
    for (std::int64_t i = 0; i < lists; ++i) {
      rows_[static_cast<std::size_t>(i)] = first / list_size_ + i;
    }
  } else {
    const std::int64_t key = train_.shuffle == ShuffleMode::once ? 0 : epoch;
    const Permutation order =
        make_permutation(train_.seed, static_cast<std::uint64_t>(key), rows() / list_size_);
    shuffle(ctx, order, first / list_size_, {rows_.data(), lists});
  }
  for (std::int64_t i = n;
       !lists_.empty() && i-- > 0;) {  // from behind: list i / size lies before i
    const std::int64_t list = rows_[static_cast<std::size_t>(i / list_size_)];
    rows_[static_cast<std::size_t>(i)] =
        lists_[static_cast<std::size_t>(list * list_size_ + i % list_size_)];
  }
  users_.resize(rows_.size());
  items_.resize(rows_.size() + static_cast<std::size_t>(negatives_));
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    users_[i] = data_.train.user[static_cast<std::size_t>(rows_[i])];
    items_[i] = data_.train.item[static_cast<std::size_t>(rows_[i])];
  }
}

void BatchStream::draw(const Context& ctx) {
  // Uniform ones first, then popular ones. Draw i depends on i alone: the uniform ones overwrite the
  // first popular draws, so that no two columns share their random words.
  const std::int64_t uniform = retrieval_.negatives.uniform,
                     popular = retrieval_.negatives.popularity;
  std::int32_t* out = items_.data() + batch_.queries;
  if (popular > 0) {
    const AliasTable table{{alias_keep_.data(), static_cast<std::int64_t>(alias_keep_.size())},
                           {alias_row_.data(), static_cast<std::int64_t>(alias_row_.size())}};
    draw_negatives(ctx, data_.item_count(), table, {out, uniform + popular});
  }
  if (uniform > 0) draw_negatives(ctx, data_.item_count(), {}, {out, uniform});
}

void BatchStream::fill_features() {
  batch_.features.resize(data_.features.size());
  std::size_t context = 0;
  for (std::size_t f = 0; f < data_.features.size(); ++f) {
    const FeatureData& feature = data_.features[f];
    const auto gather = [&](const FeatureValues& from, const auto& at) {
      batch_.features[f] = gathers_[f].gather(
          from, feature.form(), feature.width, static_cast<std::int64_t>(at.size()), 0,
          [&](std::int64_t i) { return std::int64_t{at[static_cast<std::size_t>(i)]}; },
          feature.steps);
    };
    if (feature.context) {
      gather(data_.train.context[context++], rows_);
    } else {
      gather(feature.values, feature.config.of == Side::query ? users_ : items_);
    }
  }
}

void BatchStream::fill_labels() {
  batch_.labels.clear();
  for (std::size_t t = 0; t < labels_.size(); ++t) {
    labels_[t].resize(rows_.size());
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      labels_[t][i] = data_.train.labels[t][static_cast<std::size_t>(rows_[i])];
    }
    batch_.labels.push_back({labels_[t].data(), batch_.queries});
  }
}

void BatchStream::fill_corrections() {
  candidate_ids_.assign(items_.begin(), items_.end());
  batch_.candidate_ids = {candidate_ids_.data(), batch_.candidates};
  if (!item_log_probability_.empty()) {
    log_probability_.resize(items_.size());
    for (std::size_t i = 0; i < items_.size(); ++i) {
      log_probability_[i] = item_log_probability_[static_cast<std::size_t>(items_[i])];
    }
    batch_.log_probability = {log_probability_.data(), batch_.candidates};
  }
  if (!data_.train.weight.empty()) {
    weight_.resize(rows_.size());
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      weight_[i] = data_.train.weight[static_cast<std::size_t>(rows_[i])];
    }
    batch_.weight = {weight_.data(), batch_.queries};
  }
}

void BatchStream::fill_masks(const Context& ctx) {
  const auto view = [](const auto& v) {
    return Vector<const typename std::decay_t<decltype(v)>::value_type>(
        v.data(), static_cast<std::int64_t>(v.size()));
  };
  const BatchMaskInput in{view(known_.offsets), view(known_.items), view(users_), view(items_)};
  mask_offsets_.resize(users_.size() + 1);
  const Vector<std::int64_t> offsets{mask_offsets_.data(), batch_.queries + 1};
  const auto fill = [&] {
    std::int64_t needed = 0;
    batch_masks(ctx, in, offsets,
                {mask_columns_.data(), static_cast<std::int64_t>(mask_columns_.size())}, &needed);
    return static_cast<std::size_t>(needed);
  };
  if (const std::size_t needed = fill(); needed > mask_columns_.size()) {
    mask_columns_.resize(needed + needed / 2);
    fill();
  }
  batch_.masked = {mask_offsets_.data(), mask_columns_.data()};
}

}  // namespace belfry
