// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// A keyed bijection of [0, n): position -> row. A balanced Feistel network of 6 rounds over the
/// smallest even-bit power of two >= n, walked until it lands below n (cycle walking; Black and
/// Rogaway 2002), so that no shuffle buffer and no sort is needed and any position can be resumed.
struct Permutation {
  std::uint64_t seed = 0;
  std::uint64_t epoch = 0;
  std::int64_t n = 0;
  int half_bits = 1;  ///< bits of each Feistel half
};

/// n in [0, 2^62].
Permutation make_permutation(std::uint64_t seed, std::uint64_t epoch, std::int64_t n);

/// The row at `position` in [0, n).
BELFRY_HD std::int64_t permuted(const Permutation& p, std::int64_t position);

namespace cpu {
void shuffle(const Context& ctx, const Permutation& p, std::int64_t first, Vector<std::int64_t> out);
}
namespace cuda {
void shuffle(const Context& ctx, const Permutation& p, std::int64_t first, Vector<std::int64_t> out);
}

/// Rows at positions first .. first + out.size - 1:  out_i = permuted(p, first + i)
/// Shapes       out [m] i64, first + m <= n
/// Empty        m = 0: no-op
/// Cost         at most 4 expected walks of 6 Philox-keyed rounds a row
/// Scratch      none
/// Determinism  bitwise_cpu_cuda: a pure function of (seed, epoch, n, position)
inline void shuffle(const Context& ctx, const Permutation& p, std::int64_t first,
                    Vector<std::int64_t> out) {
  require(first >= 0 && out.size <= p.n - first, "shuffle: positions lie outside the permutation");
  switch (ctx.backend()) {
    case Backend::cpu: return cpu::shuffle(ctx, p, first, out);
    case Backend::cuda:
      if constexpr (kHasCuda::shuffle) return cuda::shuffle(ctx, p, first, out);
  }
  throw_no_backend("shuffle");
}

}  // namespace belfry
