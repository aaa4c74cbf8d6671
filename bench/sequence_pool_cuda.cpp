// SPDX-License-Identifier: Apache-2.0
// Padded lists to their mean or their last step: a read of all steps, a write of one row a list, and the other way
// round for the gradient. Without a mask, so that every step counts.
#include <array>

#include "bench/cuda_support.hpp"
#include "kernels/sequence_pool/sequence_pool.hpp"

namespace belfry::bench {
namespace {

struct Result {
  std::vector<float> y, d_x;
};
Result on(const Context& ctx, SequencePooling pooling) {
  const std::int64_t lists = 90, steps = 11, cols = 37;
  Buffer<std::int32_t> lengths = copy_of(ctx, uniform_ids(lists, steps + 1, 3));
  const SequencePoolOptions o = {steps, {nullptr, lengths.data()}, pooling};
  Buffer<float> x = normal_floats(ctx, lists * steps * cols, 1);
  Buffer<float> d_y = normal_floats(ctx, lists * cols, 2);
  Buffer<float> y(ctx.backend(), lists * cols), d_x(ctx.backend(), lists * steps * cols);
  sequence_pool(ctx, x.matrix(lists * steps, cols), o, y.matrix(lists, cols));
  sequence_pool_grad(ctx, d_y.matrix(lists, cols), o, d_x.matrix(lists * steps, cols));
  return {host_of(ctx, y), host_of(ctx, d_x)};
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const auto& [pooling, name] :
       {std::pair{SequencePooling::mean, "mean"}, std::pair{SequencePooling::last, "last"}}) {
    const Result a = on(ctx, pooling), b = on(bench.cpu(), pooling);
    bench.verify(std::string("y of ") + name, a.y == b.y);
    bench.verify(std::string("d_x of ") + name, a.d_x == b.d_x);
  }
  for (const auto& [lists, steps, cols] :
       {std::array<std::int64_t, 3>{8192, 10, 64},
        {8192, bench.size(50, 8), 128},
        {bench.size(1 << 17, 1 << 10), bench.size(20, 8), 128}}) {
    const std::int64_t rows = lists * steps;
    Buffer<float> x = normal_floats(ctx, rows * cols, 1), y(Backend::cuda, lists * cols);
    const double all = 4.0 * static_cast<double>(rows * cols);
    const double few = 4.0 * static_cast<double>(lists * cols);
    const std::string name = text(lists) + " lists, " + text(steps, cols);
    const SequencePoolOptions o = {steps, {}, SequencePooling::mean};
    bench.run(name, {.bytes = all + few},
              [&](int) { sequence_pool(ctx, x.matrix(rows, cols), o, y.matrix(lists, cols)); });
    bench.run(name + ", gradient", {.bytes = all + few}, [&](int) {
      sequence_pool_grad(ctx, y.matrix(lists, cols), o, x.matrix(rows, cols));
    });
  }
}

const CudaBenchmark kBenchmark("sequence_pool", run);

}  // namespace
}  // namespace belfry::bench
