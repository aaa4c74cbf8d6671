// SPDX-License-Identifier: Apache-2.0
// FeatureValues: what a feature says of n entities or interactions; FeatureGather: those of a batch of them,
// as the networks take them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/core/view.hpp"

namespace belfry {

enum class FeatureForm {
  row,   ///< one row of a table
  list,  ///< any number of rows of a table, with or without weights, that are pooled
  dense  ///< numbers
};

/// Values of n entities, or of n interactions; what is filled depends on the form.
struct FeatureValues {
  std::vector<std::int32_t> rows;  ///< row: [n]; list: those of all lists [nnz]
  /// list: value i is rows[begin[i]] .. rows[end[i] - 1], `weights` likewise. Lists may overlap: a user's
  /// histories are parts of one.
  std::vector<std::int64_t> begin, end;
  std::vector<float> weights;  ///< list: [nnz], or empty: 1
  std::vector<float> numbers;  ///< dense: [n, width]
  bool operator==(const FeatureValues&) const = default;

  std::int64_t size(FeatureForm form, std::int64_t width) const {
    if (form == FeatureForm::row) return static_cast<std::int64_t>(rows.size());
    if (form == FeatureForm::list) return static_cast<std::int64_t>(begin.size());
    return width == 0 ? 0 : static_cast<std::int64_t>(numbers.size()) / width;
  }
};

/// A feature of one batch: bags of table rows, or numbers.
struct FeatureBatch {
  Ragged ids;
  Matrix<const float> numbers;  ///< [B, width]; empty for looked-up features
  /// Lists that a network reads step by step: the same ids as bags of at most one, those of list b being bags
  /// b T .. b T + T - 1 of which the first lengths[b] are not empty.
  const std::int64_t* step_offsets = nullptr;  ///< [B T + 1]
  const std::int32_t* lengths = nullptr;       ///< [B]
};

/// Gathers the values of a batch into arrays of its own, which grow to the largest batch and stay.
class FeatureGather {
 public:
  /// Values at(0) .. at(n - 1) of `from`; where at(i) is -1, `none` (row), the empty list, or zeros. steps: of
  /// lists that are read step by step, of which the last so many values are taken. Valid until the next call.
  template <class At>
  FeatureBatch gather(const FeatureValues& from, FeatureForm form, std::int64_t width,
                      std::int64_t n, std::int32_t none, At&& at, std::int64_t steps = 0) {
    switch (form) {
      case FeatureForm::row:
        rows_.resize(static_cast<std::size_t>(n));
        for (std::int64_t i = 0; i < n; ++i) {
          const std::int64_t e = at(i);
          rows_[static_cast<std::size_t>(i)] =
              e < 0 ? none : from.rows[static_cast<std::size_t>(e)];
        }
        return {{rows_.data(), nullptr, nullptr, n, n}, {}};
      case FeatureForm::list:
        gather_lists(from, n, at, steps);
        if (steps > 0) split_into_steps(n, steps);
        return {{rows_.data(), offsets_.data(), from.weights.empty() ? nullptr : weights_.data(), n,
                 offsets_.back()},
                {},
                steps > 0 ? step_offsets_.data() : nullptr,
                steps > 0 ? lengths_.data() : nullptr};
      case FeatureForm::dense:
        break;
    }
    numbers_.resize(static_cast<std::size_t>(n * width));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t e = at(i);
      float* out = numbers_.data() + i * width;
      if (e < 0) {
        std::fill_n(out, width, 0.0f);
      } else {
        std::copy_n(from.numbers.data() + e * width, width, out);
      }
    }
    return {{}, {numbers_.data(), n, width}};
  }

  /// What was gathered last, as values of their own.
  FeatureValues values(FeatureForm form) const {
    FeatureValues out;
    if (form == FeatureForm::dense) {
      out.numbers = numbers_;
      return out;
    }
    out.rows = rows_;
    if (form == FeatureForm::row) return out;
    out.begin.assign(offsets_.begin(), offsets_.end() - 1);
    out.end.assign(offsets_.begin() + 1, offsets_.end());
    if (!weights_.empty()) out.weights = weights_;
    return out;
  }

 private:
  template <class At>
  void gather_lists(const FeatureValues& from, std::int64_t n, At&& at, std::int64_t steps) {
    rows_.clear();
    weights_.clear();
    offsets_.assign(1, 0);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t e = at(i);
      if (e >= 0) {
        auto first = from.begin[static_cast<std::size_t>(e)];
        const auto last = from.end[static_cast<std::size_t>(e)];
        if (steps > 0) first = std::max(first, last - steps);
        rows_.insert(rows_.end(), from.rows.begin() + first, from.rows.begin() + last);
        if (!from.weights.empty()) {
          weights_.insert(weights_.end(), from.weights.begin() + first,
                          from.weights.begin() + last);
        }
      }
      offsets_.push_back(static_cast<std::int64_t>(rows_.size()));
    }
  }

  /// Where each step of the gathered lists begins; steps behind the end of a list are empty.
  void split_into_steps(std::int64_t n, std::int64_t steps) {
    step_offsets_.resize(static_cast<std::size_t>(n * steps + 1));
    lengths_.resize(static_cast<std::size_t>(n));
    step_offsets_[0] = 0;
    std::size_t next = 1;
    for (std::size_t i = 0; i < lengths_.size(); ++i) {
      const std::int64_t first = offsets_[i], length = offsets_[i + 1] - first;
      lengths_[i] = static_cast<std::int32_t>(length);
      for (std::int64_t t = 1; t <= steps; ++t) {
        step_offsets_[next++] = first + std::min(t, length);
      }
    }
  }

  std::vector<std::int32_t> rows_, lengths_;
  std::vector<std::int64_t> offsets_, step_offsets_;
  std::vector<float> weights_, numbers_;
};

}  // namespace belfry
