// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/core/bf16.hpp"
#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"
#include "kernels/embedding_bag/embedding_bag.hpp"

namespace belfry {

/// The factors of  P(w) = l1 sum |w| + l2 sum w^2.
struct Penalty {
  float l1 = 0, l2 = 0;
  bool none() const { return l1 == 0 && l2 == 0; }
};

namespace cpu {
void penalty(const Context& ctx, const Penalty& factors, Matrix<const float> w, Matrix<float> d_w,
             double* loss);
void penalty(const Context& ctx, const Penalty& factors, Matrix<const bf16> w, Matrix<float> d_w,
             double* loss);
void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const float> table,
                     const RowGradient& gradient, double* loss);
void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const bf16> table,
                     const RowGradient& gradient, double* loss);
void add_rows(const Context& ctx, const RowGradient& from, Matrix<float> to);
}  // namespace cpu
namespace cuda {
void penalty(const Context& ctx, const Penalty& factors, Matrix<const float> w, Matrix<float> d_w,
             double* loss);
void penalty(const Context& ctx, const Penalty& factors, Matrix<const bf16> w, Matrix<float> d_w,
             double* loss);
void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const float> table,
                     const RowGradient& gradient, double* loss);
void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const bf16> table,
                     const RowGradient& gradient, double* loss);
void add_rows(const Context& ctx, const RowGradient& from, Matrix<float> to);
}  // namespace cuda

template <class T>
inline void check_penalty_rows(Matrix<const T> table, const RowGradient& gradient) {
  require(gradient.values.cols == table.cols, "penalty: gradient and table must be of one width");
  require(gradient.values.rows >= gradient.capacity,
          "penalty: the gradient holds fewer rows than its capacity");
}

/// Joins the penalty of a parameter to a step:  d_w += dP/dw,  *loss += P(w)
///   dP/dw = 2 l2 w + l1 sign(w),  sign(0) = 0
/// Shapes       w [R,D] f32 or bf16, d_w [R,D] f32, loss one double in the backend's memory, or null: not told
/// Empty        R = 0 or D = 0: no-op
/// Aliasing     nothing overlaps
/// Cost         reads w and d_w, writes d_w once: memory-bound
/// Scratch      one double a tile of 4096 elements
/// Numerics     the gradient f32, nothing fused; P in float64
/// Determinism  the gradient bitwise_cpu_cuda; *loss bitwise for any thread count: tiles by shape, added in
///              order. The device sums in another order: 1e-12 relative
/// See          Keras 2 regularizers.L1L2; the penalty is part of the loss, before clipping
inline void penalty(const Context& ctx, const Penalty& factors, Matrix<const float> w,
                    Matrix<float> d_w, double* loss) {
  require(w.rows == d_w.rows && w.cols == d_w.cols, "penalty: w and d_w must have one shape");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::penalty(ctx, factors, w, d_w, loss);
    case Backend::cuda:
      if constexpr (kHasCuda::penalty) return cuda::penalty(ctx, factors, w, d_w, loss);
  }
  throw_no_backend("penalty");
}
inline void penalty(const Context& ctx, const Penalty& factors, Matrix<const bf16> w,
                    Matrix<float> d_w, double* loss) {
  require(w.rows == d_w.rows && w.cols == d_w.cols, "penalty: w and d_w must have one shape");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::penalty(ctx, factors, w, d_w, loss);
    case Backend::cuda:
      if constexpr (kHasCuda::penalty) return cuda::penalty(ctx, factors, w, d_w, loss);
  }
  throw_no_backend("penalty");
}

/// The same for the listed rows of a table alone, each counted once: what lists them costs what they cost,
/// whatever the table's height.
/// Shapes       table [V,D] f32 or bf16; gradient as embedding_bag_grad leaves it, its values are added to
/// Empty        no listed rows: no-op
/// Faults       a listed row outside of [0, V) is left out and raises kStatusIdOutOfRange
inline void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const float> table,
                            const RowGradient& gradient, double* loss) {
  check_penalty_rows(table, gradient);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::penalty_of_rows(ctx, factors, table, gradient, loss);
    case Backend::cuda:
      if constexpr (kHasCuda::penalty) {
        return cuda::penalty_of_rows(ctx, factors, table, gradient, loss);
      }
  }
  throw_no_backend("penalty_of_rows");
}
inline void penalty_of_rows(const Context& ctx, const Penalty& factors, Matrix<const bf16> table,
                            const RowGradient& gradient, double* loss) {
  check_penalty_rows(table, gradient);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::penalty_of_rows(ctx, factors, table, gradient, loss);
    case Backend::cuda:
      if constexpr (kHasCuda::penalty) {
        return cuda::penalty_of_rows(ctx, factors, table, gradient, loss);
      }
  }
  throw_no_backend("penalty_of_rows");
}

/// A gradient of distinct rows into one of all rows:  to[rows[i]] += values[i]
/// Shapes       from as embedding_bag_grad leaves it, to [V,D] f32
/// Empty        no listed rows: no-op
/// Aliasing     no overlap
/// Cost         reads and writes the listed rows: memory-bound
/// Scratch      none
/// Numerics     one f32 addition an element
/// Determinism  bitwise_cpu_cuda (rows are distinct)
/// Faults       a listed row outside of [0, V) is left out and raises kStatusIdOutOfRange
inline void add_rows(const Context& ctx, const RowGradient& from, Matrix<float> to) {
  check_penalty_rows(Matrix<const float>(to), from);
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::add_rows(ctx, from, to);
    case Backend::cuda:
      if constexpr (kHasCuda::penalty) return cuda::add_rows(ctx, from, to);
  }
  throw_no_backend("add_rows");
}

}  // namespace belfry
