// SPDX-License-Identifier: Apache-2.0
#include "kernels/retrieval_softmax/softmax_run.cuh"
#include "kernels/retrieval_softmax/softmax_tile_fp32.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

struct Fp32Tiles {
  using Element = float;
  template <int kDepth>
  using Pass = Fp32Tile<kDepth>;
  using Wide = Fp32Tile<64>;
  using Count = Fp32Tile<32>;
  using Positives = Fp32Tile<32, 1>;
  static constexpr int kWidest = 128;
};

void run_fp32(const Context& ctx, const Call& call) {
  Run<Fp32Tiles>(ctx, call)();
}

}  // namespace belfry::cuda::retrieval_softmax_kernels
