// SPDX-License-Identifier: Apache-2.0
#include "kernels/clip_gradient/clip_gradient.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/core/parallel.hpp"

namespace belfry::cpu {

namespace {

constexpr std::int64_t kTileElements = 16384;

std::int64_t tile_rows(const Matrix<float>& part) {
  return std::max<std::int64_t>(1, kTileElements / part.cols);
}
std::int64_t tiles_of(const Matrix<float>& part) {
  return part.empty() ? 0 : (part.rows + tile_rows(part) - 1) / tile_rows(part);
}

/// Runs f(part, tile, row) for every row of every tile.
template <class F>
void for_rows(const Context& ctx, const Matrix<float>& part, F&& f) {
  parallel_for(ctx, tiles_of(part), [&](std::int64_t tile, int) {
    const std::int64_t end = std::min(part.rows, (tile + 1) * tile_rows(part));
    for (std::int64_t row = tile * tile_rows(part); row < end; ++row) f(tile, part.row(row));
  });
}

/// Sum of squares in 8 lanes, so that the order does not depend on the vector width.
double square_sum(const float* row, std::int64_t width) {
  constexpr int kLanes = 8;
  double sum[kLanes] = {};
  std::int64_t d = 0;
  for (; d + kLanes <= width; d += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double x = row[d + lane];
      sum[lane] += x * x;
    }
  }
  for (int lane = 0; d + lane < width; ++lane) {
    const double x = row[d + lane];
    sum[lane] += x * x;
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
  }
  return sum[0];
}

double norm_of(const Context& ctx, std::span<const Matrix<float>> parts) {
  ArenaScope scope(ctx);
  double total = 0;
  for (const Matrix<float>& part : parts) {
    double* sums = ctx.arena().take<double>(tiles_of(part));
    std::fill_n(sums, tiles_of(part), 0.0);
    for_rows(ctx, part, [&](std::int64_t tile, const float* row) {
      sums[tile] += square_sum(row, part.cols);
    });
    for (std::int64_t tile = 0; tile < tiles_of(part); ++tile) total += sums[tile];
  }
  return std::sqrt(total);
}

}  // namespace

void clip_gradient(const Context& ctx, ClipKind kind, float limit,
                   std::span<const Matrix<float>> parts) {
  if (kind == ClipKind::value) {
    for (const Matrix<float>& part : parts) {
      for_rows(ctx, part, [&](std::int64_t, float* row) {
        for (std::int64_t d = 0; d < part.cols; ++d) {
          const float x = row[d] > limit ? limit : row[d];
          row[d] = x < -limit ? -limit : x;
        }
      });
    }
    return;
  }
  const double norm = norm_of(ctx, parts);
  if (!std::isfinite(norm)) return ctx.raise(kStatusNonFinite);
  if (norm <= static_cast<double>(limit)) return;
  const float factor = static_cast<float>(static_cast<double>(limit) / norm);
  for (const Matrix<float>& part : parts) {
    for_rows(ctx, part, [&](std::int64_t, float* row) {
      for (std::int64_t d = 0; d < part.cols; ++d) row[d] = row[d] * factor;
    });
  }
}

}  // namespace belfry::cpu
