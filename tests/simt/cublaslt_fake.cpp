// SPDX-License-Identifier: Apache-2.0
#include "cublaslt_fake.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>

#include "cublaslt_descriptors.hpp"
#include "host/checker.hpp"
#include "host/memory.hpp"
#include "host/options.hpp"
#include "host/queue.hpp"

namespace belfry::simt::fake {

namespace {

/// What an algorithm remembers of the problem that it was made for.
struct Algorithm {
  static constexpr uint32_t kMark = 0xbe1f7001;
  uint32_t mark, parts;
  uint64_t problem;    // a hash
  uint64_t workspace;  // bytes
  uint32_t align_a, align_b, align_c, align_d;
  uint32_t any_order;  // of the parts
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

bool power_of_two(uint32_t v) {
  return v != 0 && (v & (v - 1)) == 0;
}

/// Cuts K where it is long, into parts whose sums find room in the workspace.
Algorithm choose(const Problem& problem, const Preference& p) {
  Algorithm chosen{.mark = Algorithm::kMark,
                   .parts = 1,
                   .problem = problem.hash(),
                   .workspace = 0,
                   .align_a = p.align_a,
                   .align_b = p.align_b,
                   .align_c = p.align_c,
                   .align_d = p.align_d,
                   .any_order = p.reductions & CUBLASLT_REDUCTION_SCHEME_INPLACE};
  const uint64_t size = problem.m() * problem.n() * static_cast<uint64_t>(problem.d.batch);
  const uint64_t parts = std::min<uint64_t>(8, problem.k() / 32);
  const uint64_t bytes = parts * size * sizeof(float);
  const bool may_cut = p.reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  if (parts > 1 && may_cut && bytes <= p.workspace) {
    chosen.parts = static_cast<uint32_t>(parts);
    chosen.workspace = bytes;
  }
  return chosen;
}

cublasStatus_t get_heuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                             cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                             cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                             cublasLtMatmulPreference_t preference, int requested,
                             cublasLtMatmulHeuristicResult_t results[], int* found) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested <= 0 || operation == nullptr || preference == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  const auto& p = static_cast<const Preference&>(*preference);
  if (p.search != CUBLASLT_SEARCH_BEST_FIT) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (p.reductions > CUBLASLT_REDUCTION_SCHEME_MASK) return CUBLAS_STATUS_INVALID_VALUE;
  for (const uint32_t align : {p.align_a, p.align_b, p.align_c, p.align_d}) {
    if (!power_of_two(align)) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Problem problem = problem_of(operation, a, b, c, d);
  if (const cublasStatus_t s = problem.check(); s != CUBLAS_STATUS_SUCCESS) return s;
  *found = 0;
  if (refusals().everything) return CUBLAS_STATUS_SUCCESS;
  const Algorithm chosen = choose(problem, p);
  results[0] = {};
  std::memcpy(&results[0].algo, &chosen, sizeof chosen);
  results[0].workspaceSize = chosen.workspace;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].wavesCount = 1.0f;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

/// `count` floats that stand for device memory: inside of one buffer, and written before they are read.
void want(const float* p, int64_t count, bool read, const char* what) {
  const auto* bytes = reinterpret_cast<const char*>(p);
  const auto size = static_cast<std::size_t>(count) * sizeof(float);
  if (!host::device_region().covers(bytes, size)) {
    throw Error(Fault::bounds, std::string("cublasLtMatmul: ") + what + " of " +
                                   std::to_string(size) +
                                   " bytes is not inside of one device buffer");
  }
  if (read) host::want_written(bytes, size, what);
}

/// A product that was queued: copies of all that the caller's call said.
struct Job {
  Problem problem;
  float alpha, beta;
  const float *a, *b, *c;
  float *d, *workspace;
  uint32_t parts;
  bool any_order;

  float sum(int64_t batch, int64_t i, int64_t j, uint64_t first, uint64_t last) const {
    const Problem& p = problem;
    const float *x = a + batch * p.a.stride, *y = b + batch * p.b.stride;
    float total = 0;
    for (auto l = static_cast<int64_t>(first); l < static_cast<int64_t>(last); ++l) {
      total = std::fmaf(x[p.transposed_a() ? p.a.at(l, i) : p.a.at(i, l)],
                        y[p.transposed_b() ? p.b.at(j, l) : p.b.at(l, j)], total);
    }
    return total;
  }
  template <class F>
  void for_each_element(F&& f) const {
    int64_t number = 0;
    for (int64_t batch = 0; batch < problem.d.batch; ++batch) {
      for (int64_t j = 0; j < static_cast<int64_t>(problem.n()); ++j) {
        for (int64_t i = 0; i < static_cast<int64_t>(problem.m()); ++i) f(batch, i, j, number++);
      }
    }
  }
  int64_t elements() const {
    return static_cast<int64_t>(problem.m() * problem.n()) * problem.d.batch;
  }

  void check_operands() const;
  void add_parts() const;
  void finish() const;
  void bias_gradients() const;
  float bias(int64_t batch, int64_t i) const {
    return problem.has_bias() ? problem.operation.bias[batch * problem.operation.bias_stride + i]
                              : 0;
  }
};

/// Rows (or columns) of operands one by one: what lies between them is nobody's business.
void Job::check_operands() const {
  const auto lines = [](const float* data, const Layout& l, bool read, const char* what) {
    const auto count = static_cast<int64_t>(l.by_row() ? l.rows : l.cols);
    const auto length = static_cast<int64_t>(l.by_row() ? l.cols : l.rows);
    for (int64_t batch = 0; batch < l.batch; ++batch) {
      for (int64_t line = 0; line < count; ++line) {
        want(data + batch * l.stride + line * l.ld, length, read, what);
      }
    }
  };
  lines(a, problem.a, true, "A");
  lines(b, problem.b, true, "B");
  lines(c, problem.c, beta != 0, "C");
  lines(d, problem.d, false, "D");
  for (int64_t batch = 0;
       (problem.has_bias() || problem.has_bias_gradient()) && batch < problem.d.batch; ++batch) {
    want(problem.operation.bias + batch * problem.operation.bias_stride,
         static_cast<int64_t>(problem.m()), problem.has_bias(), "the bias");
  }
}

/// First half of an algorithm that cuts K: the sum of part p of element e lies at [p][e].
void Job::add_parts() const {
  check_operands();
  want(workspace, elements() * parts, false, "the workspace");
  const host::DeviceOpen open;
  const uint64_t k = problem.k();
  for_each_element([&](int64_t batch, int64_t i, int64_t j, int64_t e) {
    for (uint64_t p = 0; p < parts; ++p) {
      workspace[static_cast<int64_t>(p) * elements() + e] =
          sum(batch, i, j, k * p / parts, k * (p + 1) / parts);
    }
  });
}

void Job::finish() const {
  check_operands();
  const host::DeviceOpen open;
  for_each_element([&](int64_t batch, int64_t i, int64_t j, int64_t e) {
    float total = 0;
    if (parts == 1) {
      total = sum(batch, i, j, 0, problem.k());
    } else {
      const bool backwards = any_order && options().order != Order::fifo;
      for (uint32_t p = 0; p < parts; ++p) {
        total += workspace[int64_t{backwards ? parts - 1 - p : p} * elements() + e];
      }
    }
    const int64_t at = batch * problem.d.stride + problem.d.at(i, j);
    float value = alpha * total;
    if (beta != 0) value += beta * c[at];
    if (problem.has_bias()) value += bias(batch, i);
    if (problem.has_relu())
      value = value > 0 ? value : 0;  // NaN becomes 0: the library does not say
    d[at] = value;
    host::note_host_write(reinterpret_cast<const char*>(d + at), sizeof(float));
  });
  if (problem.has_bias_gradient()) bias_gradients();
}

void Job::bias_gradients() const {
  const Operation& o = problem.operation;
  for (int64_t batch = 0; batch < problem.d.batch; ++batch) {
    const float* x = a + batch * problem.a.stride;
    for (int64_t i = 0; i < static_cast<int64_t>(problem.m()); ++i) {
      float total = 0;
      for (int64_t l = 0; l < static_cast<int64_t>(problem.k()); ++l) {
        total += x[problem.transposed_a() ? problem.a.at(l, i) : problem.a.at(i, l)];
      }
      float* target = o.bias + batch * o.bias_stride + i;
      *target = total;
      host::note_host_write(reinterpret_cast<const char*>(target), sizeof(float));
    }
  }
}

bool aligned(const void* p, uint64_t to) {
  return reinterpret_cast<std::uintptr_t>(p) % to == 0;
}
/// All matrices of a batch.
bool aligned(const void* p, const Layout& layout, uint64_t to) {
  const bool steps =
      layout.batch == 1 || static_cast<uint64_t>(layout.stride) * sizeof(float) % to == 0;
  return aligned(p, to) && steps;
}

cublasStatus_t matmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha,
                      const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                      cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                      cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                      const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                      std::size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (refusals().status != CUBLAS_STATUS_SUCCESS) return refusals().status;
  for (const void* p : {alpha, a, b, beta, c, static_cast<const void*>(d)}) {
    if (p == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  }
  // The real one asks its heuristic when there is none; kernels/gemm always has one.
  if (operation == nullptr || algorithm == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const Problem problem = problem_of(operation, a_layout, b_layout, c_layout, d_layout);
  if (const cublasStatus_t s = problem.check(); s != CUBLAS_STATUS_SUCCESS) return s;
  Algorithm chosen;
  std::memcpy(&chosen, algorithm, sizeof chosen);
  const bool fits = chosen.mark == Algorithm::kMark && chosen.problem == problem.hash() &&
                    aligned(a, problem.a, chosen.align_a) &&
                    aligned(b, problem.b, chosen.align_b) &&
                    aligned(c, problem.c, chosen.align_c) && aligned(d, problem.d, chosen.align_d);
  const bool room = chosen.workspace == 0 || (workspace != nullptr && aligned(workspace, 16) &&
                                              workspace_bytes >= chosen.workspace);
  if (!fits || !room) return CUBLAS_STATUS_INVALID_VALUE;
  const auto job = std::make_shared<const Job>(Job{
      problem, *static_cast<const float*>(alpha), *static_cast<const float*>(beta),
      static_cast<const float*>(a), static_cast<const float*>(b), static_cast<const float*>(c),
      static_cast<float*>(d), static_cast<float*>(workspace), chosen.parts, chosen.any_order != 0});
  if (chosen.parts > 1)
    enqueue_native(stream, "parts of a matrix product", [job] { job->add_parts(); });
  enqueue_native(stream, "a matrix product", [job] { job->finish(); });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t create(cublasLtHandle_t* handle) {
  static char library;
  *handle = reinterpret_cast<cublasLtHandle_t>(&library);
  return CUBLAS_STATUS_SUCCESS;
}

const char* status_string(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the functionality requested is not supported";
    default:
      return "another status";
  }
}

}  // namespace

Refusals& refusals() {
  static Refusals r;
  return r;
}

}  // namespace belfry::simt::fake

const belfry::cuda::CublasLt& belfry::cuda::cublaslt() {
  using namespace belfry::simt::fake;
  static const CublasLt table{
      .get_version = [] { return std::size_t{CUBLAS_VERSION}; },
      .status_string = status_string,
      .create = create,
      .desc_create = desc_create,
      .desc_destroy = destroy<Operation, cublasLtMatmulDescOpaque_t>,
      .desc_set = desc_set,
      .layout_create = layout_create,
      .layout_destroy = destroy<Layout, cublasLtMatrixLayoutOpaque_t>,
      .layout_set = layout_set,
      .preference_create = preference_create,
      .preference_destroy = destroy<Preference, cublasLtMatmulPreferenceOpaque_t>,
      .preference_set = preference_set,
      .get_heuristic = get_heuristic,
      .matmul = matmul,
  };
  return table;
}
