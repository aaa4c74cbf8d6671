// SPDX-License-Identifier: Apache-2.0
// The fake of cuBLASLt: what it refuses, that its work waits on its stream, and that it takes attributes as
// the real library does, where there is one (that part of it needs no GPU).
#include <dlfcn.h>

#include <functional>
#include <vector>

#include "cublaslt_fake.hpp"
#include "device_array.hpp"
#include "host/options.hpp"
#include "host/queue.hpp"

namespace belfry::test {
namespace {

const cuda::CublasLt& lt() {
  return cuda::cublaslt();
}

/// C [4,3] = A [4,5] B [5,3] in column order; tests change one thing each.
struct Call {
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, d = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  DeviceArray<float> a_data{64}, b_data{64}, d_data{64}, bias{16}, workspace{256};
  float alpha = 1, beta = 0;
  cublasLtMatmulHeuristicResult_t result{};
  int found = -1;
  simt::Stream stream;

  Call() {
    lt().create(&handle);
    lt().desc_create(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    lt().layout_create(&a, CUDA_R_32F, 4, 5, 4);
    lt().layout_create(&b, CUDA_R_32F, 5, 3, 5);
    lt().layout_create(&c, CUDA_R_32F, 4, 3, 4);
    lt().layout_create(&d, CUDA_R_32F, 4, 3, 4);
    lt().preference_create(&preference);
    for (const auto* array : {&a_data, &b_data, &d_data, &bias}) {
      const std::vector<float> ones(static_cast<std::size_t>(array->size()), 1.0f);
      simt::to_device(array->data(), ones.data(), array->bytes());
    }
  }
  ~Call() {
    lt().desc_destroy(operation);
    for (auto* layout : {a, b, c, d}) lt().layout_destroy(layout);
    lt().preference_destroy(preference);
  }
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    ASSERT_EQ(lt().desc_set(operation, attribute, &value, sizeof value), CUBLAS_STATUS_SUCCESS);
  }
  template <class T>
  void set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, T value) {
    ASSERT_EQ(lt().layout_set(layout, attribute, &value, sizeof value), CUBLAS_STATUS_SUCCESS);
  }
  template <class T>
  void prefer(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    ASSERT_EQ(lt().preference_set(preference, attribute, &value, sizeof value),
              CUBLAS_STATUS_SUCCESS);
  }
  void set_epilogue(std::uint32_t epilogue) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.data());
  }
  void set_batch(std::int32_t count, std::int64_t stride) {
    for (auto* layout : {a, b, c, d}) {
      set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
      set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
    }
  }
  cublasStatus_t ask() {
    return lt().get_heuristic(handle, operation, a, b, c, d, preference, 1, &result, &found);
  }
  cublasStatus_t run(std::int64_t skip_a = 0, std::size_t workspace_bytes = 1024) {
    return lt().matmul(handle, operation, &alpha, a_data.data() + skip_a, a, b_data.data(), b,
                       &beta, d_data.data(), c, d_data.data(), d, &result.algo, workspace.data(),
                       workspace_bytes, static_cast<cudaStream_t>(stream.native()));
  }
};

TEST(CublasLtFake, MultipliesWhenItsStreamRuns) {
  for_each_schedule([] {
    Call call;
    call.beta = 2;
    ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(call.found, 1);
    ASSERT_EQ(call.run(), CUBLAS_STATUS_SUCCESS);
    call.beta = 100;  // was read by the call
    call.stream.sync();
    EXPECT_EQ(call.d_data.host()[11], 7);  // 5 + 2 * 1
    EXPECT_EQ(call.d_data.host()[12], 1);
  });
}

TEST(CublasLtFake, RowOrderAndTransposes) {
  Call call;  // A as [5,4] by rows, transposed; B by rows; D by rows
  call.set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t{CUBLAS_OP_T});
  for (auto* layout : {call.a, call.b, call.c, call.d}) {
    call.set(layout, CUBLASLT_MATRIX_LAYOUT_ORDER, std::int32_t{CUBLASLT_ORDER_ROW});
  }
  call.set(call.a, CUBLASLT_MATRIX_LAYOUT_ROWS, std::uint64_t{5});
  call.set(call.a, CUBLASLT_MATRIX_LAYOUT_COLS, std::uint64_t{4});
  call.set(call.b, CUBLASLT_MATRIX_LAYOUT_LD, std::int64_t{3});
  std::vector<float> a(64), b(64);
  for (std::size_t i = 0; i < 64; ++i)
    a[i] = static_cast<float>(i), b[i] = static_cast<float>(i % 7);
  simt::to_device(call.a_data.data(), a.data(), call.a_data.bytes());
  simt::to_device(call.b_data.data(), b.data(), call.b_data.bytes());
  ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(call.run(), CUBLAS_STATUS_SUCCESS);
  call.stream.sync();
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      float want = 0;
      for (std::size_t l = 0; l < 5; ++l) want += a[l * 4 + i] * b[l * 3 + j];
      EXPECT_EQ(call.d_data.host()[i * 4 + j], want) << i << ' ' << j;
    }
  }
}

struct Refusal {
  const char* what;
  std::function<void(Call&)> change;
  cublasStatus_t status;
};

TEST(CublasLtFake, HeuristicRefuses) {
  constexpr auto kInvalid = CUBLAS_STATUS_INVALID_VALUE, kUnsupported = CUBLAS_STATUS_NOT_SUPPORTED;
  using Layouts = cublasLtMatrixLayoutAttribute_t;
  const auto layout = [](cublasLtMatrixLayout_t Call::*which, Layouts attribute, auto value) {
    return [=](Call& c) { c.set(c.*which, attribute, value); };
  };
  const auto desc = [](cublasLtMatmulDescAttributes_t attribute, auto value) {
    return [=](Call& c) { c.set(attribute, value); };
  };
  const std::vector<Refusal> refusals = {
      {"rows of D", layout(&Call::d, CUBLASLT_MATRIX_LAYOUT_ROWS, std::uint64_t{3}), kInvalid},
      {"columns of B", layout(&Call::b, CUBLASLT_MATRIX_LAYOUT_COLS, std::uint64_t{4}), kInvalid},
      {"inner dimensions", layout(&Call::b, CUBLASLT_MATRIX_LAYOUT_ROWS, std::uint64_t{4}),
       kInvalid},
      {"C unlike D", layout(&Call::c, CUBLASLT_MATRIX_LAYOUT_LD, std::int64_t{5}), kInvalid},
      {"short ld", layout(&Call::a, CUBLASLT_MATRIX_LAYOUT_LD, std::int64_t{3}), kInvalid},
      {"negative ld", layout(&Call::a, CUBLASLT_MATRIX_LAYOUT_LD, std::int64_t{-4}), kInvalid},
      {"one batch of two", layout(&Call::a, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, std::int32_t{2}),
       kInvalid},
      {"a type", layout(&Call::a, CUBLASLT_MATRIX_LAYOUT_TYPE, std::uint32_t{CUDA_R_16BF}),
       kUnsupported},
      {"an order",
       layout(&Call::a, CUBLASLT_MATRIX_LAYOUT_ORDER, std::int32_t{CUBLASLT_ORDER_COL32}),
       kUnsupported},
      {"nothing", layout(&Call::b, CUBLASLT_MATRIX_LAYOUT_COLS, std::uint64_t{0}), kInvalid},
      {"no k",
       [](Call& c) {
         c.set(c.a, CUBLASLT_MATRIX_LAYOUT_COLS, std::uint64_t{0});
         c.set(c.b, CUBLASLT_MATRIX_LAYOUT_ROWS, std::uint64_t{0});
       },
       kInvalid},
      {"results that overlap", [](Call& c) { c.set_batch(2, 11); }, kInvalid},
      {"TF32", desc(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, std::int32_t{CUBLAS_COMPUTE_32F_FAST_TF32}),
       kUnsupported},
      {"scale type", desc(CUBLASLT_MATMUL_DESC_SCALE_TYPE, std::int32_t{CUDA_R_64F}), kUnsupported},
      {"pointer mode",
       desc(CUBLASLT_MATMUL_DESC_POINTER_MODE, std::int32_t{CUBLASLT_POINTER_MODE_DEVICE}),
       kUnsupported},
      {"transposed C", desc(CUBLASLT_MATMUL_DESC_TRANSC, std::int32_t{CUBLAS_OP_T}), kUnsupported},
      {"an operation", desc(CUBLASLT_MATMUL_DESC_TRANSB, std::int32_t{9}), kUnsupported},
      {"an epilogue", desc(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{17}), kUnsupported},
      {"GELU", [](Call& c) { c.set_epilogue(CUBLASLT_EPILOGUE_GELU_BIAS); }, kUnsupported},
      {"no bias", desc(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{CUBLASLT_EPILOGUE_BIAS}),
       kInvalid},
      {"bias and row order",
       [](Call& c) {
         c.set_epilogue(CUBLASLT_EPILOGUE_RELU_BIAS);
         for (auto* l : {c.c, c.d}) c.set(l, CUBLASLT_MATRIX_LAYOUT_ORDER, std::int32_t{1});
       },
       kUnsupported},
      {"a bias's type",
       [](Call& c) {
         c.set_epilogue(CUBLASLT_EPILOGUE_BIAS);
         c.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, std::int32_t{CUDA_R_16BF});
       },
       kUnsupported},
      {"a bias's negative stride",
       [](Call& c) {
         c.set_epilogue(CUBLASLT_EPILOGUE_BIAS);
         c.set(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, std::int64_t{-4});
       },
       kUnsupported},
      {"an alignment", [](Call& c) { c.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 3u); },
       kInvalid},
      {"reductions", [](Call& c) { c.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 99u); },
       kInvalid},
      {"a search", [](Call& c) { c.prefer(CUBLASLT_MATMUL_PREF_SEARCH_MODE, 1u); }, kUnsupported},
      {"no handle", [](Call& c) { c.handle = nullptr; }, CUBLAS_STATUS_NOT_INITIALIZED},
  };
  for (const Refusal& r : refusals) {
    Call call;
    ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
    r.change(call);
    EXPECT_EQ(call.ask(), r.status) << r.what;
    // What the heuristic refuses, the product refuses, with an algorithm at hand too.
    if (std::string(r.what) != "an alignment" && std::string(r.what) != "reductions" &&
        std::string(r.what) != "a search") {
      EXPECT_EQ(call.run(), r.status) << r.what;
    }
  }
}

TEST(CublasLtFake, UndocumentedUseIsAFault) {
  Call call;
  call.set_batch(2, -16);
  EXPECT_THROW(call.ask(), simt::Error);
}

TEST(CublasLtFake, ProductRefuses) {
  {
    Call call;
    ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(call.run(1), CUBLAS_STATUS_INVALID_VALUE) << "A at 4 bytes, the algorithm wants 256";
    call.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 4u);
    ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(call.run(1), CUBLAS_STATUS_SUCCESS);
  }
  {
    Call call;
    ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
    call.set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{CUBLASLT_EPILOGUE_RELU});
    EXPECT_EQ(call.run(), CUBLAS_STATUS_INVALID_VALUE) << "the algorithm of another problem";
    call.result = {};
    EXPECT_EQ(call.run(), CUBLAS_STATUS_INVALID_VALUE) << "no algorithm at all";
  }
}

/// A [4,70] B [70,3]: long enough to be cut.
struct LongCall : Call {
  DeviceArray<float> a_long{280}, b_long{210};
  LongCall() {
    set(a, CUBLASLT_MATRIX_LAYOUT_COLS, std::uint64_t{70});
    set(b, CUBLASLT_MATRIX_LAYOUT_ROWS, std::uint64_t{70});
    set(b, CUBLASLT_MATRIX_LAYOUT_LD, std::int64_t{70});
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{1024});
  }
  cublasStatus_t run_long(void* place, std::size_t bytes) {
    return lt().matmul(handle, operation, &alpha, a_long.data(), a, b_long.data(), b, &beta,
                       d_data.data(), c, d_data.data(), d, &result.algo, place, bytes,
                       static_cast<cudaStream_t>(stream.native()));
  }
};

TEST(CublasLtFake, WorkspaceRules) {
  LongCall call;
  ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(call.result.workspaceSize, 2u * 12 * 4);
  EXPECT_EQ(call.run_long(call.workspace.data(), 95), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(call.run_long(nullptr, 96), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(call.run_long(call.workspace.data() + 1, 96), CUBLAS_STATUS_INVALID_VALUE);
  call.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
              std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(call.result.workspaceSize, 0u) << "K may not be cut";
  call.prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
              std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  call.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{95});
  ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(call.result.workspaceSize, 0u) << "no room for the parts";
}

/// Runs the call and returns the fault that the executor found.
std::string fault_of(Call& call, const std::function<cublasStatus_t()>& run) {
  EXPECT_EQ(run(), CUBLAS_STATUS_SUCCESS);
  try {
    call.stream.sync();
  } catch (const simt::Error& e) {
    return name_of(e.fault);
  }
  return "none";
}

TEST(CublasLtFake, MemoryOutsideOfABuffer) {
  Call call;
  call.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 4u);
  ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(fault_of(call, [&] { return call.run(44); }), "none");  // 20 elements, of 64
  EXPECT_EQ(fault_of(call, [&] { return call.run(45); }), name_of(simt::Fault::bounds));
}

TEST(CublasLtFake, MemoryThatNobodyWrote) {
  LongCall call;  // whose long operands were never filled
  ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
  const char* want = simt::checking() ? name_of(simt::Fault::uninit) : "none";
  EXPECT_EQ(fault_of(call, [&] { return call.run_long(call.workspace.data(), 1024); }), want);
}

/// Two products that share a workspace on two streams: wrong under some order.
TEST(CublasLtFake, ASharedWorkspaceShows) {
  int wrong = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    simt::Options o;
    o.order = simt::Order::random;
    o.seed = seed;
    const simt::ScopedOptions scope(o);
    LongCall x, y;
    const std::vector<float> ones(280, 1.0f), twos(280, 2.0f);
    simt::to_device(x.a_long.data(), ones.data(), x.a_long.bytes());
    simt::to_device(y.a_long.data(), twos.data(), y.a_long.bytes());
    for (LongCall* call : {&x, &y}) {
      simt::to_device(call->b_long.data(), ones.data(), call->b_long.bytes());
      ASSERT_EQ(call->ask(), CUBLAS_STATUS_SUCCESS);
      ASSERT_EQ(call->run_long(x.workspace.data(), 1024), CUBLAS_STATUS_SUCCESS);
    }
    simt::device_sync();
    wrong += x.d_data.host()[0] != 70 || y.d_data.host()[0] != 140;
  }
  EXPECT_GT(wrong, 0);
}

TEST(CublasLtFake, AStreamThatDoesNotExist) {
  Call call;
  ASSERT_EQ(call.ask(), CUBLAS_STATUS_SUCCESS);
  int nothing = 0;
  EXPECT_THROW(simt::enqueue_native(&nothing, "work", [] {}), simt::Error);
}

/// Every attribute that the fake takes, the real library takes in the same size, and no other size.
TEST(CublasLtFake, AttributesAsInTheRealLibrary) {
  void* library = nullptr;
  for (const char* name : {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13"}) {
    if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) GTEST_SKIP() << "no cuBLASLt here";
  const auto real = [&]<class F>(F, const char* name) {
    return reinterpret_cast<F>(dlsym(library, name));
  };
  const auto compare = [](auto&& ours, auto&& theirs, int most, const char* what) {
    alignas(16) const char value[16] = {};
    int taken = 0;
    for (int attribute = -1; attribute <= most; ++attribute) {
      for (const std::size_t size : {1, 2, 4, 8, 16}) {
        if (ours(attribute, value, size) != CUBLAS_STATUS_SUCCESS) continue;
        ++taken;
        EXPECT_EQ(theirs(attribute, value, size), CUBLAS_STATUS_SUCCESS)
            << what << " attribute " << attribute << " of " << size << " bytes";
      }
    }
    EXPECT_GE(taken, 7) << what;
  };
  Call fake;
  cublasLtMatmulDesc_t desc = nullptr;
  real(lt().desc_create, "cublasLtMatmulDescCreate")(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  const auto desc_set = real(lt().desc_set, "cublasLtMatmulDescSetAttribute");
  compare(
      [&](int a, auto v, auto n) {
        return lt().desc_set(fake.operation, cublasLtMatmulDescAttributes_t(a), v, n);
      },
      [&](int a, auto v, auto n) {
        return desc_set(desc, cublasLtMatmulDescAttributes_t(a), v, n);
      },
      40, "descriptor");
  cublasLtMatrixLayout_t layout = nullptr;
  real(lt().layout_create, "cublasLtMatrixLayoutCreate")(&layout, CUDA_R_32F, 1, 1, 1);
  const auto layout_set = real(lt().layout_set, "cublasLtMatrixLayoutSetAttribute");
  compare([&](int a, auto v,
              auto n) { return lt().layout_set(fake.a, cublasLtMatrixLayoutAttribute_t(a), v, n); },
          [&](int a, auto v, auto n) {
            return layout_set(layout, cublasLtMatrixLayoutAttribute_t(a), v, n);
          },
          12, "layout");
  cublasLtMatmulPreference_t preference = nullptr;
  real(lt().preference_create, "cublasLtMatmulPreferenceCreate")(&preference);
  const auto preference_set = real(lt().preference_set, "cublasLtMatmulPreferenceSetAttribute");
  compare(
      [&](int a, auto v, auto n) {
        return lt().preference_set(fake.preference, cublasLtMatmulPreferenceAttributes_t(a), v, n);
      },
      [&](int a, auto v, auto n) {
        return preference_set(preference, cublasLtMatmulPreferenceAttributes_t(a), v, n);
      },
      14, "preference");
  real(lt().desc_destroy, "cublasLtMatmulDescDestroy")(desc);
  real(lt().layout_destroy, "cublasLtMatrixLayoutDestroy")(layout);
  real(lt().preference_destroy, "cublasLtMatmulPreferenceDestroy")(preference);
}

}  // namespace
}  // namespace belfry::test
