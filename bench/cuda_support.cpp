// SPDX-License-Identifier: Apache-2.0
#include "bench/cuda_support.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string_view>

#include "bench/cuda_gemm.hpp"
#include "engine/build_info.hpp"
#include "kernels/gemm/gemm.hpp"

namespace belfry::bench {

namespace {

constexpr const char* kUsage =
    "usage: bench_cuda --list | bench_cuda OP [--quick] [--json FILE] [--filter TEXT]";
constexpr int kSamples = 7;
constexpr double kSampleMs = 4.0;          // of device time, at least, unless one round is longer
constexpr std::int64_t kMostNodes = 2000;  // calls in a graph
constexpr std::int64_t kPeriod = std::int64_t{1} << 22;

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", std::isfinite(v) ? v : 0.0);
  return text;
}
std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

/// Fills `to` with copies of `block`, which doubles with every copy.
template <class T>
Buffer<T> repeated(const Context& ctx, const std::vector<T>& block, std::int64_t n) {
  Buffer<T> out(ctx.backend(), n, Fill::none);
  std::int64_t done = std::min<std::int64_t>(n, static_cast<std::int64_t>(block.size()));
  upload(ctx, block.data(), out.data(), done);
  while (done < n) {
    const std::int64_t more = std::min(done, n - done);
    simt::device_copy(out.data() + done, out.data(), more * std::int64_t{sizeof(T)}, ctx.stream());
    done += more;
  }
  ctx.synchronise();
  return out;
}

/// By op. A function's own, as other files fill it before main.
std::map<std::string, void (*)(CudaBench&)>& benchmarks() {
  static std::map<std::string, void (*)(CudaBench&)> all;
  return all;
}

std::vector<float> normals(std::int64_t n, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<std::size_t>(std::min(n, kPeriod)));
  for (float& v : out) v = normal(engine);
  return out;
}

}  // namespace

CudaBench::CudaBench(std::string op, int argc, char** argv) : op_(std::move(op)) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--quick") {
      quick_ = true;
    } else if (argument == "--json" && i + 1 < argc) {
      json_ = argv[++i];
    } else if (argument == "--filter" && i + 1 < argc) {
      filter_ = argv[++i];
    } else {
      throw std::invalid_argument(kUsage);
    }
  }
  const simt::DeviceInfo info = simt::device_info();
  device_ = std::make_unique<Context>(Backend::cuda);
  cpu_ = std::make_unique<Context>(Backend::cpu);
  std::printf("%s on %s; copy %.0f GB/s\n", op_.c_str(), info.name.c_str(), copy_rate(1e18) * 1e-9);
}
CudaBench::~CudaBench() = default;

void CudaBench::verify(const std::string& what, bool right) {
  verified_.push_back("{\"what\": " + quoted(what) + ", \"right\": " + (right ? "true" : "false") +
                      "}");
  if (right) return;
  failed_ = true;
  std::fprintf(stderr, "error: %s: %s differs from the CPU's\n", op_.c_str(), what.c_str());
}

Time CudaBench::time(const std::function<void(int)>& body, int distinct) {
  const Context& ctx = *device_;
  simt::TimedEvent start, end;
  const auto elapsed_ms = [&](const auto& work) {
    start.record(ctx.stream());
    work();
    end.record(ctx.stream());
    end.sync();
    return static_cast<double>(end.since(start));
  };
  const auto round = [&] {
    for (int i = 0; i < distinct; ++i) body(i);
  };
  round();  // brings the arena to its size, finds algorithms, loads kernels
  const double once = elapsed_ms(round);
  const std::int64_t rounds = std::clamp<std::int64_t>(
      static_cast<std::int64_t>(std::ceil((quick_ ? 0.1 : 1.0) * kSampleMs / std::max(once, 1e-3))),
      1, std::max<std::int64_t>(1, kMostNodes / distinct));
  const simt::Graph graph = simt::Graph::capture(ctx.stream(), [&] {
    for (std::int64_t r = 0; r < rounds; ++r) round();
  });
  std::vector<double> samples;
  for (int s = 0; s < 2 + kSamples; ++s) {
    const double ms = elapsed_ms([&] { graph.launch(ctx.stream()); });
    if (s >= 2) samples.push_back(1e3 * ms / static_cast<double>(rounds * distinct));
  }
  std::sort(samples.begin(), samples.end());
  const double median = samples[kSamples / 2];
  return {median, (samples.back() - samples.front()) / median};
}

double CudaBench::copy_rate(double footprint) {
  const std::int64_t most = size(std::int64_t{1} << 30, std::int64_t{64} << 20);
  std::int64_t bytes = std::int64_t{1} << 20;  // of each half, in powers of two
  while (bytes < most && 2.0 * static_cast<double>(bytes) < footprint) bytes *= 2;
  double& rate = copy_rates_[bytes];
  if (rate == 0) {
    const Buffer<char> from(Backend::cuda, bytes);
    Buffer<char> to(Backend::cuda, bytes);
    const Time t =
        time([&](int) { simt::device_copy(to.data(), from.data(), bytes, device_->stream()); });
    rate = 2e6 * static_cast<double>(bytes) / t.us;
  }
  return rate;
}

double CudaBench::fp32_rate() {
  if (fp32_rate_ == 0) {
    const std::int64_t n = size(4096, 1024);
    const Buffer<float> a = normal_floats(*device_, n * n, 1),
                        b = normal_floats(*device_, n * n, 2);
    Buffer<float> c(Backend::cuda, n * n);
    const Time t =
        time([&](int) { gemm(*device_, a.matrix(n, n), b.matrix(n, n), c.matrix(n, n)); });
    fp32_rate_ = 2e6 * std::pow(static_cast<double>(n), 3) / t.us;
  }
  return fp32_rate_;
}

double CudaBench::bf16_rate() {
  if (bf16_rate_ == 0) {
    const std::int64_t n = size(8192, 1024);
    const Buffer<bf16> a = normal_bf16(*device_, n * n, 1), b = normal_bf16(*device_, n * n, 2);
    Buffer<bf16> c(Backend::cuda, n * n);
    const Bf16Gemm product(n);
    const Time t = time([&](int) { product.queue(*device_, a.data(), b.data(), c.data()); });
    bf16_rate_ = 2e6 * std::pow(static_cast<double>(n), 3) / t.us;
  }
  return bf16_rate_;
}

void CudaBench::report(const std::string& name, const Time& time, const Work& work) {
  std::string line, json = "{\"case\": " + quoted(name) + ", \"us\": " + number(time.us) +
                           ", \"spread\": " + number(time.spread);
  const auto share = [&](const char* what, const char* key, double rate, double ceiling) {
    char part[64];
    std::snprintf(part, sizeof part, "  %5.3f of %s", rate / ceiling, what);
    line += part;
    json += std::string(", \"") + key + "\": " + number(rate / ceiling);
  };
  if (work.bytes > 0) {
    const double rate = 1e6 * work.bytes / time.us;
    char part[64];
    std::snprintf(part, sizeof part, "  %8.1f GB/s", rate * 1e-9);
    line += part;
    json += ", \"bytes_per_s\": " + number(rate);
    share("copy", "of_copy", rate, copy_rate(1e18));
    if (work.bytes < 1e9) share("a copy as large", "of_copy_as_large", rate, copy_rate(work.bytes));
  }
  if (work.fp32 > 0 || work.bf16 > 0) {
    const double rate = 1e6 * (work.fp32 + work.bf16) / time.us;
    char part[64];
    std::snprintf(part, sizeof part, "  %8.2f TFLOP/s", rate * 1e-12);
    line += part;
    json += ", \"flops_per_s\": " + number(rate);
    if (work.fp32 > 0) share("cuBLASLt fp32", "of_fp32", rate, fp32_rate());
    if (work.bf16 > 0) share("cuBLASLt bf16", "of_bf16", rate, bf16_rate());
  }
  if (work.examples > 0) {
    const double rate = 1e6 * work.examples / time.us;
    char part[64];
    std::snprintf(part, sizeof part, "  %8.3f M examples/s", rate * 1e-6);
    line += part;
    json += ", \"examples_per_s\": " + number(rate);
  }
  std::printf("%-22s %-44s %11.2f us +-%4.1f %%%s\n", op_.c_str(), name.c_str(), time.us,
              50 * time.spread, line.c_str());
  std::fflush(stdout);
  results_.push_back(json + "}");
}

int CudaBench::finish() {
  if (!json_.empty()) {
    const simt::DeviceInfo info = simt::device_info();
    const auto list = [](const std::vector<std::string>& all) {
      std::string out;
      for (const std::string& one : all) out += (out.empty() ? "\n    " : ",\n    ") + one;
      return out;
    };
    std::ofstream out(json_);
    out << "{\n  \"benchmark\": " << quoted(op_) << ",\n  \"commit\": " << quoted(kCommit)
        << ",\n  \"quick\": " << (quick_ ? "true" : "false")
        << ",\n  \"device\": {\"name\": " << quoted(info.name) << ", \"cc\": \"" << info.major
        << '.' << info.minor << "\", \"multiprocessors\": " << info.multiprocessors
        << ", \"driver\": " << info.driver << ", \"runtime\": " << info.runtime
        << "},\n  \"ceilings\": {\"copy_bytes_per_s\": " << number(copy_rate(1e18))
        << ", \"fp32_flops_per_s\": " << number(fp32_rate_)
        << ", \"bf16_flops_per_s\": " << number(bf16_rate_) << "},\n  \"verified\": ["
        << list(verified_) << "],\n  \"results\": [" << list(results_) << "]\n}\n";
    out.close();
    if (!out) {
      std::fprintf(stderr, "error: %s cannot be written\n", json_.c_str());
      return 1;
    }
  }
  return failed_ ? 1 : 0;
}

CudaBenchmark::CudaBenchmark(const char* op, void (*body)(CudaBench&)) {
  benchmarks().emplace(op, body);
}

int cuda_bench_main(int argc, char** argv) {
  const std::string op = argc > 1 ? argv[1] : "";
  if (op == "--list") {
    for (const auto& [name, body] : benchmarks()) std::puts(name.c_str());
    return 0;
  }
  try {
    const auto found = benchmarks().find(op);
    if (found == benchmarks().end()) throw std::invalid_argument(kUsage);
    CudaBench bench(op, argc - 1, argv + 1);
    found->second(bench);
    return bench.finish();
  } catch (const simt::DeviceFailure& e) {
    using simt::Failure;
    const bool absent = e.failure == Failure::no_driver || e.failure == Failure::old_driver ||
                        e.failure == Failure::no_device || e.failure == Failure::not_built;
    std::fprintf(stderr, "%s: %s\n", absent ? "skipped" : "error", e.what());
    return absent ? 77 : 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}

Buffer<float> normal_floats(const Context& ctx, std::int64_t n, std::uint64_t seed) {
  return repeated(ctx, normals(n, seed), n);
}
Buffer<bf16> normal_bf16(const Context& ctx, std::int64_t n, std::uint64_t seed) {
  std::vector<bf16> block;
  for (const float v : normals(n, seed)) block.push_back(round_to_nearest(v));
  return repeated(ctx, block, n);
}

std::vector<std::int32_t> uniform_ids(std::int64_t n, std::int64_t range, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::uniform_int_distribution<std::int32_t> id(0, static_cast<std::int32_t>(range - 1));
  std::vector<std::int32_t> out(static_cast<std::size_t>(n));
  for (std::int32_t& v : out) v = id(engine);
  return out;
}

std::vector<std::int32_t> zipf_ids(std::int64_t n, std::int64_t range, double exponent,
                                   std::uint64_t seed) {
  std::vector<double> cumulative(static_cast<std::size_t>(range));
  double sum = 0;
  for (std::int64_t r = 0; r < range; ++r) {
    cumulative[static_cast<std::size_t>(r)] = sum +=
        std::pow(static_cast<double>(r + 1), -exponent);
  }
  std::mt19937_64 engine(seed);
  std::vector<std::int32_t> place(static_cast<std::size_t>(range));
  for (std::size_t r = 0; r < place.size(); ++r) place[r] = static_cast<std::int32_t>(r);
  std::shuffle(place.begin(), place.end(), engine);
  std::uniform_real_distribution<double> uniform(0, sum);
  std::vector<std::int32_t> out(static_cast<std::size_t>(n));
  for (std::int32_t& v : out) {
    const auto at = std::upper_bound(cumulative.begin(), cumulative.end(), uniform(engine));
    v = place[std::min(static_cast<std::size_t>(at - cumulative.begin()), place.size() - 1)];
  }
  return out;
}

std::string text(std::int64_t n) {
  constexpr std::int64_t kMi = std::int64_t{1} << 20;
  if (n >= kMi && n % kMi == 0) return std::to_string(n / kMi) + "Mi";
  if (n >= 1000000 && n % 1000000 == 0) return std::to_string(n / 1000000) + "M";
  return std::to_string(n);
}

}  // namespace belfry::bench
