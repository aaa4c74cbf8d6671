// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// What batch_masks reads, in the backend's memory.
struct BatchMaskInput {
  Vector<const std::int64_t> known_offsets;  ///< [U + 1] of one list of items a user
  Vector<const std::int32_t> known;          ///< the lists: items >= 0, without repeats in a list
  Vector<const std::int32_t> users;          ///< [B] the list of each batch row
  Vector<const std::int32_t> items;  ///< [C] the item of each batch column; row i's own is items[i]
};

namespace cpu {
void batch_masks(const Context& ctx, const BatchMaskInput& in, Vector<std::int64_t> offsets,
                 Vector<std::int32_t> columns, std::int64_t* needed);
}
namespace cuda {
void batch_masks(const Context& ctx, const BatchMaskInput& in, Vector<std::int64_t> offsets,
                 Vector<std::int32_t> columns, std::int64_t* needed);
}

/// The columns to leave out of each row's softmax: those that hold another item of the row's list.
///   row i: all c, ascending, with items_c in known(users_i) and items_c != items_i
/// as ragged lists: columns[offsets_i] .. columns[offsets_(i+1) - 1].
/// Shapes       offsets [B+1] i64; columns [capacity] i32; needed: one i64 in the backend's memory,
///              or null; C >= B
/// Empty        B = 0: offsets_0 = 0
/// Aliasing     no overlap
/// Cost         a hash table of the columns; twice the lengths of the rows' lists, then the results
/// Scratch      12 bytes a slot of at least 2 C slots (a power of two), 4 bytes a column; on the
///              CPU 4 bytes more a column and thread
/// Numerics     exact
/// Determinism  bitwise_cpu_cuda
/// Faults       more than `capacity` entries: offsets are cut to capacity, the entries before it
///              are right; *needed tells how many there are, without `needed` kStatusOverflow is
///              raised. A user outside [0, U) has no list, an item < 0 matches nothing; both raise
///              kStatusIdOutOfRange.
inline void batch_masks(const Context& ctx, const BatchMaskInput& in, Vector<std::int64_t> offsets,
                        Vector<std::int32_t> columns, std::int64_t* needed = nullptr) {
  require(in.known_offsets.size >= 1, "batch_masks: offsets of the known lists are needed");
  require(in.items.size >= in.users.size && in.items.size <= INT32_MAX / 4,
          "batch_masks: every row needs a column of its own, and columns are int32");
  require(offsets.size == in.users.size + 1,
          "batch_masks: offsets must have one entry more than rows");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::batch_masks(ctx, in, offsets, columns, needed);
    case Backend::cuda:
      if constexpr (kHasCuda::batch_masks) {
        return cuda::batch_masks(ctx, in, offsets, columns, needed);
      }
  }
  throw_no_backend("batch_masks");
}

}  // namespace belfry
