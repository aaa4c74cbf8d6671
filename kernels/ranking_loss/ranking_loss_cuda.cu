// SPDX-License-Identifier: Apache-2.0
// ranking_loss on the device: a block for each 1,024 rows, whose weighted losses it sums, and one block for the
// sums of the blocks.
#include "kernels/core/block.cuh"
#include "kernels/core/loss_sum.cuh"
#include "kernels/ranking_loss/ranking_loss.hpp"

namespace belfry::cuda {
namespace ranking_loss_kernels {

constexpr int kThreads = 256;
constexpr int kRowsPerThread = 4;
constexpr std::int64_t kRowsPerBlock = kThreads * kRowsPerThread;

struct Term {
  float loss, slope;  // l(y, p) and its derivative by p
};

__device__ __forceinline__ float sign(float x) {
  return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x;  // NaN stays NaN
}

__device__ __forceinline__ Term huber(float y, float p, float delta) {
  const float e = p - y, size = fabsf(e);
  if (size > delta) return {delta * size - 0.5f * delta * delta, delta * sign(e)};
  return {0.5f * e * e, e};
}

__device__ __forceinline__ Term bce(float y, float p) {
  constexpr float kLow = kBceEpsilon, kHigh = 1.0f - kBceEpsilon;
  const float q = p < kLow ? kLow : p > kHigh ? kHigh : p;  // fminf would swallow a NaN
  const float of_one = q + kBceEpsilon, of_zero = 1.0f - q + kBceEpsilon;
  const float loss = -(y * logf(of_one) + (1.0f - y) * logf(of_zero));
  return {loss, p < kLow || p > kHigh ? 0.0f : (1.0f - y) / of_zero - y / of_one};
}

__device__ __forceinline__ Term bce_logits(float y, float p) {
  const float tail = expf(-fabsf(p));
  const float far = tail / (1.0f + tail);
  const float top = p < 0.0f ? 0.0f : p;
  return {top - p * y + log1pf(tail), p > 0.0f ? (1.0f - y) - far : far - y};
}

/// The part of the options that a row needs.
struct Rule {
  float huber_delta, label_smoothing;
};

template <RankingLoss kLoss>
__device__ __forceinline__ Term term(float y, float p, Rule rule) {
  if constexpr (kLoss == RankingLoss::mse) {
    return {(p - y) * (p - y), 2.0f * (p - y)};
  } else if constexpr (kLoss == RankingLoss::mae) {
    return {fabsf(p - y), sign(p - y)};
  } else if constexpr (kLoss == RankingLoss::huber) {
    return huber(y, p, rule.huber_delta);
  } else {
    const float smooth = y * (1.0f - rule.label_smoothing) + 0.5f * rule.label_smoothing;
    return kLoss == RankingLoss::bce ? bce(smooth, p) : bce_logits(smooth, p);
  }
}

/// Not restrict: d_predictions may be predictions, which each thread reads before it writes.
struct Rows {
  const float* predictions;
  Vector<const float> labels;
  const float* weight;  // or nullptr, as the next two
  float* loss;
  float* d;
  float factor;     // of each row's gradient
  double* partial;  // one a block
};

template <RankingLoss kLoss>
__global__ void __launch_bounds__(kThreads) rows(Rows r, Rule rule) {
  SIMT_SHARED_ARRAY(double, scratch, [kThreads / kWarp]);
  const std::int64_t first = blockIdx.x * kRowsPerBlock + threadIdx.x;
  double sum = 0.0;
#pragma unroll
  for (int k = 0; k < kRowsPerThread; ++k) {
    const std::int64_t i = first + k * kThreads;
    if (i >= r.labels.size) break;
    const Term t = term<kLoss>(r.labels[i], r.predictions[i], rule);
    const float weight = r.weight == nullptr ? 1.0f : r.weight[i];
    if (r.loss != nullptr) r.loss[i] = t.loss;
    if (r.d != nullptr) r.d[i] = t.slope * (weight * r.factor);
    sum += static_cast<double>(weight) * static_cast<double>(t.loss);
  }
  sum = block_reduce<kThreads>(sum, Sum{}, scratch);
  if (threadIdx.x == 0) r.partial[blockIdx.x] = sum;
}

using Kernel = void (*)(Rows, Rule);
inline Kernel kernel_of(RankingLoss loss) {
  switch (loss) {
    case RankingLoss::mse:
      return rows<RankingLoss::mse>;
    case RankingLoss::mae:
      return rows<RankingLoss::mae>;
    case RankingLoss::huber:
      return rows<RankingLoss::huber>;
    case RankingLoss::bce:
      return rows<RankingLoss::bce>;
    case RankingLoss::bce_logits:
      return rows<RankingLoss::bce_logits>;
  }
  throw ContractError("ranking_loss: unknown loss");
}

}  // namespace ranking_loss_kernels

namespace k = ranking_loss_kernels;

void ranking_loss(const Context& ctx, Vector<const float> predictions, Vector<const float> labels,
                  const RankingLossOptions& options, double* loss, Vector<float> row_loss,
                  Vector<float> d_predictions) {
  const std::int64_t rows = labels.size, blocks = ceil_div(rows, k::kRowsPerBlock);
  const k::Kernel kernel = k::kernel_of(options.loss);
  const double divisor = options.mean && rows > 0 ? static_cast<double>(rows) : 1.0;
  const double scale = static_cast<double>(options.scale) / divisor;
  ArenaScope scope(ctx);
  double* partial = ctx.arena().take<double>(blocks);
  if (blocks > 0) {
    const k::Rows r = {
        predictions.data,          labels, options.weight.data, row_loss.data, d_predictions.data,
        static_cast<float>(scale), partial};
    simt::launch(
        {.grid = static_cast<unsigned>(blocks), .block = k::kThreads, .stream = &ctx.stream()},
        kernel, r, k::Rule{options.huber_delta, options.label_smoothing});
  }
  loss_sum_kernels::sum_to_loss(ctx, partial, blocks, scale, options.add_to_loss, loss);
}

}  // namespace belfry::cuda
