// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Of products on a GPU: fp32, or bf16 operands with fp32 sums on tensor cores. The CPU computes in fp32
/// either way.
enum class Precision { fp32, bf16 };

/// What tfrs.tasks.Retrieval can be told. Every pointer may be empty: the step is then left out.
struct RetrievalSoftmaxOptions {
  float temperature = 1.0f;                  ///< scores are divided by it; > 0
  Vector<const float> log_probability;       ///< [C] log q_j, subtracted after the temperature
  Vector<const std::int64_t> candidate_ids;  ///< [C]: equal ids are accidental hits
  RowLists masked;                     ///< per query: columns left out (its positive excepted)
  std::int64_t hard_negatives = 0;     ///< keep this many best negatives a row; <= 0: all
  Vector<const float> weight;          ///< [B] factor of each row's loss
  bool in_batch = true;                ///< false: the other rows' positives leave the row
  float scale = 1.0f;                  ///< factor of loss and gradients (a task's weight)
  bool mean = false;                   ///< divide loss and gradients by B (after the weights)
  Vector<std::int32_t> positive_rank;  ///< out, [B]: columns still in the row that score above its
                                       ///< positive (in-batch top-k accuracy: rank < k)
  Precision precision = Precision::fp32;
};

namespace cpu {
void retrieval_softmax(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                       Matrix<const float> candidates, const RetrievalSoftmaxOptions& options,
                       double* loss, Vector<float> row_loss, Matrix<float> d_queries,
                       Matrix<float> d_candidates);
}  // namespace cpu
namespace cuda {
void retrieval_softmax(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                       Matrix<const float> candidates, const RetrievalSoftmaxOptions& options,
                       double* loss, Vector<float> row_loss, Matrix<float> d_queries,
                       Matrix<float> d_candidates);
}  // namespace cuda

/// In-batch softmax cross-entropy, loss and both gradients in one op, in TFRS's order of steps:
///   1  s_ij = max_h q_ih . c_j            (row i's positive is candidate i; C > B: extra negatives)
///   2  s_ij /= temperature
///   3  s_ij -= log_probability_j          (logQ; the positive too)
///   .  without in_batch, columns j < B other than the row's own leave it (sampled softmax)
///   4  accidental hits: j != i with candidate_ids[j] == candidate_ids[i] leave the row
///   5  masked columns leave the row       (the positive never does)
///   6  only the positive and the hard_negatives best other columns stay (ties: the smaller column)
///   7  loss_i = logsumexp_j s_ij - s_ii;  loss = scale sum_i w_i loss_i  [/ B]
/// A column that left has probability 0 exactly (TFRS adds -3.4e36: the same for finite scores).
/// Shapes       queries [B*heads, D] f32 (head h of query i is row i*heads + h), candidates [C,D] f32,
///              C >= B; loss one f64, row_loss [B] f32 (unweighted) or empty;
///              d_queries [B*heads, D], d_candidates [C,D] f32, both overwritten; both empty: loss only
/// Empty        B = 0: loss 0, d_candidates 0
/// Aliasing     outputs overlap neither each other nor the inputs
/// Limits       CUDA: at most 32 heads
/// Cost         CPU: 6 B heads C D flops, one exp a score. CUDA: 8 B heads C D and two exps; rows of more than
///              128 columns (bf16: 256) and several heads take slower kernels, and score again for each 64
///              columns (bf16: 128 at 256); hard negatives add 2 B heads C D for each of 6 to 12 digits
/// Scratch      CPU: a tile of scores, 16 to 64 rows by C (and heads), at most 16 MiB a thread unless 16 rows
///              are more; for gradients up to 16 partial d_candidates, 64 MiB in all unless one is more.
///              CUDA: padded copies of queries and candidates in the precision; for gradients partial sums of
///              the splits of both passes, 256 MiB each unless one is more; some 64 bytes a row, 270 more with
///              hard negatives; with ids or masks two bits per 32 queries and 32 candidates.
///              Nothing of size B x C
/// Numerics     f32 products and exps; row sums and the loss in f64; p_ii - 1 without cancellation. A
///              column equal to the positive's gets its score, bit for bit. Heads that tie share the gradient
///              equally. Non-finite loss raises kStatusNonFinite.
///              CUDA against CPU in fp32: scores, ranks and the choice of hard negatives are equal; losses to
///              1e-6, rows of gradients to 1e-5 of their norm.
///              bf16 on a GPU of sm_80 or later (fp32 before): inputs and probabilities are rounded to bf16,
///              sums, exps and row sums are f32, the rest as above. Mean losses to 1e-4, rows of gradients to
///              2e-2 of their norm where their parts do not cancel. In the choice of hard negatives columns
///              compare by these scores
/// Determinism  bitwise for any thread count, any GPU of a generation and any schedule: tiles and partial sums
///              are cut by shape, added in order
/// See          tfrs.tasks.Retrieval.call; Yi et al., "Sampling-bias-corrected neural modeling", 2019
inline void retrieval_softmax(const Context& ctx, Matrix<const float> queries, std::int64_t heads,
                              Matrix<const float> candidates,
                              const RetrievalSoftmaxOptions& options, double* loss,
                              Vector<float> row_loss, Matrix<float> d_queries,
                              Matrix<float> d_candidates) {
  require(heads >= 1 && queries.rows % heads == 0,
          "retrieval_softmax: queries must have heads rows each");
  const std::int64_t b = queries.rows / heads, c = candidates.rows;
  require(c >= b, "retrieval_softmax: every query needs its own candidate (C >= B)");
  require(queries.cols == candidates.cols,
          "retrieval_softmax: queries and candidates differ in width");
  require(options.temperature > 0, "retrieval_softmax: temperature must be greater than 0");
  require(options.log_probability.empty() || options.log_probability.size == c,
          "retrieval_softmax: log_probability must have one value a candidate");
  require(options.candidate_ids.empty() || options.candidate_ids.size == c,
          "retrieval_softmax: candidate_ids must have one value a candidate");
  require(options.weight.empty() || options.weight.size == b,
          "retrieval_softmax: weight must have one value a query");
  require(row_loss.empty() || row_loss.size == b,
          "retrieval_softmax: row_loss must have one value a query");
  require(options.positive_rank.empty() || options.positive_rank.size == b,
          "retrieval_softmax: positive_rank must have one value a query");
  require(c <= std::numeric_limits<std::int32_t>::max(),
          "retrieval_softmax: more candidates than a 32-bit column can number");
  require(loss != nullptr, "retrieval_softmax: loss must be given");
  if (d_queries.data != nullptr || d_candidates.data != nullptr) {
    require((d_queries.data != nullptr || queries.empty()) &&
                (d_candidates.data != nullptr || candidates.empty()),
            "retrieval_softmax: ask for both gradients or for none");
    require(d_queries.rows == queries.rows && d_queries.cols == queries.cols &&
                d_candidates.rows == c && d_candidates.cols == candidates.cols,
            "retrieval_softmax: gradients must have the shapes of their inputs");
  }
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::retrieval_softmax(ctx, queries, heads, candidates, options, loss, row_loss,
                                    d_queries, d_candidates);
    case Backend::cuda:
      if constexpr (kHasCuda::retrieval_softmax) {
        return cuda::retrieval_softmax(ctx, queries, heads, candidates, options, loss, row_loss,
                                       d_queries, d_candidates);
      }
  }
  throw_no_backend("retrieval_softmax");
}

}  // namespace belfry
