// SPDX-License-Identifier: Apache-2.0
#include <dnnl.h>
#include <omp.h>

#include <algorithm>
#include <new>

#include "kernels/core/parallel.hpp"
#include "kernels/gemm/gemm.hpp"

namespace belfry::cpu {

namespace {

// Rows and columns of a tile: large enough that packing op(b) again for every row tile costs about
// one part in 500, small enough that towers of a few hundred units still cut into many tiles.
constexpr std::int64_t kTileRows = 512;
constexpr std::int64_t kTileCols = 1024;
// A weight gradient is a small c over a long sum (K = batch): then K is cut, the parts are added in order.
constexpr std::int64_t kTileDepth = 2048;
constexpr std::int64_t kSplitBelow = 512 * 512;  // elements of c
constexpr std::int64_t kMostParts = 16;          // bounds the scratch: parts x elements of c

std::int64_t tiles_of(std::int64_t n, std::int64_t tile) {
  return (n + tile - 1) / tile;
}

/// Holds OpenMP to one thread on this thread while it lives: our tiles own the cores. The setting
/// belongs to the calling thread, which may be anybody's, so it is given back.
class OneThread {
 public:
  OneThread() : kept_(omp_get_max_threads()) {
    if (kept_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (kept_ != 1) omp_set_num_threads(kept_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int kept_;
};

void scale(Matrix<float> c, float beta) {
  for (std::int64_t i = 0; i < c.rows; ++i) {
    float* row = c.row(i);
    if (beta == 0.0f) {
      std::fill_n(row, c.cols, 0.0f);
    } else {
      for (std::int64_t j = 0; j < c.cols; ++j) row[j] *= beta;
    }
  }
}

/// Rows first .. of op(a), and columns first .. of op(b), whichever way they lie.
Matrix<const float> rows_of(Matrix<const float> a, Transpose t, std::int64_t first,
                            std::int64_t n) {
  return t == Transpose::yes ? a.columns(first, n) : a.slice(first, n);
}
Matrix<const float> cols_of(Matrix<const float> b, Transpose t, std::int64_t first,
                            std::int64_t n) {
  return t == Transpose::yes ? b.slice(first, n) : b.columns(first, n);
}

/// How many parts K is cut into; 1: none. By shape alone.
std::int64_t parts_of(std::int64_t m, std::int64_t n, std::int64_t k) {
  return m * n > kSplitBelow ? 1 : std::clamp<std::int64_t>(k / kTileDepth, 1, kMostParts);
}

void gemm_split(const Context& ctx, Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
                const GemmOptions& options, std::int64_t k, std::int64_t parts) {
  ArenaScope scope(ctx);
  const std::int64_t size = c.rows * c.cols;
  float* partial = ctx.arena().take<float>((parts - 1) * size);
  const auto part = [&](std::int64_t p) {
    return Matrix<float>(partial + (p - 1) * size, c.rows, c.cols);
  };
  parallel_for(ctx, parts, [&](std::int64_t p, int) {
    const std::int64_t first = k * p / parts, depth = k * (p + 1) / parts - first;
    GemmOptions o = options;
    if (p > 0) o.beta = 0.0f;
    gemm_tile(cols_of(a, options.a, first, depth), rows_of(b, options.b, first, depth),
              p == 0 ? c : part(p), o);
  });
  parallel_for(ctx, tiles_of(c.rows, 64), [&](std::int64_t tile, int) {
    for (std::int64_t i = tile * 64; i < std::min(c.rows, tile * 64 + 64); ++i) {
      float* out = c.row(i);
      for (std::int64_t p = 1; p < parts; ++p) {
        const float* in = part(p).row(i);
        for (std::int64_t j = 0; j < c.cols; ++j) out[j] += in[j];
      }
    }
  });
}

}  // namespace

void gemm_tile(Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
               const GemmOptions& options) {
  const bool ta = options.a == Transpose::yes, tb = options.b == Transpose::yes;
  const std::int64_t k = ta ? a.rows : a.cols;
  if (c.empty()) return;
  if (k == 0) return scale(c, options.beta);
  OneThread one;
  const dnnl_status_t status =
      dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', c.rows, c.cols, k, options.alpha, a.data,
                 std::max<std::int64_t>(1, a.pitch), b.data, std::max<std::int64_t>(1, b.pitch),
                 options.beta, c.data, std::max<std::int64_t>(1, c.pitch));
  if (status == dnnl_out_of_memory) throw std::bad_alloc();
  if (status != dnnl_success) throw DeviceError("gemm: oneDNN refused the call");
}

void gemm(const Context& ctx, Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
          const GemmOptions& options) {
  const std::int64_t k = options.a == Transpose::yes ? a.rows : a.cols;
  if (c.empty()) return;
  if (const std::int64_t parts = parts_of(c.rows, c.cols, k); parts > 1) {
    return gemm_split(ctx, a, b, c, options, k, parts);
  }
  const std::int64_t across = tiles_of(c.cols, kTileCols);
  parallel_for(ctx, tiles_of(c.rows, kTileRows) * across, [&](std::int64_t tile, int) {
    const std::int64_t i = tile / across * kTileRows, j = tile % across * kTileCols;
    const std::int64_t m = std::min(kTileRows, c.rows - i), n = std::min(kTileCols, c.cols - j);
    gemm_tile(rows_of(a, options.a, i, m), cols_of(b, options.b, j, n), c.slice(i, m).columns(j, n),
              options);
  });
}

}  // namespace belfry::cpu
