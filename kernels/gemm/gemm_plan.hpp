// SPDX-License-Identifier: Apache-2.0
// Plans: what cuBLASLt needs to know of a product, and the algorithm that it chose, kept for all
// products alike. A plan is made on the first use and asks nothing of the device, so a graph capture
// may make one too, but finds it made when the step ran before.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "kernels/core/cublaslt.hpp"
#include "kernels/gemm/gemm_products.hpp"

namespace belfry::cuda {

/// A strided batch of `count` products: operand i lies i strides (in elements) after the first.
struct Batch {
  Product first;
  int count = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0, stride_bias = 0;
};

/// All that the choice of an algorithm may depend on, but for the values.
struct PlanKey {
  std::int64_t m, n, k, pitch_a, pitch_b, pitch_c;
  bool transpose_a, transpose_b;
  Epilogue epilogue;
  int count;
  std::int64_t stride_a, stride_b, stride_c, stride_bias;
  std::uint32_t align_a, align_b, align_c, align_bias;  // bytes
  auto operator<=>(const PlanKey&) const = default;
};
PlanKey key_of(const Batch& batch);

template <class T>
struct Destroy {
  cublasStatus_t (*function)(T*) = nullptr;
  void operator()(T* p) const { function(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Destroy<T>>;

struct Plan {
  Owned<cublasLtMatmulDescOpaque_t> operation;
  Owned<cublasLtMatrixLayoutOpaque_t> a, b, c;  // of the library's order: a is our b
  cublasLtMatmulAlgo_t algorithm{};
  std::int64_t workspace_bytes = 0;
  bool supported = false;
};

/// The library's handle and the plans of this process.
class Planner {
 public:
  static Planner& instance();

  /// Whether there is an algorithm for the batch.
  bool supports(const Batch& batch);
  /// Queues it. Takes workspace from the context's arena.
  void run(const Context& ctx, simt::Stream& stream, const Batch& batch);
  ProductCounters counters();

 private:
  Planner();
  Plan& plan_of(const Batch& batch);
  Plan make_plan(const PlanKey& key, const Batch& batch);
  void choose_algorithm(const PlanKey& key, Plan& plan);
  Owned<cublasLtMatrixLayoutOpaque_t> layout(std::int64_t rows, std::int64_t cols,
                                             std::int64_t pitch, int count, std::int64_t stride);
  void check(cublasStatus_t status, const char* what) const;

  const CublasLt& library_;
  cublasLtHandle_t handle_ = nullptr;
  std::mutex mutex_;
  std::map<PlanKey, Plan> plans_;
  ProductCounters counters_;
};

}  // namespace belfry::cuda
