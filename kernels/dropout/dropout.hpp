// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/core/built_ops.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/core/view.hpp"

namespace belfry {

struct Dropout {
  float rate = 0.0f;         ///< share of elements that become 0, in [0, 1)
  std::uint32_t stream = 0;  ///< number of the layer in its model: no two of them drop alike

  /// What kept elements are multiplied by, so that the expected value stays.
  float scale() const { return 1.0f / (1.0f - rate); }
};

/// Layers of a model have numbers below this.
inline constexpr std::uint32_t kMostDropoutStreams = 1u << 16;
/// Elements that share one call of the generator.
inline constexpr std::int64_t kDropoutGroup = 4;

/// The words of elements 4 group .. 4 group + 3, counted in row-major order, in one step of one layer.
BELFRY_HD inline Philox4 dropout_words(std::uint64_t seed, std::int64_t step, std::uint32_t stream,
                                       std::int64_t group) {
  const std::uint64_t sub =
      static_cast<std::uint64_t>(step) | (static_cast<std::uint64_t>(stream) << 40);
  return random_words(seed, RandomStream::dropout, sub, static_cast<std::uint64_t>(group));
}
BELFRY_HD inline bool dropout_keeps(std::uint32_t word, float rate) {
  return uniform_float(word) >= rate;
}

namespace cpu {
void dropout(const Context& ctx, Matrix<const float> x, const Dropout& options, Matrix<float> y);
}  // namespace cpu
namespace cuda {
void dropout(const Context& ctx, Matrix<const float> x, const Dropout& options, Matrix<float> y);
}  // namespace cuda

/// Elements at random to 0:  y = x / (1 - rate) where kept, 0 where not (a NaN that is dropped, too)
/// Shapes       x, y [B,D] f32, any pitch
/// Empty        B = 0 or D = 0: no-op
/// Aliasing     y may be x (same data and pitch)
/// Cost         reads and writes B D floats, a quarter of a Philox call an element
/// Scratch      none: nothing is kept for the gradient
/// Numerics     f32: x times the rounded 1 / (1 - rate). An element is kept if its word, 24 bits as a
///              number in [0, 1), is not below the rate
/// Determinism  bitwise_cpu_cuda. What is dropped follows from (seed, step, stream, element) alone:
///              the same for any thread count, after a resume, and whatever the pitch
/// See          tf.keras.layers.Dropout
inline void dropout(const Context& ctx, Matrix<const float> x, const Dropout& options,
                    Matrix<float> y) {
  require(x.rows == y.rows && x.cols == y.cols, "dropout: y must have the shape of x");
  require(y.empty() || y.data != x.data || y.pitch == x.pitch,
          "dropout: y may be x only with its pitch");
  require(options.rate >= 0.0f && options.rate < 1.0f, "dropout: the rate must lie in [0, 1)");
  require(options.stream < kMostDropoutStreams, "dropout: the stream's number is too large");
  switch (ctx.backend()) {
    case Backend::cpu:
      return cpu::dropout(ctx, x, options, y);
    case Backend::cuda:
      if constexpr (kHasCuda::dropout) return cuda::dropout(ctx, x, options, y);
  }
  throw_no_backend("dropout");
}

/// Its gradient:  d_x = d_y / (1 - rate) where kept, 0 where not: the same function of d_y, in the same
/// step, with the same options. Everything else as above.
inline void dropout_grad(const Context& ctx, Matrix<const float> d_y, const Dropout& options,
                         Matrix<float> d_x) {
  dropout(ctx, d_y, options, d_x);
}

}  // namespace belfry
