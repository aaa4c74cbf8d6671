// SPDX-License-Identifier: Apache-2.0
// Equal ids, and marks of the pairs of units in which columns leave.
#include <bit>

#include "kernels/retrieval_softmax/softmax_prepare.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

/// to = from, zeros up to `count`.
__global__ void fill_bias(Vector<const float> from, std::int64_t count, float* to) {
  for (std::int64_t j = grid_thread(); j < count; j += grid_threads()) {
    to[j] = j < from.size ? from[j] : 0.0f;
  }
}

/// same[j] = the place in a hash table that all columns with j's id share: no sort, and though places depend
/// on who comes first, which columns are equal does not. `owners`: a power of two of them, all kNoId.
__global__ void number_ids(Vector<const std::int64_t> ids, std::uint32_t* owners,
                           std::uint32_t places_less_one, std::uint32_t* same, std::int64_t count) {
  for (std::int64_t j = grid_thread(); j < count; j += grid_threads()) {
    if (j >= ids.size) {
      same[j] = kNoId;
      continue;
    }
    std::uint64_t h = static_cast<std::uint64_t>(ids[j]) * 0x9e3779b97f4a7c15u;
    std::uint32_t place = static_cast<std::uint32_t>(h >> 32) & places_less_one;
    while (true) {
      const std::uint32_t owner = atomicCAS(&owners[place], kNoId, static_cast<std::uint32_t>(j));
      if (owner == kNoId || ids[owner] == ids[j]) break;
      place = (place + 1) & places_less_one;
    }
    same[j] = place;
  }
}

struct Marks {
  std::uint32_t* by_query;
  std::uint32_t* by_candidate;
  std::int64_t of_query, of_candidate;  // words

  __device__ void set(std::int64_t query_unit, std::int64_t unit) const {
    atomicOr(&by_query[query_unit * of_query + unit / 32], 1u << (unit % 32));
    atomicOr(&by_candidate[unit * of_candidate + query_unit / 32], 1u << (query_unit % 32));
  }
};

/// Marks pairs of units with equal ids: a warp compares a unit of queries with 32 units of candidates.
__global__ void mark_hits(const std::uint32_t* same, SlotMap slots, std::int64_t query_units,
                          std::int64_t candidate_units, Marks marks) {
  const int lane = lane_of_warp();
  for_rows(query_units * marks.of_query, [&](std::int64_t task) {
    const std::int64_t query_unit = task / marks.of_query, word = task % marks.of_query;
    const std::int64_t i = slots.query(query_unit, lane);
    // A value that no column has, where there is no query: places are fewer.
    const std::uint32_t own = i < slots.batch ? same[i] : kNoId - 1;
    std::uint32_t hits = 0;
    const std::int64_t units = candidate_units - word * 32;
    for (int u = 0; u < 32 && u < units; ++u) {
      const auto* columns = reinterpret_cast<const uint4*>(same + (word * 32 + u) * kUnit);
      bool hit = false;
#pragma unroll
      for (int c = 0; c < kUnit / 4; ++c) {
        const uint4 x = columns[c];
        hit |= (x.x == own) | (x.y == own) | (x.z == own) | (x.w == own);  // no branches
      }
      hits |= static_cast<std::uint32_t>(hit) << u;
    }
    for (int offset = 1; offset < kWarp; offset *= 2) {
      hits |= __shfl_xor_sync(kAllLanes, hits, offset);
    }
    if (hits >> lane & 1) marks.set(query_unit, word * 32 + lane);
  });
}

/// Marks pairs of units with masked columns: a warp a query.
__global__ void mark_masked(RowLists masked, SlotMap slots, Marks marks) {
  for_rows(slots.batch, [&](std::int64_t i) {
    const std::int64_t unit = slots.slot(i, 0) / kUnit;
    for (std::int64_t k = masked.offsets[i] + lane_of_warp(); k < masked.offsets[i + 1];
         k += kWarp) {
      marks.set(unit, masked.rows[k] / kUnit);
    }
  });
}

const float* copy_bias(const Context& ctx, Vector<const float> from, std::int64_t count) {
  float* to = ctx.arena().take<float>(count);
  launch_loop(ctx, count, fill_bias, from, count, to);
  return to;
}

namespace {

/// Numbers equal ids equally, and marks the pairs of units that have such.
const std::uint32_t* mark_equal_ids(const Context& ctx, Vector<const std::int64_t> ids,
                                    const SlotMap& slots, std::int64_t query_units,
                                    std::int64_t candidate_units, const Marks& marks) {
  const auto places =
      static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(ids.size) * 2));
  const std::int64_t count = candidate_units * kUnit;
  auto* owners = ctx.arena().take<std::uint32_t>(places);
  auto* same = ctx.arena().take<std::uint32_t>(count);
  simt::device_memset(owners, 0xff, places * 4, ctx.stream());
  launch_loop(ctx, count, number_ids, ids, owners, static_cast<std::uint32_t>(places - 1), same,
              count);
  launch_loop(ctx, query_units * marks.of_query * kWarp, mark_hits, same, slots, query_units,
              candidate_units, marks);
  return same;
}

}  // namespace

Leaving mark_leaving(const Context& ctx, const RetrievalSoftmaxOptions& options,
                     const SlotMap& slots, std::int64_t query_units, std::int64_t candidate_units) {
  Leaving leaving;
  leaving.masked = options.masked;
  const bool masks = options.masked.offsets != nullptr;
  if (options.candidate_ids.empty() && !masks) return leaving;
  leaving.marks_of_query = ceil_div(candidate_units, 32);
  leaving.marks_of_candidate = ceil_div(query_units, 32);
  const std::int64_t words = query_units * leaving.marks_of_query;
  const std::int64_t all = words + candidate_units * leaving.marks_of_candidate;
  auto* first = ctx.arena().take<std::uint32_t>(all);
  const Marks marks{first, first + words, leaving.marks_of_query, leaving.marks_of_candidate};
  simt::device_memset(first, 0, all * 4, ctx.stream());
  if (!options.candidate_ids.empty()) {
    leaving.same =
        mark_equal_ids(ctx, options.candidate_ids, slots, query_units, candidate_units, marks);
  }
  if (masks) {
    launch_loop(ctx, slots.batch * kWarp, mark_masked, options.masked, slots, marks);
  }
  leaving.by_query = marks.by_query;
  leaving.by_candidate = marks.by_candidate;
  return leaving;
}

}  // namespace belfry::cuda::retrieval_softmax_kernels
