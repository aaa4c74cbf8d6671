// SPDX-License-Identifier: Apache-2.0
#include "kernels/dot_interaction/dot_interaction.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dot_interaction/dot_interaction_cpu.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace belfry::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Products of a with four rows of b, `n` columns each: enough sums to hide the latency of the adds.
HWY_INLINE void four_dots(const float* a, const float* b, std::int64_t n, float (&out)[4]) {
  const hn::ScalableTag<float> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  std::int64_t k = 0;
  for (; k + lanes <= n; k += lanes) {
    const auto v = hn::LoadU(d, a + k);
    s0 = hn::MulAdd(v, hn::LoadU(d, b + k), s0);
    s1 = hn::MulAdd(v, hn::LoadU(d, b + n + k), s1);
    s2 = hn::MulAdd(v, hn::LoadU(d, b + 2 * n + k), s2);
    s3 = hn::MulAdd(v, hn::LoadU(d, b + 3 * n + k), s3);
  }
  out[0] = hn::GetLane(hn::SumOfLanes(d, s0));
  out[1] = hn::GetLane(hn::SumOfLanes(d, s1));
  out[2] = hn::GetLane(hn::SumOfLanes(d, s2));
  out[3] = hn::GetLane(hn::SumOfLanes(d, s3));
  for (; k < n; ++k) {
    for (int r = 0; r < 4; ++r) out[r] += a[k] * b[r * n + k];
  }
}

HWY_INLINE float dot(const float* a, const float* b, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s = hn::Zero(d);
  std::int64_t k = 0;
  for (; k + lanes <= n; k += lanes) {
    s = hn::MulAdd(hn::LoadU(d, a + k), hn::LoadU(d, b + k), s);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, s));
  for (; k < n; ++k) sum += a[k] * b[k];
  return sum;
}

void interact_row(const float* x, std::int64_t width, const DotInteraction& shape, float* y) {
  for (std::int64_t i = 0; i < shape.features; ++i) {
    const std::int64_t wanted = shape.self_interaction ? i + 1 : i;
    float* out = y + shape.place(i, 0);
    const float* a = x + i * width;
    std::int64_t j = 0;
    for (; j + 4 <= wanted; j += 4) {
      float four[4];
      four_dots(a, x + j * width, width, four);
      std::copy_n(four, 4, out + j);
    }
    for (; j < wanted; ++j) out[j] = dot(a, x + j * width, width);
    if (shape.skip_gather) std::fill(out + j, out + shape.features, 0.0f);
  }
}

/// out = sum_j g_j x_j: four vectors of columns at a time stay in registers, then one, then one column.
void weighted_sum(const float* x, std::int64_t width, const float* g, std::int64_t features,
                  float* out) {
  const hn::ScalableTag<float> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t k = 0;
  for (; k + 4 * lanes <= width; k += 4 * lanes) {
    auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
    for (std::int64_t j = 0; j < features; ++j) {
      const auto w = hn::Set(d, g[j]);
      const float* row = x + j * width + k;
      s0 = hn::MulAdd(w, hn::LoadU(d, row), s0);
      s1 = hn::MulAdd(w, hn::LoadU(d, row + lanes), s1);
      s2 = hn::MulAdd(w, hn::LoadU(d, row + 2 * lanes), s2);
      s3 = hn::MulAdd(w, hn::LoadU(d, row + 3 * lanes), s3);
    }
    hn::StoreU(s0, d, out + k);
    hn::StoreU(s1, d, out + k + lanes);
    hn::StoreU(s2, d, out + k + 2 * lanes);
    hn::StoreU(s3, d, out + k + 3 * lanes);
  }
  for (; k + lanes <= width; k += lanes) {
    auto s = hn::Zero(d);
    for (std::int64_t j = 0; j < features; ++j) {
      s = hn::MulAdd(hn::Set(d, g[j]), hn::LoadU(d, x + j * width + k), s);
    }
    hn::StoreU(s, d, out + k);
  }
  for (; k < width; ++k) {
    float s = 0.0f;
    for (std::int64_t j = 0; j < features; ++j) s += g[j] * x[j * width + k];
    out[k] = s;
  }
}

/// `g` holds `features` floats of scratch.
void gradient_row(const float* x, std::int64_t width, const DotInteraction& shape, const float* d_y,
                  float* d_x, float* g) {
  for (std::int64_t i = 0; i < shape.features; ++i) {
    for (std::int64_t j = 0; j < i; ++j) g[j] = d_y[shape.place(i, j)];
    g[i] = shape.self_interaction ? 2.0f * d_y[shape.place(i, i)] : 0.0f;
    for (std::int64_t j = i + 1; j < shape.features; ++j) g[j] = d_y[shape.place(j, i)];
    weighted_sum(x, width, g, shape.features, d_x + i * width);
  }
}

void interact_rows(Matrix<const float> x, const DotInteraction& shape, Matrix<float> y) {
  for (std::int64_t b = 0; b < x.rows; ++b) {
    interact_row(x.row(b), x.cols / shape.features, shape, y.row(b));
  }
}

void gradient_rows(Matrix<const float> x, const DotInteraction& shape, Matrix<const float> d_y,
                   Matrix<float> d_x, float* g) {
  for (std::int64_t b = 0; b < x.rows; ++b) {
    gradient_row(x.row(b), x.cols / shape.features, shape, d_y.row(b), d_x.row(b), g);
  }
}

}  // namespace belfry::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

HWY_EXPORT(interact_rows);
HWY_EXPORT(gradient_rows);

namespace {

/// Rows of a tile, by shape alone: enough work for a task of the pool.
std::int64_t tile_rows(std::int64_t cols, std::int64_t features) {
  const std::int64_t work = std::max<std::int64_t>(1, cols) * features;
  return std::clamp<std::int64_t>(131072 / work, 1, 1024);
}

}  // namespace

namespace cpu {

void dot_interaction(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                     Matrix<float> y) {
  const std::int64_t rows = tile_rows(x.cols, shape.features);
  const auto tile = HWY_DYNAMIC_DISPATCH(interact_rows);
  parallel_for(ctx, (x.rows + rows - 1) / rows, [&](std::int64_t t, int) {
    const std::int64_t n = std::min(rows, x.rows - t * rows);
    tile(x.slice(t * rows, n), shape, y.slice(t * rows, n));
  });
}

void dot_interaction_grad(const Context& ctx, Matrix<const float> x, const DotInteraction& shape,
                          Matrix<const float> d_y, Matrix<float> d_x) {
  const std::int64_t rows = tile_rows(x.cols, shape.features);
  ArenaScope scope(ctx);
  float* scratch = ctx.arena().take<float>(ctx.threads() * shape.features);
  const auto tile = HWY_DYNAMIC_DISPATCH(gradient_rows);
  parallel_for(ctx, (x.rows + rows - 1) / rows, [&](std::int64_t t, int worker) {
    const std::int64_t n = std::min(rows, x.rows - t * rows);
    tile(x.slice(t * rows, n), shape, d_y.slice(t * rows, n), d_x.slice(t * rows, n),
         scratch + worker * shape.features);
  });
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
