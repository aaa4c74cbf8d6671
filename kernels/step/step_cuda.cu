// SPDX-License-Identifier: Apache-2.0
// The step state's ops on the device.
#include "kernels/step/step.hpp"

#include "kernels/core/block.cuh"
#include "kernels/shuffle/shuffle.hpp"

namespace belfry::cuda {
namespace step_kernels {

constexpr int kThreads = 256;

__global__ void begin(StepState* state, const StepState* next) {
  const int group = static_cast<int>(threadIdx.x);
  if (group < kMaxParameterGroups) state->learning_rate[group] = next->learning_rate[group];
  if (group != 0) return;
  state->step = next->step;
  state->seed = next->seed;
  state->epoch = next->epoch;
  state->row_offset = next->row_offset;
  state->batch_rows = next->batch_rows;
}

__global__ void __launch_bounds__(kThreads)
    permute(const StepState* state, std::int64_t n, ShuffleOrder order, Vector<std::int64_t> rows) {
  // The keys cost six Philox blocks: one thread makes them for its block.
  SIMT_SHARED_ARRAY(std::uint64_t, keys, [kFeistelRounds]);
  SIMT_SHARED(int, half_bits);
  if (order != ShuffleOrder::none && threadIdx.x == 0) {
    const std::uint64_t key = order == ShuffleOrder::every_epoch ? state->epoch : 0;
    const Permutation p = make_permutation(state->seed, key, n);
    for (int round = 0; round < kFeistelRounds; ++round) keys[round] = p.keys[round];
    half_bits = p.half_bits;
  }
  __syncthreads();
  Permutation p;
  p.n = n;
  if (order != ShuffleOrder::none) {
    for (int round = 0; round < kFeistelRounds; ++round) p.keys[round] = keys[round];
    p.half_bits = half_bits;
  }
  const std::int64_t i = grid_thread(), position = state->row_offset + i;
  if (i >= rows.size) return;
  const bool inside = position >= 0 && position < n;
  rows[i] = !inside ? 0 : order == ShuffleOrder::none ? position : permuted(p, position);
}

}  // namespace step_kernels

namespace k = step_kernels;

void begin_step(const Context& ctx, const StepState* next) {
  simt::launch({.grid = 1, .block = kWarp, .stream = &ctx.stream()}, k::begin, ctx.state(), next);
}

void shuffle_batch(const Context& ctx, std::int64_t n, ShuffleOrder order,
                   Vector<std::int64_t> rows) {
  if (rows.empty()) return;
  simt::launch({.grid = static_cast<unsigned>(ceil_div(rows.size, k::kThreads)),
                .block = k::kThreads,
                .stream = &ctx.stream()},
               k::permute, ctx.state(), n, order, rows);
}

}  // namespace belfry::cuda
