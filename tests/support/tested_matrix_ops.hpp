// SPDX-License-Identifier: Apache-2.0
// matrix_ops on host memory, for the backend under test.
#pragma once

#include <deque>

#include "kernels/matrix_ops/matrix_ops.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void set_zero(const Context& ctx, std::span<const Matrix<float>> parts) {
  if (ctx.backend() == Backend::cpu) return belfry::set_zero(ctx, parts);
  std::deque<test::Twin<float>> twins;
  std::vector<Matrix<float>> views;
  for (const Matrix<float>& part : parts) {
    twins.emplace_back(ctx, part, test::Use::out);
    views.push_back(twins.back().matrix());
  }
  belfry::set_zero(ctx, views);
  for (auto& twin : twins) twin.fetch(ctx);
}

inline void copy_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to) {
  if (ctx.backend() == Backend::cpu) return belfry::copy_matrix(ctx, from, to);
  test::Twin in(ctx, from);
  test::Twin out(ctx, to, test::Use::out);
  belfry::copy_matrix(ctx, in.matrix(), out.matrix());
  out.fetch(ctx);
}

inline void add_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to) {
  if (ctx.backend() == Backend::cpu) return belfry::add_matrix(ctx, from, to);
  const bool in_place = from.data == to.data;
  test::Twin in(ctx, from);
  test::Twin out(ctx, to);
  belfry::add_matrix(ctx, in_place ? Matrix<const float>(out.matrix()) : in.matrix(), out.matrix());
  out.fetch(ctx);
}

inline void fill(const Context& ctx, Vector<float> out, float value) {
  if (ctx.backend() == Backend::cpu) return belfry::fill(ctx, out, value);
  test::Twin twin(ctx, out, test::Use::out);
  belfry::fill(ctx, twin.vector(), value);
  twin.fetch(ctx);
}

}  // namespace belfry::tested
