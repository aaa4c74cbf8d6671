// SPDX-License-Identifier: Apache-2.0
// Multi-head self-attention over padded lists of steps (kernels/core/steps.hpp), between its dense
// layers: those that make q, k and v of the steps, and that of the output, are the caller's.
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/steps.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

/// Columns of one head, at most.
inline constexpr std::int64_t kAttentionMaxKeys = 128;

struct AttentionOptions {
  std::int64_t steps = 1;  ///< T
  std::int64_t heads = 1;  ///< H
  StepMask mask;           ///< of the steps that are attended to; all steps attend
  bool causal = false;     ///< a step attends to itself and earlier ones only
};

struct AttentionCall {
  Matrix<const float> q, k, v;  ///< [B T, H K]; head h has the columns from h K on
  AttentionOptions options;
  Matrix<float> out;      ///< [B T, H K]
  Matrix<float> log_sum;  ///< [B T, H], for backward: log of the softmax's denominator
};

struct AttentionGradCall {
  Matrix<const float> q, k, v;
  AttentionOptions options;
  Matrix<const float> out, log_sum;  ///< as forward left them
  Matrix<const float> d_out;         ///< [B T, H K]
  Matrix<float> d_q, d_k, d_v;       ///< [B T, H K]
};

namespace cpu {
void attention(const Context& ctx, const AttentionCall& call);
void attention_grad(const Context& ctx, const AttentionGradCall& call);
}  // namespace cpu
namespace cuda {
void attention(const Context& ctx, const AttentionCall& call);
void attention_grad(const Context& ctx, const AttentionGradCall& call);
}  // namespace cuda

namespace attention_detail {
template <class A, class B>
bool same_shape(Matrix<A> a, Matrix<B> b) {
  return a.rows == b.rows && a.cols == b.cols;
}
inline void check(Matrix<const float> q, Matrix<const float> k, Matrix<const float> v,
                  const AttentionOptions& o, Matrix<const float> out, Matrix<const float> log_sum) {
  require(o.steps >= 1 && q.rows % o.steps == 0,
          "attention: rows of q must be whole lists of steps");
  require(o.heads >= 1 && q.cols % o.heads == 0, "attention: columns of q must be whole heads");
  require(q.cols / o.heads <= kAttentionMaxKeys, "attention: a head has at most 128 columns");
  require(q.rows <= std::numeric_limits<std::int32_t>::max() / o.heads,
          "attention: rows times heads must fit 31 bits");
  require(same_shape(q, k) && same_shape(q, v) && same_shape(q, out),
          "attention: q, k, v and out must have one shape");
  require(log_sum.rows == q.rows && log_sum.cols == o.heads,
          "attention: log_sum must be rows of q by heads");
}
}  // namespace attention_detail

/// Of every list and head, over the steps j that the mask covers (causal: j <= i only):
///   s_ij = q_i . k_j / sqrt(K);  p_i = softmax_j(s_ij);  out_i = sum_j p_ij v_j
///   log_sum_i = log sum_j exp(s_ij), +infinity where there is no such j
/// Shapes       see AttentionCall, f32, any pitch (q, k, v may be columns of one matrix); K <= 128
/// Empty        B = 0 or K = 0: log_sum is unspecified. A step without any step to attend to has
///              out 0
/// Aliasing     outputs overlap nothing; k and v at steps left out must be finite
/// Cost         4 B H T T K flops. cuda: a block takes 16 steps and streams the keys and values of
///              its head and list through shared memory; all blocks of a list read them from the
///              cache
/// Scratch      cpu: 64 T floats a thread; cuda: none. No T x T matrix, so T may be large
/// Numerics     f32; p of a step left out is exactly 0 (Keras adds -1e9 to s, the same where p is
///              not spread over left-out steps alone: there it averages over them, here out is 0)
/// Determinism  cpu: any thread count; cuda: bitwise, by shapes alone. The backends differ by the
///              order of sums (K, T) and a few ulp of exp: out by some 2e-6 of |v| for scores of
///              order 1, the gradients by 1e-5 of theirs
/// See          tf.keras.layers.MultiHeadAttention
inline void attention(const Context& ctx, const AttentionCall& c) {
  attention_detail::check(c.q, c.k, c.v, c.options, c.out, c.log_sum);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::attention(ctx, c);
    case Backend::cuda:
      if constexpr (kHasCuda::attention) return cuda::attention(ctx, c);
  }
  throw_no_backend("attention");
}

/// Its gradients, from recomputed p:
///   d_s_ij = p_ij (d_out_i . v_j - d_out_i . out_i);  d_v_j = sum_i p_ij d_out_i
///   d_q_i = sum_j d_s_ij k_j / sqrt(K);  d_k_j = sum_i d_s_ij q_i / sqrt(K)
/// Shapes       see AttentionGradCall, f32, any pitch
/// Empty        B = 0 or K = 0: no-op
/// Aliasing     outputs overlap nothing; q, k, v, d_out at all steps must be finite
/// Cost         10 B H T T K flops (cuda: 14, s is made once for d_q and once for d_k and d_v)
/// Scratch      cpu: 128 T floats a thread; cuda: B T H floats
/// Numerics     f32; d_k and d_v of a step left out are exactly 0
/// Determinism  as forward
inline void attention_grad(const Context& ctx, const AttentionGradCall& c) {
  attention_detail::check(c.q, c.k, c.v, c.options, c.out, c.log_sum);
  using attention_detail::same_shape;
  require(same_shape(c.q, c.d_out) && same_shape(c.q, c.d_q) && same_shape(c.q, c.d_k) &&
              same_shape(c.q, c.d_v),
          "attention_grad: d_out, d_q, d_k and d_v must have the shape of q");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::attention_grad(ctx, c);
    case Backend::cuda:
      if constexpr (kHasCuda::attention) return cuda::attention_grad(ctx, c);
  }
  throw_no_backend("attention_grad");
}

}  // namespace belfry
