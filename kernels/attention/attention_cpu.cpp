// SPDX-License-Identifier: Apache-2.0
// A thread takes a list and head, and of it 64 steps at a time: a strip of scores [64, T] by one
// product, the softmax in place, and a product with v. Strips run in order, so that d_k and d_v are
// sums in a fixed order.
#include "kernels/attention/attention.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/core/parallel.hpp"
#include "kernels/gemm/gemm.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_cpu.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "kernels/core/logistic-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::HWY_NAMESPACE {

/// The columns of a row of scores that count, from j on: `open` is 1 or 0, and a causal row ends
/// early.
HWY_INLINE auto attended(const float* open, std::int64_t j, std::int64_t end) {
  const FloatTag d;
  const FloatVec column = hn::Iota(d, static_cast<float>(j));
  return hn::And(hn::Gt(hn::Load(d, open + j), hn::Zero(d)),
                 hn::Lt(column, hn::Set(d, static_cast<float>(end))));
}

/// A row of `width` scores (whole vectors, aligned) to probabilities, 0 where they do not count;
/// returns log sum.
float attention_softmax(float* s, const float* open, std::int64_t width, std::int64_t end) {
  const FloatTag d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const float infinity = std::numeric_limits<float>::infinity();
  const FloatVec nothing = hn::Set(d, -infinity);
  FloatVec most = nothing;
  for (std::int64_t j = 0; j < width; j += lanes) {
    most = hn::Max(most, hn::IfThenElse(attended(open, j, end), hn::Load(d, s + j), nothing));
  }
  const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
  const FloatVec base = hn::Set(d, largest);
  FloatVec total = hn::Zero(d);
  for (std::int64_t j = 0; j < width; j += lanes) {
    const FloatVec x = hn::Sub(hn::Load(d, s + j), base);
    const FloatVec e = hn::IfThenElseZero(attended(open, j, end), keep_nan(x, hn::Exp(d, x)));
    total = hn::Add(total, e);
    hn::Store(e, d, s + j);
  }
  const float sum = hn::GetLane(hn::SumOfLanes(d, total));
  if (sum == 0.0f) return infinity;  // nothing to attend to: backward's exp(s - log sum) is 0
  const FloatVec scale = hn::Set(d, 1.0f / sum);
  for (std::int64_t j = 0; j < width; j += lanes) {
    hn::Store(hn::Mul(hn::Load(d, s + j), scale), d, s + j);
  }
  return largest + std::log(sum);
}

/// Scores to probabilities again, and d_p to d_s.
void attention_softmax_grad(float* s, float* d_p, const float* open, std::int64_t width,
                            std::int64_t end, float log_sum, float along) {
  const FloatTag d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const FloatVec base = hn::Set(d, log_sum), mean = hn::Set(d, along);
  for (std::int64_t j = 0; j < width; j += lanes) {
    const auto inside = attended(open, j, end);
    const FloatVec x = hn::Sub(hn::Load(d, s + j), base);
    const FloatVec p = hn::IfThenElseZero(inside, keep_nan(x, hn::Exp(d, x)));
    hn::Store(p, d, s + j);
    const FloatVec d_s = hn::Mul(p, hn::Sub(hn::Load(d, d_p + j), mean));
    hn::Store(hn::IfThenElseZero(inside, d_s), d, d_p + j);
  }
}

}  // namespace belfry::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

HWY_EXPORT(attention_softmax);
HWY_EXPORT(attention_softmax_grad);

namespace {

constexpr std::int64_t kStrip = 64;      // steps whose scores are there at a time
constexpr std::int64_t kRowFloats = 16;  // rows of scores are whole vectors of every target

std::int64_t padded(std::int64_t steps) {
  return (steps + kRowFloats - 1) / kRowFloats * kRowFloats;
}

/// One list and head of a matrix.
template <class T>
Matrix<T> part(Matrix<T> m, std::int64_t steps, std::int64_t heads, std::int64_t task) {
  const std::int64_t keys = m.cols / heads;
  return m.slice(task / heads * steps, steps).columns(task % heads * keys, keys);
}

/// Scratch of a thread: which steps count, scores, and in backward the gradients of the
///              probabilities.
struct Strip {
  float *open, *scores, *gradients;
};
class Strips {
 public:
  Strips(const Context& ctx, std::int64_t steps, bool backward)
      : width_(padded(steps)),
        floats_(width_ * (1 + kStrip * (backward ? 2 : 1))),
        data_(ctx.arena().take<float>(floats_ * ctx.threads())) {}
  Strip of(int worker) const {
    float* open = data_ + worker * floats_;
    return {open, open + width_, open + width_ * (1 + kStrip)};
  }
  std::int64_t width() const { return width_; }
  void set_open(const StepMask& mask, std::int64_t list, std::int64_t steps, float* open) const {
    for (std::int64_t j = 0; j < width_; ++j) {
      open[j] = j < steps && mask.covers(list, j, steps) ? 1.0f : 0.0f;
    }
  }

 private:
  std::int64_t width_, floats_;
  float* data_;
};

float dot(const float* a, const float* b, std::int64_t n) {
  float sum = 0.0f;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// Calls f(first, n, seen) for the strips of a list: steps first .. first + n - 1, which attend to
/// none but the first `seen`.
template <class F>
void for_strips(const AttentionOptions& o, F&& f) {
  for (std::int64_t i = 0; i < o.steps; i += kStrip) {
    const std::int64_t n = std::min(kStrip, o.steps - i);
    f(i, n, o.causal ? i + n : o.steps);
  }
}

float score_scale(std::int64_t keys) {
  return 1.0f / std::sqrt(static_cast<float>(keys));
}

}  // namespace

namespace cpu {

void attention(const Context& ctx, const AttentionCall& c) {
  if (c.q.empty()) return;
  const AttentionOptions& o = c.options;
  const float scale = score_scale(c.q.cols / o.heads);
  const auto softmax = HWY_DYNAMIC_DISPATCH(attention_softmax);
  ArenaScope scope(ctx);
  const Strips strips(ctx, o.steps, false);
  parallel_for(ctx, c.q.rows / o.steps * o.heads, [&](std::int64_t task, int worker) {
    const Strip strip = strips.of(worker);
    strips.set_open(o.mask, task / o.heads, o.steps, strip.open);
    const auto q = part(c.q, o.steps, o.heads, task), k = part(c.k, o.steps, o.heads, task),
               v = part(c.v, o.steps, o.heads, task);
    const auto out = part(c.out, o.steps, o.heads, task);
    const auto log_sum = part(c.log_sum, o.steps, o.heads, task);
    for_strips(o, [&](std::int64_t first, std::int64_t n, std::int64_t seen) {
      const Matrix<float> s(strip.scores, n, seen, strips.width());
      gemm_tile(q.slice(first, n), k.slice(0, seen), s, {.b = Transpose::yes, .alpha = scale});
      for (std::int64_t i = 0; i < n; ++i) {
        log_sum(first + i, 0) =
            softmax(s.row(i), strip.open, padded(seen), o.causal ? first + i + 1 : o.steps);
      }
      gemm_tile(s, v.slice(0, seen), out.slice(first, n), {});
    });
  });
}

void attention_grad(const Context& ctx, const AttentionGradCall& c) {
  if (c.q.empty()) return;
  const AttentionOptions& o = c.options;
  const std::int64_t keys = c.q.cols / o.heads;
  const float scale = score_scale(keys);
  const auto softmax_grad = HWY_DYNAMIC_DISPATCH(attention_softmax_grad);
  ArenaScope scope(ctx);
  const Strips strips(ctx, o.steps, true);
  parallel_for(ctx, c.q.rows / o.steps * o.heads, [&](std::int64_t task, int worker) {
    const Strip strip = strips.of(worker);
    strips.set_open(o.mask, task / o.heads, o.steps, strip.open);
    const auto of = [&](auto m) { return part(m, o.steps, o.heads, task); };
    const auto q = of(c.q), k = of(c.k), v = of(c.v), out = of(c.out), d_out = of(c.d_out);
    const auto log_sum = of(c.log_sum);
    const auto d_q = of(c.d_q), d_k = of(c.d_k), d_v = of(c.d_v);
    for (std::int64_t i = 0; i < o.steps; ++i) {
      std::fill_n(d_k.row(i), keys, 0.0f);
      std::fill_n(d_v.row(i), keys, 0.0f);
    }
    for_strips(o, [&](std::int64_t first, std::int64_t n, std::int64_t seen) {
      const Matrix<float> p(strip.scores, n, seen, strips.width());
      const Matrix<float> d_s(strip.gradients, n, seen, strips.width());
      const auto these = [&](auto m) { return m.slice(first, n); };
      gemm_tile(these(q), k.slice(0, seen), p, {.b = Transpose::yes, .alpha = scale});
      gemm_tile(these(d_out), v.slice(0, seen), d_s, {.b = Transpose::yes});
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t row = first + i;
        softmax_grad(p.row(i), d_s.row(i), strip.open, padded(seen), o.causal ? row + 1 : o.steps,
                     log_sum(row, 0), dot(d_out.row(row), out.row(row), keys));
      }
      const GemmOptions add{.a = Transpose::yes, .beta = 1.0f};
      const GemmOptions add_scaled{.a = Transpose::yes, .alpha = scale, .beta = 1.0f};
      gemm_tile(p, these(d_out), d_v.slice(0, seen), add);
      gemm_tile(d_s, these(q), d_k.slice(0, seen), add_scaled);
      gemm_tile(d_s, k.slice(0, seen), these(d_q), {.alpha = scale});
    });
  });
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
