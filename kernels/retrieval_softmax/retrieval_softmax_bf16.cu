// SPDX-License-Identifier: Apache-2.0
#include "kernels/retrieval_softmax/softmax_run.cuh"
#include "kernels/retrieval_softmax/softmax_tile_bf16.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

struct Bf16Tiles {
  using Element = __nv_bfloat16;
  template <int kDepth>
  using Pass = Bf16Tile<kDepth>;
  using Wide = Bf16Tile<64>;
  using Count = Bf16Tile<32>;
  using Positives = Bf16Tile<32, 1>;
  static constexpr int kWidest = 256;
};

void run_bf16(const Context& ctx, const Call& call) {
  Run<Bf16Tiles>(ctx, call)();
}

}  // namespace belfry::cuda::retrieval_softmax_kernels
