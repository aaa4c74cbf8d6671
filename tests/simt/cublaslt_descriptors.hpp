// SPDX-License-Identifier: Apache-2.0
// What the fake of cuBLASLt keeps behind its opaque descriptors, and the product that they describe together.
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace belfry::simt::fake {

using std::int32_t, std::int64_t, std::uint32_t, std::uint64_t;

struct Operation : cublasLtMatmulDescOpaque_t {
  int32_t compute = CUBLAS_COMPUTE_32F, scale = CUDA_R_32F;
  int32_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N, transpose_c = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  float* bias = nullptr;
  int64_t bias_stride = 0;
  int32_t bias_type = -1;
};

struct Layout : cublasLtMatrixLayoutOpaque_t {
  uint32_t type = CUDA_R_32F;
  int32_t order = CUBLASLT_ORDER_COL;
  uint64_t rows = 0, cols = 0;
  int64_t ld = 0;
  int32_t batch = 1;
  int64_t stride = 0;

  bool by_row() const { return order == CUBLASLT_ORDER_ROW; }
  int64_t at(int64_t i, int64_t j) const { return by_row() ? i * ld + j : j * ld + i; }
  /// Elements from the first to the last, both included, of one matrix.
  int64_t extent() const {
    return at(static_cast<int64_t>(rows) - 1, static_cast<int64_t>(cols) - 1) + 1;
  }
  bool operator==(const Layout& o) const {
    return type == o.type && order == o.order && rows == o.rows && cols == o.cols && ld == o.ld &&
           batch == o.batch && stride == o.stride;
  }
};

struct Preference : cublasLtMatmulPreferenceOpaque_t {
  uint32_t search = CUBLASLT_SEARCH_BEST_FIT;
  uint64_t workspace = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t align_a = 256, align_b = 256, align_c = 256, align_d = 256;
};

/// A whole product as the descriptors say it, D = op(A) op(B): m x n over k.
struct Problem {
  Operation operation;
  Layout a, b, c, d;

  bool transposed_a() const { return operation.transpose_a == CUBLAS_OP_T; }
  bool transposed_b() const { return operation.transpose_b == CUBLAS_OP_T; }
  uint64_t m() const { return d.rows; }
  uint64_t n() const { return d.cols; }
  uint64_t k() const { return transposed_a() ? a.rows : a.cols; }
  bool has_bias() const { return operation.epilogue & CUBLASLT_EPILOGUE_BIAS; }
  bool has_relu() const { return operation.epilogue & CUBLASLT_EPILOGUE_RELU; }
  bool has_bias_gradient() const { return operation.epilogue == CUBLASLT_EPILOGUE_BGRADA; }

  cublasStatus_t check() const;
  uint64_t hash() const;

 private:
  cublasStatus_t check_types() const;
  cublasStatus_t check_epilogue() const;
};

Problem problem_of(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d);

// Values are stored as they come, as the library does: what is wrong with them shows when they are used.
cublasStatus_t desc_create(cublasLtMatmulDesc_t* made, cublasComputeType_t compute,
                           cudaDataType_t scale);
cublasStatus_t desc_set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                        const void* value, std::size_t size);
cublasStatus_t layout_create(cublasLtMatrixLayout_t* made, cudaDataType type, uint64_t rows,
                             uint64_t cols, int64_t ld);
cublasStatus_t layout_set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute,
                          const void* value, std::size_t size);
cublasStatus_t preference_create(cublasLtMatmulPreference_t* made);
cublasStatus_t preference_set(cublasLtMatmulPreference_t preference,
                              cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                              std::size_t size);
template <class T, class Opaque>
cublasStatus_t destroy(Opaque* p) {
  delete static_cast<T*>(p);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace belfry::simt::fake
