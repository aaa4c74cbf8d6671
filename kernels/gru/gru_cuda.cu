// SPDX-License-Identifier: Apache-2.0
// The GRU's passes on the device: one thread a unit of a list. They are small beside the products
// between them; what counts is that each is one launch.
#include "kernels/core/block.cuh"
#include "kernels/core/logistic.cuh"
#include "kernels/gru/gru_steps.hpp"

namespace belfry::cuda {
namespace gru_kernels {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) forward(gru_detail::Step s) {
  const std::int64_t units = s.after.cols, n = grid_thread(), i = n / units, j = n - i * units;
  if (i >= s.after.rows) return;
  const float h = s.before.data != nullptr ? s.before(i, j) : 0.0f;
  if (!s.mask.covers(i, s.t, s.steps)) {
    s.after(i, j) = h;
    return;
  }
  const auto owed = [&](std::int64_t c) {  // h recurrent + b_1
    const float product = s.recurrent.data != nullptr ? s.recurrent(i, c) : 0.0f;
    return product + (s.bias != nullptr ? s.bias[c] : 0.0f);
  };
  float* gates = s.gates.row(i) + j;
  const float z = logistic(gates[0] + owed(j)).value;
  const float r = logistic(gates[units] + owed(units + j)).value;
  const float q = owed(2 * units + j);
  const float candidate = tanhf(gates[2 * units] + r * q);
  s.after(i, j) = z * h + (1.0f - z) * candidate;
  gates[0] = z;
  gates[units] = r;
  gates[2 * units] = candidate;
  gates[3 * units] = q;
}

__global__ void __launch_bounds__(kThreads) backward(gru_detail::StepGrad s) {
  const std::int64_t units = s.d_h.cols, n = grid_thread(), i = n / units, j = n - i * units;
  if (i >= s.d_h.rows) return;
  float d = s.last ? 0.0f : s.d_h(i, j);
  if (s.d_state.data != nullptr) d += s.d_state(i, j);
  if (s.d_last.data != nullptr) d += s.d_last(i, j);
  float* gates = s.gates.row(i) + j;
  gru_detail::GateGradients g = {0.0f, 0.0f, 0.0f, 0.0f};
  if (s.mask.covers(i, s.t, s.steps)) {
    const float before = s.before.data != nullptr ? s.before(i, j) : 0.0f;
    const float z = gates[0];
    g = gru_detail::gate_gradients({z, gates[units], gates[2 * units], gates[3 * units]}, before,
                                   d);
    d = d * z;
  }
  s.d_h(i, j) = d;
  gates[0] = g.n;
  gates[units] = g.z;
  gates[2 * units] = g.r;
  gates[3 * units] = g.q;
}

template <class Step>
void launch(const Context& ctx, void (*kernel)(Step), const Step& step) {
  const std::int64_t units = step.gates.cols / 4;
  simt::launch({.grid = static_cast<unsigned>(ceil_div(step.gates.rows * units, kThreads)),
                .block = kThreads,
                .stream = &ctx.stream()},
               kernel, step);
}

}  // namespace gru_kernels

namespace k = gru_kernels;

void gru(const Context& ctx, const GruCall& call) {
  gru_detail::forward(ctx, call,
                      [&](const gru_detail::Step& step) { k::launch(ctx, k::forward, step); });
}

void gru_grad(const Context& ctx, const GruGradCall& call) {
  gru_detail::backward(
      ctx, call, [&](const gru_detail::StepGrad& step) { k::launch(ctx, k::backward, step); });
}

}  // namespace belfry::cuda
