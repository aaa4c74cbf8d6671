// SPDX-License-Identifier: Apache-2.0
// batch_masks on host memory, for the backend under test.
#pragma once

#include "kernels/batch_masks/batch_masks.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/digest.hpp"

namespace belfry::tested {

inline void batch_masks(const Context& ctx, const BatchMaskInput& in, Vector<std::int64_t> offsets,
                        Vector<std::int32_t> columns, std::int64_t* needed = nullptr) {
  if (ctx.backend() == Backend::cpu) {
    return belfry::batch_masks(ctx, in, offsets, columns, needed);
  }
  test::Twin known_offsets(ctx, in.known_offsets);
  test::Twin known(ctx, in.known), users(ctx, in.users), items(ctx, in.items);
  test::Twin out(ctx, offsets, test::Use::out);
  test::Twin listed(ctx, columns);  // not all of it is written
  test::Twin total(ctx, Vector<std::int64_t>(needed, needed != nullptr ? 1 : 0), test::Use::out);
  belfry::batch_masks(ctx, {known_offsets.vector(), known.vector(), users.vector(), items.vector()},
                      out.vector(), listed.vector(), total.data());
  out.fetch(ctx);
  listed.fetch(ctx);
  total.fetch(ctx);
  const bool whole = !offsets.empty() && offsets[offsets.size - 1] <= columns.size;
  test::record_outputs(
      ctx, "batch_masks", offsets,
      Vector<const std::int32_t>(columns.data, whole ? offsets[offsets.size - 1] : 0));
}

}  // namespace belfry::tested
