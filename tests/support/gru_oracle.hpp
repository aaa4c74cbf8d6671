// SPDX-License-Identifier: Apache-2.0
// A GRU in float64 by its formula, and one in float32 with everything that the op takes and gives.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/generate.hpp"
#include "tests/support/tested_gru.hpp"

namespace belfry::test {

struct GruShape {
  std::int64_t lists, steps, inputs, units;
  std::string text() const {
    return std::to_string(lists) + "x" + std::to_string(steps) + "x" + std::to_string(inputs) +
           " to " + std::to_string(units);
  }
};

struct GruInputs64 {
  std::vector<double> x, kernel, recurrent, bias;  // bias empty: none
};

/// States of all steps.
inline std::vector<double> gru_oracle(const GruShape& s, const StepMask& mask,
                                      const GruInputs64& in) {
  const std::int64_t n = s.units;
  std::vector<double> states(static_cast<std::size_t>(s.lists * s.steps * n));
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  // Column c of x kernel + b_0, and of h recurrent + b_1.
  const auto product = [&](const double* v, std::int64_t length, const std::vector<double>& m,
                           std::int64_t c, int row) {
    double sum = in.bias.empty() ? 0 : in.bias[static_cast<std::size_t>(row * 3 * n + c)];
    for (std::int64_t i = 0; i < length; ++i) {
      sum += v[i] * m[static_cast<std::size_t>(i * 3 * n + c)];
    }
    return sum;
  };
  for (std::int64_t b = 0; b < s.lists; ++b) {
    std::vector<double> h(static_cast<std::size_t>(n));
    for (std::int64_t t = 0; t < s.steps; ++t) {
      std::vector<double> next = h;
      const double* x = in.x.data() + (b * s.steps + t) * s.inputs;
      for (std::int64_t j = 0; mask.covers(b, t, s.steps) && j < n; ++j) {
        const auto a = [&](std::int64_t c) { return product(x, s.inputs, in.kernel, c, 0); };
        const auto r = [&](std::int64_t c) { return product(h.data(), n, in.recurrent, c, 1); };
        const double z = sigmoid(a(j) + r(j)), reset = sigmoid(a(n + j) + r(n + j));
        const double candidate = std::tanh(a(2 * n + j) + reset * r(2 * n + j));
        const auto at = static_cast<std::size_t>(j);
        next[at] = z * h[at] + (1 - z) * candidate;
      }
      h = next;
      std::copy(h.begin(), h.end(), states.begin() + (b * s.steps + t) * n);
    }
  }
  return states;
}

/// One GRU with its inputs, its upstream gradients and all that it makes.
struct GruCase {
  GruShape shape;
  HostMask mask;
  HostMatrix x, kernel, recurrent, bias, d_states, d_last;
  HostMatrix gates, states, d_kernel, d_recurrent, d_bias, d_x;
  bool with_bias = true, with_states = true, with_last = true, with_x = true;

  GruCase(Random& random, const GruShape& s, int mask_kind, std::int64_t padding = 0)
      : shape(s), mask(make_mask(random, mask_kind, s.lists, s.steps)) {
    const std::int64_t rows = s.lists * s.steps, n = s.units;
    const auto normal = [&](std::int64_t r, std::int64_t c, double scale) {
      return HostMatrix::normal(random, r, c, scale, padding);
    };
    x = normal(rows, s.inputs, 1);
    kernel = normal(s.inputs, 3 * n, 1 / std::sqrt(1.0 + static_cast<double>(s.inputs)));
    recurrent = normal(n, 3 * n, 1 / std::sqrt(1.0 + static_cast<double>(n)));
    bias = normal(2, 3 * n, 0.5);
    d_states = normal(rows, n, 1);
    d_last = normal(s.lists, n, 1);
    gates = HostMatrix(rows, 4 * n, padding);
    states = HostMatrix(rows, n, padding);
    d_kernel = HostMatrix(s.inputs, 3 * n, padding);
    d_recurrent = HostMatrix(n, 3 * n, padding);
    d_bias = HostMatrix(2, 3 * n, padding);
    d_x = HostMatrix(rows, s.inputs, padding);
  }

  GruParameters parameters() const {
    return {kernel.view(), recurrent.view(), with_bias ? bias.view() : Matrix<const float>()};
  }
  GruCall call() {
    return {x.view(), shape.steps, mask.view(), parameters(), gates.view(), states.view()};
  }
  GruGradCall grad_call() {
    return {.x = x.view(),
            .steps = shape.steps,
            .mask = mask.view(),
            .parameters = parameters(),
            .states = states.view(),
            .gates = gates.view(),
            .d_states = with_states ? std::as_const(d_states).view() : Matrix<const float>(),
            .d_last = with_last ? std::as_const(d_last).view() : Matrix<const float>(),
            .d_kernel = d_kernel.view(),
            .d_recurrent = d_recurrent.view(),
            .d_bias = with_bias ? d_bias.view() : Matrix<float>(),
            .d_x = with_x ? d_x.view() : Matrix<float>()};
  }
  void run(const Context& ctx) {
    tested::gru(ctx, call());
    tested::gru_grad(ctx, grad_call());
  }

  GruInputs64 inputs() const {
    const auto doubles = [](const HostMatrix& m) {
      const std::vector<float> v = m.values();
      return std::vector<double>(v.begin(), v.end());
    };
    return {doubles(x), doubles(kernel), doubles(recurrent),
            with_bias ? doubles(bias) : std::vector<double>()};
  }
  std::vector<double> expected_states() const { return gru_oracle(shape, mask.view(), inputs()); }
  /// The scalar whose gradients the op gives.
  double loss(const GruInputs64& in) const {
    const std::vector<double> s = gru_oracle(shape, mask.view(), in);
    double sum = 0;
    for (std::int64_t i = 0; i < states.rows(); ++i) {
      const std::int64_t list = i / shape.steps;
      const bool last = i % shape.steps == shape.steps - 1;
      for (std::int64_t j = 0; j < shape.units; ++j) {
        const double h = s[static_cast<std::size_t>(i * shape.units + j)];
        if (with_states) sum += h * d_states(i, j);
        if (with_last && last) sum += h * d_last(list, j);
      }
    }
    return sum;
  }
  bool padding_intact() const {
    return gates.padding_intact() && states.padding_intact() && d_kernel.padding_intact() &&
           d_recurrent.padding_intact() && d_bias.padding_intact() && d_x.padding_intact();
  }
};

}  // namespace belfry::test
