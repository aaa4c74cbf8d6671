// SPDX-License-Identifier: Apache-2.0
#include "kernels/l2_normalize/l2_normalize.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/core/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/l2_normalize/l2_normalize_cpu.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace belfry::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// a . b over n floats: two vectors of partial sums, then their lanes, then the rest in order.
HWY_INLINE float dot(const float* a, const float* b, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  std::int64_t j = 0;
  for (; j + 2 * lanes <= n; j += 2 * lanes) {
    s0 = hn::MulAdd(hn::LoadU(d, a + j), hn::LoadU(d, b + j), s0);
    s1 = hn::MulAdd(hn::LoadU(d, a + j + lanes), hn::LoadU(d, b + j + lanes), s1);
  }
  if (j + lanes <= n) {
    s0 = hn::MulAdd(hn::LoadU(d, a + j), hn::LoadU(d, b + j), s0);
    j += lanes;
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; j < n; ++j) sum += a[j] * b[j];
  return sum;
}

void normalize_rows(Matrix<const float> x, Matrix<float> y, float* inverse_norm) {
  const hn::ScalableTag<float> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < x.rows; ++i) {
    const float* in = x.row(i);
    float* out = y.row(i);
    const float square = dot(in, in, x.cols);
    // A NaN fails the comparison and so stays in the row.
    const float r = 1.0f / std::sqrt(square < kL2NormalizeFloor ? kL2NormalizeFloor : square);
    inverse_norm[i] = r;
    const auto scale = hn::Set(d, r);
    std::int64_t j = 0;
    for (; j + lanes <= x.cols; j += lanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, in + j), scale), d, out + j);
    }
    for (; j < x.cols; ++j) out[j] = in[j] * r;
  }
}

void normalize_grad_rows(Matrix<const float> y, const float* inverse_norm, Matrix<const float> d_y,
                         Matrix<float> d_x) {
  const hn::ScalableTag<float> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const float floor = 1.0f / std::sqrt(kL2NormalizeFloor);  // r of every row below the floor
  for (std::int64_t i = 0; i < y.rows; ++i) {
    const float *unit = y.row(i), *in = d_y.row(i);
    float* out = d_x.row(i);
    const float r = inverse_norm[i];
    const float along = r == floor ? 0.0f : dot(in, unit, y.cols);
    const auto scale = hn::Set(d, r), radial = hn::Set(d, along);
    std::int64_t j = 0;
    for (; j + lanes <= y.cols; j += lanes) {
      const auto across = hn::NegMulAdd(radial, hn::LoadU(d, unit + j), hn::LoadU(d, in + j));
      hn::StoreU(hn::Mul(scale, across), d, out + j);
    }
    for (; j < y.cols; ++j) out[j] = r * (in[j] - along * unit[j]);
  }
}

}  // namespace belfry::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

HWY_EXPORT(normalize_rows);
HWY_EXPORT(normalize_grad_rows);

namespace {

/// Rows of a tile, by shape alone: some 128 KiB a matrix.
std::int64_t tile_rows(std::int64_t cols) {
  return std::clamp<std::int64_t>(32768 / std::max<std::int64_t>(1, cols), 16, 2048);
}

}  // namespace

namespace cpu {

void l2_normalize(const Context& ctx, Matrix<const float> x, Matrix<float> y,
                  Vector<float> inverse_norm) {
  const std::int64_t rows = tile_rows(x.cols);
  const auto tile = HWY_DYNAMIC_DISPATCH(normalize_rows);
  parallel_for(ctx, (x.rows + rows - 1) / rows, [&](std::int64_t t, int) {
    const std::int64_t n = std::min(rows, x.rows - t * rows);
    tile(x.slice(t * rows, n), y.slice(t * rows, n), inverse_norm.data + t * rows);
  });
}

void l2_normalize_grad(const Context& ctx, Matrix<const float> y, Vector<const float> inverse_norm,
                       Matrix<const float> d_y, Matrix<float> d_x) {
  const std::int64_t rows = tile_rows(y.cols);
  const auto tile = HWY_DYNAMIC_DISPATCH(normalize_grad_rows);
  parallel_for(ctx, (y.rows + rows - 1) / rows, [&](std::int64_t t, int) {
    const std::int64_t n = std::min(rows, y.rows - t * rows);
    tile(y.slice(t * rows, n), inverse_norm.data + t * rows, d_y.slice(t * rows, n),
         d_x.slice(t * rows, n));
  });
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
