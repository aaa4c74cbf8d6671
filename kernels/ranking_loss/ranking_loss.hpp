// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Losses of single predictions, with Keras's formulas. bce takes probabilities, bce_logits logits.
enum class RankingLoss { mse, mae, huber, bce, bce_logits };

/// What bce keeps probabilities away from 0 and 1 by (Keras's epsilon).
inline constexpr float kBceEpsilon = 1e-7f;

struct RankingLossOptions {
  RankingLoss loss = RankingLoss::mse;
  float huber_delta = 1.0f;      ///< huber: where the square turns into a line; > 0
  float label_smoothing = 0.0f;  ///< bce, bce_logits: y becomes y (1 - s) + s / 2; in [0, 1]
  Vector<const float> weight;    ///< [B] factor of each row's loss, or empty
  float scale = 1.0f;            ///< factor of loss and gradient (a task's weight)
  bool mean = false;             ///< divide loss and gradient by B (after the weights)
  bool add_to_loss = false;      ///< *loss += instead of = (a further task of a step)
};

namespace cpu {
void ranking_loss(const Context& ctx, Vector<const float> predictions, Vector<const float> labels,
                  const RankingLossOptions& options, double* loss, Vector<float> row_loss,
                  Vector<float> d_predictions);
}  // namespace cpu
namespace cuda {
void ranking_loss(const Context& ctx, Vector<const float> predictions, Vector<const float> labels,
                  const RankingLossOptions& options, double* loss, Vector<float> row_loss,
                  Vector<float> d_predictions);
}  // namespace cuda

/// Pointwise loss of predictions p by labels y, and its gradient:  loss = scale sum_i w_i l(y_i, p_i)  [/ B]
///   mse         (y - p)^2
///   mae         |y - p|                                    gradient 0 at p = y
///   huber       e = |y - p|:  e^2 / 2  up to delta, delta e - delta^2 / 2  beyond it
///   bce         -(y log(q + eps) + (1 - y) log(1 - q + eps)),  q = p clipped to [eps, 1 - eps], eps = 1e-7;
///               gradient 0 where the clip changed p
///   bce_logits  max(p, 0) - p y + log(1 + exp(-|p|))
/// Shapes       predictions, labels [B] f32; loss one f64; row_loss [B] f32 (unweighted, unscaled) or empty;
///              d_predictions [B] f32, overwritten, or empty: loss only
/// Empty        B = 0: adds 0
/// Aliasing     outputs overlap neither each other nor the inputs, but d_predictions may be predictions
/// Cost         reads 2 B to 3 B, writes B to 2 B floats: memory-bound
/// Scratch      one double for each 1,024 rows
/// Numerics     terms in f32 (Keras's, whose 1 - eps is 0.99999988), their weighted sum in f64. bce_logits has
///              p - y without cancellation. A loss that is not finite raises kStatusNonFinite.
///              CUDA against CPU: mse, mae, huber and all of bce's gradient are equal; losses of bce and
///              bce_logits and the latter's gradient to 8 ulp of their terms
/// Determinism  bitwise for any thread count and any schedule; the backends sum rows in other orders: loss to
///              1e-6 where terms are equal to that
/// See          tf.keras.losses: MeanSquaredError, MeanAbsoluteError, Huber, BinaryCrossentropy
inline void ranking_loss(const Context& ctx, Vector<const float> predictions,
                         Vector<const float> labels, const RankingLossOptions& options,
                         double* loss, Vector<float> row_loss, Vector<float> d_predictions) {
  require(predictions.size == labels.size, "ranking_loss: one label a prediction");
  require(options.weight.empty() || options.weight.size == labels.size,
          "ranking_loss: weight must have one value a row");
  require(row_loss.empty() || row_loss.size == labels.size,
          "ranking_loss: row_loss must have one value a row");
  require(d_predictions.empty() || d_predictions.size == labels.size,
          "ranking_loss: d_predictions must have one value a row");
  require(loss != nullptr, "ranking_loss: loss must be given");
  require(options.huber_delta > 0 && std::isfinite(options.huber_delta),
          "ranking_loss: huber_delta must be greater than 0");
  require(options.label_smoothing >= 0 && options.label_smoothing <= 1,
          "ranking_loss: label_smoothing must lie in [0, 1]");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::ranking_loss(ctx, predictions, labels, options, loss, row_loss, d_predictions);
    case Backend::cuda:
      if constexpr (kHasCuda::ranking_loss) {
        return cuda::ranking_loss(ctx, predictions, labels, options, loss, row_loss, d_predictions);
      }
  }
  throw_no_backend("ranking_loss");
}

}  // namespace belfry
