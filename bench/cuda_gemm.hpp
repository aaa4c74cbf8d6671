// SPDX-License-Identifier: Apache-2.0
// The ceiling of tensor-core work: one square bf16 product of cuBLASLt with fp32 sums.
#pragma once

#include <cublasLt.h>

#include <cstdint>

#include "kernels/core/bf16.hpp"
#include "kernels/core/context.hpp"

namespace belfry::bench {

class Bf16Gemm {
 public:
  explicit Bf16Gemm(std::int64_t n);
  ~Bf16Gemm();
  Bf16Gemm(const Bf16Gemm&) = delete;
  Bf16Gemm& operator=(const Bf16Gemm&) = delete;
  /// c = a b, all [n, n].
  void queue(const Context& ctx, const bf16* a, const bf16* b, bf16* c) const;

 private:
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t layout_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_{};
  std::int64_t workspace_ = 0;
};

}  // namespace belfry::bench
