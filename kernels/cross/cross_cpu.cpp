// SPDX-License-Identifier: Apache-2.0
#include "kernels/cross/cross.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cross/cross_cpu.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace belfry::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Calls f(d, j) with a full vector, then with single lanes: one code for both, hence one arithmetic.
template <class F>
HWY_INLINE void each_column(std::int64_t cols, F&& f) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t j = 0;
  for (; j + lanes <= cols; j += lanes) f(d, j);
  for (; j < cols; ++j) f(one, j);
}

/// p + s x; p alone where s = 0, so that an infinite x adds no NaN.
template <bool kDiag, class D, class V>
HWY_INLINE V projection(D d, const float* p, V x, float s) {
  if constexpr (kDiag) return hn::Add(hn::LoadU(d, p), hn::Mul(hn::Set(d, s), x));
  return hn::LoadU(d, p);
}

template <bool kDiag>
void cross_row(const CrossCall& c, std::int64_t i) {
  const float *x0 = c.x0.row(i), *x = c.x.row(i), *p = c.p.row(i);
  float* y = c.y.row(i);
  each_column(c.y.cols, [&](auto d, std::int64_t j) {
    const auto xs = hn::LoadU(d, x + j);
    const auto u = projection<kDiag>(d, p + j, xs, c.diag_scale);
    hn::StoreU(hn::Add(hn::Mul(hn::LoadU(d, x0 + j), u), xs), d, y + j);
  });
}

template <class D, class V>
HWY_INLINE void put(D d, V value, bool add, float* out) {
  hn::StoreU(add ? hn::Add(hn::LoadU(d, out), value) : value, d, out);
}

template <bool kDiag>
void cross_grad_row(const CrossGradCall& c, std::int64_t i) {
  const float *x0 = c.x0.row(i), *x = c.x.row(i), *p = c.p.row(i), *d_y = c.d_y.row(i);
  float *d_p = c.d_p.row(i), *d_x0 = c.d_x0.row(i);
  float* d_x = c.d_x.data == nullptr ? nullptr : c.d_x.row(i);
  each_column(c.d_y.cols, [&](auto d, std::int64_t j) {
    const auto g = hn::LoadU(d, d_y + j);
    const auto u = projection<kDiag>(d, p + j, hn::LoadU(d, x + j), c.diag_scale);
    const auto through_p = hn::Mul(g, hn::LoadU(d, x0 + j));
    auto direct = g;
    if constexpr (kDiag) direct = hn::Add(g, hn::Mul(hn::Set(d, c.diag_scale), through_p));
    auto of_x0 = hn::Mul(g, u);
    hn::StoreU(through_p, d, d_p + j);
    if (d_x == nullptr) {
      of_x0 = hn::Add(of_x0, direct);
    } else {
      put(d, direct, c.add_x, d_x + j);
    }
    put(d, of_x0, c.add_x0, d_x0 + j);
  });
}

void cross_rows(const CrossCall& c, std::int64_t first, std::int64_t end) {
  for (std::int64_t i = first; i < end; ++i) {
    c.diag_scale != 0.0f ? cross_row<true>(c, i) : cross_row<false>(c, i);
  }
}

void cross_grad_rows(const CrossGradCall& c, std::int64_t first, std::int64_t end) {
  for (std::int64_t i = first; i < end; ++i) {
    c.diag_scale != 0.0f ? cross_grad_row<true>(c, i) : cross_grad_row<false>(c, i);
  }
}

}  // namespace belfry::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

HWY_EXPORT(cross_rows);
HWY_EXPORT(cross_grad_rows);

namespace {

template <class F>
void for_row_tiles(const Context& ctx, std::int64_t rows, std::int64_t cols, F&& f) {
  const std::int64_t tile = std::clamp<std::int64_t>(16384 / cols, 16, 2048);
  parallel_for(ctx, (rows + tile - 1) / tile,
               [&](std::int64_t t, int) { f(t * tile, std::min(rows, (t + 1) * tile)); });
}

bool same_shape(Matrix<const float> a, Matrix<const float> b) {
  return a.rows == b.rows && a.cols == b.cols;
}
/// Whether `out` may be written while `in` is read: apart, or the same elements in the same places.
bool in_place_or_apart(Matrix<const float> out, Matrix<const float> in) {
  return out.empty() || out.data != in.data || out.pitch == in.pitch;
}

}  // namespace

void check_cross(const CrossCall& c) {
  require(same_shape(c.x0, c.x), "cross: x0 and x differ in shape");
  require(same_shape(c.x0, c.p), "cross: the projection must have the shape of x0");
  require(same_shape(c.x0, c.y), "cross: y must have the shape of x0");
  require(c.diag_scale >= 0.0f, "cross: diag_scale must not be negative");
  require(
      in_place_or_apart(c.y, c.x0) && in_place_or_apart(c.y, c.x) && in_place_or_apart(c.y, c.p),
      "cross: y may be an input only with its pitch");
}

void check_cross_grad(const CrossGradCall& c) {
  require(same_shape(c.x0, c.x), "cross_grad: x0 and x differ in shape");
  require(same_shape(c.x0, c.p), "cross_grad: the projection must have the shape of x0");
  require(same_shape(c.x0, c.d_y), "cross_grad: d_y must have the shape of x0");
  require(same_shape(c.x0, c.d_p), "cross_grad: d_p must have the shape of x0");
  require(same_shape(c.x0, c.d_x0), "cross_grad: d_x0 must have the shape of x0");
  require(c.d_x.data == nullptr || same_shape(c.x0, c.d_x),
          "cross_grad: d_x must have the shape of x0");
  require(c.diag_scale >= 0.0f, "cross_grad: diag_scale must not be negative");
  require(in_place_or_apart(c.d_p, c.d_y) && in_place_or_apart(c.d_x, c.d_y),
          "cross_grad: d_p or d_x may be d_y only with its pitch");
  require(c.x0.empty() || (c.d_p.data != c.d_x0.data && c.d_p.data != c.d_x.data &&
                           c.d_x0.data != c.d_x.data && c.d_x0.data != c.d_y.data),
          "cross_grad: each output needs a place of its own");
}

namespace cpu {

void cross(const Context& ctx, const CrossCall& call) {
  if (call.y.empty()) return;
  const auto tile = HWY_DYNAMIC_DISPATCH(cross_rows);
  for_row_tiles(ctx, call.y.rows, call.y.cols,
                [&](std::int64_t first, std::int64_t end) { tile(call, first, end); });
}

void cross_grad(const Context& ctx, const CrossGradCall& call) {
  if (call.d_y.empty()) return;
  const auto tile = HWY_DYNAMIC_DISPATCH(cross_grad_rows);
  for_row_tiles(ctx, call.d_y.rows, call.d_y.cols,
                [&](std::int64_t first, std::int64_t end) { tile(call, first, end); });
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
