// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <type_traits>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

template <class T>
concept Gathered =
    std::same_as<T, std::int32_t> || std::same_as<T, std::int64_t> || std::same_as<T, float>;
template <class I>
concept GatherIndex = std::same_as<std::remove_const_t<I>, std::int32_t> ||
    std::same_as<std::remove_const_t<I>, std::int64_t>;

// Instantiated for every Gathered T with index int32 and int64.
namespace cpu {
template <class T, class I>
void gather(const Context& ctx, Vector<const T> source, Vector<const I> index, Vector<T> out);
}
namespace cuda {
template <class T, class I>
void gather(const Context& ctx, Vector<const T> source, Vector<const I> index, Vector<T> out);
}

/// Elements by number:  out_i = source[index_i]
/// Shapes       source [n], out [m] of i32, i64 or f32; index [m] i32 or i64
/// Empty        m = 0: no-op; n = 0: every index is outside
/// Aliasing     no overlap
/// Cost         one read of index, one scattered read of source, one write
/// Scratch      none
/// Numerics     exact
/// Determinism  bitwise_cpu_cuda
/// Faults       an index outside [0, n) gives 0 and raises kStatusIdOutOfRange
template <Gathered T, GatherIndex I>
void gather(const Context& ctx, Vector<const std::type_identity_t<T>> source, Vector<I> index,
            Vector<T> out) {
  require(index.size == out.size, "gather: one index an output is needed");
  const Vector<const std::remove_const_t<I>> at(index.data, index.size);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::gather<T, std::remove_const_t<I>>(ctx, source, at, out);
    case Backend::cuda:
      if constexpr (kHasCuda::gather) {
        return cuda::gather<T, std::remove_const_t<I>>(ctx, source, at, out);
      }
  }
  throw_no_backend("gather");
}

}  // namespace belfry
