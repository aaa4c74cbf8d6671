// SPDX-License-Identifier: Apache-2.0
// A group of lanes updates a part of a row at a time: of every listed row, or of every row of the parameter, and
// then looks up whether it is listed.
#include "kernels/core/row_lanes.cuh"
#include "kernels/optimizer_step/optimizer_step.hpp"
#include "kernels/optimizer_step/row_update.cuh"

namespace belfry::cuda {

namespace optimizer_step_kernels {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 4096;  // a block computes the step's constants once
constexpr std::int64_t kMostRows = 16;      // in a row, for one search in the list

enum class Rows { all_given, listed, all };

/// The gradient: of all rows, or row i for rows[i].
struct GradientTask {
  Rows mode;
  Matrix<const float> values;
  const std::int32_t* rows;
  const std::int64_t* n;
  std::int64_t rows_a_unit;  ///< mode all
  std::int64_t tiles_a_row;  ///< parts of a row, one for each lane's pack of columns
  std::int64_t units;        ///< at most
};

/// Number of listed rows; -1 where one lies outside of the table: they ascend, so the ends speak for all.
__device__ __forceinline__ std::int64_t listed_rows(const GradientTask& gradient,
                                                    std::int64_t table_rows) {
  if (gradient.mode == Rows::all_given) return 0;
  const std::int64_t n = *gradient.n;
  const bool good = n == 0 || (gradient.rows[0] >= 0 && gradient.rows[n - 1] < table_rows);
  return good ? n : -1;
}

/// Rows first .. end-1, with zeros for those that are not listed.
template <class Rule, class T, int kColumns>
__device__ __forceinline__ void update_span(const Rule& rule, const ParameterTask<T>& task,
                                            const GradientTask& gradient, const RoundingKey& key,
                                            std::int64_t first, std::int64_t end,
                                            std::int64_t column, std::int64_t listed,
                                            std::uint32_t& top) {
  std::int64_t at = lower_bound(gradient.rows, listed, static_cast<std::int32_t>(first));
  for (std::int64_t row = first; row < end; ++row) {
    Pack<kColumns> g{};
    if (at < listed && gradient.rows[at] == row) {
      g = load_pack<kColumns>(gradient.values.row(at) + column);
      ++at;
    }
    update_pack(rule, task, key, row, column, g, top);
  }
}

template <class Rule, class T, int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    update_rows(ParameterTask<T> task, GradientTask gradient, int lanes) {
  const std::int64_t listed = listed_rows(gradient, task.parameter.rows);
  if (listed < 0) {
    if (grid_thread() == 0) raise_status(task.state, kStatusIdOutOfRange);
    return;
  }
  const Rule rule = rule_of_step<Rule>(task);
  const RoundingKey key = key_of(task);
  const RowLanes at = row_lanes(lanes);
  const std::int64_t tiles = gradient.tiles_a_row;
  const std::int64_t units = gradient.mode == Rows::listed ? listed * tiles : gradient.units;
  std::uint32_t top = 0;
  for (std::int64_t unit = at.group; unit < units; unit += at.groups) {
    const std::int64_t item = tiles == 1 ? unit : unit / tiles;
    const std::int64_t column = ((unit - item * tiles) * lanes + at.lane) * kColumns;
    if (column >= task.parameter.cols) continue;
    if (gradient.mode == Rows::all) {
      const std::int64_t first = item * gradient.rows_a_unit, end = first + gradient.rows_a_unit;
      update_span<Rule, T, kColumns>(rule, task, gradient, key, first,
                                     end < task.parameter.rows ? end : task.parameter.rows, column,
                                     listed, top);
    } else {
      const std::int64_t row = gradient.mode == Rows::listed ? gradient.rows[item] : item;
      const auto g = load_pack<kColumns>(gradient.values.row(item) + column);
      update_pack(rule, task, key, row, column, g, top);
    }
  }
  if (top >= kInfinite) raise_status(task.state, kStatusNonFinite);
}

/// For each block the least clippy_share of the elements that it looks at.
template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads)
    clippy_shares(ParameterTask<T> task, GradientTask gradient, int lanes, std::uint32_t* shares) {
  SIMT_SHARED_ARRAY(std::uint32_t, scratch, [kThreads / kWarp]);
  const std::int64_t listed = listed_rows(gradient, task.parameter.rows);
  const ClippyConstants constants = clippy_constants(task.options, *task.state);
  const ClippyAccumulator mode = clippy_accumulator(task.options);
  const RowLanes at = row_lanes(lanes);
  const std::int64_t tiles = gradient.tiles_a_row;
  // Of a list that is refused (listed -1, by the update) nothing is looked at.
  const std::int64_t units = gradient.mode == Rows::listed ? listed * tiles : gradient.units;
  std::uint32_t least = kWholeMove;
  for (std::int64_t unit = at.group; unit < units; unit += at.groups) {
    const std::int64_t item = tiles == 1 ? unit : unit / tiles;
    const std::int64_t column = ((unit - item * tiles) * lanes + at.lane) * kColumns;
    if (column >= task.parameter.cols) continue;
    const std::int64_t row = gradient.mode == Rows::listed ? gradient.rows[item] : item;
    const auto g = load_pack<kColumns>(gradient.values.row(item) + column);
    const auto w = load_pack<kColumns>(task.parameter.row(row) + column);
    const auto a = load_pack<kColumns>(task.slots[0].row(row) + column);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const std::uint32_t share =
          clippy_share(constants, g.v[c], w.v[c], clippy_scale(mode, g.v[c], a.v[c]));
      least = Min{}(least, share);
    }
  }
  least = block_reduce<kThreads>(least, Min{}, scratch);
  if (threadIdx.x == 0) shares[blockIdx.x] = least;
}

/// One block. The part of their moves that all elements make; n may be 0. The places may be null.
__global__ void __launch_bounds__(kThreads)
    clippy_factor(const std::uint32_t* shares, std::int64_t n, float* factor, float* exported) {
  SIMT_SHARED_ARRAY(std::uint32_t, scratch, [kThreads / kWarp]);
  std::uint32_t least = kWholeMove;
  for (std::int64_t i = threadIdx.x; i < n; i += kThreads) least = Min{}(least, shares[i]);
  least = block_reduce<kThreads>(least, Min{}, scratch);
  if (threadIdx.x != 0) return;
  if (factor != nullptr) *factor = float_of_bits(least);
  if (exported != nullptr) *exported = float_of_bits(least);
}

/// A group a row, which it reads twice: for the mean square, then for the move.
template <class T, int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    update_rowwise(ParameterTask<T> task, GradientTask gradient, int lanes) {
  const std::int64_t listed = listed_rows(gradient, task.parameter.rows);
  if (listed < 0) {
    if (grid_thread() == 0) raise_status(task.state, kStatusIdOutOfRange);
    return;
  }
  const RowwiseUpdate rule = RowwiseUpdate::make(task.options, *task.state);
  const RoundingKey key = key_of(task);
  const RowLanes at = row_lanes(lanes);
  const std::int64_t width = task.parameter.cols;
  const std::int64_t items = gradient.mode == Rows::listed ? listed : task.parameter.rows;
  std::uint32_t top = 0;
  for (std::int64_t item = at.group; item < items; item += at.groups) {
    const std::int64_t row = gradient.mode == Rows::listed ? gradient.rows[item] : item;
    const float* g = gradient.values.row(item);
    GroupMeanSquare<kColumns> squares;
    for (std::int64_t first = 0; first < width; first += at.lanes * kColumns) {
      const std::int64_t column = first + at.lane * kColumns;
      squares.add(at, column < width ? load_pack<kColumns>(g + column) : Pack<kColumns>{});
    }
    float* accumulator = task.slots[0].row(row);
    const float root =
        rule.accumulate(at, accumulator, rule.load(at, accumulator), squares.mean(at, width), top);
    if (root == 0.0f) continue;
    for (std::int64_t column = at.lane * kColumns; column < width; column += at.lanes * kColumns) {
      Pack<kColumns> w = load_pack<kColumns>(task.parameter.row(row) + column);
      rule.move(load_pack<kColumns>(g + column), root, w, top);
      store_parameter(task, key, row, column, w);
    }
  }
  if (top >= kInfinite) raise_status(task.state, kStatusNonFinite);
}

}  // namespace optimizer_step_kernels

namespace {

using namespace optimizer_step_kernels;

void queue_factor(const Context& ctx, const std::uint32_t* shares, std::int64_t n, float* factor,
                  float* exported) {
  simt::launch({.grid = 1, .block = kThreads, .stream = &ctx.stream()}, clippy_factor, shares, n,
               factor, exported);
}

/// Two passes: the factor needs all of the gradient. It never reaches the host.
template <class T, int kColumns>
void queue_clippy(const Context& ctx, const simt::Dims& dims, ParameterTask<T> task,
                  const GradientTask& gradient, int lanes) {
  ArenaScope scope(ctx);
  const std::int64_t blocks = dims.grid.x;
  auto* shares = ctx.arena().take<std::uint32_t>(blocks);
  auto* factor = ctx.arena().take<float>(1);
  simt::launch(dims, clippy_shares<T, kColumns>, task, gradient, lanes, shares);
  queue_factor(ctx, shares, blocks, factor, task.exported_factor);
  task.clipping_factor = factor;
  simt::launch(dims, update_rows<ClippyUpdate, T, kColumns>, task, gradient, lanes);
}

template <class T, int kColumns>
void queue_update(const Context& ctx, const ParameterTask<T>& task, GradientTask gradient) {
  const std::int64_t width = task.parameter.cols, rows = task.parameter.rows;
  const bool rowwise = task.options.kind == OptimizerKind::rowwise_adagrad;
  const int lanes = lanes_for(width, kColumns, rowwise ? 16 / kColumns : 1);
  const std::int64_t items = gradient.mode == Rows::listed ? gradient.units : rows;
  if (gradient.mode == Rows::all) {
    // Few rows: a unit each, so that all of the device has work.
    gradient.rows_a_unit = rows / 16384 < 1 ? 1 : rows / 16384;
    if (gradient.rows_a_unit > kMostRows) gradient.rows_a_unit = kMostRows;
  }
  gradient.tiles_a_row = rowwise ? 1 : ceil_div(width, lanes * kColumns);
  gradient.units = ceil_div(items, gradient.rows_a_unit) * gradient.tiles_a_row;
  const simt::Dims dims{.grid = grid_for(gradient.units * lanes, kThreads, kMostBlocks),
                        .block = kThreads,
                        .stream = &ctx.stream()};
  if (rowwise) return simt::launch(dims, update_rowwise<T, kColumns>, task, gradient, lanes);
  if (task.options.kind == OptimizerKind::clippy_adagrad) {
    return queue_clippy<T, kColumns>(ctx, dims, task, gradient, lanes);
  }
  with_element_rule(task.options, [&](auto rule) {
    simt::launch(dims, update_rows<decltype(rule), T, kColumns>, task, gradient, lanes);
  });
}

template <class T>
void update(const Context& ctx, const ParameterTask<T>& task, const GradientTask& gradient) {
  constexpr int kWidest = kWidestPack<T>;
  if (packable_parameter(task, kWidest) && packable(gradient.values, kWidest)) {
    queue_update<T, kWidest>(ctx, task, gradient);
  } else {
    queue_update<T, 1>(ctx, task, gradient);
  }
}

template <class T>
void update_listed(const Context& ctx, const OptimizerOptions& options, Matrix<T> parameter,
                   const RowGradient& list, const OptimizerSlots& slots) {
  if (parameter.empty()) return;
  GradientTask gradient{.mode = moves_every_row(options) ? Rows::all : Rows::listed,
                        .values = list.values,
                        .rows = list.rows,
                        .n = list.n,
                        .rows_a_unit = 1,
                        .tiles_a_row = 1,
                        .units = list.capacity};
  if (gradient.mode == Rows::listed && list.capacity == 0) {
    if (slots.clipping_factor != nullptr) {
      queue_factor(ctx, nullptr, 0, nullptr, slots.clipping_factor);
    }
    return;
  }
  update(ctx, parameter_task(ctx, options, parameter, slots), gradient);
}

/// A contiguous parameter is one long row: element-wise rules do not mind.
Matrix<float> as_one_row(Matrix<float> m) {
  return {m.data, 1, m.rows * m.cols};
}

}  // namespace

void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<float> parameter,
                    Matrix<const float> gradient, const OptimizerSlots& slots) {
  if (parameter.empty()) return;
  ParameterTask<float> task = parameter_task(ctx, options, parameter, slots);
  GradientTask given{.mode = Rows::all_given,
                     .values = gradient,
                     .rows = nullptr,
                     .n = nullptr,
                     .rows_a_unit = 1,
                     .tiles_a_row = 1,
                     .units = 0};
  bool contiguous = parameter.contiguous() && gradient.contiguous();
  for (int s = 0; s < slot_count(options); ++s) {
    contiguous = contiguous && task.slots[s].contiguous();
  }
  if (contiguous && options.kind != OptimizerKind::rowwise_adagrad) {
    task.parameter = as_one_row(parameter);
    given.values = {gradient.data, 1, gradient.rows * gradient.cols};
    for (int s = 0; s < slot_count(options); ++s) task.slots[s] = as_one_row(task.slots[s]);
  }
  update(ctx, task, given);
}

void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<float> parameter,
                    const RowGradient& gradient, const OptimizerSlots& slots) {
  update_listed(ctx, options, parameter, gradient, slots);
}

void optimizer_step(const Context& ctx, const OptimizerOptions& options, Matrix<bf16> parameter,
                    const RowGradient& gradient, const OptimizerSlots& slots) {
  update_listed(ctx, options, parameter, gradient, slots);
}

}  // namespace belfry::cuda
