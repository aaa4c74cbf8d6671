// SPDX-License-Identifier: Apache-2.0
// Matrix products by cuBLASLt: one, or several independent ones at once. For the CUDA side of ops.
//
// cuBLASLt gives bias epilogues to column-major results only, and its bias runs down a column. So
// every product is asked for transposed: a row-major c [M,N] is its column-major c^T [N,M] of the
// same pitch, c^T = op(b)^T op(a)^T, and one bias value per column of c is one per row of c^T.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/context.hpp"
#include "kernels/core/device.hpp"
#include "kernels/gemm/gemm.hpp"

namespace belfry::cuda {

/// What a product does on its way out, in the same pass.
enum class Epilogue {
  none,
  bias,           // c + bias
  relu,           // max(c, 0)
  relu_bias,      // max(c + bias, 0)
  bias_gradient,  // bias_j = sum over k of op(b)_kj: the sum of d_z's columns in a weight gradient
};

/// c = epilogue(alpha op(a) op(b) + beta c), shapes as in gemm.hpp.
struct Product {
  Matrix<const float> a, b;
  Matrix<float> c;
  GemmOptions options = {};
  Epilogue epilogue = Epilogue::none;
  float* bias = nullptr;  // [N], read, or written by bias_gradient
};

/// Whether the library has an algorithm for the product. `none` always counts as supported.
bool supported(const Product& product);

/// Queues one product. Its workspace comes from the arena: the caller's ArenaScope must stay open until
/// the context's stream is past the product.
void multiply(const Context& ctx, simt::Stream& stream, const Product& product);

/// Queues independent products side by side, and joins them: those of equal shape go out together as one
/// strided batch where the distances of their operands allow it, the others as parallel branches.
void multiply_all(const Context& ctx, std::span<const Product> products);

/// What this process has asked of cuBLASLt: for tests.
struct ProductCounters {
  std::int64_t heuristic_queries = 0;
  std::int64_t calls = 0;    // cublasLtMatmul
  std::int64_t batched = 0;  // of them with more than one product
};
ProductCounters product_counters();

}  // namespace belfry::cuda
