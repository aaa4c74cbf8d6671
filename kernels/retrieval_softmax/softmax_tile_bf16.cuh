// SPDX-License-Identifier: Apache-2.0
// Tile policy of the tensor-core path: bf16 operands, fp32 sums, exps of base 2. Weights stay in registers:
// what the first product leaves in a lane is what the second one wants there as its left operand.
#pragma once

#include "kernels/retrieval_softmax/softmax_unit.cuh"

namespace belfry::cuda::retrieval_softmax_kernels {

template <int kDepthOfTile, int kWarpsOfTile = kDepthOfTile <= 128 ? 4 : 2>
struct Bf16Tile {
  using Element = __nv_bfloat16;
  using Total = float;
  static constexpr bool kLog2 = true;
  static constexpr int kDepth = kDepthOfTile, kOut = kDepth < 128 ? kDepth : 128;
  static constexpr int kWarps = kWarpsOfTile, kThreads = kWarps * kWarp;
  static constexpr int kRows = kWarps * kUnit;
  static constexpr int kStreamed = kDepth > 128 ? 32 : 64, kStages = 3;
  static constexpr int kBlocks = kDepth > 128 ? 1 : 2;  // resident on an SM
  static constexpr int kPitch = kDepth + 8;  // so that 8 rows of ldmatrix lie in different banks
  static constexpr int kExchange = 0;
  /// The maximum that exps refer to moves only when a score is this far above it: exps stay below 2^8, and
  /// hardly any unit pays for a move.
  static constexpr float kSlack = 8.0f;
  static constexpr bool kKeep = kDepth <= 64;  // the warp's own rows in registers

  struct Stationary {
    const Element* at;
    std::uint32_t kept[kKeep ? kDepth / 16 : 1][2][4];

    __device__ __forceinline__ explicit Stationary(const Element* shared)
        : at(shared + lane_of_warp() % 16 * kPitch + lane_of_warp() / 16 * 8) {}
    __device__ __forceinline__ void load() {
      if constexpr (kKeep) {
#pragma unroll
        for (int k = 0; k < kDepth / 16; ++k) read(k, kept[k]);
      }
    }
    __device__ __forceinline__ void read(int k, std::uint32_t (&a)[2][4]) const {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        simt::ldmatrix_x4(a[half], at + 16 * half * kPitch + 16 * k);
      }
    }
  };
  struct Sums {
    float v[2][kOut / 8][4] = {};
  };

  /// d[2 blocks of 8 columns] += a b, b being two fragments as ldmatrix_x4 gives them.
  static __device__ __forceinline__ void multiply(float (&d)[4], float (&next)[4],
                                                  const std::uint32_t (&a)[4],
                                                  const std::uint32_t (&b)[4]) {
    const std::uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
    simt::mma_m16n8k16_bf16(d, a, low, d);
    simt::mma_m16n8k16_bf16(next, a, high, next);
  }

  /// s += stationary rows times 32 streamed rows.
  static __device__ __forceinline__ void score(Unit& s, const Stationary& a,
                                               const Element* streamed) {
    const int lane = lane_of_warp();
    const Element* at = streamed + (lane % 8 + lane / 16 * 8) * kPitch + lane / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      std::uint32_t own[2][4];
      if constexpr (!kKeep) a.read(k, own);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        std::uint32_t b[4];
        simt::ldmatrix_x4(b, at + 16 * n * kPitch + 16 * k);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if constexpr (kKeep) {
            multiply(s.v[half][2 * n], s.v[half][2 * n + 1], a.kept[k][half], b);
          } else {
            multiply(s.v[half][2 * n], s.v[half][2 * n + 1], own[half], b);
          }
        }
      }
    }
  }

  /// 2^(score multiplier - shift).
  static __device__ __forceinline__ float exponential(float score, float multiplier, float shift) {
    return simt::exp2_approx(fmaf(score, multiplier, -shift));
  }

  static __device__ __forceinline__ std::uint32_t pack(float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&both);
  }

  /// o += weights, rounded to bf16, times columns of the 32 streamed rows.
  static __device__ __forceinline__ void accumulate(Sums& o, const Unit& weights,
                                                    const Element* streamed, float*) {
    std::uint32_t a[2][2][4];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float(&near)[4] = weights.v[half][2 * j];
        const float(&far)[4] = weights.v[half][2 * j + 1];
        a[j][half][0] = pack(near[0], near[1]);
        a[j][half][1] = pack(near[2], near[3]);
        a[j][half][2] = pack(far[0], far[1]);
        a[j][half][3] = pack(far[2], far[3]);
      }
    }
    const int lane = lane_of_warp();
    const Element* at = streamed + lane % 16 * kPitch + lane / 16 * 8;
#pragma unroll
    for (int n = 0; n < kOut / 16; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        std::uint32_t b[4];
        simt::ldmatrix_x4_trans(b, at + 16 * j * kPitch + 16 * n);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          multiply(o.v[half][2 * n], o.v[half][2 * n + 1], a[j][half], b);
        }
      }
    }
  }
};

}  // namespace belfry::cuda::retrieval_softmax_kernels
