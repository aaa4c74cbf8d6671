// SPDX-License-Identifier: Apache-2.0
#include "bench/cuda_gemm.hpp"

#include <string>

#include "kernels/core/cublaslt.hpp"
#include "kernels/core/device.hpp"

namespace belfry::bench {

namespace {

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(std::string("cuBLASLt: ") + what + ": " +
                    cuda::cublaslt().status_string(status));
}

}  // namespace

Bf16Gemm::Bf16Gemm(std::int64_t n) {
  const cuda::CublasLt& lt = cuda::cublaslt();
  check(lt.create(&handle_), "create");
  check(lt.desc_create(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor");
  const auto size = static_cast<std::uint64_t>(n);
  check(lt.layout_create(&layout_, CUDA_R_16BF, size, size, n), "layout");
  cublasLtMatmulPreference_t preference = nullptr;
  check(lt.preference_create(&preference), "preference");
  const std::uint64_t most = std::uint64_t{64} << 20;
  check(lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most),
        "preference");
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status = lt.get_heuristic(handle_, operation_, layout_, layout_, layout_,
                                                 layout_, preference, 1, &found, &count);
  lt.preference_destroy(preference);
  check(status, "heuristic");
  if (count == 0) throw DeviceError("cuBLASLt: no algorithm for a bf16 product");
  algorithm_ = found.algo;
  workspace_ = static_cast<std::int64_t>(found.workspaceSize);
}

Bf16Gemm::~Bf16Gemm() {
  const cuda::CublasLt& lt = cuda::cublaslt();
  lt.layout_destroy(layout_);
  lt.desc_destroy(operation_);
}

void Bf16Gemm::queue(const Context& ctx, const bf16* a, const bf16* b, bf16* c) const {
  ArenaScope scope(ctx);
  void* workspace = ctx.arena().take<char>(workspace_);
  const float one = 1.0f, zero = 0.0f;
  // Square and row-major: the library's transposed view of it is b^T a^T.
  check(cuda::cublaslt().matmul(handle_, operation_, &one, b, layout_, a, layout_, &zero, c,
                                layout_, c, layout_, &algorithm_, workspace,
                                static_cast<std::size_t>(workspace_),
                                static_cast<cudaStream_t>(ctx.stream().native())),
        "product");
}

}  // namespace belfry::bench
