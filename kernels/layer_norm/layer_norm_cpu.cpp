// SPDX-License-Identifier: Apache-2.0
#include "kernels/layer_norm/layer_norm.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/core/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layer_norm/layer_norm_cpu.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace belfry::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Calls f(d, j) with full vectors, then with single lanes.
template <class F>
HWY_INLINE void each_column(std::int64_t cols, F&& f) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t j = 0;
  for (; j + lanes <= cols; j += lanes) f(d, j);
  for (; j < cols; ++j) f(one, j);
}

/// Sum of term(d, j) over the columns: two vectors of partial sums, then their lanes, then the rest
/// in order.
template <class F>
HWY_INLINE float row_sum(std::int64_t cols, F&& term) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d);
  std::int64_t j = 0;
  for (; j + 2 * lanes <= cols; j += 2 * lanes) {
    s0 = hn::Add(s0, term(d, j));
    s1 = hn::Add(s1, term(d, j + lanes));
  }
  if (j + lanes <= cols) {
    s0 = hn::Add(s0, term(d, j));
    j += lanes;
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; j < cols; ++j) sum += hn::GetLane(term(one, j));
  return sum;
}

/// (x - m) r
template <class D>
HWY_INLINE hn::Vec<D> normal(D d, const float* x, float mean, float r) {
  return hn::Mul(hn::Sub(hn::LoadU(d, x), hn::Set(d, mean)), hn::Set(d, r));
}
/// d_y, times gamma where there is one.
template <class D>
HWY_INLINE hn::Vec<D> scaled(D d, const float* d_y, const float* gamma, std::int64_t j) {
  const auto g = hn::LoadU(d, d_y + j);
  return gamma == nullptr ? g : hn::Mul(g, hn::LoadU(d, gamma + j));
}

void normalize_rows(const LayerNormCall& c, std::int64_t first, std::int64_t end) {
  const std::int64_t cols = c.x.cols;
  const float width = static_cast<float>(std::max<std::int64_t>(1, cols));
  const float* gamma = c.gamma.empty() ? nullptr : c.gamma.data;
  const float* beta = c.beta.empty() ? nullptr : c.beta.data;
  for (std::int64_t i = first; i < end; ++i) {
    const float* x = c.x.row(i);
    float* y = c.y.row(i);
    const auto load = [&](auto d, std::int64_t j) { return hn::LoadU(d, x + j); };
    const float mean = row_sum(cols, load) / width;
    const auto square = [&](auto d, std::int64_t j) {
      const auto deviation = hn::Sub(hn::LoadU(d, x + j), hn::Set(d, mean));
      return hn::Mul(deviation, deviation);
    };
    const float r = 1.0f / std::sqrt(row_sum(cols, square) / width + c.epsilon);
    c.mean[i] = mean;
    c.inverse_deviation[i] = r;
    each_column(cols, [&](auto d, std::int64_t j) {
      auto n = normal(d, x + j, mean, r);
      if (gamma != nullptr) n = hn::Mul(n, hn::LoadU(d, gamma + j));
      if (beta != nullptr) n = hn::Add(n, hn::LoadU(d, beta + j));
      hn::StoreU(n, d, y + j);
    });
  }
}

/// Adds this row's part of the gradients of gamma and beta.
HWY_INLINE void add_parameters(const float* x, float mean, float r, const float* d_y,
                               std::int64_t cols, float* d_gamma, float* d_beta) {
  each_column(cols, [&](auto d, std::int64_t j) {
    const auto g = hn::LoadU(d, d_y + j);
    if (d_gamma != nullptr) {
      const auto term = hn::Mul(g, normal(d, x + j, mean, r));
      hn::StoreU(hn::Add(hn::LoadU(d, d_gamma + j), term), d, d_gamma + j);
    }
    if (d_beta != nullptr) {
      hn::StoreU(hn::Add(hn::LoadU(d, d_beta + j), g), d, d_beta + j);
    }
  });
}

/// d_gamma and d_beta: the sums of these rows, already 0; or null.
void gradient_rows(const LayerNormGradCall& c, std::int64_t first, std::int64_t end, float* d_gamma,
                   float* d_beta) {
  const std::int64_t cols = c.x.cols;
  const float width = static_cast<float>(std::max<std::int64_t>(1, cols));
  const float* gamma = c.gamma.empty() ? nullptr : c.gamma.data;
  for (std::int64_t i = first; i < end; ++i) {
    const float *x = c.x.row(i), *d_y = c.d_y.row(i);
    const float mean = c.mean[i], r = c.inverse_deviation[i];
    add_parameters(x, mean, r, d_y, cols, d_gamma, d_beta);  // d_x may take the place of d_y
    const auto term = [&](auto d, std::int64_t j) { return scaled(d, d_y, gamma, j); };
    const auto along = [&](auto d, std::int64_t j) {
      return hn::Mul(scaled(d, d_y, gamma, j), normal(d, x + j, mean, r));
    };
    const float mean_g = row_sum(cols, term) / width, mean_gn = row_sum(cols, along) / width;
    float* d_x = c.d_x.row(i);
    each_column(cols, [&](auto d, std::int64_t j) {
      const auto rest = hn::Sub(scaled(d, d_y, gamma, j), hn::Set(d, mean_g));
      const auto radial = hn::Mul(normal(d, x + j, mean, r), hn::Set(d, mean_gn));
      hn::StoreU(hn::Mul(hn::Set(d, r), hn::Sub(rest, radial)), d, d_x + j);
    });
  }
}

/// sum += the rows of partials, in order.
void add_norm_rows(Matrix<const float> partials, float* sum) {
  for (std::int64_t t = 0; t < partials.rows; ++t) {
    each_column(partials.cols, [&](auto d, std::int64_t j) {
      hn::StoreU(hn::Add(hn::LoadU(d, sum + j), hn::LoadU(d, partials.row(t) + j)), d, sum + j);
    });
  }
}

}  // namespace belfry::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

HWY_EXPORT(normalize_rows);
HWY_EXPORT(gradient_rows);
HWY_EXPORT(add_norm_rows);

namespace {

/// Rows of a tile, by shape alone: some 128 KiB a matrix.
std::int64_t tile_rows(std::int64_t cols) {
  return std::clamp<std::int64_t>(32768 / std::max<std::int64_t>(1, cols), 16, 2048);
}

bool same_shape(Matrix<const float> a, Matrix<const float> b) {
  return a.rows == b.rows && a.cols == b.cols;
}
bool column_vector(std::int64_t size, Matrix<const float> x) {
  return size == 0 || size == x.cols;
}

}  // namespace

void check_layer_norm(const LayerNormCall& c) {
  require(same_shape(c.x, c.y), "layer_norm: y must have the shape of x");
  require(c.y.empty() || c.y.data != c.x.data || c.y.pitch == c.x.pitch,
          "layer_norm: y may be x only with its pitch");
  require(column_vector(c.gamma.size, c.x) && column_vector(c.beta.size, c.x),
          "layer_norm: gamma and beta must have one value a column");
  require(c.mean.size == c.x.rows && c.inverse_deviation.size == c.x.rows,
          "layer_norm: mean and inverse_deviation must have one value a row");
  require(c.epsilon > 0.0f, "layer_norm: epsilon must be positive");
}

void check_layer_norm_grad(const LayerNormGradCall& c) {
  require(same_shape(c.x, c.d_y) && same_shape(c.x, c.d_x),
          "layer_norm_grad: d_y and d_x must have the shape of x");
  require(c.d_x.empty() || c.d_x.data != c.d_y.data || c.d_x.pitch == c.d_y.pitch,
          "layer_norm_grad: d_x may be d_y only with its pitch");
  require(c.d_x.empty() || c.d_x.data != c.x.data, "layer_norm_grad: d_x must not be x");
  require(column_vector(c.gamma.size, c.x) && column_vector(c.d_gamma.size, c.x) &&
              column_vector(c.d_beta.size, c.x),
          "layer_norm_grad: gamma, d_gamma and d_beta must have one value a column");
  require(c.mean.size == c.x.rows && c.inverse_deviation.size == c.x.rows,
          "layer_norm_grad: mean and inverse_deviation must have one value a row");
}

namespace cpu {

void layer_norm(const Context& ctx, const LayerNormCall& call) {
  const std::int64_t rows = tile_rows(call.x.cols);
  const auto tile = HWY_DYNAMIC_DISPATCH(normalize_rows);
  parallel_for(ctx, (call.x.rows + rows - 1) / rows, [&](std::int64_t t, int) {
    tile(call, t * rows, std::min(call.x.rows, (t + 1) * rows));
  });
}

void layer_norm_grad(const Context& ctx, const LayerNormGradCall& call) {
  const std::int64_t cols = call.x.cols, rows = tile_rows(cols);
  const std::int64_t tiles = (call.x.rows + rows - 1) / rows;
  const bool gamma = !call.d_gamma.empty(), beta = !call.d_beta.empty();
  ArenaScope scope(ctx);
  const auto take = [&](bool wanted) {
    return Matrix<float>(wanted ? ctx.arena().take<float>(tiles * cols) : nullptr, tiles, cols);
  };
  const Matrix<float> gammas = take(gamma), betas = take(beta);
  const auto tile = HWY_DYNAMIC_DISPATCH(gradient_rows);
  parallel_for(ctx, tiles, [&](std::int64_t t, int) {
    if (gamma) std::fill_n(gammas.row(t), cols, 0.0f);
    if (beta) std::fill_n(betas.row(t), cols, 0.0f);
    tile(call, t * rows, std::min(call.x.rows, (t + 1) * rows), gamma ? gammas.row(t) : nullptr,
         beta ? betas.row(t) : nullptr);
  });
  std::fill_n(call.d_gamma.data, call.d_gamma.size, 0.0f);
  std::fill_n(call.d_beta.data, call.d_beta.size, 0.0f);
  const auto add = HWY_DYNAMIC_DISPATCH(add_norm_rows);
  if (gamma) add(gammas, call.d_gamma.data);
  if (beta) add(betas, call.d_beta.data);
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
