// SPDX-License-Identifier: Apache-2.0
// A batch's columns out of a resident data set of 25 million rows. Bytes: index and value read,
// value written; where rows lie at random, memory moves 32 bytes and more for a value of 4.
#include "bench/cuda_support.hpp"
#include "kernels/gather/gather.hpp"

namespace belfry::bench {
namespace {

std::vector<float> on(const Context& ctx) {
  const Buffer<float> source = normal_floats(ctx, 5000, 1);
  const Buffer<std::int32_t> index = copy_of(ctx, uniform_ids(20000, 5000, 2));
  Buffer<float> out(ctx.backend(), 20000);
  gather(ctx, source.view(), index.view(), out.view());
  return host_of(ctx, out);
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  bench.verify("floats by int32", on(ctx) == on(bench.cpu()));
  const std::int64_t n = bench.size(25'000'000, 250'000);
  const Buffer<std::int32_t> source(Backend::cuda, n);
  for (const std::int64_t m : {std::int64_t{8192}, bench.size(1 << 23, 1 << 17)}) {
    std::vector<std::int64_t> at;
    for (const std::int32_t i : uniform_ids(m, n, 3)) at.push_back(i);
    const Buffer<std::int64_t> index = copy_of(ctx, at);
    Buffer<std::int32_t> out(Backend::cuda, m);
    bench.run("int32 by int64, " + text(m) + " of " + text(n),
              {.bytes = 16.0 * static_cast<double>(m)},
              [&](int) { gather(ctx, source.view(), index.view(), out.view()); });
  }
}

const CudaBenchmark kBenchmark("gather", run);

}  // namespace
}  // namespace belfry::bench
