// SPDX-License-Identifier: Apache-2.0
// What every benchmark here does: check a result before timing it, measure CPU time of one thread, and
// report ratios to ceilings that the same process measured on the same machine.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace belfry::bench {

/// Most fp32 operations per second of CPU time on one thread, by a loop of independent fused
/// multiply-adds in registers (one counts as two). Measured once per process.
double fma_peak();

/// Operations per second of the library's single-threaded sgemm on n x n matrices. Measured once.
double sgemm_rate();

/// CPU time of this process in seconds.
double cpu_seconds();

/// A benchmark of a wrong result is worthless: says so and ends the process.
inline void verify(bool correct, const char* what) {
  if (correct) return;
  std::fprintf(stderr, "error: %s: wrong result; not timed\n", what);
  std::exit(1);
}

/// Counters of a benchmark whose iteration makes `flops` operations: the rate, its share of the FMA
/// peak, and its CPU time relative to an sgemm of as many operations.
inline void report_flops(benchmark::State& state, double flops, double cpu_seconds_spent) {
  const double rate = flops * static_cast<double>(state.iterations()) /
                      (cpu_seconds_spent > 0 ? cpu_seconds_spent : 1);
  state.counters["GFLOPS"] = rate * 1e-9;
  state.counters["of_fma_peak"] = rate / fma_peak();
  state.counters["time_of_sgemm"] = sgemm_rate() / rate;
}

}  // namespace belfry::bench
