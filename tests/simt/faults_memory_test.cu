// SPDX-License-Identifier: Apache-2.0
// Planted faults of memory: each is found by exactly the builds that README.md names.
#include <cstdint>
#include <vector>

#include "expect_fault.hpp"
#include "kernels/core/simt.hpp"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

namespace belfry::faults {

using simt::Fault;
using test::DeviceArray;
using test::expect_row;
using test::Row;
using test::Seen;

constexpr Seen kNothing = Seen::nothing, kOutput = Seen::output, kReport = Seen::report,
               kDeath = Seen::death;

bool ran() {
  return true;
}

__global__ void past_static_shared(int* out, int n) {
  SIMT_SHARED_ARRAY(int, line, [32]);
  line[threadIdx.x] = 1;
  int* raw = line;
  if (threadIdx.x == 0) raw[n] = 5;
  out[threadIdx.x] = line[threadIdx.x];
}
TEST(Faults, StaticSharedOutOfBounds) {
  expect_row({kNothing, kDeath, kReport, Fault::bounds, "AddressSanitizer"}, [] {
    DeviceArray<int> out(32);
    simt::launch({.grid = 1, .block = 32}, past_static_shared, out.data(), 32);
    return ran();
  });
}

__global__ void past_dynamic_shared(int* out, int n) {
  SIMT_DYN_SHARED(int, line);
  line[threadIdx.x] = 1;
  if (threadIdx.x == 31) out[0] = line[31];
  if (threadIdx.x == 0) line[n] = 5;
}
TEST(Faults, DynamicSharedOutOfBounds) {
  expect_row({kNothing, kDeath, kReport, Fault::bounds, "AddressSanitizer"}, [] {
    DeviceArray<int> out(1);
    simt::launch({.grid = 1, .block = 32, .smem = 128}, past_dynamic_shared, out.data(), 32);
    return ran();
  });
}

__global__ void past_global(float* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i <= n) out[i] = 1.0f;  // one too many
}
TEST(Faults, GlobalOutOfBounds) {
  expect_row({kNothing, kDeath, kReport, Fault::bounds, "AddressSanitizer"}, [] {
    DeviceArray<float> out(100);
    simt::launch({.grid = 4, .block = 32}, past_global, out.data(), 100);
    return ran();
  });
}

__global__ void used_after_free(const int* in, int* out) {
  out[threadIdx.x] = in[threadIdx.x];
}
TEST(Faults, FreedMemory) {
  expect_row({kNothing, kDeath, kReport, Fault::bounds, "AddressSanitizer"}, [] {
    DeviceArray<int> out(32);
    const int* stale = nullptr;
    {
      const auto gone = DeviceArray<int>::zeros(32);
      stale = gone.data();
    }
    simt::launch({.grid = 1, .block = 32}, used_after_free, stale, out.data());
    return ran();
  });
}

__global__ void past_inner_dimension(int* out, int column) {
  SIMT_SHARED_ARRAY(int, tile, [4][8]);
  tile[threadIdx.x / 8][threadIdx.x % 8] = 7;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x / 16][column];  // [0][8] is [1][0]
}
TEST(Faults, InnerDimension) {
  expect_row({kNothing, kDeath, kNothing, Fault::bounds, "runtime error: index 8 out of bounds"},
             [] {
               DeviceArray<int> out(32);
               simt::launch({.grid = 1, .block = 32}, past_inner_dimension, out.data(), 8);
               return out.host()[0] == 7;
             });
}

__global__ void unwritten_shared(float* out) {
  SIMT_SHARED_ARRAY(float, line, [64]);
  line[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = line[threadIdx.x] + line[threadIdx.x + 32];
}
TEST(Faults, SharedReadBeforeAnyWrite) {
  expect_row({kOutput, kOutput, kReport, Fault::uninit}, [] {
    DeviceArray<float> out(32);
    simt::launch({.grid = 1, .block = 32}, unwritten_shared, out.data());
    return out.host()[3] == 1.0f;
  });
}

__global__ void accumulate(const float* in, float* out) {
  out[threadIdx.x] += in[threadIdx.x];
}
TEST(Faults, GlobalReadBeforeAnyWrite) {
  expect_row({kOutput, kOutput, kReport, Fault::uninit}, [] {
    DeviceArray<float> in(std::vector<float>(32, 1.0f)), out(32);  // out is never cleared
    simt::launch({.grid = 1, .block = 32}, accumulate, in.data(), out.data());
    return out.host()[3] == 1.0f;
  });
}

__global__ void early_read_of_copy(const float4* in, float4* out) {
  SIMT_SHARED_ARRAY(float4, line, [32]);
  simt::cp_async<16>(&line[threadIdx.x], &in[threadIdx.x]);
  simt::cp_async_commit();
  simt::cp_async_wait<1>();  // should be 0
  out[threadIdx.x] = line[threadIdx.x];
}
TEST(Faults, AsyncCopyReadTooEarly) {
  expect_row({kOutput, kOutput, kReport, Fault::uninit}, [] {
    DeviceArray<float4> in(std::vector<float4>(32, make_float4(1, 2, 3, 4))), out(32);
    simt::launch({.grid = 1, .block = 32}, early_read_of_copy, in.data(), out.data());
    return out.host()[5].y == 2.0f;
  });
}

__global__ void misaligned_vector(const float* in, float4* out) {
  out[threadIdx.x] = reinterpret_cast<const float4*>(in + 1)[threadIdx.x];
}
TEST(Faults, MisalignedFloat4) {
  // Elsewhere it may pass or trap, as the compiler's choice of moves has it: not run.
  if (simt::build() != simt::Build::asan) return;
  expect_row({kNothing, kDeath, kNothing, Fault::bounds, "misaligned address"}, [] {
    DeviceArray<float> in(std::vector<float>(68));
    DeviceArray<float4> out(16);
    simt::launch({.grid = 1, .block = 16}, misaligned_vector, in.data(), out.data());
    return ran();
  });
}

__global__ void misaligned_atomic(char* p) {
  atomicAdd(reinterpret_cast<int*>(p + 2), 1);
}
TEST(Faults, MisalignedAtomic) {
  expect_row({kReport, kReport, kReport, Fault::bounds}, [] {
    const auto p = DeviceArray<char>::zeros(64);
    simt::launch({.grid = 1, .block = 1}, misaligned_atomic, p.data());
    return ran();
  });
}

__global__ void overflowing_index(int rows, int width, int* out) {
  *out = rows * width < 0 ? 1 : 2;  // 65536 * 65536 does not fit
}
TEST(Faults, SignedIndexOverflow) {
  expect_row({kNothing, kDeath, kNothing, Fault::bounds, "signed integer overflow"}, [] {
    DeviceArray<int> out(1);
    simt::launch({.grid = 1, .block = 1}, overflowing_index, 65536, 65536, out.data());
    return ran();
  });
}

__global__ void store_one(int* p) {
  *p = 1;
}
TEST(Faults, HostPointerAsArgument) {
  expect_row({kReport, kReport, kReport, Fault::pointer}, [] {
    std::vector<int> host(4);
    simt::launch({.grid = 1, .block = 1}, store_one, host.data());
    return ran();
  });
}

struct Wrapped {
  int* p;
};
__global__ void store_through_struct(Wrapped w) {
  *w.p = 1;
}
TEST(Faults, HostPointerInsideOfAStruct) {
  expect_row({kNothing, kNothing, kReport, Fault::pointer}, [] {
    std::vector<int> host(4);
    simt::launch({.grid = 1, .block = 1}, store_through_struct, Wrapped{host.data()});
    return ran();
  });
}

__global__ void publish_local(int** slot, int* out) {
  int local = static_cast<int>(threadIdx.x);
  if (threadIdx.x == 0) *slot = &local;
  __syncthreads();
  out[threadIdx.x] = **slot;
  __syncthreads();
}
TEST(Faults, LocalOfAnotherThread) {
  expect_row({kNothing, kNothing, kReport, Fault::pointer}, [] {
    DeviceArray<int*> slot(1);
    DeviceArray<int> out(2);
    simt::launch({.grid = 1, .block = 2}, publish_local, slot.data(), out.data());
    return ran();
  });
}

TEST(Faults, HostReadsDeviceMemory) {
  expect_row({kNothing, kDeath, kNothing, Fault::pointer, "AddressSanitizer"}, [] {
    const auto x = DeviceArray<int>::zeros(4);
    const volatile int* p = x.data();
    return p[0] == 0;
  });
}

TEST(Faults, Leak) {
  expect_row({kNothing, kDeath, kNothing, Fault::memory, "LeakSanitizer"}, [] {
    if (simt::build() != simt::Build::asan) {
      simt::device_free(simt::device_malloc(64));  // nobody looks here: leave none
      return ran();
    }
#if defined(__SANITIZE_ADDRESS__)
    simt::device_malloc(64);
    __lsan_do_leak_check();
#endif
    return ran();
  });
}

TEST(Faults, CopiesOutsideOfABuffer) {
  expect_row({kReport, kReport, kReport, Fault::bounds}, [] {
    DeviceArray<int> x(4);
    const std::vector<int> host(5);
    simt::to_device(x.data(), host.data(), 20);
    return ran();
  });
}

TEST(Faults, DoubleFree) {
  EXPECT_DEATH(
      {
        void* p = simt::device_malloc(64);
        simt::device_free(p);
        simt::device_free(p);
      },
      "not allocated");
}

__global__ void copy_by_memcpy(const char* in, char* out, int n) {
  __builtin_memcpy(out, in, static_cast<std::size_t>(n));
}
TEST(Faults, MemcpyOutOfBounds) {
  expect_row({kNothing, kDeath, kReport, Fault::bounds, "AddressSanitizer"}, [] {
    const auto in = DeviceArray<char>::zeros(100);
    DeviceArray<char> out(100);
    simt::launch({.grid = 1, .block = 1}, copy_by_memcpy, in.data(), out.data(), 101);
    return ran();
  });
}

}  // namespace belfry::faults
