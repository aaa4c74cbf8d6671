// SPDX-License-Identifier: Apache-2.0
#include "kernels/gemm/gemm_plan.hpp"

#include <algorithm>
#include <string>

namespace belfry::cuda {

namespace {

// What NVIDIA recommends for Hopper; a fixed number, so that the choice of an algorithm does not
// depend on what else a program holds.
constexpr std::uint64_t kWorkspaceLimit = std::uint64_t{32} << 20;
// A weight gradient is a small c over a long sum (K = batch), which in one sequence would leave most
// of the GPU idle. Of the schemes that cut K, this one keeps the parts in the workspace and adds them
// in a second pass: no atomics, nothing that depends on who comes first. (No cut is always allowed.)
constexpr std::uint32_t kReductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
// Shapes are few (layers x partial batches); a program that varies them without end starts over.
constexpr std::size_t kMostPlans = 4096;
constexpr std::uint32_t kBestAlignment = 256;

cublasLtEpilogue_t native(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::none:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case Epilogue::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::relu:
      return CUBLASLT_EPILOGUE_RELU;
    case Epilogue::relu_bias:
      return CUBLASLT_EPILOGUE_RELU_BIAS;
    case Epilogue::bias_gradient:
      return CUBLASLT_EPILOGUE_BGRADA;  // a is our b
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

bool has_bias(Epilogue epilogue) {
  return epilogue != Epilogue::none && epilogue != Epilogue::relu;
}

/// The largest power of two, up to 256, that divides the address and the step to the next one.
std::uint32_t alignment_of(const float* data, int count, std::int64_t stride) {
  std::uint64_t bits = reinterpret_cast<std::uintptr_t>(data);
  if (count > 1) bits |= static_cast<std::uint64_t>(stride) * sizeof(float);
  std::uint32_t alignment = kBestAlignment;
  while (alignment > 1 && bits % alignment != 0) alignment /= 2;
  return alignment;
}

std::string text(const PlanKey& k) {
  return "matrix product of " + std::to_string(k.m) + " x " + std::to_string(k.n) + " over " +
         std::to_string(k.k) + (k.count > 1 ? ", " + std::to_string(k.count) + " times" : "");
}

simt::Failure failure_of(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_ALLOC_FAILED:
      return simt::Failure::out_of_memory;
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return simt::Failure::wrong_architecture;
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return simt::Failure::no_device;
    case CUBLAS_STATUS_EXECUTION_FAILED:
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return simt::Failure::sticky;
    default:
      return simt::Failure::bad_argument;
  }
}

}  // namespace

PlanKey key_of(const Batch& batch) {
  const Product& p = batch.first;
  const bool ta = p.options.a == Transpose::yes, tb = p.options.b == Transpose::yes;
  return {.m = p.c.rows,
          .n = p.c.cols,
          .k = ta ? p.a.rows : p.a.cols,
          .pitch_a = p.a.pitch,
          .pitch_b = p.b.pitch,
          .pitch_c = p.c.pitch,
          .transpose_a = ta,
          .transpose_b = tb,
          .epilogue = p.epilogue,
          .count = batch.count,
          .stride_a = batch.stride_a,
          .stride_b = batch.stride_b,
          .stride_c = batch.stride_c,
          .stride_bias = batch.stride_bias,
          .align_a = alignment_of(p.a.data, batch.count, batch.stride_a),
          .align_b = alignment_of(p.b.data, batch.count, batch.stride_b),
          .align_c = alignment_of(p.c.data, batch.count, batch.stride_c),
          .align_bias =
              has_bias(p.epilogue) ? alignment_of(p.bias, batch.count, batch.stride_bias) : 0};
}

Planner& Planner::instance() {
  // Never destroyed: when a process ends, the driver may be gone before its last statics.
  static auto* const planner = new Planner;
  return *planner;
}

Planner::Planner() : library_(cublaslt()) {
  check(library_.create(&handle_), "cublasLtCreate");
}

void Planner::check(cublasStatus_t status, const char* what) const {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw simt::DeviceFailure(failure_of(status),
                            std::string(what) + ": cuBLASLt: " + library_.status_string(status));
}

Owned<cublasLtMatrixLayoutOpaque_t> Planner::layout(std::int64_t rows, std::int64_t cols,
                                                    std::int64_t pitch, int count,
                                                    std::int64_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  // Our rows are the library's columns.
  check(library_.layout_create(&made, CUDA_R_32F, static_cast<std::uint64_t>(cols),
                               static_cast<std::uint64_t>(rows), pitch),
        "a matrix layout");
  Owned<cublasLtMatrixLayoutOpaque_t> owned(made, {library_.layout_destroy});
  if (count > 1) {
    const std::int32_t n = count;
    check(library_.layout_set(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &n, sizeof n),
          "a batch count");
    check(library_.layout_set(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                              sizeof stride),
          "a batch stride");
  }
  return owned;
}

Plan Planner::make_plan(const PlanKey& key, const Batch& batch) {
  Plan plan;
  cublasLtMatmulDesc_t made = nullptr;
  // Plain fp32, no TF32: towers agree with the CPU to rounding.
  check(library_.desc_create(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a matmul descriptor");
  plan.operation = {made, {library_.desc_destroy}};
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(library_.desc_set(made, attribute, &value, sizeof value), "a matmul attribute");
  };
  const auto transform = [](bool t) {
    return static_cast<std::int32_t>(t ? CUBLAS_OP_T : CUBLAS_OP_N);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, transform(key.transpose_b));
  set(CUBLASLT_MATMUL_DESC_TRANSB, transform(key.transpose_a));
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(native(key.epilogue)));
  if (has_bias(key.epilogue)) {
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, batch.first.bias);  // its alignment counts
    if (key.count > 1) set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, key.stride_bias);
  }
  const Product& p = batch.first;
  plan.a = layout(p.b.rows, p.b.cols, key.pitch_b, key.count, key.stride_b);
  plan.b = layout(p.a.rows, p.a.cols, key.pitch_a, key.count, key.stride_a);
  plan.c = layout(p.c.rows, p.c.cols, key.pitch_c, key.count, key.stride_c);
  choose_algorithm(key, plan);
  return plan;
}

void Planner::choose_algorithm(const PlanKey& key, Plan& plan) {
  cublasLtMatmulPreference_t made = nullptr;
  check(library_.preference_create(&made), "a matmul preference");
  const Owned<cublasLtMatmulPreferenceOpaque_t> owned(made, {library_.preference_destroy});
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(library_.preference_set(made, attribute, &value, sizeof value), "a preference");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceLimit);
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReductions);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.align_b);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.align_a);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.align_c);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.align_c);
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  ++counters_.heuristic_queries;
  const cublasStatus_t status =
      library_.get_heuristic(handle_, plan.operation.get(), plan.a.get(), plan.b.get(),
                             plan.c.get(), plan.c.get(), made, 1, &result, &found);
  // Versions differ in which of the two they say to an epilogue that they do not have.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return;
  if (status == CUBLAS_STATUS_SUCCESS && found == 0) return;
  check(status, text(key).c_str());
  if (result.state != CUBLAS_STATUS_SUCCESS) return;
  plan.algorithm = result.algo;
  plan.workspace_bytes = static_cast<std::int64_t>(result.workspaceSize);
  plan.supported = true;
}

Plan& Planner::plan_of(const Batch& batch) {
  const PlanKey key = key_of(batch);
  if (const auto found = plans_.find(key); found != plans_.end()) return found->second;
  if (plans_.size() >= kMostPlans) plans_.clear();
  return plans_.emplace(key, make_plan(key, batch)).first->second;
}

bool Planner::supports(const Batch& batch) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return plan_of(batch).supported;
}

void Planner::run(const Context& ctx, simt::Stream& stream, const Batch& batch) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Plan& plan = plan_of(batch);
  const Product& p = batch.first;
  if (!plan.supported) {
    throw DeviceError("gemm: cuBLASLt has no algorithm for the " + text(key_of(batch)));
  }
  if (has_bias(p.epilogue)) {
    check(library_.desc_set(plan.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias,
                            sizeof p.bias),
          "a bias");
  }
  std::byte* workspace = nullptr;
  if (plan.workspace_bytes > 0) workspace = ctx.arena().take<std::byte>(plan.workspace_bytes);
  ++counters_.calls;
  counters_.batched += batch.count > 1;
  check(library_.matmul(handle_, plan.operation.get(), &p.options.alpha, p.b.data, plan.a.get(),
                        p.a.data, plan.b.get(), &p.options.beta, p.c.data, plan.c.get(), p.c.data,
                        plan.c.get(), &plan.algorithm, workspace,
                        static_cast<std::size_t>(plan.workspace_bytes),
                        static_cast<cudaStream_t>(stream.native())),
        text(key_of(batch)).c_str());
}

ProductCounters Planner::counters() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return counters_;
}

}  // namespace belfry::cuda
