// SPDX-License-Identifier: Apache-2.0
// One sort for all steps, by (step, row); positions go along as values, and a stable sort keeps them in order.
// Then each place knows from the number of row heads before it which distinct row it belongs to.
#include <algorithm>
#include <bit>

#include "kernels/core/device_algorithms.hpp"
#include "kernels/core/row_lanes.cuh"
#include "kernels/row_plan/row_plan.hpp"

namespace belfry::cuda {

namespace row_plan_kernels {

constexpr int kThreads = 256;
constexpr int kBagLanes = 8;
constexpr int kUsesPerLaunch = 32;  // task structures travel as kernel arguments, 4 KiB at most
constexpr int kPlansPerLaunch = 32;

struct UseTask {
  Ragged ids;
  Pooling pooling;
  std::uint32_t position;  ///< of its first id in the step
  std::uint32_t bag;       ///< of its first bag in the step
  std::uint32_t step;
  std::int64_t place;  ///< of its first id among all steps
};
struct FillTask {
  UseTask uses[kUsesPerLaunch];
};

/// Rows are the low bits of a key; row `outside` stands for what is left out.
struct KeyForm {
  int row_bits;
  std::uint32_t outside;
};

/// Of each id, before the sort. Bags and scales where they are not plain.
template <class Key>
struct Unsorted {
  Key* keys;
  std::uint32_t* positions;
  std::uint32_t* bags;
  float* scales;
};

template <class Key>
__device__ __forceinline__ void put(const UseTask& use, const KeyForm& form,
                                    const Unsorted<Key>& out, std::int64_t j, std::uint32_t row) {
  out.keys[use.place + j] = (static_cast<Key>(use.step) << form.row_bits) | row;
  out.positions[use.place + j] = use.position + static_cast<std::uint32_t>(j);
}

/// Position j in bag b. Returns whether the id lies in the table.
template <class Key>
__device__ __forceinline__ bool put_id(const UseTask& use, const KeyForm& form,
                                       const Unsorted<Key>& out, std::int64_t j, std::int64_t b,
                                       float bag_factor) {
  const std::uint32_t id = static_cast<std::uint32_t>(use.ids.ids[j]);  // negative: very large
  const bool good = id < form.outside;
  put(use, form, out, j, good ? id : form.outside);
  if (out.bags != nullptr) out.bags[use.place + j] = use.bag + static_cast<std::uint32_t>(b);
  if (out.scales != nullptr) {
    const float weight = use.ids.weights != nullptr ? use.ids.weights[j] : 1.0f;
    out.scales[use.place + j] = bag_factor * weight;
  }
  return good;
}

/// One id a bag: a thread an id. Bags: a few lanes a bag, and one bag more for ids outside of all bags.
template <class Key>
__global__ void __launch_bounds__(kThreads)
    fill_keys(const __grid_constant__ FillTask task, KeyForm form, Unsorted<Key> out,
              StepState* state) {
  const UseTask& use = task.uses[blockIdx.y];
  bool good = true;
  if (use.ids.offsets == nullptr) {
    for (std::int64_t j = grid_thread(); j < use.ids.nnz; j += grid_threads()) {
      good &= put_id(use, form, out, j, j, bag_scale(use.ids, use.pooling, j));
    }
  } else {
    const RowLanes at = row_lanes(kBagLanes);
    const std::int64_t bags = use.ids.bags;
    for (std::int64_t b = at.group; b <= bags; b += at.groups) {
      if (b < bags) {
        const float factor = bag_scale(use.ids, use.pooling, b);
        const std::int64_t end = use.ids.offsets[b + 1];
        for (std::int64_t j = use.ids.offsets[b] + at.lane; j < end; j += kBagLanes) {
          good &= put_id(use, form, out, j, b, factor);
        }
      } else {
        const std::int64_t first = use.ids.offsets[0];
        for (std::int64_t j = at.lane; j < first; j += kBagLanes) {
          put(use, form, out, j, form.outside);
        }
        for (std::int64_t j = use.ids.offsets[bags] + at.lane; j < use.ids.nnz; j += kBagLanes) {
          put(use, form, out, j, form.outside);
        }
      }
    }
  }
  if (!good) raise_status(state, kStatusIdOutOfRange);
}

template <class Key>
struct Sorted {
  const Key* keys;
  const std::uint32_t* positions;
  KeyForm form;
  __device__ std::uint32_t row(std::int64_t i) const {
    return static_cast<std::uint32_t>(keys[i] & ((Key{1} << form.row_bits) - 1));
  }
  __device__ bool outside(std::int64_t i) const { return row(i) == form.outside; }
};

/// heads[i] = 1 where a row of the table begins.
template <class Key>
__global__ void __launch_bounds__(kThreads)
    mark_heads(Sorted<Key> sorted, std::int64_t n, std::uint32_t* heads) {
  for (std::int64_t i = grid_thread(); i < n; i += grid_threads()) {
    const bool begins = i == 0 || sorted.keys[i] != sorted.keys[i - 1];
    heads[i] = begins && !sorted.outside(i) ? 1u : 0u;
  }
}

struct PlanTask {
  RowPlan plan;
  std::int64_t place;  ///< of its first id among all steps
};
struct WriteTask {
  PlanTask plans[kPlansPerLaunch];
};

/// The row whose later chunk begins in the block of place i, i % 64 == 0 (RowPlan::chunk_rows).
template <class Key>
__device__ std::uint32_t chunk_row(const Sorted<Key>& sorted, const PlanTask& task, std::int64_t i,
                                   std::uint32_t row_number) {
  const Key* keys = sorted.keys + task.place;
  const std::int64_t first = lower_bound(keys, i, keys[i]);
  const std::int64_t begin = chunk_begin(first, i / kEmbeddingGradChunk);
  const bool goes_on = begin > first && begin < task.plan.nnz && keys[begin] == keys[i];
  return goes_on ? row_number : kNoChunk;
}

/// A thread a place of a step, and one behind the last. before[i]: heads before place i of all steps.
template <class Key>
__global__ void __launch_bounds__(kThreads)
    write_plans(const __grid_constant__ WriteTask tasks, Sorted<Key> sorted,
                const std::uint32_t* heads, const std::uint32_t* before, const std::uint32_t* bags,
                const float* scales) {
  const PlanTask& task = tasks.plans[blockIdx.y];
  const RowPlan& plan = task.plan;
  for (std::int64_t i = grid_thread(); i <= plan.nnz; i += grid_threads()) {
    const std::int64_t place = task.place + i;
    const bool inside = i < plan.nnz && !sorted.outside(place);
    std::uint32_t chunk = kNoChunk;
    if (inside) {
      const std::uint32_t position = sorted.positions[place];
      plan.bags[i] = bags != nullptr ? bags[task.place + position] : position;
      if (plan.scales != nullptr) {
        plan.scales[i] = scales != nullptr ? scales[task.place + position] : 1.0f;
      }
      const std::uint32_t rows = before[place] + heads[place] - before[task.place];
      if (heads[place] != 0) {
        plan.rows[rows - 1] = static_cast<std::int32_t>(sorted.row(place));
        plan.begin[rows - 1] = static_cast<std::uint32_t>(i);
      }
      if (i % kEmbeddingGradChunk == 0) chunk = chunk_row(sorted, task, i, rows - 1);
    } else if (i == 0 || !sorted.outside(place - 1)) {  // the first place behind the table's rows
      const std::uint32_t rows =
          i == 0 ? 0 : before[place - 1] + heads[place - 1] - before[task.place];
      *plan.n = rows;
      plan.begin[rows] = static_cast<std::uint32_t>(i);
    }
    if (i % kEmbeddingGradChunk == 0) plan.chunk_rows[i / kEmbeddingGradChunk] = chunk;
  }
}

}  // namespace row_plan_kernels

namespace {

using namespace row_plan_kernels;

/// What the host knows of all steps.
struct Steps {
  std::span<const TableIds> uses;
  std::span<const RowPlan> plans;
  std::int64_t total = 0;  ///< ids
  bool bags = false, scales = false;
  KeyForm form{};
  int key_bits = 0;
};

Steps describe(std::span<const TableIds> uses, std::int64_t table_rows,
               std::span<const RowPlan> plans) {
  Steps steps{.uses = uses, .plans = plans};
  for (const RowPlan& plan : plans) steps.total += plan.nnz;
  for (const TableIds& use : uses) {
    steps.bags = steps.bags || use.ids.offsets != nullptr;
    steps.scales = steps.scales || has_scales(use);
  }
  const auto outside = static_cast<std::uint32_t>(table_rows);
  steps.form = {std::max(1, static_cast<int>(std::bit_width(outside))), outside};
  steps.key_bits = steps.form.row_bits + static_cast<int>(std::bit_width(plans.size() - 1));
  return steps;
}

template <class Key>
void queue_fill(const Context& ctx, const Steps& steps, const Unsorted<Key>& out) {
  const std::size_t per_step = steps.uses.size() / steps.plans.size();
  FillTask task{};
  unsigned filled = 0;
  std::int64_t most = 0;
  const auto flush = [&] {
    if (filled == 0) return;
    simt::launch(
        {.grid = {grid_for(most, kThreads), filled}, .block = kThreads, .stream = &ctx.stream()},
        fill_keys<Key>, task, steps.form, out, ctx.state());
    filled = 0;
    most = 0;
  };
  std::int64_t place = 0;
  for (std::size_t t = 0; t < steps.plans.size(); ++t) {
    std::int64_t position = 0, bag = 0;
    for (const TableIds& use : steps.uses.subspan(t * per_step, per_step)) {
      if (use.ids.nnz == 0) {
        bag += use.ids.bags;
        continue;
      }
      task.uses[filled++] = {use.ids,
                             use.pooling,
                             static_cast<std::uint32_t>(position),
                             static_cast<std::uint32_t>(bag),
                             static_cast<std::uint32_t>(t),
                             place};
      most =
          std::max(most, use.ids.offsets != nullptr ? (use.ids.bags + 1) * kBagLanes : use.ids.nnz);
      position += use.ids.nnz;
      bag += use.ids.bags;
      place += use.ids.nnz;
      if (filled == kUsesPerLaunch) flush();
    }
  }
  flush();
}

template <class Key>
void queue_write(const Context& ctx, const Steps& steps, const Sorted<Key>& sorted,
                 const std::uint32_t* heads, const std::uint32_t* before, const std::uint32_t* bags,
                 const float* scales) {
  std::int64_t place = 0;
  for (std::size_t first = 0; first < steps.plans.size(); first += kPlansPerLaunch) {
    WriteTask task{};
    const auto here = steps.plans.subspan(
        first, std::min<std::size_t>(kPlansPerLaunch, steps.plans.size() - first));
    std::int64_t most = 0;
    for (std::size_t t = 0; t < here.size(); ++t) {
      task.plans[t] = {here[t], place};
      place += here[t].nnz;
      most = std::max(most, here[t].nnz + 1);
    }
    simt::launch({.grid = {grid_for(most, kThreads), static_cast<unsigned>(here.size())},
                  .block = kThreads,
                  .stream = &ctx.stream()},
                 write_plans<Key>, task, sorted, heads, before, bags, scales);
  }
}

template <class Key>
void plan_steps(const Context& ctx, const Steps& steps) {
  ArenaScope scope(ctx);
  Arena& arena = ctx.arena();
  const std::int64_t n = steps.total;
  Unsorted<Key> unsorted{arena.take<Key>(n), arena.take<std::uint32_t>(n), nullptr, nullptr};
  if (steps.bags) unsorted.bags = arena.take<std::uint32_t>(n);
  if (steps.scales) unsorted.scales = arena.take<float>(n);
  Key* keys = arena.take<Key>(n);
  auto* positions = arena.take<std::uint32_t>(n);
  auto* heads = arena.take<std::uint32_t>(n);
  auto* before = arena.take<std::uint32_t>(n);
  const Sorted<Key> sorted{keys, positions, steps.form};
  if (n > 0) {
    queue_fill(ctx, steps, unsorted);
    sort_pairs(ctx, unsorted.keys, unsorted.positions, n, 0, steps.key_bits, keys, positions);
    simt::launch({.grid = grid_for(n, kThreads), .block = kThreads, .stream = &ctx.stream()},
                 mark_heads<Key>, sorted, n, heads);
    exclusive_sum(ctx, heads, n, before);
  }
  queue_write(ctx, steps, sorted, heads, before, unsorted.bags, unsorted.scales);
}

}  // namespace

void row_plan(const Context& ctx, std::span<const TableIds> uses, std::int64_t table_rows,
              std::span<const RowPlan> plans) {
  if (plans.empty()) return;
  const Steps steps = describe(uses, table_rows, plans);
  if (steps.key_bits <= 32) {
    plan_steps<std::uint32_t>(ctx, steps);
  } else {
    plan_steps<std::uint64_t>(ctx, steps);
  }
}

}  // namespace belfry::cuda
