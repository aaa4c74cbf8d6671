// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Losses of whole lists, as TF-Ranking defines them.
enum class ListLoss {
  pairwise_hinge,
  pairwise_logistic,
  pairwise_soft_zero_one,
  softmax,
  list_mle,
  approx_ndcg
};
inline constexpr bool is_pairwise(ListLoss loss) {
  return loss == ListLoss::pairwise_hinge || loss == ListLoss::pairwise_logistic ||
         loss == ListLoss::pairwise_soft_zero_one;
}

/// Slots of a list on a GPU: three floats each lie in shared memory.
inline constexpr std::int64_t kMaxListSlots = 2048;

struct ListLossOptions {
  ListLoss loss = ListLoss::softmax;
  float temperature = 1.0f;  ///< scores are divided by it; > 0 (TF-Ranking's approx_ndcg: 0.1)
  Vector<const float> list_weight;  ///< [L] factor of each list's loss, or empty
  Matrix<const float> item_weight;  ///< [L,N] or empty; what it weighs, see below
  /// list_mle: p padded slots add log(p!) to their list's loss, as in TF-Ranking. No gradient.
  bool padding_adds_to_list_mle = false;
  float scale = 1.0f;        ///< factor of loss and gradient (a task's weight)
  bool mean = false;         ///< divide both by L, pairwise losses by L N (after the weights)
  bool add_to_loss = false;  ///< *loss += instead of = (a further task of a step)
};

namespace cpu {
void list_loss(const Context& ctx, Matrix<const float> scores, Matrix<const float> labels,
               const ListLossOptions& options, double* loss, Vector<float> row_loss,
               Matrix<float> d_scores);
}  // namespace cpu
namespace cuda {
void list_loss(const Context& ctx, Matrix<const float> scores, Matrix<const float> labels,
               const ListLossOptions& options, double* loss, Vector<float> row_loss,
               Matrix<float> d_scores);
}  // namespace cuda

/// Losses of L lists of up to N items and their gradient:  loss = scale sum_l w_l loss_l  [/ L or L N].
/// A slot with a label below 0 is padding, wherever it lies: it takes no part, its score is not looked at, its
/// gradient is 0. In a list, with t = score / temperature, labels y, item weights v:
///   pairwise_*   sum over pairs y_i > y_j of v_i f(t_i - t_j);  f(d) = max(0, 1 - d), log(1 + exp(-d)) or
///                sigmoid(-d)
///   softmax      -sum_i v_i y_i log softmax(t)_i
///   list_mle     sum over i of log sum_{j not before i} exp(t_j) - t_i, in the order of descending labels;
///                equal labels: the lower slot first (TF-Ranking: at random)
///   approx_ndcg  -sum_i (2^y_i - 1) / log2(1 + r_i) / ideal,  r_i = 1 + sum_{j != i} sigmoid(t_j - t_i), ideal:
///                the same sum in the best order; 0 for a list without a label above 0
/// Item weights weigh the last two losses by list, with (sum_i v_i y_i) / (sum_i y_i), 0 where that is 0 / 0.
/// Shapes       scores, labels [L,N] f32; loss one f64; row_loss [L] f32 (with item weights, without list
///              weights and scale) or empty; d_scores [L,N] f32, overwritten, or empty: loss only
/// Empty        L = 0 or N = 0: adds 0
/// Aliasing     outputs overlap neither each other nor the inputs
/// Limits       CUDA: N <= 2,048
/// Cost         softmax L N; else CPU: L N log N for list_mle, one term for each pair of different labels;
///              CUDA: one block a list, 2 L N^2 terms (list_mle and approx_ndcg read the list twice)
/// Scratch      CPU: 32 bytes a slot of one list for each thread, and one double a list. CUDA: one double a list
/// Numerics     CPU: f64. CUDA: terms in f32, an item's in 32 partial sums that meet in a tree; log-sums around
///              their maximum; a list's sum in f64. Probabilities of padding are 0 exactly (TF-Ranking: as of
///              score log 1e-10). An item whose score, label or weight is not finite makes the loss of its list
///              NaN, and its gradients; that raises kStatusNonFinite.
///              CUDA against CPU: losses to 1e-5, gradients to 1e-5 of the sum of their terms' sizes (at the
///              kink of pairwise_hinge a term may fall on the other side)
/// Determinism  bitwise for any thread count and any schedule: lists stand alone, sums follow from shapes
/// See          tfr.keras.losses; Xia et al., "Listwise approach to learning to rank", 2008; Qin et al., "A
///              general approximation framework for direct optimization of IR measures", 2010
inline void list_loss(const Context& ctx, Matrix<const float> scores, Matrix<const float> labels,
                      const ListLossOptions& options, double* loss, Vector<float> row_loss,
                      Matrix<float> d_scores) {
  const auto same_shape = [&](const auto& m) {
    return m.rows == scores.rows && m.cols == scores.cols;
  };
  require(same_shape(labels), "list_loss: labels must have the shape of scores");
  require(options.temperature > 0, "list_loss: temperature must be greater than 0");
  require(options.list_weight.empty() || options.list_weight.size == scores.rows,
          "list_loss: list_weight must have one value a list");
  require(options.item_weight.data == nullptr || same_shape(options.item_weight),
          "list_loss: item_weight must have the shape of scores");
  require(row_loss.empty() || row_loss.size == scores.rows,
          "list_loss: row_loss must have one value a list");
  require(d_scores.data == nullptr || same_shape(d_scores),
          "list_loss: d_scores must have the shape of scores");
  require(loss != nullptr, "list_loss: loss must be given");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::list_loss(ctx, scores, labels, options, loss, row_loss, d_scores);
    case Backend::cuda:
      if constexpr (kHasCuda::list_loss) {
        return cuda::list_loss(ctx, scores, labels, options, loss, row_loss, d_scores);
      }
  }
  throw_no_backend("list_loss");
}

}  // namespace belfry
