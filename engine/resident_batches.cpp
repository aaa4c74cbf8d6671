// SPDX-License-Identifier: Apache-2.0
// Batches that the device makes itself from training data that lies there: the same keyed bijection, draws and
// look-ups as BatchStream, one chunk ahead.
#include "engine/batch_source.hpp"
#include "kernels/batch_masks/batch_masks.hpp"
#include "kernels/core/transfer.hpp"
#include "kernels/draw_negatives/draw_negatives.hpp"
#include "kernels/gather/gather.hpp"
#include "kernels/step/step.hpp"

namespace belfry {

namespace {

template <class T>
Buffer<T> on_device(const Context& ctx, const std::vector<T>& values) {
  Buffer<T> copy(ctx.backend(), static_cast<std::int64_t>(values.size()), Fill::none);
  upload(ctx, values.data(), copy.data(), copy.size());
  return copy;
}

class ResidentBatches : public BatchSource {
 public:
  ResidentBatches(const Context& ahead, BatchStream& stream)
      : stream_(stream),
        layout_(stream.data(), stream),
        ahead_(ahead),
        mask_capacity_(stream.mask_capacity()) {
    const ModelData& data = stream.data();
    if (stream.masks()) {
      known_offsets_ = on_device(ahead_, stream.known().offsets);
      known_ = on_device(ahead_, stream.known().items);
    }
    users_ = on_device(ahead_, data.train.user);
    items_ = on_device(ahead_, data.train.item);
    weights_ = on_device(ahead_, data.train.weight);
    std::size_t context = 0;
    for (const FeatureData& f : data.features) {
      const FeatureValues& values = f.context ? data.train.context[context++] : f.values;
      rows_.push_back(on_device(ahead_, values.rows));
      numbers_of_.push_back(on_device(ahead_, values.numbers));
    }
    for (const auto& column : data.train.labels) labels_.push_back(on_device(ahead_, column));
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(data.item_count()));
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int64_t>(i);
    numbers_ = on_device(ahead_, numbers);
    log_probability_ = on_device(ahead_, stream.item_log_probability());
    alias_keep_ = on_device(ahead_, stream.alias_keep());
    alias_row_ = on_device(ahead_, stream.alias_row());
    positions_ = Buffer<std::int64_t>(Backend::cuda, stream.batch_size());
  }

  const BatchLayout& layout() const override { return layout_; }

  void fill(const Context&, ChunkSlot& slot) override {
    if (slot.mask_stride != mask_capacity_) {  // the slot's first chunk
      slot.mask_stride = mask_capacity_;
      slot.grow_masks(mask_capacity_ * slot.states.size());
    }
    const std::int64_t last = slot.host_states[slot.chunk.count - 1].batch_rows;
    run_or_replay(slot.fill, {slot.chunk.count, last}, ahead_.stream(), [&] {
      for (std::int64_t i = 0; i < slot.chunk.count; ++i) {
        const std::int64_t queries = i + 1 == slot.chunk.count ? last : stream_.batch_size();
        const BatchArrays to = layout_.arrays(slot.blocks.data() + i * layout_.bytes());
        begin_step(ahead_, slot.states.data() + i);
        make(to, queries);
        if (stream_.masks()) mask(slot, i, to, queries);
      }
    });
  }

 private:
  void mask(ChunkSlot& slot, std::int64_t i, const BatchArrays& to, std::int64_t queries) {
    const std::int64_t candidates = queries + stream_.max_candidates() - stream_.batch_size();
    batch_masks(ahead_,
                {std::as_const(known_offsets_).view(),
                 std::as_const(known_).view(),
                 {to.users, queries},
                 {to.items, candidates}},
                {to.mask_offsets, queries + 1},
                {slot.mask_columns.data() + i * slot.mask_stride, slot.mask_stride});
  }

  void make(const BatchArrays& to, std::int64_t queries) {
    const ModelData& data = stream_.data();
    const std::int64_t candidates = queries + stream_.max_candidates() - stream_.batch_size();
    const Vector<std::int64_t> positions{positions_.data(), queries};
    const Vector<std::int32_t> users{to.users, queries}, items{to.items, candidates};
    shuffle_batch(ahead_, data.train.size(), stream_.order(), positions);
    gather(ahead_, std::as_const(users_).view(), positions, users);
    gather(ahead_, std::as_const(items_).view(), positions,
           Vector<std::int32_t>{to.items, queries});
    draw(Vector<std::int32_t>{to.items + queries, candidates - queries});
    for (std::size_t f = 0; f < rows_.size(); ++f)
      look_up(f, positions, users, items, to.features[f]);
    gather(ahead_, std::as_const(numbers_).view(), items,
           Vector<std::int64_t>{to.candidate_ids, candidates});
    if (to.log_probability != nullptr) {
      gather(ahead_, std::as_const(log_probability_).view(), items,
             Vector<float>{to.log_probability, candidates});
    }
    for (std::size_t t = 0; t < labels_.size(); ++t) {
      gather(ahead_, std::as_const(labels_[t]).view(), positions,
             Vector<float>{to.labels[t], queries});
    }
    if (to.weight != nullptr) {
      gather(ahead_, std::as_const(weights_).view(), positions, Vector<float>{to.weight, queries});
    }
  }

  /// As BatchStream::draw: uniform ones first, in place of the first popular ones.
  void draw(Vector<std::int32_t> out) {
    const std::int64_t uniform = stream_.negatives().uniform;
    const std::int64_t items = stream_.data().item_count();
    if (stream_.negatives().popularity > 0) {
      draw_negatives(ahead_, items,
                     {std::as_const(alias_keep_).view(), std::as_const(alias_row_).view()}, out);
    }
    if (uniform > 0) draw_negatives(ahead_, items, {}, {out.data, uniform});
  }

  void look_up(std::size_t f, Vector<std::int64_t> positions, Vector<std::int32_t> users,
               Vector<std::int32_t> items, const BatchArrays::Feature& out) {
    const FeatureData& feature = stream_.data().features[f];
    const auto take = [&](const auto& at) {
      if (feature.form() == FeatureForm::dense) {
        gather(ahead_, std::as_const(numbers_of_[f]).view(), at,
               Vector<float>{out.numbers, at.size});
      } else {
        gather(ahead_, std::as_const(rows_[f]).view(), at, Vector<std::int32_t>{out.rows, at.size});
      }
    };
    if (feature.context) return take(positions);
    take(feature.config.of == Side::query ? users : items);
  }

  BatchStream& stream_;
  BatchLayout layout_;
  const Context& ahead_;
  std::int64_t mask_capacity_;  // of each batch
  Buffer<std::int32_t> users_, items_, alias_row_;
  Buffer<std::int64_t> numbers_, positions_;  // item i's number i; the batch's training rows
  Buffer<float> weights_, log_probability_, alias_keep_;
  Buffer<std::int64_t> known_offsets_;
  Buffer<std::int32_t> known_;
  std::vector<Buffer<std::int32_t>>
      rows_;  // per feature: of each user or item, or of each training row
  std::vector<Buffer<float>> numbers_of_;  // the same of dense features
  std::vector<Buffer<float>> labels_;      // per ranking task
};

}  // namespace

bool can_be_resident(const BatchStream& stream) {
  const auto& features = stream.data().features;
  return stream.list_size() == 1 &&
         std::all_of(features.begin(), features.end(), [](const auto& f) {
           return f.form() == FeatureForm::row || (f.form() == FeatureForm::dense && f.width == 1);
         });
}

std::unique_ptr<BatchSource> make_resident_batches(const Context& ahead, BatchStream& stream) {
  return std::make_unique<ResidentBatches>(ahead, stream);
}

}  // namespace belfry
