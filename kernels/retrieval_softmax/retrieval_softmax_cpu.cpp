// SPDX-License-Identifier: Apache-2.0
// A tile of rows meets all candidates in blocks of columns: score, softmax over a running maximum, and
// d_queries while the block is in L1; when the rows' sums are known, one more sweep over the stored exps
// makes d_candidates. Three products and one exp a score.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/retrieval_softmax/retrieval_softmax_cpu.cpp"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include <cmath>
#include <cstring>

#include "kernels/core/parallel.hpp"
#include "kernels/retrieval_softmax/row_softmax-inl.hpp"
#include "kernels/retrieval_softmax/softmax_plan.hpp"
#include "kernels/retrieval_softmax/tile_gemm-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace belfry::cpu::HWY_NAMESPACE {

/// Rows first .. first+rows-1 of a job, with the scratch of the worker that has them.
struct Tile {
  const SoftmaxJob& job;
  const TileScratch& scratch;
  std::int64_t first, rows;
  std::int64_t width = job.plan.width;
  std::int64_t heads = job.heads;
  std::int64_t depth = job.queries.cols;
  std::int64_t plane = job.plan.tile_columns * width;

  float* scores(std::int64_t head, std::int64_t column) const {
    return scratch.scores + head * plane + column * job.plan.column_stride;
  }
  float* best(std::int64_t column) const { return scores(job.plan.planes - 1, column); }
};

/// Queries divided by the temperature and positives, both transposed; unused rows are zero.
void load_rows(const Tile& t) {
  const float temperature = t.job.options->temperature;
  for (std::int64_t h = 0; h < t.heads; ++h) {
    float* to = t.scratch.queries + h * t.depth * t.width;
    if (t.rows < t.width) std::fill_n(to, t.depth * t.width, 0.0f);
    for (std::int64_t r = 0; r < t.rows; ++r) {
      const float* q = t.job.queries.row((t.first + r) * t.heads + h);
      for (std::int64_t d = 0; d < t.depth; ++d) to[d * t.width + r] = q[d] / temperature;
    }
  }
  float* to = t.scratch.positives;
  if (t.rows < t.width) std::fill_n(to, t.depth * t.width, 0.0f);
  for (std::int64_t r = 0; r < t.rows; ++r) {
    const float* k = t.job.candidates.row(t.first + r);
    for (std::int64_t d = 0; d < t.depth; ++d) to[d * t.width + r] = k[d];
  }
}

/// The positives' scores, by the chain of multiply-adds that tile_product uses, so that an equal
/// candidate in another column gets equal bits.
void score_positives(const Tile& t) {
  const TileScratch& s = t.scratch;
  alignas(64) float log_probability[kMaxWidth] = {};
  if (!t.job.options->log_probability.empty()) {
    std::copy_n(t.job.options->log_probability.data + t.first, t.rows, log_probability);
  }
  for (std::int64_t v = 0; v < t.width; v += kLanes) {
    VF best = hn::Zero(kFloats);
    for (std::int64_t h = 0; h < t.heads; ++h) {
      VF score = hn::Zero(kFloats);
      const float* q = s.queries + h * t.depth * t.width + v;
      for (std::int64_t d = 0; d < t.depth; ++d) {
        score = hn::MulAdd(hn::LoadU(kFloats, s.positives + d * t.width + v),
                           hn::LoadU(kFloats, q + d * t.width), score);
      }
      score = hn::Sub(score, hn::LoadU(kFloats, log_probability + v));
      best = h == 0 ? score : max_or_nan(best, score);
      hn::StoreU(score, kFloats, s.positive_share + h * t.width + v);
    }
    hn::StoreU(best, kFloats, s.positive_score + v);
    hn::StoreU(best, kFloats, s.maximum + v);
  }
  for (std::int64_t r = 0; r < t.width; ++r) {
    std::int64_t ties = 0;
    for (std::int64_t h = 0; h < t.heads; ++h) {
      ties += s.positive_share[h * t.width + r] == s.positive_score[r];
    }
    for (std::int64_t h = 0; h < t.heads; ++h) {
      float& share = s.positive_share[h * t.width + r];
      share = share == s.positive_score[r] ? 1.0f / static_cast<float>(ties) : 0.0f;
    }
  }
}

/// Everything that a tile accumulates or walks through, at its start.
void begin_rows(const Tile& t) {
  const TileScratch& s = t.scratch;
  load_rows(t);
  score_positives(t);
  std::fill_n(s.total, t.width, 0.0);
  std::fill_n(s.better, t.width, 0);
  if (t.job.gradients) std::fill_n(s.d_queries, t.heads * t.depth * t.width, 0.0f);
  const RowLists& masked = t.job.options->masked;
  const EqualIds& ids = t.job.equal_ids;
  for (std::int64_t r = 0; r < t.rows; ++r) {
    const std::int64_t i = t.first + r;
    s.hits[r] = ids.order == nullptr
                    ? ColumnList{}
                    : ColumnList{ids.order + ids.first[i], ids.order + ids.last[i]};
    s.masked[r] = masked.offsets == nullptr ? ColumnList{}
                                            : ColumnList{masked.rows + masked.offsets[i],
                                                         masked.rows + masked.offsets[i + 1]};
  }
}

/// Steps 1 to 5 on columns first .. first+columns-1. The positives leave too: they are handled apart,
/// where p - 1 is not a difference of nearly equal numbers.
void score_block(const Tile& t, std::int64_t first, std::int64_t columns) {
  const Matrix<const float> k = t.job.candidates;
  const RetrievalSoftmaxOptions& options = *t.job.options;
  for (std::int64_t h = 0; h < t.heads; ++h) {
    float* scores = t.scores(h, first);
    tile_product({.a = k.row(first),
                  .a_row = k.pitch,
                  .a_step = 1,
                  .b = t.scratch.queries + h * t.depth * t.width,
                  .b_pitch = t.width,
                  .c = scores,
                  .c_pitch = t.width,
                  .accumulate = false},
                 columns, t.width, t.depth);
    if (!options.log_probability.empty()) {
      subtract_log_probability_tile(scores, columns, t.width, options.log_probability.data + first);
    }
  }
  float* best = t.best(first);
  if (t.heads > 1) max_over_heads(t.scores(0, first), t.plane, t.heads, columns * t.width, best);
  const std::int64_t begin = std::max(first, t.first);
  const std::int64_t end = std::min(first + columns, t.first + t.rows);
  for (std::int64_t i = begin; i < end; ++i) best[(i - first) * t.width + i - t.first] = kLeftRow;
  if (!options.in_batch && first < t.job.batch) {
    std::fill_n(best, (std::min(first + columns, t.job.batch) - first) * t.width, kLeftRow);
  }
  if (t.job.equal_ids.order != nullptr) {
    for (std::int64_t r = 0; r < t.rows; ++r) {
      drop_listed(best + r, t.width, first, columns, t.first + r, t.scratch.hits[r]);
    }
  }
  if (options.masked.offsets != nullptr) {
    for (std::int64_t r = 0; r < t.rows; ++r) {
      drop_listed(best + r, t.width, first, columns, t.first + r, t.scratch.masked[r]);
    }
  }
}

/// Step 7 on a block, and its part of d_queries.
void reduce_block(const Tile& t, std::int64_t block, std::int64_t first, std::int64_t columns) {
  const TileScratch& s = t.scratch;
  const Matrix<const float> k = t.job.candidates;
  if (!t.job.options->positive_rank.empty()) {
    count_better(t.best(first), columns, t.width, s.positive_score, s.better);
  }
  softmax_block(s, t.best(first), t.scores(0, first), t.plane, t.heads, columns, t.width,
                t.job.gradients ? s.d_queries : nullptr, t.heads * t.depth);
  if (!t.job.gradients) return;
  std::memcpy(s.block_max + block * t.width, s.maximum, static_cast<std::size_t>(t.width) * 4);
  for (std::int64_t h = 0; h < t.heads; ++h) {
    tile_product({.a = k.row(first),
                  .a_row = 1,
                  .a_step = k.pitch,
                  .b = t.scores(h, first),
                  .b_pitch = t.width,
                  .c = s.d_queries + h * t.depth * t.width,
                  .c_pitch = t.width,
                  .accumulate = true},
                 t.depth, t.width, columns);
  }
}

/// Losses of the rows, and the factors of their gradients.
void finish_losses(const Tile& t) {
  const TileScratch& s = t.scratch;
  const RetrievalSoftmaxOptions& options = *t.job.options;
  std::fill_n(s.row_factor, t.width, 0.0f);
  for (std::int64_t r = 0; r < t.rows; ++r) {
    const std::int64_t i = t.first + r;
    const double positive = s.positive_score[r], maximum = s.maximum[r], others = s.total[r];
    const double sum = others + std::exp(positive - maximum);
    t.job.row_loss[i] = maximum - positive +  // NaN where both are infinite
                        (positive == maximum ? std::log1p(others) : std::log(sum));
    const double weight = options.weight.empty() ? 1.0 : static_cast<double>(options.weight[i]);
    const double factor = weight * t.job.scale / static_cast<double>(options.temperature) / sum;
    s.row_factor[r] = static_cast<float>(factor);
    s.positive_factor[r] = static_cast<float>(-factor * others);
    if (!options.positive_rank.empty()) options.positive_rank[i] = s.better[r];
  }
}

void write_d_queries(const Tile& t) {
  const TileScratch& s = t.scratch;
  for (std::int64_t r = 0; r < t.rows; ++r) {
    const float* k = t.job.candidates.row(t.first + r);
    for (std::int64_t h = 0; h < t.heads; ++h) {
      const float* sum = s.d_queries + h * t.depth * t.width + r;
      const float positive = s.positive_factor[r] * s.positive_share[h * t.width + r];
      float* out = t.job.d_queries.row((t.first + r) * t.heads + h);
      for (std::int64_t d = 0; d < t.depth; ++d) {
        out[d] = sum[d * t.width] * s.row_factor[r] + positive * k[d];
      }
    }
  }
}

/// Each row's query times what its stored exps of this block lack: weight / temperature / sum of exps,
/// and the step from the block's running maximum to the final one.
void scale_queries(const Tile& t, const float* block_max) {
  const TileScratch& s = t.scratch;
  const std::int64_t padded = t.job.plan.padded_width;
  alignas(64) float factor[kMaxWidth];
  for (std::int64_t v = 0; v < t.width; v += kLanes) {
    const VF step = exp_nonpositive(
        hn::Sub(hn::LoadU(kFloats, block_max + v), hn::LoadU(kFloats, s.maximum + v)));
    hn::StoreU(hn::Mul(step, hn::LoadU(kFloats, s.row_factor + v)), kFloats, factor + v);
  }
  for (std::int64_t h = 0; h < t.heads; ++h) {
    for (std::int64_t r = 0; r < t.width; ++r) {
      float* to = s.scaled_queries + (h * t.width + r) * padded;
      const std::int64_t used = r < t.rows ? t.depth : 0;
      const float* q = t.job.queries.row((t.first + r) * t.heads + h);
      for (std::int64_t d = 0; d < used; ++d) to[d] = q[d] * factor[r];
      std::fill(to + used, to + padded, 0.0f);
    }
  }
}

/// d_candidates (+)= exps times scaled queries, then the positives' own part.
void add_d_candidates(const Tile& t, Matrix<float> partial, bool accumulate) {
  const TileScratch& s = t.scratch;
  const std::int64_t padded = t.job.plan.padded_width;
  for (std::int64_t b = 0; b < t.job.plan.blocks; ++b) {
    const float* block_max = s.block_max + b * t.width;
    if (b == 0 ||
        std::memcmp(block_max, block_max - t.width, static_cast<std::size_t>(t.width) * 4) != 0) {
      scale_queries(t, block_max);
    }
    const std::int64_t first = b * kBlockColumns;
    const std::int64_t columns = std::min(kBlockColumns, t.job.candidates.rows - first);
    for (std::int64_t h = 0; h < t.heads; ++h) {
      tile_product({.a = t.scores(h, first),
                    .a_row = t.width,
                    .a_step = 1,
                    .b = s.scaled_queries + h * t.width * padded,
                    .b_pitch = padded,
                    .c = partial.row(first),
                    .c_pitch = partial.pitch,
                    .accumulate = accumulate || h > 0},
                   columns, padded, t.width);
    }
  }
  for (std::int64_t r = 0; r < t.rows; ++r) {
    float* out = partial.row(t.first + r);
    for (std::int64_t h = 0; h < t.heads; ++h) {
      const float* q = t.job.queries.row((t.first + r) * t.heads + h);
      const float positive = s.positive_factor[r] * s.positive_share[h * t.width + r];
      for (std::int64_t d = 0; d < t.depth; ++d) out[d] += positive * q[d];
    }
  }
}

void run_tile(const Tile& t, Matrix<float> partial, bool accumulate) {
  begin_rows(t);
  const std::int64_t c = t.job.candidates.rows;
  const bool mine = t.job.hard_negatives > 0;
  if (mine) {  // all scores of a row are needed before any of its exps
    for (std::int64_t first = 0; first < c; first += kBlockColumns) {
      score_block(t, first, std::min(kBlockColumns, c - first));
    }
    keep_hard_negatives_tile(t.best(0), c, t.width, t.job.hard_negatives);
  }
  for (std::int64_t b = 0; b < t.job.plan.blocks; ++b) {
    const std::int64_t first = b * kBlockColumns, columns = std::min(kBlockColumns, c - first);
    if (!mine) score_block(t, first, columns);
    reduce_block(t, b, first, columns);
  }
  finish_losses(t);
  if (!t.job.gradients) return;
  write_d_queries(t);
  add_d_candidates(t, partial, accumulate);
}

/// The tiles of one group, in order.
void run_group(const SoftmaxJob& job, std::int64_t group, const TileScratch& scratch) {
  const std::int64_t begin = job.plan.tiles * group / job.plan.groups;
  const std::int64_t end = job.plan.tiles * (group + 1) / job.plan.groups;
  for (std::int64_t tile = begin; tile < end; ++tile) {
    const std::int64_t first = tile * job.plan.width;
    run_tile({job, scratch, first, std::min(job.plan.width, job.batch - first)},
             job.partials[group], tile > begin);
  }
}

}  // namespace belfry::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry::cpu {

HWY_EXPORT(run_group);
HWY_EXPORT(subtract_log_probability_tile);
HWY_EXPORT(keep_hard_negatives_tile);

void subtract_log_probability(float* scores, std::int64_t columns, std::int64_t width,
                              const float* log_probability) {
  HWY_DYNAMIC_DISPATCH(subtract_log_probability_tile)(scores, columns, width, log_probability);
}

void keep_hard_negatives(float* scores, std::int64_t columns, std::int64_t width, std::int64_t n) {
  HWY_DYNAMIC_DISPATCH(keep_hard_negatives_tile)(scores, columns, width, n);
}

namespace {

TileScratch take_scratch(Arena& arena, const SoftmaxJob& job) {
  const std::int64_t width = job.plan.width, depth = job.queries.cols, heads = job.heads;
  const std::int64_t for_gradients = job.gradients ? 1 : 0;
  TileScratch s;
  s.scores = arena.take<float>(job.plan.planes * job.plan.tile_columns * width);
  s.queries = arena.take<float>(heads * depth * width);
  s.scaled_queries = arena.take<float>(for_gradients * heads * width * job.plan.padded_width);
  s.d_queries = arena.take<float>(for_gradients * heads * depth * width);
  s.positives = arena.take<float>(depth * width);
  s.block_max = arena.take<float>(for_gradients * job.plan.blocks * width);
  s.positive_score = arena.take<float>(width);
  s.positive_share = arena.take<float>(heads * width);
  s.maximum = arena.take<float>(width);
  s.total = arena.take<double>(width);
  s.row_factor = arena.take<float>(width);
  s.positive_factor = arena.take<float>(width);
  s.better = arena.take<std::int32_t>(width);
  s.hits = arena.take<ColumnList>(width);
  s.masked = arena.take<ColumnList>(width);
  return s;
}

/// Group 0 writes d_candidates itself where whole vectors fit its rows.
void place_partials(Arena& arena, SoftmaxJob& job, Matrix<float> d_candidates) {
  const std::int64_t c = d_candidates.rows, padded = job.plan.padded_width;
  for (std::int64_t g = 0; g < job.plan.groups; ++g) {
    job.partials[g] = g == 0 && padded == d_candidates.cols
                          ? d_candidates
                          : Matrix<float>(arena.take<float>(c * padded), c, padded);
  }
}

/// d_candidates = sum of the groups' partials, in the groups' order.
void add_partials(const Context& ctx, const SoftmaxJob& job, Matrix<float> d_candidates) {
  constexpr std::int64_t kRows = 256;
  const std::int64_t c = d_candidates.rows, d = d_candidates.cols;
  const bool in_place = job.partials[0].data == d_candidates.data;
  parallel_for(ctx, ceil_div(c, kRows), [&](std::int64_t tile, int) {
    for (std::int64_t j = tile * kRows; j < std::min(c, (tile + 1) * kRows); ++j) {
      float* out = d_candidates.row(j);
      if (!in_place) std::copy_n(job.partials[0].row(j), d, out);
      for (std::int64_t g = 1; g < job.plan.groups; ++g) {
        const float* part = job.partials[g].row(j);
        for (std::int64_t k = 0; k < d; ++k) out[k] += part[k];
      }
    }
  });
}

/// The weighted sum in the rows' order.
double sum_losses(const SoftmaxJob& job, Vector<float> row_loss) {
  double sum = 0;
  for (std::int64_t i = 0; i < job.batch; ++i) {
    const Vector<const float> w = job.options->weight;
    sum += w.empty() ? job.row_loss[i] : job.row_loss[i] * static_cast<double>(w[i]);
    if (!row_loss.empty()) row_loss[i] = static_cast<float>(job.row_loss[i]);
  }
  return sum * job.scale;
}

}  // namespace

void retrieval_softmax(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                       Matrix<const float> candidates, const RetrievalSoftmaxOptions& options,
                       double* loss, Vector<float> row_loss, Matrix<float> d_queries,
                       Matrix<float> d_candidates) {
  ArenaScope scope(ctx);
  Arena& arena = ctx.arena();
  SoftmaxJob job;
  job.queries = queries;
  job.heads = heads;
  job.candidates = candidates;
  job.options = &options;
  job.batch = queries.rows / heads;
  job.gradients = d_queries.data != nullptr || d_candidates.data != nullptr;
  job.d_queries = d_queries;
  const std::int64_t b = job.batch, c = candidates.rows;
  // One fewer than all others is the most that mining can drop to.
  job.hard_negatives =
      options.hard_negatives < c - 1 ? std::max<std::int64_t>(options.hard_negatives, 0) : 0;
  job.plan = plan_softmax(b, heads, c, queries.cols, job.gradients,
                          job.gradients || job.hard_negatives > 0);
  job.scale =
      static_cast<double>(options.scale) / (options.mean && b > 0 ? static_cast<double>(b) : 1.0);
  if (b == 0) {
    *loss = 0;
    for (std::int64_t j = 0; j < d_candidates.rows; ++j)
      std::fill_n(d_candidates.row(j), d_candidates.cols, 0.0f);
    return;
  }
  job.row_loss = arena.take<double>(b);
  if (!options.candidate_ids.empty()) {
    std::int32_t* columns = arena.take<std::int32_t>(3 * c);
    job.equal_ids = group_equal_ids(options.candidate_ids, columns, columns + c, columns + 2 * c);
  }
  TileScratch* scratch = arena.take<TileScratch>(ctx.threads());
  for (int w = 0; w < ctx.threads(); ++w) scratch[w] = take_scratch(arena, job);
  if (job.gradients) place_partials(arena, job, d_candidates);
  const auto run = HWY_DYNAMIC_DISPATCH(run_group);
  parallel_for(ctx, job.plan.groups,
               [&](std::int64_t group, int worker) { run(job, group, scratch[worker]); });
  if (job.gradients) add_partials(ctx, job, d_candidates);
  *loss = sum_losses(job, row_loss);
  if (!std::isfinite(*loss)) ctx.raise(kStatusNonFinite);
}

}  // namespace belfry::cpu
#endif  // HWY_ONCE
