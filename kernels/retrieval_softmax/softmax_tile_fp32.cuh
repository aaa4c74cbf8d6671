// SPDX-License-Identifier: Apache-2.0
// Tile policy of the fp32 path. A score is one chain of fused multiply-adds over the depth, as on the CPU, so
// that both sides agree to the bit. Lanes hold what the tensor-core path's lanes hold (softmax_unit.cuh).
#pragma once

#include "kernels/retrieval_softmax/softmax_unit.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

/// kDepth: columns of a row in shared memory; kOut: columns of the sums of one block.
template <int kDepthOfTile, int kWarpsOfTile = 2>
struct Fp32Tile {
  using Element = float;
  using Total = double;  // row sums
  static constexpr bool kLog2 = false;
  static constexpr int kDepth = kDepthOfTile, kOut = kDepth;
  static constexpr int kWarps = kWarpsOfTile, kThreads = kWarps * kWarp, kRows = kWarps * kUnit;
  static constexpr int kStreamed = 32, kStages = 2, kBlocks = 2;
  static constexpr int kPitch = kDepth + 4;  // so that 8 rows' float4 lie in different banks
  static constexpr int kWeightPitch = kUnit + 4;
  static constexpr int kExchange = kUnit * kWeightPitch;  // floats a warp
  static constexpr float kSlack = 0.0f;                   // the maximum is exact

  /// What a warp keeps at hand of its own 32 rows.
  struct Stationary {
    const float* rows;
    __device__ __forceinline__ explicit Stationary(const float* shared) : rows(shared) {}
    __device__ __forceinline__ void load() {}
  };
  struct Sums {
    float v[2][kOut / 8][4] = {};
  };

  /// s += stationary rows times 32 streamed rows. Chains in the order of the depth.
  static __device__ __forceinline__ void score(Unit& s, const Stationary& a,
                                               const float* streamed) {
    const float* q = a.rows + first_row() * kPitch;
    const float* k = streamed + first_column() * kPitch;
#pragma unroll 1
    for (int d = 0; d < kDepth; d += 4) {
      float4 x[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = *reinterpret_cast<const float4*>(q + 8 * i * kPitch + d);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float4 y = *reinterpret_cast<const float4*>(k + (8 * n + e) * kPitch + d);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& sum = s.at(i, n, e);
            sum = fmaf(x[i].x, y.x, sum);
            sum = fmaf(x[i].y, y.y, sum);
            sum = fmaf(x[i].z, y.z, sum);
            sum = fmaf(x[i].w, y.w, sum);
          }
        }
      }
    }
  }

  static __device__ __forceinline__ float exponential(float score, float, float shift) {
    return expf(score - shift);
  }

  /// o += weights times columns of the 32 streamed rows. Weights pass through the warp's `exchange`: a lane
  /// has those of 8 columns and needs those of all.
  static __device__ __forceinline__ void accumulate(Sums& o, const Unit& weights,
                                                    const float* streamed, float* exchange) {
    float* to = exchange + first_row() * kWeightPitch + first_column();
#pragma unroll
    for (int s = 0; s < 4; ++s) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        *reinterpret_cast<float2*>(to + 8 * s * kWeightPitch + 8 * n) =
            make_float2(weights.at(s, n, 0), weights.at(s, n, 1));
      }
    }
    __syncwarp();
    const float* w = exchange + first_row() * kWeightPitch;
    const float* k = streamed + first_column();
#pragma unroll 1
    for (int j = 0; j < kUnit; j += 4) {
      float4 p[4];
#pragma unroll
      for (int s = 0; s < 4; ++s)
        p[s] = *reinterpret_cast<const float4*>(w + 8 * s * kWeightPitch + j);
#pragma unroll
      for (int jj = 0; jj < 4; ++jj) {
#pragma unroll
        for (int n = 0; n < kOut / 8; ++n) {
          const float2 y = *reinterpret_cast<const float2*>(k + (j + jj) * kPitch + 8 * n);
#pragma unroll
          for (int s = 0; s < 4; ++s) {
            const float x = jj == 0 ? p[s].x : jj == 1 ? p[s].y : jj == 2 ? p[s].z : p[s].w;
            float(&sum)[4] = o.v[s / 2][n];
            sum[s % 2 * 2] = fmaf(x, y.x, sum[s % 2 * 2]);
            sum[s % 2 * 2 + 1] = fmaf(x, y.y, sum[s % 2 * 2 + 1]);
          }
        }
      }
    }
    __syncwarp();  // before the next unit's weights
  }
};

}  // namespace belfry::cuda::retrieval_softmax_kernels
