// SPDX-License-Identifier: Apache-2.0
// optimizer_step on host memory, for the backend under test.
#pragma once

#include "kernels/optimizer_step/optimizer_step.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::test {

/// Device copies of a parameter's slots.
class SlotsTwin {
 public:
  SlotsTwin(const Context& ctx, const OptimizerSlots& host)
      : first_(ctx, host.first),
        second_(ctx, host.second),
        third_(ctx, host.third),
        factor_(ctx, Vector<float>(host.clipping_factor, host.clipping_factor ? 1 : 0)) {}
  OptimizerSlots views() {
    return {first_.matrix(), second_.matrix(), third_.matrix(), factor_.data()};
  }
  void fetch(const Context& ctx) {
    first_.fetch(ctx);
    second_.fetch(ctx);
    third_.fetch(ctx);
    factor_.fetch(ctx);
  }

 private:
  Twin<float> first_, second_, third_, factor_;
};

/// Adds an updated parameter to the test's digests. Adam's rate, and FTRL's but for one power, come of powers in
/// double, which libraries round each in its way.
template <class T>
void record_update(const Context& ctx, const OptimizerOptions& options, Matrix<T> parameter) {
  const bool powers = options.kind == OptimizerKind::adam ||
                      (options.kind == OptimizerKind::ftrl && options.learning_rate_power != -0.5f);
  if (!powers) record_outputs(ctx, "update", parameter);
}

}  // namespace belfry::test

namespace belfry::tested {

inline void optimizer_step(const Context& ctx, const OptimizerOptions& options,
                           Matrix<float> parameter, Matrix<const float> gradient,
                           const OptimizerSlots& slots) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::optimizer_step(ctx, options, parameter, gradient, slots);
  }
  test::Twin w(ctx, parameter);
  test::Twin g(ctx, gradient);
  test::SlotsTwin s(ctx, slots);
  belfry::optimizer_step(ctx, options, w.matrix(), g.matrix(), s.views());
  w.fetch(ctx);
  s.fetch(ctx);
  test::record_update(ctx, options, parameter);
}

template <class T>
void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<T> parameter,
                    const RowGradient& gradient, const OptimizerSlots& slots) {
  const bool refused = gradient.n == nullptr || gradient.capacity > gradient.values.rows;
  if (ctx.backend() == Backend::cpu || refused) {
    return belfry::optimizer_step(ctx, options, parameter, gradient, slots);
  }
  test::Twin w(ctx, parameter);
  test::Twin rows(ctx, Vector<std::int32_t>(gradient.rows, gradient.capacity), test::Use::in);
  test::Twin values(ctx, gradient.values, test::Use::in);
  test::Twin n(ctx, Vector<std::int64_t>(gradient.n, 1), test::Use::in);
  test::SlotsTwin s(ctx, slots);
  belfry::optimizer_step(ctx, options, w.matrix(),
                         {rows.data(), values.matrix(), n.data(), gradient.capacity}, s.views());
  w.fetch(ctx);
  s.fetch(ctx);
  test::record_update(ctx, options, parameter);
}

}  // namespace belfry::tested
