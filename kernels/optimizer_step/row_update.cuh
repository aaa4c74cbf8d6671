// SPDX-License-Identifier: Apache-2.0
// The rules of element_rules.cuh on packs of a row, for float32 and bf16 tables: what optimizer_step and
// embedding_update share.
#pragma once

#include "kernels/core/row_lanes.cuh"
#include "kernels/optimizer_step/element_rules.cuh"

namespace belfry::cuda {

template <class T>
struct ParameterTask {
  OptimizerOptions options;
  Matrix<T> parameter;
  Matrix<float> slots[3];
  StepState* state;
  float* exported_factor = nullptr;        ///< OptimizerSlots::clipping_factor
  const float* clipping_factor = nullptr;  ///< clippy_adagrad: where the step's is
};

template <class T>
ParameterTask<T> parameter_task(const Context& ctx, const OptimizerOptions& options,
                                Matrix<T> parameter, const OptimizerSlots& slots) {
  return {options,
          parameter,
          {slots.first, slots.second, slots.third},
          ctx.state(),
          slots.clipping_factor};
}

/// The step's constants, computed once a block (Adam's powers are costly). All threads call it.
template <class Rule, class T>
__device__ __forceinline__ Rule rule_of_step(const ParameterTask<T>& task) {
  SIMT_SHARED(Rule, shared_rule);
  if (threadIdx.x == 0) {
    shared_rule = Rule::make({task.options, *task.state, task.clipping_factor});
  }
  __syncthreads();
  return shared_rule;
}

/// Bits of |x|: at least kInfinite where x is infinite or NaN.
inline constexpr std::uint32_t kInfinite = 0x7F800000u;
__device__ __forceinline__ void keep_larger(std::uint32_t& top, float x) {
  const std::uint32_t size = float_bits(x) & 0x7FFFFFFFu;
  top = size > top ? size : top;
}

/// Writes new values of a row of `width` columns. In bf16: rounded by the table's key.
template <int kColumns>
__device__ __forceinline__ void store_parameter(const ParameterTask<float>& task, RoundingKey,
                                                std::int64_t row, std::int64_t column,
                                                const Pack<kColumns>& w) {
  store_pack(task.parameter.row(row) + column, w);
}
template <int kColumns>
__device__ __forceinline__ void store_parameter(const ParameterTask<bf16>& task, RoundingKey key,
                                                std::int64_t row, std::int64_t column,
                                                const Pack<kColumns>& w) {
  const Philox4 words = rounding_words(key, row, column, task.parameter.cols);
  bf16* out = task.parameter.row(row) + column;
  if constexpr (kColumns == 1) {
    *out = round_stochastic(w.v[0], rounding_noise(words, column));
  } else {
    static_assert(kColumns == kRoundingColumns);
    std::uint32_t pairs[kColumns / 2];
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      const std::uint32_t low = round_stochastic(w.v[2 * i], words.v[i] & 0xFFFFu).bits;
      const std::uint32_t high = round_stochastic(w.v[2 * i + 1], words.v[i] >> 16).bits;
      pairs[i] = low | high << 16;
    }
    *reinterpret_cast<uint4*>(out) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
}

/// Where a bf16 table's roundings of this step come from; float32 tables do not ask.
template <class T>
__device__ __forceinline__ RoundingKey key_of(const ParameterTask<T>& task) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return {};
  } else {
    return rounding_key(task.state->seed, task.state->step, task.options.table);
  }
}

/// Columns column .. column + kColumns - 1 of a row and of its slots. Loading them is a step of its own, so that
/// they are on their way while the gradient is summed.
template <class Rule, class T, int kColumns>
struct HeldPack {
  static constexpr int kHeld = Rule::kSlots > 0 ? Rule::kSlots : 1;
  Pack<kColumns> w{}, slot[kHeld]{};

  __device__ __forceinline__ void load(const ParameterTask<T>& task, std::int64_t row,
                                       std::int64_t column) {
    w = load_pack<kColumns>(task.parameter.row(row) + column);
#pragma unroll
    for (int s = 0; s < Rule::kSlots; ++s) {
      slot[s] = load_pack<kColumns>(task.slots[s].row(row) + column);
    }
  }
  /// top grows to the largest magnitude of what is checked to be finite.
  __device__ __forceinline__ void update(const Rule& rule, const Pack<kColumns>& g,
                                         std::uint32_t& top) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      float element[kHeld];
#pragma unroll
      for (int s = 0; s < Rule::kSlots; ++s) element[s] = slot[s].v[c];
      rule(g.v[c], w.v[c], element);
      keep_larger(top, w.v[c]);
#pragma unroll
      for (int s = 0; s < Rule::kSlots; ++s) {
        slot[s].v[c] = element[s];
        // The third is a maximum of seconds, or all of the parameter's move.
        if (s < 2) keep_larger(top, element[s]);
      }
    }
  }
  __device__ __forceinline__ void store(const ParameterTask<T>& task, const RoundingKey& key,
                                        std::int64_t row, std::int64_t column) const {
#pragma unroll
    for (int s = 0; s < Rule::kSlots; ++s) store_pack(task.slots[s].row(row) + column, slot[s]);
    store_parameter(task, key, row, column, w);
  }
};

/// The three steps after each other.
template <class Rule, class T, int kColumns>
__device__ __forceinline__ void update_pack(const Rule& rule, const ParameterTask<T>& task,
                                            const RoundingKey& key, std::int64_t row,
                                            std::int64_t column, const Pack<kColumns>& g,
                                            std::uint32_t& top) {
  HeldPack<Rule, T, kColumns> held;
  held.load(task, row, column);
  held.update(rule, g, top);
  held.store(task, key, row, column);
}

/// mean_square of update_rules.hpp over a row that a group of lanes holds: the same partial sums over d mod 16,
/// the same tree. Groups have at least 16 / kColumns lanes.
template <int kColumns>
struct GroupMeanSquare {
  static constexpr int kSums = 16;
  static constexpr int kHolders = kSums / kColumns;  ///< lanes that together hold one set of sums
  Pack<kColumns> sums{};                             ///< of this lane's columns mod 16

  /// The next lanes x kColumns columns; zeros behind the row's end. All lanes of the group call it.
  __device__ __forceinline__ void add(const RowLanes& at, const Pack<kColumns>& g) {
    for (int first = 0; first < at.lanes; first += kHolders) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const float square = g.v[c] * g.v[c];
        sums.v[c] += __shfl_sync(at.mask, square, first + at.lane % kHolders, at.lanes);
      }
    }
  }
  __device__ __forceinline__ float mean(const RowLanes& at, std::int64_t width) {
#pragma unroll
    for (int half = kSums / 2; half > 0; half /= 2) {
      if (half >= kColumns) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          sums.v[c] += __shfl_xor_sync(at.mask, sums.v[c], half / kColumns, at.lanes);
        }
      } else {
#pragma unroll
        for (int c = 0; c < half; ++c) sums.v[c] += sums.v[c + half];
      }
    }
    return sums.v[0] / static_cast<float>(width);
  }
};

/// Row-wise Adagrad, whose accumulator belongs to a whole row.
struct RowwiseUpdate {
  float rate, epsilon;
  bool inside;
  __device__ static RowwiseUpdate make(const OptimizerOptions& o, const StepState& s) {
    return {s.learning_rate[o.group], o.epsilon, o.epsilon_place == EpsilonPlace::inside_root};
  }
  /// The row's accumulator, which lane 0 alone touches.
  __device__ __forceinline__ float load(const RowLanes& at, const float* accumulator) const {
    return at.lane == 0 ? *accumulator : 0.0f;
  }
  /// Adds to what lane 0 has loaded and stores it; returns the root for all lanes.
  __device__ __forceinline__ float accumulate(const RowLanes& at, float* accumulator, float loaded,
                                              float mean, std::uint32_t& top) const {
    float total = loaded + mean;
    if (at.lane == 0) *accumulator = total;
    total = __shfl_sync(at.mask, total, 0, at.lanes);
    keep_larger(top, total);
    return inside ? std::sqrt(total + epsilon) : std::sqrt(total) + epsilon;
  }
  /// w -= rate g / root, for a root other than 0.
  template <int kColumns>
  __device__ __forceinline__ void move(const Pack<kColumns>& g, float root, Pack<kColumns>& w,
                                       std::uint32_t& top) const {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      w.v[c] = w.v[c] - rate * g.v[c] / root;
      keep_larger(top, w.v[c]);
    }
  }
};

/// Whether the parameter and its slots can be read and written in packs.
template <class T>
bool packable_parameter(const ParameterTask<T>& task, int columns) {
  bool all = packable(task.parameter, columns);
  if (task.options.kind == OptimizerKind::rowwise_adagrad) return all;
  for (int s = 0; s < slot_count(task.options); ++s) {
    all = all && packable(task.slots[s], columns);
  }
  return all;
}
template <class T>
inline constexpr int kWidestPack = sizeof(T) == sizeof(float) ? 4 : 8;

}  // namespace belfry::cuda
