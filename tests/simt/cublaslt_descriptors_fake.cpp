// SPDX-License-Identifier: Apache-2.0
#include "cublaslt_descriptors.hpp"

#include <cstring>

#include "cublaslt_fake.hpp"
#include "host/options.hpp"

namespace belfry::simt::fake {

namespace {

template <class T>
cublasStatus_t store(T& field, const void* value, std::size_t size) {
  if (value == nullptr || size != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, size);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

cublasStatus_t desc_create(cublasLtMatmulDesc_t* made, cublasComputeType_t compute,
                           cudaDataType_t scale) {
  auto* o = new Operation;
  o->compute = compute;
  o->scale = scale;
  *made = o;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t desc_set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                        const void* value, std::size_t size) {
  if (desc == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  auto& o = static_cast<Operation&>(*desc);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
      return store(o.compute, value, size);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
      return store(o.scale, value, size);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return store(o.pointer_mode, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return store(o.transpose_a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return store(o.transpose_b, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSC:
      return store(o.transpose_c, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return store(o.epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return store(o.bias, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return store(o.bias_stride, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return store(o.bias_type, value, size);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t layout_create(cublasLtMatrixLayout_t* made, cudaDataType type, uint64_t rows,
                             uint64_t cols, int64_t ld) {
  auto* l = new Layout;
  l->type = type;
  l->rows = rows;
  l->cols = cols;
  l->ld = ld;
  *made = l;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t layout_set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute,
                          const void* value, std::size_t size) {
  if (layout == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  auto& l = static_cast<Layout&>(*layout);
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return store(l.type, value, size);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return store(l.order, value, size);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return store(l.rows, value, size);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return store(l.cols, value, size);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return store(l.ld, value, size);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return store(l.batch, value, size);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return store(l.stride, value, size);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t preference_create(cublasLtMatmulPreference_t* made) {
  *made = new Preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t preference_set(cublasLtMatmulPreference_t preference,
                              cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                              std::size_t size) {
  if (preference == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  auto& p = static_cast<Preference&>(*preference);
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
      return store(p.search, value, size);
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return store(p.workspace, value, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return store(p.reductions, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return store(p.align_a, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return store(p.align_b, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return store(p.align_c, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return store(p.align_d, value, size);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t Problem::check_types() const {
  const Operation& o = operation;
  if (o.compute != CUBLAS_COMPUTE_32F || o.scale != CUDA_R_32F ||
      o.pointer_mode != CUBLASLT_POINTER_MODE_HOST || o.transpose_c != CUBLAS_OP_N) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  for (const int32_t t : {o.transpose_a, o.transpose_b}) {
    if (t != CUBLAS_OP_N && t != CUBLAS_OP_T) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  for (const Layout* l : {&a, &b, &c, &d}) {
    if (l->type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (l->order != CUBLASLT_ORDER_COL && !l->by_row()) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t Problem::check_epilogue() const {
  switch (operation.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_RELU:
      break;
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
    case CUBLASLT_EPILOGUE_BGRADA:
      if (operation.bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
      // The bias runs down a column of D: the library has it for column order alone.
      if (d.by_row() || operation.bias_stride < 0) return CUBLAS_STATUS_NOT_SUPPORTED;
      if (operation.bias_type != -1 && operation.bias_type != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
      if (has_bias_gradient() && refusals().bias_gradient) return CUBLAS_STATUS_NOT_SUPPORTED;
      break;
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool plain = operation.epilogue == CUBLASLT_EPILOGUE_DEFAULT;
  if (!plain && (refusals().epilogues || (d.batch > 1 && refusals().batches_with_epilogue))) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t Problem::check() const {
  if (const cublasStatus_t s = check_types(); s != CUBLAS_STATUS_SUCCESS) return s;
  const bool shapes = (transposed_a() ? a.cols : a.rows) == m() &&
                      (transposed_b() ? b.cols : b.rows) == k() &&
                      (transposed_b() ? b.rows : b.cols) == n() && c == d;
  if (!shapes || m() == 0 || n() == 0 || k() == 0) return CUBLAS_STATUS_INVALID_VALUE;
  for (const Layout* l : {&a, &b, &c, &d}) {
    const uint64_t least = l->by_row() ? l->cols : l->rows;
    if (l->ld < 0 || static_cast<uint64_t>(l->ld) < least || l->batch != d.batch || l->batch < 1) {
      return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (l->stride < 0)
      throw Error(Fault::stream, "cuBLASLt: a negative batch stride is undocumented");
  }
  if (d.batch > 1 && d.stride < d.extent()) return CUBLAS_STATUS_INVALID_VALUE;
  return check_epilogue();
}

/// FNV-1a over what the problem is, without pointers.
uint64_t Problem::hash() const {
  uint64_t h = 14695981039346656037ull;
  const auto mix = [&](uint64_t v) { h = (h ^ v) * 1099511628211ull; };
  mix(static_cast<uint64_t>(operation.transpose_a));
  mix(static_cast<uint64_t>(operation.transpose_b));
  mix(operation.epilogue);
  for (const Layout* l : {&a, &b, &d}) {
    mix(static_cast<uint64_t>(l->order));
    mix(l->rows);
    mix(l->cols);
    mix(static_cast<uint64_t>(l->ld));
    mix(static_cast<uint64_t>(l->batch));
    mix(static_cast<uint64_t>(l->stride));
  }
  return h;
}

Problem problem_of(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  return {static_cast<Operation&>(*operation), static_cast<Layout&>(*a), static_cast<Layout&>(*b),
          static_cast<Layout&>(*c), static_cast<Layout&>(*d)};
}

}  // namespace belfry::simt::fake
