// SPDX-License-Identifier: Apache-2.0
// The ceiling of memory-bound ops: a copy, in the same process, over as much memory as the op uses (in
// a cache a copy is five times as fast as in memory).
#pragma once

#include <algorithm>
#include <cstring>

#include "bench/bench.hpp"
#include "kernels/core/buffer.hpp"

namespace belfry::bench {

/// Bytes per second of CPU time, read and written together, of a copy from one half of `footprint`
/// bytes to the other: the best of several runs.
inline double copy_rate(std::int64_t footprint) {
  const std::int64_t half = std::max<std::int64_t>(64, footprint / 2);
  Buffer<char> from(Backend::cpu, half), to(Backend::cpu, half);
  const std::int64_t repeats = std::max<std::int64_t>(1, (std::int64_t{64} << 20) / half);
  double best = 0;
  for (int run = 0; run < 9; ++run) {
    const double start = cpu_seconds();
    for (std::int64_t r = 0; r < repeats; ++r) {
      std::memcpy(to.data(), from.data(), static_cast<std::size_t>(half));
      benchmark::ClobberMemory();
    }
    const double seconds = cpu_seconds() - start;
    if (seconds > 0) best = std::max(best, 2.0 * static_cast<double>(half * repeats) / seconds);
  }
  return best;
}

/// Counters of a benchmark whose iteration must move `bytes` (each array that it reads or writes counted
/// once a direction) within `footprint` bytes of memory: the rate and its share of a copy's.
inline void report_bytes(benchmark::State& state, double bytes, std::int64_t footprint,
                         double cpu_seconds_spent) {
  const double rate = bytes * static_cast<double>(state.iterations()) /
                      (cpu_seconds_spent > 0 ? cpu_seconds_spent : 1);
  const double copy = copy_rate(footprint);
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["copy_GB/s"] = copy * 1e-9;
  state.counters["of_copy"] = rate / copy;
}

}  // namespace belfry::bench
