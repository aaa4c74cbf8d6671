// SPDX-License-Identifier: Apache-2.0
#include "kernels/gru/gru.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"
#include "kernels/gru/gru_steps.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gru/gru_cpu.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "kernels/core/logistic-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::HWY_NAMESPACE {

constexpr std::int64_t kMaxLanes = static_cast<std::int64_t>(hn::MaxLanes(FloatTag()));

/// Loads and stores of the `n` columns from j on; a last few go through a padded copy, so that an
/// element's bits do not depend on where it stands.
struct GruRun {
  std::int64_t n;
  HWY_INLINE FloatVec load(const float* p) const {
    if (n == kMaxLanes) return hn::LoadU(FloatTag(), p);
    HWY_ALIGN float pad[kMaxLanes] = {};
    std::copy_n(p, n, pad);
    return hn::Load(FloatTag(), pad);
  }
  HWY_INLINE FloatVec load_or_zero(const float* p) const {
    return p != nullptr ? load(p) : hn::Zero(FloatTag());
  }
  HWY_INLINE void store(FloatVec v, float* p) const {
    if (n == kMaxLanes) return hn::StoreU(v, FloatTag(), p);
    HWY_ALIGN float pad[kMaxLanes];
    hn::Store(v, FloatTag(), pad);
    std::copy_n(pad, n, p);
  }
};
template <class F>
HWY_INLINE void for_runs(std::int64_t units, F&& f) {
  for (std::int64_t j = 0; j < units; j += kMaxLanes) f(j, GruRun{std::min(kMaxLanes, units - j)});
}
template <class T>
T* row_or_null(Matrix<T> m, std::int64_t i) {
  return m.data != nullptr ? m.row(i) : nullptr;
}
HWY_INLINE const float* at(const float* p, std::int64_t i) {
  return p != nullptr ? p + i : nullptr;
}

void gru_row(const gru_detail::Step& s, std::int64_t i) {
  const std::int64_t units = s.after.cols;
  const float* before = row_or_null(s.before, i);
  float* after = s.after.row(i);
  if (!s.mask.covers(i, s.t, s.steps)) {
    if (before != nullptr) std::copy_n(before, units, after);
    if (before == nullptr) std::fill_n(after, units, 0.0f);
    return;
  }
  const FloatVec one = constant(1);
  const float* recurrent = row_or_null(s.recurrent, i);
  float* gates = s.gates.row(i);
  for_runs(units, [&](std::int64_t j, const GruRun& run) {
    const auto owed = [&](std::int64_t c) {  // h recurrent + b_1
      return hn::Add(run.load_or_zero(at(recurrent, c)), run.load_or_zero(at(s.bias, c)));
    };
    const FloatVec z = logistic(hn::Add(run.load(gates + j), owed(j))).value;
    const FloatVec r = logistic(hn::Add(run.load(gates + units + j), owed(units + j))).value;
    const FloatVec q = owed(2 * units + j);
    const FloatVec x = hn::Add(run.load(gates + 2 * units + j), hn::Mul(r, q));
    const FloatVec n = keep_nan(x, hn::Tanh(FloatTag(), x));
    const FloatVec h = run.load_or_zero(at(before, j));
    run.store(hn::Add(hn::Mul(z, h), hn::Mul(hn::Sub(one, z), n)), after + j);
    run.store(z, gates + j);
    run.store(r, gates + units + j);
    run.store(n, gates + 2 * units + j);
    run.store(q, gates + 3 * units + j);
  });
}

void gru_rows(const gru_detail::Step& s, std::int64_t first, std::int64_t n) {
  for (std::int64_t i = first; i < first + n; ++i) gru_row(s, i);
}

}  // namespace belfry::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

HWY_EXPORT(gru_rows);

namespace {

/// The rows of a tile, by shape alone: some 64 KiB of gates.
template <class F>
void for_row_tiles(const Context& ctx, Matrix<const float> gates, F&& f) {
  const std::int64_t rows = std::max<std::int64_t>(1, 16384 / gates.cols);
  parallel_for(ctx, (gates.rows + rows - 1) / rows,
               [&](std::int64_t t, int) { f(t * rows, std::min(rows, gates.rows - t * rows)); });
}

void gru_grad_row(const gru_detail::StepGrad& s, std::int64_t i) {
  const std::int64_t units = s.d_h.cols;
  const bool covered = s.mask.covers(i, s.t, s.steps);
  float *gates = s.gates.row(i), *d_h = s.d_h.row(i);
  for (std::int64_t j = 0; j < units; ++j) {
    float d = s.last ? 0.0f : d_h[j];
    if (s.d_state.data != nullptr) d += s.d_state(i, j);
    if (s.d_last.data != nullptr) d += s.d_last(i, j);
    float* const place[] = {gates + j, gates + units + j, gates + 2 * units + j,
                            gates + 3 * units + j};
    gru_detail::GateGradients g = {};
    if (covered) {
      const float z = *place[0], before = s.before.data != nullptr ? s.before(i, j) : 0.0f;
      g = gru_detail::gate_gradients({z, *place[1], *place[2], *place[3]}, before, d);
      d = d * z;
    }
    d_h[j] = d;
    *place[0] = g.n, *place[1] = g.z, *place[2] = g.r, *place[3] = g.q;
  }
}

}  // namespace

namespace cpu {

void gru(const Context& ctx, const GruCall& call) {
  const auto rows = HWY_DYNAMIC_DISPATCH(gru_rows);
  gru_detail::forward(ctx, call, [&](const gru_detail::Step& step) {
    for_row_tiles(ctx, step.gates,
                  [&](std::int64_t first, std::int64_t n) { rows(step, first, n); });
  });
}

void gru_grad(const Context& ctx, const GruGradCall& call) {
  gru_detail::backward(ctx, call, [&](const gru_detail::StepGrad& step) {
    for_row_tiles(ctx, step.gates, [&](std::int64_t first, std::int64_t n) {
      for (std::int64_t i = first; i < first + n; ++i) gru_grad_row(step, i);
    });
  });
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
