// SPDX-License-Identifier: Apache-2.0
#include "kernels/gather/gather.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"

namespace belfry::cpu {

template <class T, class I>
void gather(const Context& ctx, Vector<const T> source, Vector<const I> index, Vector<T> out) {
  constexpr std::int64_t kTile = 8192;
  parallel_for(ctx, (out.size + kTile - 1) / kTile, [&](std::int64_t tile, int) {
    const std::int64_t end = std::min(out.size, (tile + 1) * kTile);
    bool outside = false;
    for (std::int64_t i = tile * kTile; i < end; ++i) {
      const auto at = static_cast<std::int64_t>(index[i]);
      const bool inside = at >= 0 && at < source.size;
      out[i] = inside ? source[at] : T{0};
      outside |= !inside;
    }
    if (outside) ctx.raise(kStatusIdOutOfRange);
  });
}

#define BELFRY_GATHER(T)                                                                        \
  template void gather(const Context&, Vector<const T>, Vector<const std::int32_t>, Vector<T>); \
  template void gather(const Context&, Vector<const T>, Vector<const std::int64_t>, Vector<T>)
BELFRY_GATHER(std::int32_t);
BELFRY_GATHER(std::int64_t);
BELFRY_GATHER(float);

}  // namespace belfry::cpu
