// SPDX-License-Identifier: Apache-2.0
// dropout on the device: a thread takes the four elements of one call of the generator.
#include "kernels/dropout/dropout.hpp"

#include "kernels/core/row_lanes.cuh"

namespace belfry::cuda {
namespace dropout_kernels {

constexpr int kThreads = 256;

/// kPacked: groups lie in the matrices as four neighbouring, aligned floats.
template <bool kPacked>
__global__ void __launch_bounds__(kThreads)
    drop(const StepState* state, Matrix<const float> x, float rate, float scale,
         std::uint32_t stream, Matrix<float> y) {
  const std::int64_t group = grid_thread(), first = group * kDropoutGroup;
  const std::int64_t elements = x.rows * x.cols;
  if (first >= elements) return;
  const Philox4 words = dropout_words(state->seed, state->step, stream, group);
  const auto drops = [&](float v, int w) {
    return dropout_keeps(words.v[w], rate) ? v * scale : 0.0f;
  };
  std::int64_t i = first / x.cols, j = first - i * x.cols;
  if constexpr (kPacked) {
    Pack<4> pack = load_pack<4>(&x(i, j));
#pragma unroll
    for (int w = 0; w < 4; ++w) pack.v[w] = drops(pack.v[w], w);
    store_pack(&y(i, j), pack);
  } else {
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      if (first + w >= elements) break;
      y(i, j) = drops(x(i, j), w);
      if (++j == x.cols) {
        j = 0;
        ++i;
      }
    }
  }
}

}  // namespace dropout_kernels

namespace k = dropout_kernels;

void dropout(const Context& ctx, Matrix<const float> x, const Dropout& options, Matrix<float> y) {
  if (x.empty()) return;
  const std::int64_t groups = ceil_div(x.rows * x.cols, kDropoutGroup);
  const simt::Dims dims{.grid = static_cast<unsigned>(ceil_div(groups, k::kThreads)),
                        .block = k::kThreads,
                        .stream = &ctx.stream()};
  if (packable(x, 4) && packable(y, 4)) {
    return simt::launch(dims, k::drop<true>, ctx.state(), x, options.rate, options.scale(),
                        options.stream, y);
  }
  simt::launch(dims, k::drop<false>, ctx.state(), x, options.rate, options.scale(), options.stream,
               y);
}

}  // namespace belfry::cuda
