// SPDX-License-Identifier: Apache-2.0
// gather on host memory, for the backend under test.
#pragma once

#include "kernels/gather/gather.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::tested {

template <class T, class I>
void gather(const Context& ctx, Vector<const std::type_identity_t<T>> source, Vector<I> index,
            Vector<T> out) {
  if (ctx.backend() == Backend::cpu) return belfry::gather(ctx, source, index, out);
  test::Twin from(ctx, source);
  test::Twin at(ctx, index);
  test::Twin to(ctx, out, test::Use::out);
  belfry::gather(ctx, from.vector(), at.vector(), to.vector());
  to.fetch(ctx);
  test::record_outputs(ctx, "gather", out);
}

}  // namespace belfry::tested
