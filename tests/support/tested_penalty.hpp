// SPDX-License-Identifier: Apache-2.0
// penalty, penalty_of_rows and add_rows on host memory, for the backend under test.
#pragma once

#include "kernels/penalty/penalty.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::test {

/// Device copies of a gradient of listed rows.
class RowGradientTwin {
 public:
  RowGradientTwin(const Context& ctx, const RowGradient& host)
      : rows_(ctx, Vector<std::int32_t>(host.rows, host.capacity), Use::in),
        values_(ctx, host.values),
        n_(ctx, Vector<std::int64_t>(host.n, 1), Use::in),
        capacity_(host.capacity) {}
  RowGradient view() { return {rows_.data(), values_.matrix(), n_.data(), capacity_}; }
  void fetch(const Context& ctx) { values_.fetch(ctx); }

 private:
  Twin<std::int32_t> rows_;
  Twin<float> values_;
  Twin<std::int64_t> n_;
  std::int64_t capacity_;
};

}  // namespace belfry::test

namespace belfry::tested {

template <class T>
void penalty(const Context& ctx, const Penalty& factors, Matrix<T> parameter, Matrix<float> d_w,
             double* loss) {
  const Matrix<const T> w(parameter);
  if (ctx.backend() == Backend::cpu) return belfry::penalty(ctx, factors, w, d_w, loss);
  test::Twin in(ctx, w);
  test::Twin out(ctx, d_w);
  test::Twin sum(ctx, Vector<double>(loss, loss == nullptr ? 0 : 1));
  belfry::penalty(ctx, factors, in.matrix(), out.matrix(), sum.data());
  out.fetch(ctx);
  sum.fetch(ctx);
  test::record_outputs(ctx, "penalty", d_w);
}

template <class T>
void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<T> parameter,
                     const RowGradient& gradient, double* loss) {
  const Matrix<const T> table(parameter);
  if (ctx.backend() == Backend::cpu) {
    return belfry::penalty_of_rows(ctx, factors, table, gradient, loss);
  }
  test::Twin in(ctx, table);
  test::RowGradientTwin out(ctx, gradient);
  test::Twin sum(ctx, Vector<double>(loss, loss == nullptr ? 0 : 1));
  belfry::penalty_of_rows(ctx, factors, in.matrix(), out.view(), sum.data());
  out.fetch(ctx);
  sum.fetch(ctx);
  test::record_outputs(ctx, "penalty_of_rows", gradient.values.slice(0, *gradient.n));
}

inline void add_rows(const Context& ctx, const RowGradient& from, Matrix<float> to) {
  if (ctx.backend() == Backend::cpu) return belfry::add_rows(ctx, from, to);
  test::RowGradientTwin in(ctx, from);
  test::Twin out(ctx, to);
  belfry::add_rows(ctx, in.view(), out.matrix());
  out.fetch(ctx);
  test::record_outputs(ctx, "add_rows", to);
}

}  // namespace belfry::tested
