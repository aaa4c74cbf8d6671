// SPDX-License-Identifier: Apache-2.0
// Most of the time goes into the generator; what it says of 256 elements is written down, then applied in
// a loop of vectors.
#include "kernels/dropout/dropout.hpp"

#include <algorithm>

#include "kernels/core/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dropout/dropout_cpu.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h:
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace belfry::HWY_NAMESPACE {

constexpr int kBlock = 256;

/// What `options` do to elements first .. first + n - 1 (n at most kBlock, first a multiple of 4):
/// scale[e] is the scale where e is kept, else 0.
void keep_scales(const StepState& state, const Dropout& options, std::int64_t first, int n,
                 float* keep) {
  const float scale = options.scale();
  const std::int64_t group = first / kDropoutGroup;
  const int groups = (n + 3) / 4;
  for (int g = 0; g < groups; ++g) {
    const Philox4 words = dropout_words(state.seed, state.step, options.stream, group + g);
    for (int w = 0; w < 4; ++w) {
      keep[4 * g + w] = dropout_keeps(words.v[w], options.rate) ? scale : 0.0f;
    }
  }
}

/// Elements of one row, of which the first has the number `first` in its matrix.
void drop_run(const StepState& state, const Dropout& options, const float* x, std::int64_t first,
              std::int64_t n, float* y) {
  float keep[kBlock];
  for (std::int64_t done = 0; done < n;) {
    const std::int64_t at = first + done;
    const int skip = static_cast<int>(at % kDropoutGroup);  // a row may begin inside a group
    const int take = static_cast<int>(std::min<std::int64_t>(kBlock - skip, n - done));
    keep_scales(state, options, at - skip, skip + take, keep);
    for (int e = 0; e < take; ++e) {
      const float scale = keep[skip + e], product = x[done + e] * scale;
      y[done + e] = scale != 0.0f ? product : 0.0f;
    }
    done += take;
  }
}

void drop_rows(const StepState& state, Matrix<const float> x, const Dropout& options,
               std::int64_t first_row, std::int64_t end_row, Matrix<float> y) {
  const std::int64_t rows = end_row - first_row;
  if (x.contiguous() && y.contiguous()) {
    return drop_run(state, options, x.row(first_row), first_row * x.cols, rows * x.cols,
                    y.row(first_row));
  }
  for (std::int64_t i = first_row; i < end_row; ++i) {
    drop_run(state, options, x.row(i), i * x.cols, x.cols, y.row(i));
  }
}

}  // namespace belfry::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {

HWY_EXPORT(drop_rows);

namespace cpu {

void dropout(const Context& ctx, Matrix<const float> x, const Dropout& options, Matrix<float> y) {
  if (x.empty()) return;
  const StepState& state = *ctx.state();
  const std::int64_t rows = std::clamp<std::int64_t>(16384 / x.cols, 1, 2048);
  const auto tile = HWY_DYNAMIC_DISPATCH(drop_rows);
  parallel_for(ctx, (x.rows + rows - 1) / rows, [&](std::int64_t t, int) {
    tile(state, x, options, t * rows, std::min(x.rows, (t + 1) * rows), y);
  });
}

}  // namespace cpu
}  // namespace belfry
#endif  // HWY_ONCE
