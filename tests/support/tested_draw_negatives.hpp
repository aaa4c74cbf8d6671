// SPDX-License-Identifier: Apache-2.0
// draw_negatives on host memory, for the backend under test.
#pragma once

#include "kernels/draw_negatives/draw_negatives.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::tested {

inline void draw_negatives(const Context& ctx, std::int64_t rows, const AliasTable& popularity,
                           Vector<std::int32_t> out) {
  if (ctx.backend() == Backend::cpu) return belfry::draw_negatives(ctx, rows, popularity, out);
  test::Twin keep(ctx, popularity.keep);
  test::Twin alias(ctx, popularity.alias);
  test::Twin drawn(ctx, out, test::Use::out);
  belfry::draw_negatives(ctx, rows, {keep.vector(), alias.vector()}, drawn.vector());
  drawn.fetch(ctx);
  test::record_outputs(ctx, "draw_negatives", out);
}

}  // namespace belfry::tested
