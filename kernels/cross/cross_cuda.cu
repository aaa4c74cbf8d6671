// SPDX-License-Identifier: Apache-2.0
// cross on the device: a thread takes four neighbouring columns of a row (one where rows are not
// aligned for that). All passes are bound by memory.
#include "kernels/cross/cross.hpp"

#include "kernels/core/row_lanes.cuh"

namespace belfry::cuda {
namespace cross_kernels {

constexpr int kThreads = 256;

struct Spot {
  std::int64_t row, column;
};
/// Where the n-th pack of a matrix lies.
template <int kColumns>
__device__ __forceinline__ Spot spot(std::int64_t n, std::int64_t packs_a_row) {
  const std::int64_t row = n / packs_a_row;
  return {row, (n - row * packs_a_row) * kColumns};
}

/// p + s x; p alone where s = 0, so that an infinite x adds no NaN.
__device__ __forceinline__ float projection(float p, float x, float s) {
  return s != 0.0f ? p + s * x : p;
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads) forward(CrossCall c) {
  const std::int64_t packs = c.y.cols / kColumns, n = grid_thread();
  if (n >= c.y.rows * packs) return;
  const auto [i, j] = spot<kColumns>(n, packs);
  const auto x0 = load_pack<kColumns>(&c.x0(i, j)), x = load_pack<kColumns>(&c.x(i, j));
  const auto p = load_pack<kColumns>(&c.p(i, j));
  Pack<kColumns> y;
#pragma unroll
  for (int e = 0; e < kColumns; ++e) {
    y.v[e] = x0.v[e] * projection(p.v[e], x.v[e], c.diag_scale) + x.v[e];
  }
  store_pack(&c.y(i, j), y);
}

template <int kColumns>
__device__ __forceinline__ void put(const Pack<kColumns>& value, bool add, float* out) {
  if (!add) return store_pack(out, value);
  Pack<kColumns> sum = load_pack<kColumns>(out);
#pragma unroll
  for (int e = 0; e < kColumns; ++e) sum.v[e] = sum.v[e] + value.v[e];
  store_pack(out, sum);
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads) gradient(CrossGradCall c) {
  const std::int64_t packs = c.d_y.cols / kColumns, n = grid_thread();
  if (n >= c.d_y.rows * packs) return;
  const auto [i, j] = spot<kColumns>(n, packs);
  const auto x0 = load_pack<kColumns>(&c.x0(i, j)), x = load_pack<kColumns>(&c.x(i, j));
  const auto p = load_pack<kColumns>(&c.p(i, j)), d_y = load_pack<kColumns>(&c.d_y(i, j));
  const bool both = c.d_x.data == nullptr;
  Pack<kColumns> d_p, d_x0, d_x;
#pragma unroll
  for (int e = 0; e < kColumns; ++e) {
    const float g = d_y.v[e];
    d_p.v[e] = g * x0.v[e];
    d_x0.v[e] = g * projection(p.v[e], x.v[e], c.diag_scale);
    d_x.v[e] = c.diag_scale != 0.0f ? g + c.diag_scale * d_p.v[e] : g;
    if (both) d_x0.v[e] = d_x0.v[e] + d_x.v[e];
  }
  store_pack(&c.d_p(i, j), d_p);
  if (!both) put(d_x, c.add_x, &c.d_x(i, j));
  put(d_x0, c.add_x0, &c.d_x0(i, j));
}

template <int kColumns>
simt::Dims dims(const Context& ctx, const Matrix<const float>& m) {
  return {.grid = static_cast<unsigned>(ceil_div(m.rows * (m.cols / kColumns), kThreads)),
          .block = kThreads,
          .stream = &ctx.stream()};
}

}  // namespace cross_kernels

namespace k = cross_kernels;

void cross(const Context& ctx, const CrossCall& c) {
  if (c.y.empty()) return;
  if (packable(c.x0, 4) && packable(c.x, 4) && packable(c.p, 4) && packable(c.y, 4)) {
    return simt::launch(k::dims<4>(ctx, c.y), k::forward<4>, c);
  }
  simt::launch(k::dims<1>(ctx, c.y), k::forward<1>, c);
}

void cross_grad(const Context& ctx, const CrossGradCall& c) {
  if (c.d_y.empty()) return;
  const bool packs = packable(c.x0, 4) && packable(c.x, 4) && packable(c.p, 4) &&
                     packable(c.d_y, 4) && packable(c.d_p, 4) && packable(c.d_x0, 4) &&
                     (c.d_x.data == nullptr || packable(c.d_x, 4));
  if (packs) return simt::launch(k::dims<4>(ctx, c.d_y), k::gradient<4>, c);
  simt::launch(k::dims<1>(ctx, c.d_y), k::gradient<1>, c);
}

}  // namespace belfry::cuda
