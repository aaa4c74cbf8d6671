// SPDX-License-Identifier: Apache-2.0
// Zero, copy and add, of whole matrices and of columns of a wider one; and the search for a
// non-finite value.
#include "bench/cuda_support.hpp"
#include "kernels/matrix_ops/matrix_ops.hpp"
#include "kernels/non_finite/non_finite.hpp"

namespace belfry::bench {
namespace {

struct Result {
  std::vector<float> values;
  std::vector<std::int64_t> first;
};
Result on(const Context& ctx) {
  const std::int64_t rows = 300, pitch = 100;
  Buffer<float> from = normal_floats(ctx, rows * pitch, 1),
                to = normal_floats(ctx, rows * pitch, 2);
  Buffer<std::int64_t> first(ctx.backend(), 1);
  const Matrix<float> out = to.matrix(rows, pitch);
  copy_matrix(ctx, from.matrix(rows, pitch).columns(3, 50), out.columns(0, 50));
  add_matrix(ctx, from.matrix(rows, pitch).columns(0, 30), out.columns(10, 30));
  set_zero(ctx, out.columns(90, 10));
  find_non_finite(ctx, out, first.data());
  return {host_of(ctx, to), host_of(ctx, first)};
}

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  const Result a = on(ctx), b = on(bench.cpu());
  bench.verify("copy, add, zero", a.values == b.values);
  bench.verify("non_finite", a.first == b.first);
  const std::int64_t rows = bench.size(1 << 21, 1 << 14), cols = 64;
  Buffer<float> from(Backend::cuda, rows * 2 * cols), to(Backend::cuda, rows * 2 * cols);
  Buffer<std::int64_t> first(Backend::cuda, 1);
  const double one = 4.0 * static_cast<double>(rows * cols);
  for (const bool part : {false, true}) {
    const std::int64_t pitch = part ? 2 * cols : cols;
    const Matrix<float> x(from.data(), rows, cols, pitch), y(to.data(), rows, cols, pitch);
    const std::string shape = text(rows, cols) + (part ? " of 128 columns" : "");
    bench.run("zero " + shape, {.bytes = one}, [&](int) { set_zero(ctx, y); });
    bench.run("copy " + shape, {.bytes = 2 * one}, [&](int) { copy_matrix(ctx, x, y); });
    bench.run("add " + shape, {.bytes = 3 * one}, [&](int) { add_matrix(ctx, x, y); });
    bench.run("find_non_finite " + shape, {.bytes = one},
              [&](int) { find_non_finite(ctx, x, first.data()); });
  }
}

const CudaBenchmark kBenchmark("matrix_ops", run);

}  // namespace
}  // namespace belfry::bench
