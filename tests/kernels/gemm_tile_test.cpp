// SPDX-License-Identifier: Apache-2.0
// cpu::gemm_tile, which the CPU side of other ops calls from its own threads.
#include <gtest/gtest.h>
#include <omp.h>

#include <thread>

#include "kernels/gemm/gemm.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"

namespace belfry::test {
namespace {

TEST(GemmTile, BitsDoNotDependOnTheThreadOrItsOpenMpSetting) {
  Random random(14);
  const HostMatrix a = HostMatrix::normal(random, 300, 200),
                   b = HostMatrix::normal(random, 200, 150);
  HostMatrix first(300, 150), second(300, 150), third(300, 150);
  cpu::gemm_tile(a.view(), b.view(), first.view(), {});
  std::thread([&] {  // a thread that no context has seen: OpenMP would use every core here
    omp_set_num_threads(4);
    cpu::gemm_tile(a.view(), b.view(), second.view(), {});
    EXPECT_EQ(omp_get_max_threads(), 4) << "the caller's OpenMP setting must survive";
  })
      .join();
  expect_equal_bits(second.values(), first.values(), "another thread");
  std::vector<float> shifted(300 * 200 + 1);  // not 64-byte aligned
  const std::vector<float> values = a.values();
  std::copy(values.begin(), values.end(), shifted.begin() + 1);
  cpu::gemm_tile({shifted.data() + 1, 300, 200}, b.view(), third.view(), {});
  expect_equal_bits(third.values(), first.values(), "another alignment");
}

TEST(GemmTile, StaysOnTheCallingThread) {
  // A parallel region of two would leave the main thread of the process with a second OpenMP
  // thread; the process's thread count must not move.
  const auto process_threads = [] {
    std::int64_t n = -1;
    if (FILE* f = std::fopen("/proc/self/status", "r")) {
      char line[256];
      while (std::fgets(line, sizeof line, f) != nullptr) {
        if (std::sscanf(line, "Threads: %ld", &n) == 1) break;
      }
      std::fclose(f);
    }
    return n;
  };
  Random random(15);
  const HostMatrix a = HostMatrix::normal(random, 512, 512);
  HostMatrix c(512, 512);
  std::int64_t before = 0, after = 0;
  std::thread([&] {
    omp_set_num_threads(3);
    before = process_threads();
    cpu::gemm_tile(a.view(), a.view(), c.view(), {});
    after = process_threads();
  }).join();
  EXPECT_EQ(after, before);
}

}  // namespace
}  // namespace belfry::test
