// SPDX-License-Identifier: Apache-2.0
#include "kernels/ranking_loss/ranking_loss.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/core/parallel.hpp"

namespace belfry::cpu {
namespace {

constexpr std::int64_t kTileRows = 1024;

struct Term {
  float loss, slope;  // l(y, p) and its derivative by p
};

float sign(float x) {
  return x > 0 ? 1.0f : x < 0 ? -1.0f : x;  // NaN stays NaN
}

Term huber(float y, float p, float delta) {
  const float e = p - y, size = std::abs(e);
  if (size > delta) return {delta * size - 0.5f * delta * delta, delta * sign(e)};
  return {0.5f * e * e, e};  // NaN comes here
}

Term bce(float y, float p) {
  constexpr float kLow = kBceEpsilon, kHigh = 1.0f - kBceEpsilon;
  // Not std::clamp's order of comparisons by chance: a NaN fails both and stays.
  const float q = p < kLow ? kLow : p > kHigh ? kHigh : p;
  const float of_one = q + kBceEpsilon, of_zero = 1.0f - q + kBceEpsilon;
  const float loss = -(y * std::log(of_one) + (1.0f - y) * std::log(of_zero));
  return {loss, p < kLow || p > kHigh ? 0.0f : (1.0f - y) / of_zero - y / of_one};
}

Term bce_logits(float y, float p) {
  const float tail = std::exp(-std::abs(p));  // at most 1: nothing overflows
  const float far = tail / (1.0f + tail);     // sigmoid(-|p|)
  const float top = p < 0 ? 0.0f : p;         // NaN stays
  return {top - p * y + std::log1p(tail), p > 0 ? (1.0f - y) - far : far - y};
}

template <RankingLoss kLoss>
Term term(float y, float p, const RankingLossOptions& o) {
  if constexpr (kLoss == RankingLoss::mse) return {(p - y) * (p - y), 2.0f * (p - y)};
  if constexpr (kLoss == RankingLoss::mae) return {std::abs(p - y), sign(p - y)};
  if constexpr (kLoss == RankingLoss::huber) return huber(y, p, o.huber_delta);
  const float smooth = y * (1.0f - o.label_smoothing) + 0.5f * o.label_smoothing;
  if constexpr (kLoss == RankingLoss::bce) return bce(smooth, p);
  return bce_logits(smooth, p);
}

struct Rows {
  const float *predictions, *labels;
  const RankingLossOptions& options;
  float* loss;   // or nullptr
  float* d;      // or nullptr
  float factor;  // of each row's gradient
};

/// The weighted sum of rows first .. last-1.
template <RankingLoss kLoss>
double tile(const Rows& r, std::int64_t first, std::int64_t last) {
  double sum = 0;
  for (std::int64_t i = first; i < last; ++i) {
    const Term t = term<kLoss>(r.labels[i], r.predictions[i], r.options);
    const float weight = r.options.weight.empty() ? 1.0f : r.options.weight[i];
    if (r.loss != nullptr) r.loss[i] = t.loss;
    if (r.d != nullptr) r.d[i] = t.slope * (weight * r.factor);
    sum += static_cast<double>(weight) * static_cast<double>(t.loss);
  }
  return sum;
}

using Tile = double (*)(const Rows&, std::int64_t, std::int64_t);
Tile tile_of(RankingLoss loss) {
  switch (loss) {
    case RankingLoss::mse:
      return tile<RankingLoss::mse>;
    case RankingLoss::mae:
      return tile<RankingLoss::mae>;
    case RankingLoss::huber:
      return tile<RankingLoss::huber>;
    case RankingLoss::bce:
      return tile<RankingLoss::bce>;
    case RankingLoss::bce_logits:
      return tile<RankingLoss::bce_logits>;
  }
  throw ContractError("ranking_loss: unknown loss");
}

}  // namespace

void ranking_loss(const Context& ctx, Vector<const float> predictions, Vector<const float> labels,
                  const RankingLossOptions& options, double* loss, Vector<float> row_loss,
                  Vector<float> d_predictions) {
  const std::int64_t rows = labels.size, tiles = (rows + kTileRows - 1) / kTileRows;
  const Tile one = tile_of(options.loss);
  const double divisor = options.mean ? static_cast<double>(std::max<std::int64_t>(1, rows)) : 1.0;
  const double scale = static_cast<double>(options.scale) / divisor;
  const Rows r = {predictions.data, labels.data,        options,
                  row_loss.data,    d_predictions.data, static_cast<float>(scale)};
  ArenaScope scope(ctx);
  double* partial = ctx.arena().take<double>(tiles);
  parallel_for(ctx, tiles, [&](std::int64_t t, int) {
    partial[t] = one(r, t * kTileRows, std::min(rows, (t + 1) * kTileRows));
  });
  double sum = 0;
  for (std::int64_t t = 0; t < tiles; ++t) sum += partial[t];
  sum *= scale;
  *loss = options.add_to_loss ? *loss + sum : sum;
  if (!std::isfinite(sum)) ctx.raise(kStatusNonFinite);
}

}  // namespace belfry::cpu
