// SPDX-License-Identifier: Apache-2.0
// GPU benchmarks: verify an op against the CPU's on a sample, then time it on the device, beside
// what the same device reached a moment before: a large copy, and cuBLASLt's fp32 and bf16
// products. No benchmark library, so that a bare GPU machine can build them. Without a GPU a
// benchmark says so and exits with code 77.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/core/bf16.hpp"
#include "kernels/core/buffer.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/device.hpp"
#include "kernels/core/transfer.hpp"

namespace belfry::bench {

/// Device time of one call: median and spread (largest less smallest, over the median) of several
/// runs.
struct Time {
  double us = 0, spread = 0;
};

/// What a call had to do; 0: not a measure of this op.
struct Work {
  double bytes = 0;     ///< each array that it must read or write, once a direction
  double fp32 = 0;      ///< flops on the fp32 path
  double bf16 = 0;      ///< flops on tensor cores
  double examples = 0;  ///< rows that were trained on
};

class CudaBench {
 public:
  CudaBench(std::string op, int argc, char** argv);
  ~CudaBench();

  const Context& device() const { return *device_; }
  const Context& cpu() const { return *cpu_; }
  /// Asked with --quick to take a few seconds: for sanitizers and first looks.
  bool quick() const { return quick_; }
  /// `full`, or `quick` where that was asked for.
  std::int64_t size(std::int64_t full, std::int64_t quick) const { return quick_ ? quick : full; }

  /// Records whether a sample of the op's results is right. A wrong one fails the benchmark.
  void verify(const std::string& what, bool right);
  /// Times body(0) .. body(distinct - 1) in turn, captured in a graph, so that launches cost what
  /// they cost in a training step. Bodies that differ in their memory keep each other's data out of
  /// the cache.
  Time time(const std::function<void(int)>& body, int distinct = 1);
  /// Prints and records one line.
  void report(const std::string& name, const Time& time, const Work& work);
  /// time and report.
  void run(const std::string& name, const Work& work, const std::function<void(int)>& body,
           int distinct = 1) {
    if (wanted(name)) report(name, time(body, distinct), work);
  }
  /// Whether --filter lets this case through.
  bool wanted(const std::string& name) const { return name.find(filter_) != std::string::npos; }
  /// Writes the JSON that --json asked for. The exit code of the program.
  int finish();

 private:
  double copy_rate(double footprint);
  double fp32_rate();
  double bf16_rate();

  std::string op_, json_, filter_;
  bool quick_ = false, failed_ = false;
  std::unique_ptr<Context> device_, cpu_;
  std::map<std::int64_t, double> copy_rates_;    // bytes a second by footprint
  double fp32_rate_ = 0, bf16_rate_ = 0;         // flops a second
  std::vector<std::string> verified_, results_;  // JSON
};

/// Makes `body` the benchmark of `op`: `bench_cuda OP` runs it. For objects of static storage.
struct CudaBenchmark {
  CudaBenchmark(const char* op, void (*body)(CudaBench&));
};

/// The main function of bench_cuda: `--list`, or an op and its options.
int cuda_bench_main(int argc, char** argv);

/// n floats of the device, standard normal but for a period of some millions.
Buffer<float> normal_floats(const Context& ctx, std::int64_t n, std::uint64_t seed);
Buffer<bf16> normal_bf16(const Context& ctx, std::int64_t n, std::uint64_t seed);
/// Ids in [0, range): uniform, or with P(rank r) ~ 1 / (r + 1)^exponent, ranks scattered over the
/// range.
std::vector<std::int32_t> uniform_ids(std::int64_t n, std::int64_t range, std::uint64_t seed);
std::vector<std::int32_t> zipf_ids(std::int64_t n, std::int64_t range, double exponent,
                                   std::uint64_t seed);

template <class T>
Buffer<T> copy_of(const Context& ctx, const std::vector<T>& host) {
  Buffer<T> out(ctx.backend(), static_cast<std::int64_t>(host.size()), Fill::none);
  upload(ctx, host.data(), out.data(), out.size());
  return out;
}
template <class T>
std::vector<T> host_of(const Context& ctx, const Buffer<T>& values) {
  std::vector<T> out(static_cast<std::size_t>(values.size()));
  download(ctx, values.data(), out.data(), values.size());
  return out;
}

/// Results of both backends: every element within atol + rtol |expected|.
template <class T>
bool near(const std::vector<T>& actual, const std::vector<T>& expected, double rtol, double atol) {
  if (actual.size() != expected.size()) return false;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double e = static_cast<double>(expected[i]), a = static_cast<double>(actual[i]);
    if (!(std::abs(a - e) <= atol + rtol * std::abs(e))) return false;
  }
  return true;
}

/// A count as people write it: 8192, 1M.
std::string text(std::int64_t n);
inline std::string text(std::int64_t rows, std::int64_t cols) {
  return text(rows) + " x " + text(cols);
}

}  // namespace belfry::bench
