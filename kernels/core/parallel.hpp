// SPDX-License-Identifier: Apache-2.0
// parallel_for: how CPU ops use threads. Results must not depend on the number of threads, so tiles
// are cut by shape alone, each tile writes its own outputs, and sums over tiles run in index order.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

#include "kernels/core/context.hpp"

namespace belfry {

/// A non-owning reference to a callable void(int64 tile, int worker).
class TileFunction {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, TileFunction>)
      TileFunction(F&& f)  // NOLINT: implicit on purpose
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* o, std::int64_t tile, int worker) {
          (*static_cast<std::remove_reference_t<F>*>(o))(tile, worker);
        }) {}
  void operator()(std::int64_t tile, int worker) const { call_(object_, tile, worker); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, int);
};

/// Runs f(tile, worker) for tile = 0 .. tiles-1 on the context's threads and waits. `worker` is in
/// [0, ctx.threads()) and names a scratch slot that no other tile uses at the same time. Exceptions
/// of f reach the caller. One thread runs the tiles in order on the calling thread.
void parallel_for(const Context& ctx, std::int64_t tiles, TileFunction f);

}  // namespace belfry
