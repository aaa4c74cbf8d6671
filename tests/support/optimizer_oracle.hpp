// SPDX-License-Identifier: Apache-2.0
// The rules of optimizer_step in float64, from the formulas of its contract.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/support/optimizer_cases.hpp"

namespace belfry::test {

/// What a rule needs besides its options.
struct OracleStep {
  double lr, t;
  double factor = 1;  ///< clippy_adagrad
};

/// One element of the rules that treat each alone. slot[s]: its slots.
inline void oracle_element(const OptimizerOptions& o, const OracleStep& step, double g, double& w,
                           double* const (&slot)[3]) {
  const double lr = step.lr, eps = o.epsilon, b1 = o.beta_1, b2 = o.beta_2, rho = o.rho;
  const bool inside = o.epsilon_place == EpsilonPlace::inside_root;
  const auto root = [&](double a) { return inside ? std::sqrt(a + eps) : std::sqrt(a) + eps; };
  switch (o.kind) {
    case OptimizerKind::sgd:
      if (o.momentum == 0) {
        w -= lr * g;
      } else {
        double& v = *slot[0];
        v = o.momentum * v - lr * g;
        w += o.nesterov ? o.momentum * v - lr * g : v;
      }
      break;
    case OptimizerKind::adagrad:
      *slot[0] += g * g;
      w -= lr * g / root(*slot[0]);
      break;
    case OptimizerKind::rowwise_adagrad:
      w -= lr * g / root(*slot[0]);
      break;
    case OptimizerKind::adam: {
      double &m = *slot[0], &v = *slot[1];
      m = b1 * m + (1 - b1) * g;
      v = b2 * v + (1 - b2) * g * g;
      double top = v;
      if (o.amsgrad) top = *slot[2] = std::max(*slot[2], v);
      w -= lr * o.weight_decay * w;
      w -= lr * std::sqrt(1 - std::pow(b2, step.t)) / (1 - std::pow(b1, step.t)) * m /
           (std::sqrt(top) + eps);
      break;
    }
    case OptimizerKind::rmsprop: {
      double d = *slot[0] = rho * *slot[0] + (1 - rho) * g * g;
      if (o.centered) {
        *slot[1] = rho * *slot[1] + (1 - rho) * g;
        d -= *slot[1] * *slot[1];
      }
      const double move = lr * g / root(d);
      if (o.momentum == 0) {
        w -= move;
      } else {
        double& u = *slot[o.centered ? 2 : 1];
        u = o.momentum * u + move;
        w -= u;
      }
      break;
    }
    case OptimizerKind::ftrl: {
      double &n = *slot[0], &z = *slot[1];
      const double power = -o.learning_rate_power, l1 = o.l1;
      const double grown = n + g * g, top = std::pow(grown, power);
      z += g + 2 * o.l2_shrinkage * w - (top - std::pow(n, power)) / lr * w;
      n = grown;
      const double l2 = o.l2 + o.beta / (2 * lr);
      w = (std::clamp(z, -l1, l1) - z) / (top / lr + 2 * l2);
      break;
    }
    case OptimizerKind::clippy_adagrad: {
      double& a = *slot[0];
      if (o.use_standard_accumulator_update) a += g * g;
      w -= step.factor * lr * g / std::sqrt(a + eps);
      const double seen = o.clip_accumulator_update ? step.factor * g : g;
      if (!o.use_standard_accumulator_update) a += seen * seen;
      break;
    }
  }
}

/// ClippyAdagrad's factor for the gradient g of all of a parameter.
inline double oracle_clipping_factor(const Parameter& p, const std::vector<double>& g, double lr) {
  const OptimizerOptions& o = p.options;
  double factor = 1;
  for (std::size_t i = 0; i < g.size(); ++i) {
    const double a = p.slot64[0][i] + (o.use_standard_accumulator_update ? g[i] * g[i] : 0);
    const double scale = 1 / std::sqrt(a + o.epsilon), move = lr * g[i] * scale;
    const double limit = std::abs(p.w64[i]) * o.variable_relative_threshold +
                         scale * o.accumulator_relative_threshold + o.absolute_threshold;
    if (move != 0) factor = std::min(factor, limit / std::abs(move));
  }
  return factor;
}

/// One update of p.w64 and p.slot64. `g` is dense; `touched`: rows that a lazy update sees.
inline void oracle_step(Parameter& p, const std::vector<double>& g, std::int64_t step, double lr,
                        const std::vector<bool>& touched) {
  const OptimizerOptions& o = p.options;
  const std::int64_t width = p.w.cols();
  OracleStep constants{lr, static_cast<double>(step + 1)};
  const bool rowwise = o.kind == OptimizerKind::rowwise_adagrad;
  if (o.kind == OptimizerKind::clippy_adagrad) {
    constants.factor = oracle_clipping_factor(p, g, lr);
  }
  for (std::int64_t row = 0; row < p.w.rows(); ++row) {
    if (!touched[row]) continue;
    double mean = 0;
    for (std::int64_t d = 0; d < width; ++d)
      mean += g[row * width + d] * g[row * width + d] / static_cast<double>(width);
    if (rowwise) p.slot64[0][row] += mean;
    for (std::int64_t i = row * width; i < (row + 1) * width; ++i) {
      double* slot[3] = {};
      for (int s = 0; s < slot_count(o); ++s) slot[s] = &p.slot64[s][rowwise ? row : i];
      oracle_element(o, constants, g[i], p.w64[i], {slot[0], slot[1], slot[2]});
    }
  }
}

}  // namespace belfry::test
