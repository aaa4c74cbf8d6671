// SPDX-License-Identifier: Apache-2.0
// Draws. Bytes: the draws written, and for the alias table one entry of each of its two arrays a
// draw.
#include "bench/cuda_support.hpp"
#include "kernels/draw_negatives/draw_negatives.hpp"

namespace belfry::bench {
namespace {

struct Table {
  Table(const Context& ctx, std::int64_t rows) {
    std::vector<double> weights;
    for (std::int64_t r = 0; r < rows; ++r) weights.push_back(1.0 / static_cast<double>(r + 1));
    std::vector<float> k(weights.size());
    std::vector<std::int32_t> a(weights.size());
    build_alias_table({weights.data(), rows}, {k.data(), rows}, {a.data(), rows});
    keep = copy_of(ctx, k);
    alias = copy_of(ctx, a);
  }
  AliasTable view() const { return {keep.view(), alias.view()}; }
  Buffer<float> keep;
  Buffer<std::int32_t> alias;
};

std::vector<std::int32_t> on(const Context& ctx, bool popular) {
  const Table table(ctx, 5000);
  Buffer<std::int32_t> out(ctx.backend(), 20000);
  draw_negatives(ctx, 5000, popular ? table.view() : AliasTable(), out.view());
  return host_of(ctx, out);
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  bench.verify("uniform", on(ctx, false) == on(bench.cpu(), false));
  bench.verify("popularity", on(ctx, true) == on(bench.cpu(), true));
  const std::int64_t rows = 62423;
  const Table table(ctx, rows);
  for (const std::int64_t n : {std::int64_t{8192}, bench.size(1 << 24, 1 << 18)}) {
    Buffer<std::int32_t> out(Backend::cuda, n);
    const double draws = static_cast<double>(n);
    bench.run("uniform, " + text(n), {.bytes = 4 * draws},
              [&](int) { draw_negatives(ctx, rows, {}, out.view()); });
    bench.run("popularity, " + text(n), {.bytes = 12 * draws},
              [&](int) { draw_negatives(ctx, rows, table.view(), out.view()); });
  }
}

const CudaBenchmark kBenchmark("draw_negatives", run);

}  // namespace
}  // namespace belfry::bench
