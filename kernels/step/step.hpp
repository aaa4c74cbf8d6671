// SPDX-License-Identifier: Apache-2.0
// What a captured step does with the step state: take the next one over, choose the rows of its
// batch.
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Order of the rows of a data set.
enum class ShuffleOrder {
  none,         ///< as stored
  once,         ///< one keyed order for all epochs
  every_epoch,  ///< another one in every epoch
};

namespace cpu {
void begin_step(const Context& ctx, const StepState* next);
void shuffle_batch(const Context& ctx, std::int64_t n, ShuffleOrder order,
                   Vector<std::int64_t> rows);
}  // namespace cpu
namespace cuda {
void begin_step(const Context& ctx, const StepState* next);
void shuffle_batch(const Context& ctx, std::int64_t n, ShuffleOrder order,
                   Vector<std::int64_t> rows);
}  // namespace cuda

/// *ctx.state() = *next, but the status word stays as it is: faults of earlier steps are not
/// forgotten. A captured graph of K steps begins each with one of K states, which are written
/// before its launch.
/// Shapes       next: one StepState in the backend's memory
/// Aliasing     next is not ctx.state()
/// Cost         one small launch
/// Scratch      none
/// Determinism  bitwise_cpu_cuda
inline void begin_step(const Context& ctx, const StepState* next) {
  require(next != nullptr && next != ctx.state(), "begin_step: another state is needed");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::begin_step(ctx, next);
    case Backend::cuda:
      if constexpr (kHasCuda::step) return cuda::begin_step(ctx, next);
  }
  throw_no_backend("begin_step");
}

/// The rows of the batch that begins at the state's row_offset, of n rows in all: shuffle() with
/// all that changes from step to step taken from ctx.state():
///   rows_i = permuted(make_permutation(state.seed, key, n), state.row_offset + i),
///            key = state.epoch, or 0 for `once`;
///   rows_i = state.row_offset + i for `none`
/// Shapes       rows [m] i64
/// Empty        m = 0: no-op
/// Cost         fewer than 4 expected walks of 6 rounds a row
/// Scratch      none
/// Numerics     exact
/// Determinism  bitwise_cpu_cuda
/// Faults       none: a position outside [0, n) gives row 0 and raises nothing. A last batch that
///              is not full is padded so; state.batch_rows says how many rows count.
/// See          shuffle
inline void shuffle_batch(const Context& ctx, std::int64_t n, ShuffleOrder order,
                          Vector<std::int64_t> rows) {
  require(n >= 0 && n <= (std::int64_t{1} << 62), "shuffle_batch: n must lie in [0, 2^62]");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::shuffle_batch(ctx, n, order, rows);
    case Backend::cuda:
      if constexpr (kHasCuda::step) return cuda::shuffle_batch(ctx, n, order, rows);
  }
  throw_no_backend("shuffle_batch");
}

}  // namespace belfry
