// SPDX-License-Identifier: Apache-2.0
// clip_gradient on host memory, for the backend under test.
#pragma once

#include <deque>

#include "kernels/clip_gradient/clip_gradient.hpp"
#include "tests/support/device_twin.hpp"

namespace belfry::tested {

inline void clip_gradient(const Context& ctx, ClipKind kind, float limit,
                          std::span<const Matrix<float>> parts) {
  if (ctx.backend() == Backend::cpu) return belfry::clip_gradient(ctx, kind, limit, parts);
  std::deque<test::Twin<float>> twins;
  std::vector<Matrix<float>> views;
  for (const Matrix<float>& part : parts) {
    twins.emplace_back(ctx, part);
    views.push_back(twins.back().matrix());
  }
  belfry::clip_gradient(ctx, kind, limit, views);
  for (auto& twin : twins) twin.fetch(ctx);
}

}  // namespace belfry::tested
