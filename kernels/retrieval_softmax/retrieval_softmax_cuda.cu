// SPDX-License-Identifier: Apache-2.0
#include "kernels/retrieval_softmax/softmax_run.cuh"

namespace belfry::cuda {
namespace {

/// The GPU's generation: before 8 it has no bf16 tensor cores, and 64 KiB of shared memory a block.
int gpu_generation() {
  static const int major = simt::device_info().major;
  return major;
}

}  // namespace

void retrieval_softmax(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                       Matrix<const float> candidates, const RetrievalSoftmaxOptions& options,
                       double* loss, Vector<float> row_loss, Matrix<float> d_queries,
                       Matrix<float> d_candidates) {
  require(heads <= kMaxHeads, "retrieval_softmax: at most 32 heads on a GPU");
  if (queries.rows == 0) {
    simt::device_memset(loss, 0, sizeof(double), ctx.stream());
    retrieval_softmax_kernels::clear_gradient(ctx, d_candidates);
    return;
  }
  const bool old = gpu_generation() < 8;
  const bool bf16 = options.precision == Precision::bf16 && !old;
  const retrieval_softmax_kernels::Call call{queries,   heads,        candidates,
                                             options,   loss,         row_loss,
                                             d_queries, d_candidates, old ? 64 : bf16 ? 256 : 128};
  bf16 ? run_bf16(ctx, call) : run_fp32(ctx, call);
}

}  // namespace belfry::cuda
