// SPDX-License-Identifier: Apache-2.0
// The logistic function, without cancellation on either side.
#pragma once

#include "kernels/core/simt.hpp"

namespace belfry::cuda {

struct Logistic {
  float value;       ///< 1 / (1 + exp(-x))
  float complement;  ///< 1 - value, without cancellation
};
__device__ __forceinline__ Logistic logistic(float x) {
  const float e = expf(-fabsf(x));
  const float large = 1.0f / (1.0f + e);  // of |x|
  const float small = e * large;
  return x < 0.0f ? Logistic{small, large} : Logistic{large, small};
}

}  // namespace belfry::cuda
