// SPDX-License-Identifier: Apache-2.0
// Penalties on the device: one block a tile of rows, whose sums one block adds in order.
#include "kernels/core/block.cuh"
#include "kernels/penalty/penalty_math.hpp"

namespace belfry::cuda {
namespace penalty_kernels {

namespace m = penalty_math;

constexpr int kThreads = 256;

/// Which rows a launch works on: all of a matrix, or those of a list.
struct Listed {
  const std::int32_t* rows;  ///< null: row i is i
  const std::int64_t* n;     ///< null: `most`
  std::int64_t most;         ///< of the list
  std::int64_t table_rows;
  __device__ __forceinline__ std::int64_t count() const { return n == nullptr ? most : *n; }
  /// The row of place i; -1: it lies outside of the table.
  __device__ __forceinline__ std::int64_t row(std::int64_t i, StepState* state) const {
    if (rows == nullptr) return i;
    const std::int64_t r = rows[i];
    if (r >= 0 && r < table_rows) return r;
    raise_status(state, kStatusIdOutOfRange);
    return -1;
  }
};

/// Calls f(place, row, column) for this thread's elements of the block's tile.
template <class F>
__device__ __forceinline__ void for_elements(const Listed& list, std::int64_t width,
                                             std::int64_t height, StepState* state, F&& f) {
  const std::int64_t first = blockIdx.x * height, end = min(list.count(), first + height);
  if (first >= end) return;
  const auto elements = static_cast<unsigned>((end - first) * width);
  const auto columns = static_cast<unsigned>(width);
  for (unsigned e = threadIdx.x; e < elements; e += kThreads) {
    const std::int64_t place = first + e / columns;
    const std::int64_t row = list.row(place, state);
    if (row >= 0) f(place, row, e % columns);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    join(Penalty p, Listed list, Matrix<const T> w, Matrix<float> d_w, std::int64_t height,
         double* sums, StepState* state) {
  SIMT_SHARED_ARRAY(double, scratch, [kThreads / kWarp]);
  double sum = 0;
  for_elements(list, w.cols, height, state,
               [&](std::int64_t place, std::int64_t row, unsigned column) {
                 const float x = to_float(w.row(row)[column]);
                 d_w.row(place)[column] += m::gradient(p, x);
                 sum += m::value(p, x);
               });
  sum = block_reduce<kThreads>(sum, Sum(), scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    add_to_loss(const double* sums, std::int64_t tiles, double* loss) {
  SIMT_SHARED_ARRAY(double, scratch, [kThreads / kWarp]);
  double sum = 0;
  for (std::int64_t t = threadIdx.x; t < tiles; t += kThreads) sum += sums[t];
  sum = block_reduce<kThreads>(sum, Sum(), scratch);
  if (threadIdx.x == 0) *loss += sum;
}

__global__ void __launch_bounds__(kThreads)
    scatter(Listed list, Matrix<const float> from, Matrix<float> to, std::int64_t height,
            StepState* state) {
  for_elements(list, to.cols, height, state,
               [&](std::int64_t place, std::int64_t row, unsigned column) {
                 to.row(row)[column] += from.row(place)[column];
               });
}

}  // namespace penalty_kernels

namespace k = penalty_kernels;

namespace {

simt::Dims dims(const Context& ctx, std::int64_t tiles) {
  return {.grid = static_cast<unsigned>(tiles), .block = k::kThreads, .stream = &ctx.stream()};
}

template <class T>
void join(const Context& ctx, const Penalty& p, const k::Listed& list, Matrix<const T> w,
          Matrix<float> d_w, double* loss) {
  if (list.most == 0 || w.cols == 0) return;
  const std::int64_t height = penalty_math::tile_rows(w.cols), tiles = ceil_div(list.most, height);
  ArenaScope scope(ctx);
  double* sums = ctx.arena().take<double>(tiles);
  simt::launch(dims(ctx, tiles), k::join<T>, p, list, w, d_w, height, sums, ctx.state());
  if (loss != nullptr) simt::launch(dims(ctx, 1), k::add_to_loss, sums, tiles, loss);
}

k::Listed all_of(std::int64_t rows) {
  return {nullptr, nullptr, rows, rows};
}
k::Listed listed(const RowGradient& g, std::int64_t table_rows) {
  return {g.rows, g.n, g.capacity, table_rows};
}

}  // namespace

void penalty(const Context& ctx, const Penalty& factors, Matrix<const float> w, Matrix<float> d_w,
             double* loss) {
  join(ctx, factors, all_of(w.rows), w, d_w, loss);
}
void penalty(const Context& ctx, const Penalty& factors, Matrix<const bf16> w, Matrix<float> d_w,
             double* loss) {
  join(ctx, factors, all_of(w.rows), w, d_w, loss);
}
void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const float> table,
                     const RowGradient& gradient, double* loss) {
  join(ctx, factors, listed(gradient, table.rows), table, gradient.values, loss);
}
void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const bf16> table,
                     const RowGradient& gradient, double* loss) {
  join(ctx, factors, listed(gradient, table.rows), table, gradient.values, loss);
}

void add_rows(const Context& ctx, const RowGradient& from, Matrix<float> to) {
  if (from.capacity == 0 || to.empty()) return;
  const std::int64_t height = penalty_math::tile_rows(to.cols);
  simt::launch(dims(ctx, ceil_div(from.capacity, height)), k::scatter, listed(from, to.rows),
               Matrix<const float>(from.values), to, height, ctx.state());
}

}  // namespace belfry::cuda
