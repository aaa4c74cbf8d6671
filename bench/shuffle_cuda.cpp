// SPDX-License-Identifier: Apache-2.0
// The rows of a batch, and of an epoch of 25 million: by arguments, and by the step state. Bytes:
// the rows written.
#include "bench/cuda_support.hpp"
#include "kernels/shuffle/shuffle.hpp"
#include "kernels/step/step.hpp"

namespace belfry::bench {
namespace {

struct Result {
  std::vector<std::int64_t> rows, batch;
};
Result on(const Context& ctx, std::int64_t n) {
  Buffer<std::int64_t> rows(ctx.backend(), 10000), batch(ctx.backend(), 10000);
  shuffle(ctx, make_permutation(1, 2, n), 77, rows.view());
  StepState state;
  state.seed = 3;
  state.epoch = 4;
  state.row_offset = n - 5000;
  ctx.write_state(state);
  shuffle_batch(ctx, n, ShuffleOrder::every_epoch, batch.view());
  return {host_of(ctx, rows), host_of(ctx, batch)};
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  const std::int64_t n = 25'000'095;
  const Result a = on(ctx, n), b = on(bench.cpu(), n);
  bench.verify("shuffle", a.rows == b.rows);
  bench.verify("shuffle_batch", a.batch == b.batch);
  ctx.write_state({});
  const Permutation p = make_permutation(1, 2, n);
  for (const std::int64_t m :
       {std::int64_t{8192}, std::int64_t{65536}, bench.size(1 << 24, 1 << 18)}) {
    Buffer<std::int64_t> rows(Backend::cuda, m);
    const double bytes = 8.0 * static_cast<double>(m);
    bench.run(text(m) + " of 25M", {.bytes = bytes}, [&](int) { shuffle(ctx, p, 0, rows.view()); });
    bench.run("batch of " + text(m) + " of 25M", {.bytes = bytes},
              [&](int) { shuffle_batch(ctx, n, ShuffleOrder::every_epoch, rows.view()); });
  }
}

const CudaBenchmark kBenchmark("shuffle", run);

}  // namespace
}  // namespace belfry::bench
