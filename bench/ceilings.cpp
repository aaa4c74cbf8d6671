// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/ceilings.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "bench/bench.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Twelve chains: enough to hide the latency of two units, few enough for sixteen registers.
float fma_loop(std::int64_t rounds, double* flops) {
  const hn::ScalableTag<float> f;
  const auto a = hn::Set(f, 0.999f), b = hn::Set(f, 1e-3f);
  auto s0 = hn::Set(f, 0.1f), s1 = hn::Set(f, 0.2f), s2 = hn::Set(f, 0.3f), s3 = hn::Set(f, 0.4f);
  auto s4 = hn::Set(f, 0.5f), s5 = hn::Set(f, 0.6f), s6 = hn::Set(f, 0.7f), s7 = hn::Set(f, 0.8f);
  auto s8 = hn::Set(f, 0.9f), s9 = hn::Set(f, 1.1f), sa = hn::Set(f, 1.2f), sb = hn::Set(f, 1.3f);
  for (std::int64_t k = 0; k < rounds; ++k) {
    s0 = hn::MulAdd(s0, a, b), s1 = hn::MulAdd(s1, a, b), s2 = hn::MulAdd(s2, a, b);
    s3 = hn::MulAdd(s3, a, b), s4 = hn::MulAdd(s4, a, b), s5 = hn::MulAdd(s5, a, b);
    s6 = hn::MulAdd(s6, a, b), s7 = hn::MulAdd(s7, a, b), s8 = hn::MulAdd(s8, a, b);
    s9 = hn::MulAdd(s9, a, b), sa = hn::MulAdd(sa, a, b), sb = hn::MulAdd(sb, a, b);
  }
  *flops = static_cast<double>(rounds) * 24 * static_cast<double>(hn::Lanes(f));
  s0 =
      hn::Add(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)), hn::Add(hn::Add(s4, s5), hn::Add(s6, s7)));
  return hn::GetLane(hn::SumOfLanes(f, hn::Add(s0, hn::Add(hn::Add(s8, s9), hn::Add(sa, sb)))));
}

}  // namespace belfry::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry::bench {

HWY_EXPORT(fma_loop);

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

namespace {
/// The best of `repeats` rates: what the machine can do when left alone.
template <class F>
double best_rate(int repeats, F&& flops_of_run) {
  double best = 0;
  for (int r = 0; r < repeats; ++r) {
    const double start = cpu_seconds();
    const double flops = flops_of_run();
    best = std::max(best, flops / (cpu_seconds() - start));
  }
  return best;
}
}  // namespace

double fma_peak() {
  static const double peak = best_rate(8, [] {
    double flops = 0;
    benchmark::DoNotOptimize(HWY_DYNAMIC_DISPATCH(fma_loop)(4'000'000, &flops));
    return flops;
  });
  return peak;
}

double sgemm_rate() {
  constexpr std::int64_t n = 1536;
  static const double rate = [] {
    omp_set_num_threads(1);
    const std::vector<float> a(n * n, 0.5f), b(n * n, 0.25f);
    std::vector<float> c(n * n);
    return best_rate(8, [&] {
      dnnl_sgemm('N', 'N', n, n, n, 1.0f, a.data(), n, b.data(), n, 0.0f, c.data(), n);
      return 2.0 * n * n * n;
    });
  }();
  return rate;
}

}  // namespace belfry::bench
#endif  // HWY_ONCE
