// SPDX-License-Identifier: Apache-2.0
// What CUDA says of warps: shuffles, votes, matches, reductions, masks, tiles; and the wrappers of PTX:
// mma, ldmatrix, cp.async, exp2. Runs on the executor, and compiled by nvcc on a GPU.
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "device_array.hpp"
#include "kernels/core/simt.hpp"

namespace belfry::conformance {

using test::DeviceArray;
using test::for_each_schedule;
constexpr unsigned kAll = 0xffffffffu;

__global__ void shuffles(int* out, int width, int n) {
  const int lane = static_cast<int>(threadIdx.x);
  const int v = 100 + lane;
  out[lane] = __shfl_sync(kAll, v, n, width);
  out[32 + lane] = __shfl_up_sync(kAll, v, static_cast<unsigned>(n), width);
  out[64 + lane] = __shfl_down_sync(kAll, v, static_cast<unsigned>(n), width);
  out[96 + lane] = __shfl_xor_sync(kAll, v, n, width);
}

TEST(Warp, ShufflesOfEveryWidthAndDistance) {
  DeviceArray<int> out(128);
  for (int width = 1; width <= 32; width *= 2) {
    for (const int n : {0, 1, 3, 16, 31}) {
      simt::launch({.grid = 1, .block = 32}, shuffles, out.data(), width, n);
      const auto got = out.host();
      for (int lane = 0; lane < 32; ++lane) {
        const int first = lane / width * width, last = first + width - 1;
        EXPECT_EQ(got[lane], 100 + first + n % width);
        EXPECT_EQ(got[32 + lane], 100 + (lane - n >= first ? lane - n : lane));
        EXPECT_EQ(got[64 + lane], 100 + (lane + n <= last ? lane + n : lane));
        EXPECT_EQ(got[96 + lane], 100 + ((lane ^ n) <= last ? lane ^ n : lane));
      }
    }
  }
}

__global__ void shuffle_types(double* d, long long* l, float* f, unsigned* u) {
  const int lane = static_cast<int>(threadIdx.x);
  const int from = 31 - lane;
  d[lane] = __shfl_sync(kAll, lane + 0.125, from);
  l[lane] = __shfl_sync(kAll, (1ll << 40) * lane, from);
  f[lane] = __shfl_sync(kAll, static_cast<float>(lane) * 0.5f, from);
  u[lane] = __shfl_sync(kAll, 0xf0000000u + static_cast<unsigned>(lane), from);
}

TEST(Warp, ShufflesMoveFourAndEightBytes) {
  for_each_schedule([] {
    DeviceArray<double> d(32);
    DeviceArray<long long> l(32);
    DeviceArray<float> f(32);
    DeviceArray<unsigned> u(32);
    simt::launch({.grid = 1, .block = 32}, shuffle_types, d.data(), l.data(), f.data(), u.data());
    for (int i = 0; i < 32; ++i) {
      EXPECT_EQ(d.host()[i], 31 - i + 0.125);
      EXPECT_EQ(l.host()[i], (1ll << 40) * (31 - i));
      EXPECT_EQ(f.host()[i], 0.5f * static_cast<float>(31 - i));
      EXPECT_EQ(u.host()[i], 0xf0000000u + static_cast<unsigned>(31 - i));
    }
  });
}

__global__ void votes(unsigned* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  unsigned* mine = out + threadIdx.x * 8;
  mine[0] = __ballot_sync(kAll, lane % 5 == 0);
  mine[1] = static_cast<unsigned>(__any_sync(kAll, lane == 31) + 2 * __any_sync(kAll, lane == 40));
  mine[2] = static_cast<unsigned>(__all_sync(kAll, lane < 32) + 2 * __all_sync(kAll, lane < 31));
  mine[3] = __match_any_sync(kAll, lane % 7);
  int same = -1;
  mine[4] = __match_all_sync(kAll, 42ll << 33, &same);
  mine[5] = static_cast<unsigned>(same);
  mine[6] = __match_all_sync(kAll, lane / 31, &same);
  mine[7] = static_cast<unsigned>(same);
}

TEST(Warp, VotesAndMatches) {
  for_each_schedule([] {
    DeviceArray<unsigned> out(64 * 8);
    simt::launch({.grid = 1, .block = 64}, votes, out.data());
    const auto got = out.host();
    for (int i = 0; i < 64; ++i) {
      unsigned fifth = 0, seventh = 0;
      for (int lane = 0; lane < 32; ++lane) {
        fifth |= (lane % 5 == 0 ? 1u : 0u) << lane;
        seventh |= (lane % 7 == i % 32 % 7 ? 1u : 0u) << lane;
      }
      const std::vector<unsigned> want = {fifth, 1, 1, seventh, kAll, 1, 0, 0};
      EXPECT_EQ(std::vector<unsigned>(got.begin() + i * 8, got.begin() + i * 8 + 8), want);
    }
  });
}

__global__ void reductions(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const auto u = static_cast<unsigned>(lane) * 0x08000001u;
  const int v[9] = {__reduce_add_sync(kAll, lane - 10),
                    __reduce_min_sync(kAll, lane - 10),
                    __reduce_max_sync(kAll, lane - 10),
                    static_cast<int>(__reduce_add_sync(kAll, u)),
                    static_cast<int>(__reduce_min_sync(kAll, u + 5)),
                    static_cast<int>(__reduce_max_sync(kAll, u)),
                    static_cast<int>(__reduce_and_sync(kAll, u | 0x100u)),
                    static_cast<int>(__reduce_or_sync(kAll, u)),
                    static_cast<int>(__reduce_xor_sync(kAll, 1u << (lane / 3)))};
  for (int i = 0; i < 9; ++i) out[i * 32 + lane] = v[i];
}

TEST(Warp, IntegerReductions) {
  for_each_schedule([] {
    DeviceArray<int> out(9 * 32);
    simt::launch({.grid = 1, .block = 32}, reductions, out.data());
    const auto got = out.host();
    unsigned sum = 0, all = ~0u, any = 0, parity = 0;
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned u = lane * 0x08000001u;
      sum += u, all &= u | 0x100u, any |= u, parity ^= 1u << (lane / 3);
    }
    const unsigned want[9] = {
        176, static_cast<unsigned>(-10), 21, sum, 5, 31 * 0x08000001u, all, any, parity};
    for (int i = 0; i < 9 * 32; ++i) EXPECT_EQ(static_cast<unsigned>(got[i]), want[i / 32]) << i;
  });
}

/// Halves of a warp go their own ways, with masks of their own; then the whole warp meets again.
__global__ void divergent_halves(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int v = 0;
  if (lane < 16) {
    v = __shfl_xor_sync(0x0000ffffu, lane, 1);
    v += __shfl_xor_sync(0x0000ffffu, v, 8);
  } else {
    v = 1000 * static_cast<int>(__ballot_sync(0xffff0000u, lane % 2) >> 16);
  }
  out[threadIdx.x] = v + __shfl_sync(kAll, lane, 5);
}

TEST(Warp, DisjointMasks) {
  for_each_schedule([] {
    DeviceArray<int> out(64);
    simt::launch({.grid = 1, .block = 64}, divergent_halves, out.data());
    const auto got = out.host();
    for (int i = 0; i < 64; ++i) {
      const int lane = i % 32;
      EXPECT_EQ(got[i], (lane < 16 ? (lane ^ 1) + (lane ^ 8 ^ 1) : 1000 * 0xaaaa) + 5);
    }
  });
}

/// Lanes exchange through shared memory; __syncwarp alone orders it.
__global__ void exchange(int* out) {
  SIMT_SHARED_ARRAY(int, line, [64]);
  const int i = static_cast<int>(threadIdx.x);
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    line[i] = i + 100 * round;
    __syncwarp();
    sum += line[i ^ 5];
    __syncwarp();
  }
  out[i] = sum;
}

TEST(Warp, SyncwarpOrdersMemory) {
  for_each_schedule([] {
    DeviceArray<int> out(64);
    simt::launch({.grid = 1, .block = 64}, exchange, out.data());
    const auto got = out.host();
    for (int i = 0; i < 64; ++i) EXPECT_EQ(got[i], 3 * (i ^ 5) + 300);
  });
}

/// A warp of 8 lanes at the end of a block, and lanes that have left: full masks mean those there are.
__global__ void incomplete_warp(int* out) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= 38) return;
  out[i] = __popc(__ballot_sync(kAll, 1));
}

TEST(Warp, LanesThatAreNotThere) {
  for_each_schedule([] {
    DeviceArray<int> out(38);
    simt::launch({.grid = 1, .block = 40}, incomplete_warp, out.data());
    const auto got = out.host();
    for (int i = 0; i < 38; ++i) EXPECT_EQ(got[i], i < 32 ? 32 : 6);
  });
}

__global__ void tiles(int* out) {
  const auto block = simt::cg::this_thread_block();
  const auto tile = simt::cg::tiled_partition<8>(block);
  const int v = static_cast<int>(block.thread_rank());
  out[v] = simt::cg::reduce(tile, v, simt::cg::plus<int>()) +
           1000 * static_cast<int>(tile.ballot(v % 2)) + 1000000 * tile.shfl(v, 3) +
           100000000 * static_cast<int>(tile.meta_group_rank());
  block.sync();
  if (v == 0)
    out[48] = simt::cg::reduce(simt::cg::tiled_partition<1>(block), 7, simt::cg::less<int>());
}

TEST(Warp, Tiles) {
  for_each_schedule([] {
    DeviceArray<int> out(49);
    simt::launch({.grid = 1, .block = 48}, tiles, out.data());
    const auto got = out.host();
    for (int i = 0; i < 48; ++i) {
      const int t = i / 8, sum = 64 * t + 28;
      EXPECT_EQ(got[i], sum + 1000 * 0xaa + 1000000 * (8 * t + 3) + 100000000 * t);
    }
    EXPECT_EQ(got[48], 7);
  });
}

/// d = a b + c with fragments taken from memory by the layout of the PTX manual.
__global__ void one_mma(const __nv_bfloat16* a, const __nv_bfloat16* b, const float* c, float* d) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  const auto pack = [](__nv_bfloat16 low, __nv_bfloat16 high) {
    return static_cast<std::uint32_t>(__bfloat16_as_ushort(high)) << 16 | __bfloat16_as_ushort(low);
  };
  std::uint32_t fa[4], fb[2];
  float fc[4], fd[4];
  for (int r = 0; r < 4; ++r) {
    const int row = g + r % 2 * 8, column = 2 * t + r / 2 * 8;
    fa[r] = pack(a[row * 16 + column], a[row * 16 + column + 1]);
  }
  for (int r = 0; r < 2; ++r) {
    const int row = 2 * t + 8 * r;
    fb[r] = pack(b[row * 8 + g], b[(row + 1) * 8 + g]);
  }
  for (int e = 0; e < 4; ++e) fc[e] = c[(g + e / 2 * 8) * 8 + 2 * t + e % 2];
  simt::mma_m16n8k16_bf16(fd, fa, fb, fc);
  for (int e = 0; e < 4; ++e) d[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = fd[e];
}

TEST(Wrappers, Mma) {
  for_each_schedule([] {
    std::vector<__nv_bfloat16> a(16 * 16), b(16 * 8);
    std::vector<float> c(16 * 8);
    for (int i = 0; i < 256; ++i)
      a[i] = __float2bfloat16(static_cast<float>((i * 7 + i / 16) % 13 - 6));
    for (int i = 0; i < 128; ++i)
      b[i] = __float2bfloat16(static_cast<float>((i * 5 + i / 8) % 11 - 5));
    for (int i = 0; i < 128; ++i) c[i] = static_cast<float>(i) - 64.0f;
    DeviceArray<__nv_bfloat16> da(a), db(b);
    DeviceArray<float> dc(c), dd(128);
    simt::launch({.grid = 1, .block = 32}, one_mma, da.data(), db.data(), dc.data(), dd.data());
    const auto got = dd.host();
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 8; ++j) {
        float sum = c[i * 8 + j];  // small integers: exact
        for (int k = 0; k < 16; ++k)
          sum += __bfloat162float(a[i * 16 + k]) * __bfloat162float(b[k * 8 + j]);
        EXPECT_EQ(got[i * 8 + j], sum) << i << " " << j;
      }
    }
  });
}

/// What kernels/topk_scores/README.md assumes of the hardware, 3.: an error of at most 2^-17 (|c| + sum |a b|) +
/// 2^-120, whatever cancels or lies far apart; and an infinite start without sign keeps no sign.
TEST(Wrappers, MmaErrorIsBounded) {
  unsigned state = 12345;
  const auto next = [&state](unsigned below) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
  };
  const auto value = [&](int spread) {
    const float m = 1.0f + static_cast<float>(next(1u << 20)) * 0x1p-20f;
    const int e = static_cast<int>(next(static_cast<unsigned>(2 * spread + 1))) - spread;
    return std::ldexp(next(2) == 0 ? m : -m, e);
  };
  for (const int spread : {0, 1, 4, 12, 40}) {
    for (int round = 0; round < 20; ++round) {
      std::vector<__nv_bfloat16> a(16 * 16), b(16 * 8);
      std::vector<float> c(16 * 8);
      for (auto& x : a) x = __float2bfloat16(value(spread));
      for (auto& x : b) x = __float2bfloat16(value(spread));
      for (int i = 0; i < 128; ++i) {
        double sum = 0;  // start at minus the sum: all of it cancels
        for (int k = 0; k < 16; ++k) {
          sum += double{__bfloat162float(a[i / 8 * 16 + k])} * __bfloat162float(b[k * 8 + i % 8]);
        }
        c[i] = round % 2 == 0 ? -static_cast<float>(sum) : value(spread);
      }
      c[7] = std::numeric_limits<float>::infinity();
      DeviceArray<__nv_bfloat16> da(a), db(b);
      DeviceArray<float> dc(c), dd(128);
      simt::launch({.grid = 1, .block = 32}, one_mma, da.data(), db.data(), dc.data(), dd.data());
      const auto got = dd.host();
      EXPECT_EQ(got[7], c[7]);
      for (int i = 0; i < 128; ++i) {
        if (i == 7) continue;
        double sum = c[i], size = std::abs(c[i]);
        for (int k = 0; k < 16; ++k) {
          const double product =
              double{__bfloat162float(a[i / 8 * 16 + k])} * __bfloat162float(b[k * 8 + i % 8]);
          sum += product;
          size += std::abs(product);
        }
        ASSERT_LE(std::abs(got[i] - sum), 0x1p-17 * size + 0x1p-120) << "spread " << spread;
      }
    }
  }
}

__global__ void load_matrices(const std::uint16_t* in, std::uint32_t* out) {
  SIMT_SHARED_ARRAY(uint4, rows, [32]);  // four 8x8 matrices, one row a lane
  const int lane = static_cast<int>(threadIdx.x);
  rows[lane] = reinterpret_cast<const uint4*>(in)[lane];
  __syncthreads();
  std::uint32_t x4[4], x4t[4], x2[2], x2t[2];
  simt::ldmatrix_x4(x4, &rows[lane]);
  simt::ldmatrix_x4_trans(x4t, &rows[lane]);
  simt::ldmatrix_x2(x2, &rows[lane % 16]);
  simt::ldmatrix_x2_trans(x2t, &rows[lane % 16]);
  for (int j = 0; j < 4; ++j) out[j * 32 + lane] = x4[j];
  for (int j = 0; j < 4; ++j) out[(4 + j) * 32 + lane] = x4t[j];
  for (int j = 0; j < 2; ++j) out[(8 + j) * 32 + lane] = x2[j];
  for (int j = 0; j < 2; ++j) out[(10 + j) * 32 + lane] = x2t[j];
}

TEST(Wrappers, Ldmatrix) {
  for_each_schedule([] {
    std::vector<std::uint16_t> in(256);
    std::iota(in.begin(), in.end(), std::uint16_t{1});
    DeviceArray<std::uint16_t> x(in);
    DeviceArray<std::uint32_t> y(12 * 32);
    simt::launch({.grid = 1, .block = 32}, load_matrices, x.data(), y.data());
    const auto got = y.host();
    for (int j = 0; j < 4; ++j) {
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = 2 * (lane % 4);
        const auto at = [&](int row, int column) {
          return std::uint32_t{in[j * 64 + row * 8 + column]};
        };
        const std::uint32_t plain = at(g, t) | at(g, t + 1) << 16;
        const std::uint32_t transposed = at(t, g) | at(t + 1, g) << 16;
        EXPECT_EQ(got[j * 32 + lane], plain);
        EXPECT_EQ(got[(4 + j) * 32 + lane], transposed);
        if (j >= 2) continue;
        EXPECT_EQ(got[(8 + j) * 32 + lane], plain);
        EXPECT_EQ(got[(10 + j) * 32 + lane], transposed);
      }
    }
  });
}

/// What retrieval_softmax assumes of the hardware: the transposed product has the same bits, so that a score
/// is the same in its row pass and its column pass.
TEST(Wrappers, MmaOfSwappedOperandsIsTheTransposed) {
  unsigned state = 99;
  const auto value = [&state] {
    state = state * 1664525u + 1013904223u;
    const float m = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
    return std::ldexp(m, static_cast<int>(state >> 4 & 7) - 4);
  };
  for (int round = 0; round < 20; ++round) {
    std::vector<__nv_bfloat16> a(16 * 16), b(16 * 8), at(16 * 8), bt(16 * 16);
    std::vector<float> c(16 * 8), ct(16 * 8);
    for (int i = 0; i < 8; ++i) {
      for (int k = 0; k < 16; ++k) {
        at[k * 8 + i] = a[i * 16 + k] = __float2bfloat16(value());
        bt[i * 16 + k] = b[k * 8 + i] = __float2bfloat16(value());
      }
      for (int j = 0; j < 8; ++j) ct[j * 8 + i] = c[i * 8 + j] = value();
    }
    DeviceArray<__nv_bfloat16> da(a), db(b), dat(at), dbt(bt);
    DeviceArray<float> dc(c), dct(ct), dd(128), ddt(128);
    simt::launch({.grid = 1, .block = 32}, one_mma, da.data(), db.data(), dc.data(), dd.data());
    simt::launch({.grid = 1, .block = 32}, one_mma, dbt.data(), dat.data(), dct.data(), ddt.data());
    const auto got = dd.host(), transposed = ddt.host();
    for (int i = 0; i < 64; ++i)
      EXPECT_EQ(got[i], transposed[i % 8 * 8 + i / 8]) << round << " " << i;
  }
}

__global__ void powers_of_two(const float* x, float* y, int n) {
  for (int i = static_cast<int>(threadIdx.x); i < n; i += 32) y[i] = simt::exp2_approx(x[i]);
}

TEST(Wrappers, Exp2Approx) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> in = {0, 1, -1, 8, -125.5f, -127, -200, -inf, inf, 128.5f};
  for (float x = -126; x < 20; x += 0.37f) in.push_back(x);
  in.push_back(std::numeric_limits<float>::quiet_NaN());
  DeviceArray<float> x(in), y(x.size());
  simt::launch({.grid = 1, .block = 32}, powers_of_two, x.data(), y.data(),
               static_cast<int>(in.size()));
  const auto got = y.host();
  EXPECT_EQ(got[0], 1.0f);
  EXPECT_EQ(got[1], 2.0f);
  EXPECT_EQ(got[5], 0.0f);  // would be subnormal
  EXPECT_EQ(got[7], 0.0f);
  EXPECT_EQ(got[8], inf);
  EXPECT_EQ(got[9], inf);
  for (std::size_t i = 0; i + 1 < in.size(); ++i) {
    const double exact = std::exp2(double{in[i]});
    if (exact < 0x1p-126 || exact > 0x1p127) continue;
    EXPECT_NEAR(got[i] / exact, 1, 0x1p-21) << in[i];
  }
  EXPECT_TRUE(std::isnan(got.back()));
}

/// Two groups under way at once; waits for the older one, then for all. Odd copies are cut short.
__global__ void copy_in_groups(const float4* in, float4* out) {
  SIMT_SHARED_ARRAY(float4, first, [32]);
  SIMT_SHARED_ARRAY(float4, second, [32]);
  const int i = static_cast<int>(threadIdx.x);
  simt::cp_async<16>(&first[i], &in[i], i % 2 == 0 ? 16 : 8);
  simt::cp_async_commit();
  for (int k = 0; k < 4; ++k) simt::cp_async<4>(&second[i].x + k, &in[32 + i].x + k);
  simt::cp_async_commit();
  simt::cp_async_wait<1>();
  __syncthreads();
  out[i] = first[31 - i];
  simt::cp_async_wait<0>();
  __syncthreads();
  out[32 + i] = second[31 - i];
}

TEST(Wrappers, CpAsync) {
  for_each_schedule([] {
    std::vector<float4> in(64);
    for (int i = 0; i < 64; ++i) {
      const auto x = static_cast<float>(i);
      in[i] = make_float4(x, x + 0.25f, x + 0.5f, x + 0.75f);
    }
    DeviceArray<float4> x(in), y(64);
    simt::launch({.grid = 1, .block = 32}, copy_in_groups, x.data(), y.data());
    const auto got = y.host();
    for (int i = 0; i < 64; ++i) {
      const int from = i < 32 ? 31 - i : 95 - i;
      const bool cut = i < 32 && from % 2 == 1;
      EXPECT_EQ(got[i].x, in[from].x);
      EXPECT_EQ(got[i].y, in[from].y);
      EXPECT_EQ(got[i].z, cut ? 0.0f : in[from].z);
      EXPECT_EQ(got[i].w, cut ? 0.0f : in[from].w);
    }
  });
}

}  // namespace belfry::conformance
