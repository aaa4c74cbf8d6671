// SPDX-License-Identifier: Apache-2.0
// One call of retrieval_softmax with the tiles of a precision: scratch, and the launches in order.
#pragma once

#include <algorithm>

#include "kernels/retrieval_softmax/retrieval_softmax.hpp"
#include "kernels/retrieval_softmax/softmax_cut.hpp"
#include "kernels/retrieval_softmax/softmax_finish.cuh"
#include "kernels/retrieval_softmax/softmax_prepare.cuh"
#include "kernels/retrieval_softmax/softmax_select.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

struct Call {
  Matrix<const float> queries;
  std::int64_t heads;
  Matrix<const float> candidates;
  const RetrievalSoftmaxOptions& options;
  double* loss;
  Vector<float> row_loss;
  Matrix<float> d_queries, d_candidates;
  std::int64_t widest;  // rows that a kernel without pieces may have on this GPU

  std::int64_t batch() const { return queries.rows / heads; }
  bool gradients() const { return d_queries.data != nullptr || d_candidates.data != nullptr; }
};

template <class Tiles>
class Run {
  using Element = typename Tiles::Element;
  static constexpr bool kLog2 = Tiles::Positives::kLog2;

 public:
  Run(const Context& ctx, const Call& call) : ctx_(ctx), arena_(ctx.arena()), call_(call) {}

  void operator()() {
    const ArenaScope scope(ctx_);
    plan();
    copy_inputs();
    job_.leaving =
        mark_leaving(ctx_, call_.options, job_.slots, job_.query_units, job_.candidate_units);
    score_all_positives();
    if (hard_negatives() > 0) find_thresholds();
    pass_rows();
    finish();
    if (!call_.gradients()) return;
    merge_d_queries(ctx_, merge(row_splits_), row_partials_, results_.rescale, call_.candidates,
                    call_.d_queries);
    pass_columns();
  }

 private:
  template <class Memory, class Tile, class... P, class... A>
  void launch_tiles(std::int64_t blocks, std::int64_t pieces, void (*kernel)(P...),
                    A&&... arguments) {
    simt::launch({.grid = {static_cast<unsigned>(blocks), static_cast<unsigned>(pieces)},
                  .block = Tile::kThreads,
                  .smem = sizeof(Memory),
                  .stream = &ctx_.stream()},
                 kernel, std::forward<A>(arguments)...);
  }

  void plan() {
    const std::int64_t b = call_.batch(), c = call_.candidates.rows;
    depth_ = softmax_depth(call_.queries.cols, call_.heads, call_.widest);
    job_.depth = static_cast<int>(depth_.columns);
    job_.slots = {b, static_cast<int>(call_.heads), head_bits(call_.heads)};
    job_.columns = static_cast<std::int32_t>(c);
    job_.first_column = call_.options.in_batch ? 0 : static_cast<std::int32_t>(b);
    job_.query_units = static_cast<int>(ceil_div(b, job_.slots.queries_a_unit()));
    job_.candidate_units = static_cast<int>(ceil_div(c, kUnit));
    // fp32 queries are divided by the temperature before, and exps are natural.
    const double natural = kLog2 ? 1.0 / static_cast<double>(call_.options.temperature) : 1.0;
    const double base = kLog2 ? 1.4426950408889634 : 1.0;  // log2 e
    const bool bias = !call_.options.log_probability.empty();
    job_.multiplier = static_cast<float>(natural);
    job_.in_exponent = static_cast<float>(bias ? base : natural * base);
    slots_ = ceil_div(job_.query_units * std::int64_t{kUnit}, kTilePadding) * kTilePadding;
    rows_ = ceil_div(c, kTilePadding) * kTilePadding;
  }

  /// fp32 divides queries by the temperature as the CPU does; with tensor cores it is in the exponent.
  void copy_inputs() {
    const float divisor = kLog2 ? 1.0f : call_.options.temperature;
    const std::int64_t more = rows_ + kUnit;  // a unit of positives may start anywhere
    auto* queries = arena_.take<Element>(slots_ * job_.depth);
    auto* candidates = arena_.take<Element>(more * job_.depth);
    launch_loop(ctx_, slots_ * kWarp, copy_slots<Element>, call_.queries, job_.slots, slots_,
                divisor, queries, job_.depth);
    launch_loop(ctx_, more * kWarp, copy_slots<Element>, call_.candidates,
                SlotMap{call_.candidates.rows, 1, 0}, more, 1.0f, candidates, job_.depth);
    job_.queries = queries;
    job_.candidates = candidates;
    job_.bias = nullptr;
    if (call_.options.log_probability.empty()) return;
    job_.bias = copy_bias(ctx_, call_.options.log_probability, more);
  }

  void score_all_positives() {
    using Tile = typename Tiles::Positives;
    positive_ = arena_.take<float>(slots_);
    share_ = arena_.take<float>(slots_);
    launch_tiles<WideMemory<Tile>, Tile>(slots_ / kUnit, 1, score_positives<Tile>, job_, positive_,
                                         share_);
  }

  /// 0: all stay. One fewer than all others is the most that can be dropped to.
  std::int64_t hard_negatives() const {
    const std::int64_t n = call_.options.hard_negatives;
    return n < call_.candidates.rows - 1 ? std::max<std::int64_t>(n, 0) : 0;
  }

  void find_thresholds() {
    const std::int64_t b = call_.batch();
    Searches searches{.key = arena_.take<std::uint32_t>(b),
                      .last_tie = arena_.take<std::int32_t>(b),
                      .wanted = arena_.take<std::int32_t>(b),
                      .phase = arena_.take<Search>(b),
                      .counts = arena_.take<std::uint32_t>(b * kDigits),
                      .threshold = arena_.take<float>(b)};
    begin_searches(ctx_, searches, b, hard_negatives());
    search(searches, Search::score, 32);
    search(searches, Search::column,
           std::bit_width(static_cast<std::uint32_t>(call_.candidates.rows - 1)));
    job_.leaving.threshold = searches.threshold;
    job_.leaving.last_tie = searches.last_tie;
  }
  void search(const Searches& searches, Search phase, int bits) {
    using Tile = typename Tiles::Count;
    const Cut cut = cut_of<Tile>(job_.query_units, first_unit(), job_.candidate_units, 1, 0);
    for (int shift = bits; shift > 0;) {
      const int taken = std::min(shift, kDigitBits);
      shift -= taken;
      const Digit digit{phase, shift, taken, shift == 0};
      launch_tiles<CountMemory<Tile>, Tile>(cut.tiles * std::int64_t{cut.splits}, 1,
                                            count_digit<Tile>, job_, searches, digit, cut);
      take_digit(ctx_, searches, call_.batch(), digit);
    }
  }

  std::int64_t first_unit() const { return job_.first_column / kUnit; }

  /// `own` in units; the streamed side in tiles [first, end).
  template <class Tile>
  Cut cut_of(std::int64_t own, std::int64_t first, std::int64_t end, std::int64_t pieces,
             std::int64_t partial_bytes) const {
    const std::int64_t tiles = ceil_div(own, Tile::kWarps);
    const std::int64_t splits = softmax_splits(tiles * pieces, end - first, partial_bytes);
    return {static_cast<int>(tiles), static_cast<int>(splits), static_cast<int>(first),
            static_cast<int>((end - first) / splits), static_cast<int>((end - first) % splits)};
  }

  /// Calls f with a tile type of the plan's depth.
  template <class F>
  void with_tile(F&& f) {
    switch (job_.depth) {
      case 32:
        return f(typename Tiles::template Pass<32>{});
      case 64:
        return f(typename Tiles::template Pass<64>{});
      case 128:
        return f(typename Tiles::template Pass<128>{});
      default:
        if constexpr (Tiles::kWidest > 128) return f(typename Tiles::template Pass<256>{});
    }
  }

  template <class Tile>
  std::int64_t pieces() const {
    return job_.depth / Tile::kOut;
  }

  void pass_rows() {
    if (depth_.wide) {
      using Tile = typename Tiles::Wide;
      const Cut cut = plan_rows<Tile>(first_unit(), job_.candidate_units);
      launch_tiles<WideMemory<Tile>, Tile>(cut.tiles * std::int64_t{cut.splits},
                                           call_.gradients() ? pieces<Tile>() : 1,
                                           row_pass_wide<Tile>, job_, row_partials_, cut);
      return;
    }
    with_tile([&](auto tile) {
      using Tile = decltype(tile);
      const Cut cut = plan_rows<Tile>(job_.first_column / Tile::kStreamed,
                                      ceil_div(job_.columns, Tile::kStreamed));
      launch_tiles<PassMemory<Tile>, Tile>(cut.tiles * std::int64_t{cut.splits},
                                           call_.gradients() ? pieces<Tile>() : 1, row_pass<Tile>,
                                           job_, row_partials_, cut);
    });
  }
  template <class Tile>
  Cut plan_rows(std::int64_t first, std::int64_t streamed) {
    const Cut cut = cut_of<Tile>(job_.query_units, first, streamed, pieces<Tile>(),
                                 slots_ * job_.depth * std::int64_t{sizeof(float)});
    const std::int64_t n = cut.splits * slots_;
    row_splits_ = cut.splits;
    row_partials_ = {
        .positive = positive_,
        .maximum = arena_.take<float>(n),
        .total = arena_.take<double>(n),
        .better = call_.options.positive_rank.empty() ? nullptr : arena_.take<std::int32_t>(n),
        .sums = call_.gradients() ? arena_.take<float>(n * job_.depth) : nullptr,
        .slots = slots_};
    return cut;
  }

  void finish() {
    const RetrievalSoftmaxOptions& o = call_.options;
    const std::int64_t b = call_.batch();
    const double scale = static_cast<double>(o.scale) / (o.mean ? static_cast<double>(b) : 1.0);
    const bool factors = !kLog2 || !o.weight.empty();
    results_ = {.weight = o.weight,
                .scale = scale,
                .temperature = static_cast<double>(o.temperature),
                .in_exponent = job_.in_exponent,
                .splits = row_splits_,
                .rescale = arena_.take<float>(row_splits_ * slots_),
                .shift = arena_.take<float>(slots_),
                .factor = factors ? arena_.take<float>(slots_) : nullptr,
                .positive_factor = arena_.take<float>(b),
                .row_loss = arena_.take<double>(b),
                .row_loss_out = call_.row_loss,
                .rank = o.positive_rank};
    finish_rows<kLog2>(ctx_, row_partials_, results_, job_.slots, call_.loss);
  }

  Merge merge(int splits) const {
    return {job_.slots, job_.depth, splits, results_.positive_factor, share_};
  }

  void pass_columns() {
    if (depth_.wide) {
      using Tile = typename Tiles::Wide;
      const Cut cut = plan_columns<Tile>(job_.query_units);
      launch_tiles<WideMemory<Tile>, Tile>(cut.tiles * std::int64_t{cut.splits}, pieces<Tile>(),
                                           column_pass_wide<Tile>, job_, column_partials_, cut);
      return merge_columns(cut.splits);
    }
    with_tile([&](auto tile) {
      using Tile = decltype(tile);
      const Cut cut =
          plan_columns<Tile>(ceil_div(job_.query_units * std::int64_t{kUnit}, Tile::kStreamed));
      launch_tiles<PassMemory<Tile>, Tile>(cut.tiles * std::int64_t{cut.splits}, pieces<Tile>(),
                                           column_pass<Tile>, job_, column_partials_, cut);
      merge_columns(cut.splits);
    });
  }
  template <class Tile>
  Cut plan_columns(std::int64_t streamed) {
    const Cut cut = cut_of<Tile>(job_.candidate_units, 0, streamed, pieces<Tile>(),
                                 rows_ * job_.depth * std::int64_t{sizeof(float)});
    column_partials_ = {.shift = results_.shift,
                        .factor = results_.factor,
                        .sums = arena_.take<float>(cut.splits * rows_ * job_.depth),
                        .rows = rows_};
    return cut;
  }
  void merge_columns(int splits) {
    const double common = kLog2 ? results_.scale / results_.temperature : 1.0;
    merge_d_candidates(ctx_, merge(splits), column_partials_, static_cast<float>(common),
                       call_.queries, call_.d_candidates);
  }

  const Context& ctx_;
  Arena& arena_;
  const Call& call_;
  Scores<Element> job_{};
  SoftmaxDepth depth_{};
  std::int64_t slots_ = 0, rows_ = 0;  // of the copies
  float* positive_ = nullptr;
  float* share_ = nullptr;
  int row_splits_ = 0;
  RowPartials row_partials_{};
  RowResults results_{};
  ColumnPartials column_partials_{};
};

void run_fp32(const Context& ctx, const Call& call);
void run_bf16(const Context& ctx, const Call& call);

}  // namespace belfry::cuda::retrieval_softmax_kernels
