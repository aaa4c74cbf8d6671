// SPDX-License-Identifier: Apache-2.0
#include "kernels/sequence_pool/sequence_pool.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"

namespace belfry::cpu {

namespace {

/// Runs f(list) for tiles of lists, by shape alone: some 128 KiB of steps.
template <class F>
void for_lists(const Context& ctx, std::int64_t lists, std::int64_t floats, F&& f) {
  const std::int64_t tile =
      std::clamp<std::int64_t>(32768 / std::max<std::int64_t>(1, floats), 1, 1024);
  parallel_for(ctx, (lists + tile - 1) / tile, [&](std::int64_t t, int) {
    for (std::int64_t b = t * tile; b < std::min(lists, (t + 1) * tile); ++b) f(b);
  });
}

}  // namespace

void sequence_pool(const Context& ctx, Matrix<const float> x, const SequencePoolOptions& o,
                   Matrix<float> y) {
  for_lists(ctx, y.rows, o.steps * y.cols, [&](std::int64_t b) {
    const CoveredSteps covered(o.mask, b, o.steps);
    float* out = y.row(b);
    if (o.pooling == SequencePooling::last && covered.count > 0) {
      std::copy_n(x.row(b * o.steps + covered.last), y.cols, out);
      return;
    }
    std::fill_n(out, y.cols, 0.0f);
    if (covered.count == 0) return;
    for (std::int64_t t = 0; t < o.steps; ++t) {
      if (!o.mask.covers(b, t, o.steps)) continue;
      const float* in = x.row(b * o.steps + t);
      for (std::int64_t j = 0; j < y.cols; ++j) out[j] += in[j];
    }
    const float count = static_cast<float>(covered.count);
    for (std::int64_t j = 0; j < y.cols; ++j) out[j] /= count;
  });
}

void sequence_pool_grad(const Context& ctx, Matrix<const float> d_y, const SequencePoolOptions& o,
                        Matrix<float> d_x) {
  for_lists(ctx, d_y.rows, o.steps * d_y.cols, [&](std::int64_t b) {
    const CoveredSteps covered(o.mask, b, o.steps);
    const bool last = o.pooling == SequencePooling::last;
    const float count = last ? 1.0f : static_cast<float>(covered.count);
    const float* in = d_y.row(b);
    for (std::int64_t t = 0; t < o.steps; ++t) {
      float* out = d_x.row(b * o.steps + t);
      const bool takes = last ? t == covered.last : o.mask.covers(b, t, o.steps);
      for (std::int64_t j = 0; j < d_y.cols; ++j) out[j] = takes ? in[j] / count : 0.0f;
    }
  });
}

}  // namespace belfry::cpu
