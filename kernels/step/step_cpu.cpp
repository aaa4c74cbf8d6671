// SPDX-License-Identifier: Apache-2.0
#include "kernels/step/step.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"
#include "kernels/shuffle/shuffle.hpp"

namespace belfry::cpu {

void begin_step(const Context& ctx, const StepState* next) {
  const std::uint32_t status = ctx.state()->status;
  *ctx.state() = *next;
  ctx.state()->status = status;
}

void shuffle_batch(const Context& ctx, std::int64_t n, ShuffleOrder order,
                   Vector<std::int64_t> rows) {
  constexpr std::int64_t kTile = 4096;
  const StepState state = *ctx.state();
  const std::uint64_t key = order == ShuffleOrder::every_epoch ? state.epoch : 0;
  const Permutation p = make_permutation(state.seed, key, n);
  parallel_for(ctx, (rows.size + kTile - 1) / kTile, [&](std::int64_t tile, int) {
    const std::int64_t end = std::min(rows.size, (tile + 1) * kTile);
    for (std::int64_t i = tile * kTile; i < end; ++i) {
      const std::int64_t position = state.row_offset + i;
      const bool inside = position >= 0 && position < n;
      rows[i] = !inside ? 0 : order == ShuffleOrder::none ? position : permuted(p, position);
    }
  });
}

}  // namespace belfry::cpu
