// SPDX-License-Identifier: Apache-2.0
// shuffle on the device: one thread a position.
#include "kernels/core/block.cuh"
#include "kernels/shuffle/shuffle.hpp"

namespace belfry::cuda {
namespace shuffle_kernels {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    permute(const __grid_constant__ Permutation p, std::int64_t first, Vector<std::int64_t> out) {
  const std::int64_t i = grid_thread();
  if (i < out.size) out[i] = permuted(p, first + i);
}

}  // namespace shuffle_kernels

namespace k = shuffle_kernels;

void shuffle(const Context& ctx, const Permutation& p, std::int64_t first,
             Vector<std::int64_t> out) {
  if (out.empty()) return;
  simt::launch({.grid = static_cast<unsigned>(ceil_div(out.size, k::kThreads)),
                .block = k::kThreads,
                .stream = &ctx.stream()},
               k::permute, p, first, out);
}

}  // namespace belfry::cuda
