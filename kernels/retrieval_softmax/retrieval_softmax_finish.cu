// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/retrieval_softmax/softmax_finish.cuh"
#include "kernels/retrieval_softmax/softmax_prepare.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

inline constexpr int kLossThreads = 1024;

__device__ void leave_slot_out(const RowResults& r, const RowPartials& p, std::int64_t slot) {
  r.shift[slot] = -kLeft;
  if (r.factor != nullptr) r.factor[slot] = 0.0f;
  for (int k = 0; k < r.splits; ++k) r.rescale[k * p.slots + slot] = 0.0f;
}

/// Step 7 for each slot; what belongs to a query is written by its head 0.
template <bool kLog2>
__global__ void finish_slots(RowPartials p, RowResults r, SlotMap slots) {
  const auto power = [](double x) { return kLog2 ? exp2(x) : exp(x); };
  for (std::int64_t slot = grid_thread(); slot < p.slots; slot += grid_threads()) {
    const int in_unit = static_cast<int>(slot % kUnit);
    const std::int64_t i = slots.query(slot / kUnit, in_unit);
    if (i >= slots.batch || slots.head(in_unit) >= slots.heads) {
      leave_slot_out(r, p, slot);
      continue;
    }
    const double positive = static_cast<double>(p.positive[slot] * r.in_exponent);
    double maximum = positive, others = 0.0;
    std::int32_t better = 0;
    for (int k = 0; k < r.splits; ++k) {
      maximum = fmax(maximum, static_cast<double>(p.maximum[k * p.slots + slot]));
      if (p.better != nullptr) better += p.better[k * p.slots + slot];
    }
    for (int k = 0; k < r.splits; ++k) {
      const std::int64_t at = k * p.slots + slot;
      others += p.total[at] * power(static_cast<double>(p.maximum[at]) - maximum);
    }
    const double sum = others + power(positive - maximum), unit = kLog2 ? 0.6931471805599453 : 1.0;
    const double loss = (maximum - positive) * unit +  // NaN where both are infinite
                        (positive == maximum ? log1p(others) : log(sum));
    const double weight = r.weight.empty() ? 1.0 : static_cast<double>(r.weight[i]);
    const double factor = weight * r.scale / sum;
    for (int k = 0; k < r.splits; ++k) {
      const std::int64_t at = k * p.slots + slot;
      r.rescale[at] = static_cast<float>(power(static_cast<double>(p.maximum[at]) - maximum) *
                                         factor / r.temperature);
    }
    // Base 2: probabilities by the shift alone, the rest is common to all rows but for weights.
    r.shift[slot] = static_cast<float>(kLog2 ? maximum + log2(sum) : maximum);
    if (r.factor != nullptr) r.factor[slot] = static_cast<float>(kLog2 ? weight : factor);
    if (slots.head(in_unit) != 0) continue;
    r.positive_factor[i] = static_cast<float>(-factor / r.temperature * others);
    r.row_loss[i] = loss;
    if (!r.row_loss_out.empty()) r.row_loss_out[i] = static_cast<float>(loss);
    if (!r.rank.empty()) r.rank[i] = better;
  }
}

/// The weighted sum of the rows' losses, in an order that depends on B alone. One block.
__global__ void __launch_bounds__(kLossThreads)
    sum_losses(const double* row_loss, Vector<const float> weight, std::int64_t batch, double scale,
               double* loss, StepState* state) {
  SIMT_SHARED_ARRAY(double, scratch, [kLossThreads / kWarp]);
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < batch; i += kLossThreads) {
    sum += weight.empty() ? row_loss[i] : row_loss[i] * static_cast<double>(weight[i]);
  }
  sum = block_reduce<kLossThreads>(sum, Sum{}, scratch) * scale;
  if (threadIdx.x != 0) return;
  *loss = sum;
  if (!std::isfinite(sum)) raise_status(state, kStatusNonFinite);
}

/// d_queries of one query and head: the splits' sums, each brought to the row's maximum.
__global__ void add_d_queries(Merge m, RowPartials p, const float* rescale,
                              Matrix<const float> candidates, Matrix<float> d_queries) {
  for_rows(d_queries.rows, [&](std::int64_t row) {
    const std::int64_t i = row / m.slots.heads;
    const std::int64_t slot = m.slots.slot(i, static_cast<int>(row % m.slots.heads));
    const float positive = m.positive_factor[i] * m.share[slot];
    for (std::int64_t d = lane_of_warp(); d < d_queries.cols; d += kWarp) {
      float sum = 0.0f;
      for (int s = 0; s < m.splits; ++s) {
        const std::int64_t at = s * p.slots + slot;
        sum = fmaf(p.sums[at * m.depth + d], rescale[at], sum);
      }
      d_queries(row, d) = fmaf(positive, candidates(i, d), sum);
    }
  });
}

/// d_candidates: the splits' sums times `factor`, and the positive's part where the column is one.
__global__ void add_d_candidates(Merge m, ColumnPartials p, float factor,
                                 Matrix<const float> queries, Matrix<float> d_candidates) {
  for_rows(d_candidates.rows, [&](std::int64_t j) {
    for (std::int64_t d = lane_of_warp(); d < d_candidates.cols; d += kWarp) {
      float sum = 0.0f;
      for (int s = 0; s < m.splits; ++s) sum += p.sums[(s * p.rows + j) * m.depth + d];
      sum *= factor;
      for (int h = 0; j < m.slots.batch && h < m.slots.heads; ++h) {
        const float positive = m.positive_factor[j] * m.share[m.slots.slot(j, h)];
        sum = fmaf(positive, queries(j * m.slots.heads + h, d), sum);
      }
      d_candidates(j, d) = sum;
    }
  });
}

__global__ void write_zeros(Matrix<float> gradient) {
  for_rows(gradient.rows, [&](std::int64_t row) {
    for (std::int64_t d = lane_of_warp(); d < gradient.cols; d += kWarp) gradient(row, d) = 0.0f;
  });
}

template <bool kLog2>
void finish_rows(const Context& ctx, const RowPartials& partials, const RowResults& results,
                 const SlotMap& slots, double* loss) {
  launch_loop(ctx, partials.slots, finish_slots<kLog2>, partials, results, slots);
  simt::launch({.grid = 1, .block = kLossThreads, .stream = &ctx.stream()}, sum_losses,
               results.row_loss, results.weight, slots.batch, results.scale, loss, ctx.state());
}
template void finish_rows<false>(const Context&, const RowPartials&, const RowResults&,
                                 const SlotMap&, double*);
template void finish_rows<true>(const Context&, const RowPartials&, const RowResults&,
                                const SlotMap&, double*);

void merge_d_queries(const Context& ctx, const Merge& merge, const RowPartials& partials,
                     const float* rescale, Matrix<const float> candidates,
                     Matrix<float> d_queries) {
  if (d_queries.empty()) return;
  launch_loop(ctx, d_queries.rows * kWarp, add_d_queries, merge, partials, rescale, candidates,
              d_queries);
}
void merge_d_candidates(const Context& ctx, const Merge& merge, const ColumnPartials& partials,
                        float factor, Matrix<const float> queries, Matrix<float> d_candidates) {
  if (d_candidates.empty()) return;
  launch_loop(ctx, d_candidates.rows * kWarp, add_d_candidates, merge, partials, factor, queries,
              d_candidates);
}
void clear_gradient(const Context& ctx, Matrix<float> gradient) {
  if (gradient.empty()) return;
  launch_loop(ctx, gradient.rows * kWarp, write_zeros, gradient);
}

}  // namespace belfry::cuda::retrieval_softmax_kernels
