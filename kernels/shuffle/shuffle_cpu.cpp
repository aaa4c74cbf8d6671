// SPDX-License-Identifier: Apache-2.0
#include "kernels/shuffle/shuffle.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"

namespace belfry::cpu {

void shuffle(const Context& ctx, const Permutation& p, std::int64_t first,
             Vector<std::int64_t> out) {
  constexpr std::int64_t kTile = 4096;
  parallel_for(ctx, (out.size + kTile - 1) / kTile, [&](std::int64_t tile, int) {
    const std::int64_t end = std::min(out.size, (tile + 1) * kTile);
    for (std::int64_t i = tile * kTile; i < end; ++i) out[i] = permuted(p, first + i);
  });
}

}  // namespace belfry::cpu
