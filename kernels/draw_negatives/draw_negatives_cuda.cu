// SPDX-License-Identifier: Apache-2.0
// draw_negatives on the device: one thread a draw.
#include "kernels/core/block.cuh"
#include "kernels/draw_negatives/draw_negatives.hpp"

namespace belfry::cuda {
namespace draw_negatives_kernels {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) draw(const StepState* state, std::int64_t rows,
                                                 AliasTable popularity, Vector<std::int32_t> out) {
  const std::int64_t i = grid_thread();
  if (i < out.size) out[i] = draw_row(state->seed, state->step, i, rows, popularity);
}

}  // namespace draw_negatives_kernels

namespace k = draw_negatives_kernels;

void draw_negatives(const Context& ctx, std::int64_t rows, const AliasTable& popularity,
                    Vector<std::int32_t> out) {
  if (out.empty()) return;
  simt::launch({.grid = static_cast<unsigned>(ceil_div(out.size, k::kThreads)),
                .block = k::kThreads,
                .stream = &ctx.stream()},
               k::draw, ctx.state(), rows, popularity, out);
}

}  // namespace belfry::cuda
