// SPDX-License-Identifier: Apache-2.0
#include "kernels/bias_act/bias_act.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bias_act/bias_act_cpu.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "kernels/core/logistic-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::HWY_NAMESPACE {

using D = FloatTag;
using V = FloatVec;

// Rows are worked on in chunks of about this many floats, so that the second and third pass over a
// chunk (activation, sum of a column) find it in the L1 cache.
constexpr std::int64_t kChunkFloats = 2048;

HWY_INLINE V expm1_below_zero(V x) {
  return hn::Expm1(D(), hn::Min(x, hn::Zero(D())));
}

struct Normal {
  V cdf;
  V pdf;
};
/// Standard normal. cdf = (1 + erf(x / sqrt 2)) / 2, but from erfc, so that the lower tail keeps its
/// relative accuracy: cdf(-t) = exp(-t^2/2) g(t), g a polynomial in u = (3.5 - t) / (3.5 + t)
/// (Chebyshev interpolation of exp(t^2/2) erfc(t / sqrt 2) / 2 over t in [0, 14.5], error 6.5e-9).
HWY_INLINE Normal normal(V x) {
  constexpr double kG[] = {0.106345153632,    0.187139698597,     0.125855251682,
                           0.0616394298106,   0.0190656481694,    0.00156136648475,
                           -0.00138166049183, -0.000389856871784, 0.000134021321272,
                           5.16443248256e-5,  -2.06968882733e-5};
  const D d;
  const hn::Repartition<std::uint32_t, D> du;
  const V one = constant(1), half = constant(0.5);
  const V t = hn::Min(hn::Abs(x), constant(15));  // cdf(-15) is 0 in float32
  // t^2/2 = high + low, high exact (12 bits squared): a rounded t^2 would cost t^2/2 ulp.
  const V head = hn::BitCast(d, hn::And(hn::BitCast(du, t), hn::Set(du, 0xFFFFF000u)));
  const V high = hn::Mul(half, hn::Mul(head, head));
  const V low = hn::Mul(half, hn::Mul(hn::Sub(t, head), hn::Add(t, head)));  // at most 0.11
  V tail = hn::MulAdd(low, constant(1.0 / 24), constant(-1.0 / 6));
  tail = hn::MulAdd(tail, low, half);
  tail = hn::Mul(hn::MulSub(tail, low, one), low);  // exp(-low) - 1
  const V e = hn::Exp(d, hn::Neg(high));
  const V bell = hn::MulAdd(e, tail, e);
  const V u = hn::Div(hn::Sub(constant(3.5), t), hn::Add(constant(3.5), t));
  V g = constant(kG[10]);
  for (int i = 9; i >= 0; --i) g = hn::MulAdd(g, u, constant(kG[i]));
  const V lower = hn::Mul(bell, g);
  const V cdf = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), lower, hn::Sub(one, lower));
  return {keep_nan(x, cdf), keep_nan(x, hn::Mul(bell, constant(0.398942280401)))};
}

// One struct an activation: y = value(z), and d_z = grad(z, y, d_y). What grad does not use is not
// loaded. The gradients are taken from y where Keras takes them from y.
struct Linear {
  static V value(V z) { return z; }
  static V grad(V, V, V d_y) { return d_y; }
};
struct Relu {
  static V value(V z) { return hn::IfThenZeroElse(hn::Le(z, hn::Zero(D())), z); }
  static V grad(V, V y, V d_y) { return hn::IfThenElseZero(hn::Gt(y, hn::Zero(D())), d_y); }
};
struct Gelu {
  static V value(V z) { return hn::Mul(z, normal(z).cdf); }
  static V grad(V z, V, V d_y) {
    const Normal n = normal(z);
    return hn::Mul(d_y, hn::MulAdd(z, n.pdf, n.cdf));
  }
};
struct Tanh {
  static V value(V z) { return keep_nan(z, hn::Tanh(D(), z)); }
  static V grad(V, V y, V d_y) { return hn::Mul(d_y, hn::NegMulAdd(y, y, constant(1))); }
};
struct Sigmoid {
  static V value(V z) { return logistic(z).value; }
  static V grad(V, V y, V d_y) { return hn::Mul(d_y, hn::Mul(y, hn::Sub(constant(1), y))); }
};
struct Elu {
  static V value(V z) {
    return keep_nan(z, hn::IfThenElse(hn::Gt(z, hn::Zero(D())), z, expm1_below_zero(z)));
  }
  static V grad(V, V y, V d_y) {
    const V slope = hn::Add(y, constant(1));
    return hn::IfThenElse(hn::Ge(y, hn::Zero(D())), d_y, hn::Mul(d_y, slope));
  }
};
struct Selu {
  static constexpr double kScale = 1.05070098735548049342;
  static constexpr double kScaleAlpha = kScale * 1.67326324235437728482;
  static V value(V z) {
    const V below = hn::Mul(constant(kScaleAlpha), expm1_below_zero(z));
    return keep_nan(z,
                    hn::IfThenElse(hn::Gt(z, hn::Zero(D())), hn::Mul(z, constant(kScale)), below));
  }
  static V grad(V, V y, V d_y) {
    const V below = hn::Add(y, constant(kScaleAlpha));
    const auto flat = hn::Ge(y, hn::Zero(D()));
    return hn::Mul(d_y, hn::IfThenElse(flat, constant(kScale), below));
  }
};
struct Softplus {
  static V value(V z) {
    const D d;
    const V rest = hn::Log1p(d, hn::Exp(d, negative_abs(z)));
    return keep_nan(z, hn::Add(hn::Max(z, hn::Zero(d)), rest));
  }
  static V grad(V z, V, V d_y) { return hn::Mul(d_y, logistic(z).value); }
};
struct Swish {
  static V value(V z) { return hn::Mul(z, logistic(z).value); }
  static V grad(V z, V, V d_y) {
    const Logistic s = logistic(z);
    return hn::Mul(d_y, hn::Mul(s.value, hn::MulAdd(z, s.complement, constant(1))));
  }
};
/// 0.5 (1 + tanh u) is logistic(2 u), which keeps its relative accuracy in the lower tail. Both are
/// flat long before |z| = 30, where z^3 is still finite.
struct GeluTanh {
  static constexpr double kLinear = 1.59576912160573072;  // 2 sqrt(2 / pi)
  static constexpr double kCubic = 0.044715 * kLinear;
  static HWY_INLINE V inside(V z) { return hn::Min(hn::Max(z, constant(-30)), constant(30)); }
  static HWY_INLINE V twice_u(V t) {
    return hn::Mul(t, hn::MulAdd(constant(kCubic), hn::Mul(t, t), constant(kLinear)));
  }
  static V value(V z) { return hn::Mul(z, logistic(twice_u(inside(z))).value); }
  static V grad(V z, V, V d_y) {
    const V t = inside(z);
    const Logistic s = logistic(twice_u(t));
    const V slope = hn::MulAdd(constant(3 * kCubic), hn::Mul(t, t), constant(kLinear));
    const V rise = hn::Mul(hn::Mul(z, s.complement), slope);
    return hn::Mul(d_y, hn::Mul(s.value, hn::Add(rise, constant(1))));
  }
};

// The last few elements of a run go through the same vector code, so that an element's bits do not
// depend on where it stands.
template <class A>
void value_run(const float* z, float* y, std::int64_t n) {
  const D d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(A::value(hn::LoadU(d, z + i)), d, y + i);
  if (i == n) return;
  HWY_ALIGN float pad[HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy_n(z + i, n - i, pad);
  hn::Store(A::value(hn::Load(d, pad)), d, pad);
  std::copy_n(pad, n - i, y + i);
}

template <class A>
void grad_run(const float* z, const float* y, const float* d_y, float* d_z, std::int64_t n) {
  const D d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(A::grad(hn::LoadU(d, z + i), hn::LoadU(d, y + i), hn::LoadU(d, d_y + i)), d,
               d_z + i);
  }
  if (i == n) return;
  HWY_ALIGN float pad[3][HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy_n(z + i, n - i, pad[0]);
  std::copy_n(y + i, n - i, pad[1]);
  std::copy_n(d_y + i, n - i, pad[2]);
  hn::Store(A::grad(hn::Load(d, pad[0]), hn::Load(d, pad[1]), hn::Load(d, pad[2])), d, pad[0]);
  std::copy_n(pad[0], n - i, d_z + i);
}

void add_bias(Matrix<float> z, const float* bias) {
  const D d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < z.rows; ++i) {
    float* row = z.row(i);
    std::int64_t j = 0;
    for (; j + lanes <= z.cols; j += lanes) {
      hn::StoreU(hn::Add(hn::LoadU(d, row + j), hn::LoadU(d, bias + j)), d, row + j);
    }
    for (; j < z.cols; ++j) row[j] += bias[j];
  }
}

/// sum_j += x_ij in row order; four vectors at a time hide the latency of the adds.
void add_rows(Matrix<const float> x, float* sum) {
  const D d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t j = 0;
  for (; j + 4 * lanes <= x.cols; j += 4 * lanes) {
    V s0 = hn::LoadU(d, sum + j), s1 = hn::LoadU(d, sum + j + lanes);
    V s2 = hn::LoadU(d, sum + j + 2 * lanes), s3 = hn::LoadU(d, sum + j + 3 * lanes);
    for (std::int64_t i = 0; i < x.rows; ++i) {
      const float* row = x.row(i) + j;
      s0 = hn::Add(s0, hn::LoadU(d, row));
      s1 = hn::Add(s1, hn::LoadU(d, row + lanes));
      s2 = hn::Add(s2, hn::LoadU(d, row + 2 * lanes));
      s3 = hn::Add(s3, hn::LoadU(d, row + 3 * lanes));
    }
    hn::StoreU(s0, d, sum + j);
    hn::StoreU(s1, d, sum + j + lanes);
    hn::StoreU(s2, d, sum + j + 2 * lanes);
    hn::StoreU(s3, d, sum + j + 3 * lanes);
  }
  for (; j + lanes <= x.cols; j += lanes) {
    V s = hn::LoadU(d, sum + j);
    for (std::int64_t i = 0; i < x.rows; ++i) s = hn::Add(s, hn::LoadU(d, x.row(i) + j));
    hn::StoreU(s, d, sum + j);
  }
  for (; j < x.cols; ++j) {
    float s = sum[j];
    for (std::int64_t i = 0; i < x.rows; ++i) s += x(i, j);
    sum[j] = s;
  }
}

template <class A>
void value_rows(Matrix<const float> z, Matrix<float> y) {
  if (z.contiguous() && y.contiguous()) return value_run<A>(z.data, y.data, z.rows * z.cols);
  for (std::int64_t i = 0; i < z.rows; ++i) value_run<A>(z.row(i), y.row(i), z.cols);
}

template <class A>
void grad_rows(Matrix<const float> z, Matrix<const float> y, Matrix<const float> d_y,
               Matrix<float> d_z) {
  if (z.contiguous() && y.contiguous() && d_y.contiguous() && d_z.contiguous()) {
    return grad_run<A>(z.data, y.data, d_y.data, d_z.data, z.rows * z.cols);
  }
  for (std::int64_t i = 0; i < z.rows; ++i) {
    grad_run<A>(z.row(i), y.row(i), d_y.row(i), d_z.row(i), z.cols);
  }
}

/// Calls f with the struct of the activation.
template <class F>
void with_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::linear:
      return f(Linear());
    case Activation::relu:
      return f(Relu());
    case Activation::gelu:
      return f(Gelu());
    case Activation::tanh:
      return f(Tanh());
    case Activation::sigmoid:
      return f(Sigmoid());
    case Activation::elu:
      return f(Elu());
    case Activation::selu:
      return f(Selu());
    case Activation::softplus:
      return f(Softplus());
    case Activation::swish:
      return f(Swish());
    case Activation::gelu_tanh:
      return f(GeluTanh());
  }
}

void forward_tile(Matrix<float> z, const float* bias, Activation activation, Matrix<float> y) {
  const std::int64_t chunk = std::max<std::int64_t>(1, kChunkFloats / z.cols);
  const bool in_place = z.data == y.data;  // linear only
  with_activation(activation, [&](auto a) {
    for (std::int64_t i = 0; i < z.rows; i += chunk) {
      const std::int64_t rows = std::min(chunk, z.rows - i);
      if (bias != nullptr) add_bias(z.slice(i, rows), bias);
      if (!in_place) value_rows<decltype(a)>(z.slice(i, rows), y.slice(i, rows));
    }
  });
}

void backward_tile(Matrix<const float> z, Matrix<const float> y, Matrix<const float> d_y,
                   Activation activation, Matrix<float> d_z, float* bias_sum) {
  const std::int64_t chunk = std::max<std::int64_t>(1, kChunkFloats / z.cols);
  const bool only_sum =
      activation == Activation::linear && d_z.data == d_y.data && d_z.pitch == d_y.pitch;
  with_activation(activation, [&](auto a) {
    for (std::int64_t i = 0; i < z.rows; i += chunk) {
      const std::int64_t rows = std::min(chunk, z.rows - i);
      if (!only_sum) {
        grad_rows<decltype(a)>(z.slice(i, rows), y.slice(i, rows), d_y.slice(i, rows),
                               d_z.slice(i, rows));
      }
      if (bias_sum != nullptr) add_rows(d_z.slice(i, rows), bias_sum);
    }
  });
}

void add_partials(Matrix<const float> partials, float* sum) {
  add_rows(partials, sum);
}

}  // namespace belfry::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

HWY_EXPORT(forward_tile);
HWY_EXPORT(backward_tile);
HWY_EXPORT(add_partials);

namespace {

/// Rows of a tile, by shape alone: some 128 KiB a matrix.
std::int64_t tile_rows(std::int64_t cols) {
  return std::clamp<std::int64_t>(32768 / cols, 16, 2048);
}

}  // namespace

namespace cpu {

void bias_act(const Context& ctx, Matrix<float> z, Vector<const float> bias, Activation activation,
              Matrix<float> y) {
  if (z.empty()) return;
  const std::int64_t rows = tile_rows(z.cols);
  const auto tile = HWY_DYNAMIC_DISPATCH(forward_tile);
  parallel_for(ctx, (z.rows + rows - 1) / rows, [&](std::int64_t t, int) {
    const std::int64_t n = std::min(rows, z.rows - t * rows);
    tile(z.slice(t * rows, n), bias.empty() ? nullptr : bias.data, activation,
         y.slice(t * rows, n));
  });
}

void bias_act_grad(const Context& ctx, Matrix<const float> z, Matrix<const float> y,
                   Matrix<const float> d_y, Activation activation, Matrix<float> d_z,
                   Vector<float> d_bias) {
  std::fill_n(d_bias.data, d_bias.size, 0.0f);
  if (z.empty()) return;
  const std::int64_t rows = tile_rows(z.cols), tiles = (z.rows + rows - 1) / rows;
  const bool has_bias = !d_bias.empty();
  ArenaScope scope(ctx);
  const Matrix<float> partials(
      has_bias && tiles > 1 ? ctx.arena().take<float>(tiles * z.cols) : d_bias.data, tiles, z.cols);
  const auto tile = HWY_DYNAMIC_DISPATCH(backward_tile);
  parallel_for(ctx, tiles, [&](std::int64_t t, int) {
    const std::int64_t n = std::min(rows, z.rows - t * rows);
    float* sum = has_bias ? partials.row(t) : nullptr;
    if (has_bias) std::fill_n(sum, z.cols, 0.0f);
    tile(z.slice(t * rows, n), y.slice(t * rows, n), d_y.slice(t * rows, n), activation,
         d_z.slice(t * rows, n), sum);
  });
  if (has_bias && tiles > 1) HWY_DYNAMIC_DISPATCH(add_partials)(partials, d_bias.data);
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
