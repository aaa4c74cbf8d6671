// SPDX-License-Identifier: Apache-2.0
// Lookups of 1 Mi rows out of tables of 2 GB, so that no cache holds them. Bytes: ids, each
// looked-up row, results; where popular rows come from the cache the share of a copy passes 1.
#include "kernels/embedding_bag/embedding_bag.hpp"

#include "bench/cuda_support.hpp"

namespace belfry::bench {
namespace {

/// A few sets of ids in turn.
struct Ids {
  static constexpr int kSets = 4;
  Buffer<std::int32_t> data[kSets];
  Ids(const Context& ctx, std::int64_t n, std::int64_t rows, bool zipf) {
    for (int i = 0; i < kSets; ++i) {
      data[i] = copy_of(ctx, zipf ? zipf_ids(n, rows, 1.05, 1 + i) : uniform_ids(n, rows, 1 + i));
    }
  }
  Ragged get(int i) const {
    return {data[i].data(), nullptr, nullptr, data[i].size(), data[i].size()};
  }
};

template <class T>
Buffer<T> table_of(const Context& ctx, std::int64_t n);
template <>
Buffer<float> table_of(const Context& ctx, std::int64_t n) {
  return normal_floats(ctx, n, 9);
}
template <>
Buffer<bf16> table_of(const Context& ctx, std::int64_t n) {
  return normal_bf16(ctx, n, 9);
}

template <class T>
std::vector<float> on(const Context& ctx) {
  const std::int64_t rows = 500, width = 72, bags = 400;
  const Buffer<T> table = table_of<T>(ctx, rows * width);
  std::vector<std::int64_t> starts(1, 0);
  for (std::int64_t b = 0; b < bags; ++b) starts.push_back(starts.back() + b % 5);
  const Buffer<std::int64_t> offsets = copy_of(ctx, starts);
  const Buffer<std::int32_t> ids = copy_of(ctx, uniform_ids(starts.back(), rows, 1));
  Buffer<float> y(ctx.backend(), bags * width);
  embedding_bag(ctx, table.matrix(rows, width),
                {ids.data(), offsets.data(), nullptr, bags, starts.back()}, Pooling::mean,
                y.matrix(bags, width));
  return host_of(ctx, y);
}

template <class T>
void time_lookups(CudaBench& bench, const char* type) {
  const Context& ctx = bench.device();
  for (const std::int64_t width : {32, 64, 128}) {
    const std::int64_t rows = bench.size(std::int64_t{2} << 30, std::int64_t{16} << 20) /
                              (width * std::int64_t{sizeof(T)});
    const std::int64_t n = bench.size(1 << 20, 1 << 15);
    const Buffer<T> table = table_of<T>(ctx, rows * width);
    Buffer<float> y(Backend::cuda, n * width);
    const double bytes =
        static_cast<double>(n) * (4.0 + static_cast<double>(width) * (sizeof(T) + sizeof(float)));
    for (const bool zipf : {false, true}) {
      const std::string name = std::string(type) + ", " + text(n) + " of " + text(rows, width) +
                               (zipf ? ", Zipf" : ", uniform");
      if (!bench.wanted(name)) continue;
      const Ids ids(ctx, n, rows, zipf);
      bench.run(
          name, {.bytes = bytes},
          [&](int i) {
            embedding_bag(ctx, table.matrix(rows, width), ids.get(i), Pooling::sum,
                          y.matrix(n, width));
          },
          Ids::kSets);
    }
  }
  const std::int64_t rows = 162541, width = 64, n = 8192;  // a training batch, cached
  const Buffer<T> table = table_of<T>(ctx, rows * width);
  const Ids ids(ctx, n, rows, true);
  Buffer<float> y(Backend::cuda, n * width);
  bench.run(
      std::string(type) + ", " + text(n) + " of " + text(rows, width) + ", Zipf",
      {.bytes = static_cast<double>(n) *
                (4.0 + static_cast<double>(width) * (sizeof(T) + sizeof(float)))},
      [&](int i) {
        embedding_bag(ctx, table.matrix(rows, width), ids.get(i), Pooling::sum, y.matrix(n, width));
      },
      Ids::kSets);
}

void run(CudaBench& bench) {
  bench.verify("float32 table", on<float>(bench.device()) == on<float>(bench.cpu()));
  bench.verify("bf16 table", on<bf16>(bench.device()) == on<bf16>(bench.cpu()));
  time_lookups<float>(bench, "float32");
  time_lookups<bf16>(bench, "bf16");
}

const CudaBenchmark kBenchmark("embedding_bag", run);

}  // namespace
}  // namespace belfry::bench
