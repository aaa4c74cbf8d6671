// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

namespace cpu {
void set_zero(const Context& ctx, std::span<const Matrix<float>> parts);
void copy_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to);
void add_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to);
void fill(const Context& ctx, Vector<float> out, float value);
}  // namespace cpu
namespace cuda {
void set_zero(const Context& ctx, std::span<const Matrix<float>> parts);
void copy_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to);
void add_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to);
void fill(const Context& ctx, Vector<float> out, float value);
}  // namespace cuda

/// Elements of all parts to 0.
/// Shapes       parts: any number of [R_p, D_p] f32; what lies between padded rows stays
/// Empty        no parts, or parts without elements: no-op
/// Aliasing     parts must not overlap
/// Cost         one write; on the device one launch for every 16 parts
/// Scratch      none
/// Numerics     exact
/// Determinism  bitwise_cpu_cuda
inline void set_zero(const Context& ctx, std::span<const Matrix<float>> parts) {
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::set_zero(ctx, parts);
    case Backend::cuda:
      if constexpr (kHasCuda::matrix_ops) return cuda::set_zero(ctx, parts);
  }
  throw_no_backend("set_zero");
}
inline void set_zero(const Context& ctx, Matrix<float> m) {
  set_zero(ctx, std::span<const Matrix<float>>(&m, 1));
}

/// to = from
/// Shapes       from, to [R,D] f32; what lies between padded rows stays
/// Empty        R = 0 or D = 0: no-op
/// Aliasing     no overlap
/// Cost         one read, one write: memory-bound
/// Scratch      none
/// Numerics     exact
/// Determinism  bitwise_cpu_cuda
inline void copy_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to) {
  require(from.rows == to.rows && from.cols == to.cols, "copy_matrix: both must have one shape");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::copy_matrix(ctx, from, to);
    case Backend::cuda:
      if constexpr (kHasCuda::matrix_ops) return cuda::copy_matrix(ctx, from, to);
  }
  throw_no_backend("copy_matrix");
}

/// to += from
/// Shapes       from, to [R,D] f32
/// Empty        R = 0 or D = 0: no-op
/// Aliasing     from may be to (same data and pitch: doubles it); otherwise no overlap
/// Cost         two reads, one write: memory-bound
/// Scratch      none
/// Numerics     one f32 addition an element
/// Determinism  bitwise_cpu_cuda
inline void add_matrix(const Context& ctx, Matrix<const float> from, Matrix<float> to) {
  require(from.rows == to.rows && from.cols == to.cols, "add_matrix: both must have one shape");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::add_matrix(ctx, from, to);
    case Backend::cuda:
      if constexpr (kHasCuda::matrix_ops) return cuda::add_matrix(ctx, from, to);
  }
  throw_no_backend("add_matrix");
}

/// out_i = value
/// Shapes       out [n] f32
/// Empty        n = 0: no-op
/// Cost         one write
/// Scratch      none
/// Determinism  bitwise_cpu_cuda
inline void fill(const Context& ctx, Vector<float> out, float value) {
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::fill(ctx, out, value);
    case Backend::cuda:
      if constexpr (kHasCuda::matrix_ops) return cuda::fill(ctx, out, value);
  }
  throw_no_backend("fill");
}

}  // namespace belfry
