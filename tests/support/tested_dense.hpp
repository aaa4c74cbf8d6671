// SPDX-License-Identifier: Apache-2.0
// dense and dense_grad on host memory, for the backend under test.
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "kernels/dense/dense.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void dense(const Context& ctx, std::span<const DenseCall> calls) {
  if (ctx.backend() == Backend::cpu) return belfry::dense(ctx, calls);
  std::deque<test::Twin<const float>> inputs;
  std::deque<test::Twin<float>> outputs;
  const auto input = [&](auto view) -> auto& {
    return inputs.emplace_back(ctx, view);
  };
  const auto output = [&](auto view) {
    return outputs.emplace_back(ctx, view, test::Use::out).matrix();
  };
  std::vector<DenseCall> device;
  for (DenseCall c : calls) {
    c.x = input(c.x).matrix();
    c.kernel = input(c.kernel).matrix();
    c.bias = input(c.bias).vector();
    c.z = output(c.z);
    c.y = output(c.y);
    device.push_back(c);
  }
  belfry::dense(ctx, device);
  for (auto& twin : outputs) twin.fetch(ctx);
}

inline void dense(const Context& ctx, const DenseCall& call) {
  tested::dense(ctx, std::span(&call, 1));
}

inline void dense_grad(const Context& ctx, std::span<const DenseGradCall> calls) {
  if (ctx.backend() == Backend::cpu) return belfry::dense_grad(ctx, calls);
  std::deque<test::Twin<const float>> inputs;
  std::deque<test::Twin<float>> outputs;
  const auto input = [&](auto view) { return inputs.emplace_back(ctx, view).matrix(); };
  const auto output = [&](auto view, test::Use use) -> auto& {
    return outputs.emplace_back(ctx, view, use);
  };
  std::vector<DenseGradCall> device;
  for (DenseGradCall c : calls) {
    c.x = input(c.x);
    c.kernel = input(c.kernel);
    c.z = input(c.z);
    c.y = input(c.y);
    c.d_y = output(c.d_y, test::Use::in_out).matrix();
    c.d_kernel = output(c.d_kernel, test::Use::out).matrix();
    c.d_bias = output(c.d_bias, test::Use::out).vector();
    c.d_x = output(c.d_x, test::Use::out).matrix();
    device.push_back(c);
  }
  belfry::dense_grad(ctx, device);
  for (auto& twin : outputs) twin.fetch(ctx);
}

inline void dense_grad(const Context& ctx, const DenseGradCall& call) {
  tested::dense_grad(ctx, std::span(&call, 1));
}

}  // namespace belfry::tested
