// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/core/parallel.hpp"
#include "kernels/penalty/penalty_math.hpp"

namespace belfry::cpu {

namespace {

namespace m = penalty_math;

/// One row of w with its gradient; returns the row's penalty.
template <class T>
double join_row(const Penalty& p, const T* w, float* d_w, std::int64_t width) {
  double sum = 0;
  for (std::int64_t d = 0; d < width; ++d) {
    const float x = to_float(w[d]);
    d_w[d] += m::gradient(p, x);
    sum += m::value(p, x);
  }
  return sum;
}

/// Rows 0 .. rows - 1 in tiles: join(row) returns what a row adds to *loss.
template <class F>
void join_rows(const Context& ctx, std::int64_t rows, std::int64_t width, double* loss, F&& join) {
  if (rows == 0 || width == 0) return;
  const std::int64_t height = m::tile_rows(width), tiles = (rows + height - 1) / height;
  ArenaScope scope(ctx);
  double* sums = ctx.arena().take<double>(tiles);
  parallel_for(ctx, tiles, [&](std::int64_t tile, int) {
    double sum = 0;
    for (std::int64_t r = tile * height; r < std::min(rows, (tile + 1) * height); ++r) {
      sum += join(r);
    }
    sums[tile] = sum;
  });
  if (loss == nullptr) return;
  double total = 0;
  for (std::int64_t tile = 0; tile < tiles; ++tile) total += sums[tile];
  *loss += total;
}

bool inside(const Context& ctx, std::int32_t row, std::int64_t rows) {
  if (row >= 0 && row < rows) return true;
  ctx.raise(kStatusIdOutOfRange);
  return false;
}

template <class T>
void all_rows(const Context& ctx, const Penalty& p, Matrix<const T> w, Matrix<float> d_w,
              double* loss) {
  join_rows(ctx, w.rows, w.cols, loss,
            [&](std::int64_t r) { return join_row(p, w.row(r), d_w.row(r), w.cols); });
}

template <class T>
void listed_rows(const Context& ctx, const Penalty& p, Matrix<const T> table, const RowGradient& g,
                 double* loss) {
  join_rows(ctx, g.capacity == 0 ? 0 : *g.n, table.cols, loss, [&](std::int64_t i) {
    if (!inside(ctx, g.rows[i], table.rows)) return 0.0;
    return join_row(p, table.row(g.rows[i]), g.values.row(i), table.cols);
  });
}

}  // namespace

void penalty(const Context& ctx, const Penalty& factors, Matrix<const float> w, Matrix<float> d_w,
             double* loss) {
  all_rows(ctx, factors, w, d_w, loss);
}
void penalty(const Context& ctx, const Penalty& factors, Matrix<const bf16> w, Matrix<float> d_w,
             double* loss) {
  all_rows(ctx, factors, w, d_w, loss);
}
void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const float> table,
                     const RowGradient& gradient, double* loss) {
  listed_rows(ctx, factors, table, gradient, loss);
}
void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const bf16> table,
                     const RowGradient& gradient, double* loss) {
  listed_rows(ctx, factors, table, gradient, loss);
}

void add_rows(const Context& ctx, const RowGradient& from, Matrix<float> to) {
  if (from.capacity == 0 || to.empty()) return;
  const std::int64_t height = m::tile_rows(to.cols), n = *from.n;
  parallel_for(ctx, (n + height - 1) / height, [&](std::int64_t tile, int) {
    for (std::int64_t i = tile * height; i < std::min(n, (tile + 1) * height); ++i) {
      if (!inside(ctx, from.rows[i], to.rows)) continue;
      const float* value = from.values.row(i);
      float* out = to.row(from.rows[i]);
      for (std::int64_t d = 0; d < to.cols; ++d) out[d] += value[d];
    }
  });
}

}  // namespace belfry::cpu
