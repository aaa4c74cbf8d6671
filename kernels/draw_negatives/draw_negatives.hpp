// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Walker's alias table over rows 0 .. n-1: row r is drawn with probability proportional to its
/// weight. Built on the host (Vose 1991), read by either backend. uniform = both vectors empty.
struct AliasTable {
  Vector<const float> keep;          ///< [n] probability of staying with the drawn slot
  Vector<const std::int32_t> alias;  ///< [n] row taken otherwise
};

/// Fills keep and alias from weights >= 0 with a positive, finite sum. A row of weight 0 is never
/// drawn. O(n); host only, allocates. Throws ContractError.
void build_alias_table(Vector<const double> weights, Vector<float> keep,
                       Vector<std::int32_t> alias);

/// Draw number i of a step: the maths of both backends.
BELFRY_HD inline std::int32_t draw_row(std::uint64_t seed, std::int64_t step, std::int64_t i,
                                       std::int64_t rows, const AliasTable& popularity) {
  const Philox4 words =
      random_words(seed, RandomStream::negatives, static_cast<std::uint64_t>(step),
                   static_cast<std::uint64_t>(i));
  const std::int64_t slot = static_cast<std::int64_t>(
      uniform_below(words.v[0], words.v[1], static_cast<std::uint64_t>(rows)));
  if (popularity.keep.empty() || uniform_float(words.v[2]) < popularity.keep[slot]) {
    return static_cast<std::int32_t>(slot);
  }
  return popularity.alias[slot];
}

namespace cpu {
void draw_negatives(const Context& ctx, std::int64_t rows, const AliasTable& popularity,
                    Vector<std::int32_t> out);
}
namespace cuda {
void draw_negatives(const Context& ctx, std::int64_t rows, const AliasTable& popularity,
                    Vector<std::int32_t> out);
}

/// Draws with replacement from rows 0 .. rows-1, uniformly or by an alias table: draw i of step t is
/// a pure function of (seed, t, i), taken from ctx.state().
/// Shapes       out [n] i32; popularity empty (uniform) or [rows]
/// Empty        n = 0: no-op
/// Cost         one Philox block a draw
/// Scratch      none
/// Numerics     uniform: bias below rows / 2^64; popularity: weights rounded to 24 bits
/// Determinism  bitwise_cpu_cuda
inline void draw_negatives(const Context& ctx, std::int64_t rows, const AliasTable& popularity,
                           Vector<std::int32_t> out) {
  require(out.empty() || rows >= 1, "draw_negatives: there is no row to draw");
  require(rows <= INT32_MAX, "draw_negatives: row numbers are int32");
  require(popularity.keep.size == popularity.alias.size &&
              (popularity.keep.empty() || popularity.keep.size == rows),
          "draw_negatives: the alias table must have one entry a row");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::draw_negatives(ctx, rows, popularity, out);
    case Backend::cuda:
      if constexpr (kHasCuda::draw_negatives) {
        return cuda::draw_negatives(ctx, rows, popularity, out);
      }
  }
  throw_no_backend("draw_negatives");
}

}  // namespace belfry
