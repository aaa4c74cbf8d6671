// SPDX-License-Identifier: Apache-2.0
// Attention on the device. A block owns kOwned steps of one list and head, four a warp, and streams
// kStreamed other ones at a time through shared memory. A warp's lanes stand for streamed steps
// where scores are made, and for columns where rows are summed; in between the probabilities lie in
// shared memory.
//
// Three kernels of that form: forward and d_q own queries and stream keys and values; d_k and d_v
// own keys and values and stream queries and d_out. Backward makes the probabilities again from
// log_sum.
#include "kernels/attention/attention.hpp"

#include <cmath>

#include "kernels/core/block.cuh"

namespace belfry::cuda {
namespace attention_kernels {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kRows = 4;  // owned by a warp: what a streamed value is used for once it is read
constexpr int kOwned = kWarps * kRows;
constexpr int kStreamed = kWarp;

/// How the work is cut and shared memory laid out, by shape alone.
struct Cut {
  int steps, heads;
  int keys;    ///< K
  int width;   ///< K in whole float4, the rest is 0: rows of what is owned
  int pitch;   ///< odd: rows of what is streamed, so that neighbouring rows lie in other banks
  int blocks;  ///< of a list and head
  float scale;
};

/// What a block works on.
struct Place {
  std::int64_t list, row, column;  ///< first row and column of the list and head
  int head, first;                 ///< first owned step
  int warp, lane;
};
__device__ __forceinline__ Place place(const Cut& cut) {
  Place p;
  const int task = static_cast<int>(blockIdx.x) / cut.blocks;
  p.list = task / cut.heads;
  p.head = task % cut.heads;
  p.row = p.list * cut.steps;
  p.column = std::int64_t{p.head} * cut.keys;
  p.first = static_cast<int>(blockIdx.x) % cut.blocks * kOwned;
  p.warp = static_cast<int>(threadIdx.x) / kWarp;
  p.lane = static_cast<int>(threadIdx.x) % kWarp;
  return p;
}

/// Steps first .. first + n - 1 of the block's list and head, times `scale`, into rows of `pitch`
/// floats; zero beyond the list and the columns.
__device__ __forceinline__ void load_rows(const Cut& cut, const Place& p, Matrix<const float> from,
                                          int first, int n, float scale, float* to, int pitch) {
  for (int i = p.warp; i < n; i += kWarps) {
    for (int c = p.lane; c < cut.width; c += kWarp) {
      const bool inside = first + i < cut.steps && c < cut.keys;
      to[i * pitch + c] = inside ? from(p.row + first + i, p.column + c) * scale : 0.0f;
    }
  }
}

/// s[r] = owned row r . streamed row of this lane.
__device__ __forceinline__ void multiply_rows(const Cut& cut, const float* owned,
                                              const float* streamed, float (&s)[kRows]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) s[r] = 0.0f;
#pragma unroll 2
  for (int c = 0; c < cut.width; c += 4) {
    const float x[4] = {streamed[c], streamed[c + 1], streamed[c + 2], streamed[c + 3]};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float4 o = *reinterpret_cast<const float4*>(owned + r * cut.width + c);
      s[r] = fmaf(o.x, x[0], s[r]);
      s[r] = fmaf(o.y, x[1], s[r]);
      s[r] = fmaf(o.z, x[2], s[r]);
      s[r] = fmaf(o.w, x[3], s[r]);
    }
  }
}

/// Sums of streamed rows: this lane's columns of the warp's rows.
template <int kColumns>
struct Sums {
  float v[kRows][kColumns] = {};

  /// += sum_j weights[r][j] streamed row j, in order.
  __device__ __forceinline__ void add(const Cut& cut, const float* weights, const float* streamed,
                                      int lane) {
    int column[kColumns];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) column[i] = min(lane + i * kWarp, cut.width - 1);
#pragma unroll 1
    for (int j = 0; j < kStreamed; j += 4) {
      float4 w[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        w[r] = *reinterpret_cast<const float4*>(weights + r * kStreamed + j);
      }
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        const float* x = streamed + j * cut.pitch + column[i];
        const float x0 = x[0], x1 = x[cut.pitch], x2 = x[2 * cut.pitch], x3 = x[3 * cut.pitch];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          v[r][i] = fmaf(w[r].x, x0, v[r][i]);
          v[r][i] = fmaf(w[r].y, x1, v[r][i]);
          v[r][i] = fmaf(w[r].z, x2, v[r][i]);
          v[r][i] = fmaf(w[r].w, x3, v[r][i]);
        }
      }
    }
  }
  /// The warp's rows to their place, times `scale`.
  __device__ __forceinline__ void store(const Cut& cut, const Place& p, const float (&scale)[kRows],
                                        Matrix<float> to) const {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int step = p.first + p.warp * kRows + r;
      if (step >= cut.steps) break;
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        const int c = p.lane + i * kWarp;
        if (c < cut.keys) to(p.row + step, p.column + c) = v[r][i] * scale[r];
      }
    }
  }
};

/// Shared memory: two matrices streamed, one or two owned, one or two of weights.
struct Memory {
  float *streamed[2], *owned[2], *weights[2];
};
/// The owned and the weights are read as float4, so they come first.
__device__ __forceinline__ Memory memory(const Cut& cut, float* data, int matrices) {
  Memory m;
  for (int i = 0; i < 2; ++i) {
    m.owned[i] = data + i * kOwned * cut.width;
    m.weights[i] = data + matrices * kOwned * cut.width + i * kOwned * kStreamed;
    m.streamed[i] = data + matrices * kOwned * (cut.width + kStreamed) + i * kStreamed * cut.pitch;
  }
  return m;
}
inline std::int64_t memory_bytes(const Cut& cut, int matrices) {
  const std::int64_t floats = std::int64_t{matrices} * kOwned * (cut.width + kStreamed) +
                              2 * std::int64_t{kStreamed} * cut.pitch;
  return floats * std::int64_t{sizeof(float)};
}

/// One past the last step that the block's queries can attend to.
__device__ __forceinline__ int last_key(const Cut& cut, const Place& p, const AttentionOptions& o) {
  int end = o.causal ? min(cut.steps, p.first + kOwned) : cut.steps;
  if (o.mask.lengths != nullptr) end = min(end, o.mask.lengths[p.list]);
  return end;
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads, 4) forward(AttentionCall c, Cut cut) {
  SIMT_DYN_SHARED(float, data);
  const Memory shared = memory(cut, data, 1);
  const Place p = place(cut);
  const float* owned = shared.owned[0] + p.warp * kRows * cut.width;
  float* weights = shared.weights[0] + p.warp * kRows * kStreamed;
  load_rows(cut, p, c.q, p.first, kOwned, cut.scale, shared.owned[0], cut.width);
  Sums<kColumns> sums;
  float most[kRows], total[kRows];  // total: of this lane's steps
#pragma unroll
  for (int r = 0; r < kRows; ++r) most[r] = -INFINITY, total[r] = 0.0f;
  const int end = last_key(cut, p, c.options);
  for (int first = 0; first < end; first += kStreamed) {
    __syncthreads();
    load_rows(cut, p, c.k, first, kStreamed, 1.0f, shared.streamed[0], cut.pitch);
    load_rows(cut, p, c.v, first, kStreamed, 1.0f, shared.streamed[1], cut.pitch);
    __syncthreads();
    float s[kRows];
    multiply_rows(cut, owned, shared.streamed[0] + p.lane * cut.pitch, s);
    const int key = first + p.lane;
    const bool open = key < cut.steps && c.options.mask.covers(p.list, key, cut.steps);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (!open || (c.options.causal && key > p.first + p.warp * kRows + r)) s[r] = -INFINITY;
      const float larger = Max{}(most[r], warp_reduce(s[r], Max{}));
      // While nothing was attended to, all exponents are -infinity.
      const float base = larger == -INFINITY ? 0.0f : larger;
      const float e = expf(s[r] - base), rescale = expf(most[r] - base);
      most[r] = larger;
      total[r] = total[r] * rescale + e;
      weights[r * kStreamed + p.lane] = e;
#pragma unroll
      for (int i = 0; i < kColumns; ++i) sums.v[r][i] *= rescale;
    }
    __syncwarp();
    sums.add(cut, weights, shared.streamed[1], p.lane);
  }
  float scale[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float sum = warp_reduce(total[r], Sum{});
    scale[r] = sum == 0.0f ? 0.0f : 1.0f / sum;
    const int step = p.first + p.warp * kRows + r;
    if (p.lane == 0 && step < cut.steps) {
      c.log_sum(p.row + step, p.head) = sum == 0.0f ? INFINITY : most[r] + logf(sum);
    }
  }
  sums.store(cut, p, scale, c.out);
}

/// d_q, and on the way along[row, head] = d_out . out, which the other kernel reads.
template <int kColumns>
__global__ void __launch_bounds__(kThreads, 4)
    query_gradient(AttentionGradCall c, Matrix<float> along, Cut cut) {
  SIMT_DYN_SHARED(float, data);
  const Memory shared = memory(cut, data, 2);
  const Place p = place(cut);
  const int mine = p.warp * kRows;
  const float *q = shared.owned[0] + mine * cut.width, *d_out = shared.owned[1] + mine * cut.width;
  float* weights = shared.weights[0] + mine * kStreamed;
  load_rows(cut, p, c.q, p.first, kOwned, cut.scale, shared.owned[0], cut.width);
  load_rows(cut, p, c.d_out, p.first, kOwned, 1.0f, shared.owned[1], cut.width);
  __syncthreads();
  float mean[kRows], log_sum[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int step = p.first + mine + r;
    float part = 0.0f;
    for (int i = p.lane; step < cut.steps && i < cut.keys; i += kWarp) {
      part = fmaf(d_out[r * cut.width + i], c.out(p.row + step, p.column + i), part);
    }
    mean[r] = warp_reduce(part, Sum{});
    log_sum[r] = step < cut.steps ? c.log_sum(p.row + step, p.head) : INFINITY;
    if (p.lane == 0 && step < cut.steps) along(p.row + step, p.head) = mean[r];
  }
  Sums<kColumns> sums;
  const int end = last_key(cut, p, c.options);
  for (int first = 0; first < end; first += kStreamed) {
    __syncthreads();
    load_rows(cut, p, c.k, first, kStreamed, 1.0f, shared.streamed[0], cut.pitch);
    load_rows(cut, p, c.v, first, kStreamed, 1.0f, shared.streamed[1], cut.pitch);
    __syncthreads();
    float s[kRows], d_p[kRows];
    multiply_rows(cut, q, shared.streamed[0] + p.lane * cut.pitch, s);
    multiply_rows(cut, d_out, shared.streamed[1] + p.lane * cut.pitch, d_p);
    const int key = first + p.lane;
    const bool open = key < cut.steps && c.options.mask.covers(p.list, key, cut.steps);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool attended = open && !(c.options.causal && key > p.first + mine + r);
      weights[r * kStreamed + p.lane] =
          attended ? expf(s[r] - log_sum[r]) * (d_p[r] - mean[r]) : 0.0f;
    }
    __syncwarp();
    sums.add(cut, weights, shared.streamed[0], p.lane);
  }
  const float scale[kRows] = {cut.scale, cut.scale, cut.scale, cut.scale};
  sums.store(cut, p, scale, c.d_q);
}

template <int kColumns>
__global__ void __launch_bounds__(kThreads, 4)
    key_gradient(AttentionGradCall c, Matrix<const float> along, Cut cut) {
  SIMT_DYN_SHARED(float, data);
  const Memory shared = memory(cut, data, 2);
  const Place p = place(cut);
  const int mine = p.warp * kRows;
  const float *k = shared.owned[0] + mine * cut.width, *v = shared.owned[1] + mine * cut.width;
  float* probabilities = shared.weights[0] + mine * kStreamed;
  float* weights = shared.weights[1] + mine * kStreamed;
  load_rows(cut, p, c.k, p.first, kOwned, cut.scale, shared.owned[0], cut.width);
  load_rows(cut, p, c.v, p.first, kOwned, 1.0f, shared.owned[1], cut.width);
  bool open[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int key = p.first + mine + r;
    open[r] = key < cut.steps && c.options.mask.covers(p.list, key, cut.steps);
  }
  Sums<kColumns> d_k, d_v;
  const int start = c.options.causal ? p.first / kStreamed * kStreamed : 0;
  // A block whose keys all lie beyond the list's length has nothing to sum.
  const bool none = c.options.mask.lengths != nullptr && p.first >= c.options.mask.lengths[p.list];
  for (int first = start; first < cut.steps && !none; first += kStreamed) {
    __syncthreads();
    load_rows(cut, p, c.q, first, kStreamed, 1.0f, shared.streamed[0], cut.pitch);
    load_rows(cut, p, c.d_out, first, kStreamed, 1.0f, shared.streamed[1], cut.pitch);
    __syncthreads();
    float s[kRows], d_p[kRows];
    multiply_rows(cut, k, shared.streamed[0] + p.lane * cut.pitch, s);
    multiply_rows(cut, v, shared.streamed[1] + p.lane * cut.pitch, d_p);
    const int query = first + p.lane;
    const bool inside = query < cut.steps;
    const float log_sum = inside ? c.log_sum(p.row + query, p.head) : INFINITY;
    const float mean = inside ? along(p.row + query, p.head) : 0.0f;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const bool attends = inside && open[r] && !(c.options.causal && p.first + mine + r > query);
      const float e = attends ? expf(s[r] - log_sum) : 0.0f;
      probabilities[r * kStreamed + p.lane] = e;
      weights[r * kStreamed + p.lane] = attends ? e * (d_p[r] - mean) : 0.0f;
    }
    __syncwarp();
    d_k.add(cut, weights, shared.streamed[0], p.lane);
    d_v.add(cut, probabilities, shared.streamed[1], p.lane);
  }
  const float scale[kRows] = {cut.scale, cut.scale, cut.scale, cut.scale};
  const float one[kRows] = {1.0f, 1.0f, 1.0f, 1.0f};
  d_k.store(cut, p, scale, c.d_k);
  d_v.store(cut, p, one, c.d_v);
}

inline Cut cut_of(Matrix<const float> q, const AttentionOptions& o) {
  Cut cut;
  cut.steps = static_cast<int>(o.steps);
  cut.heads = static_cast<int>(o.heads);
  cut.keys = static_cast<int>(q.cols / o.heads);
  cut.width = (cut.keys + 3) / 4 * 4;
  cut.pitch = cut.width + 1;
  cut.blocks = (cut.steps + kOwned - 1) / kOwned;
  cut.scale = 1.0f / std::sqrt(static_cast<float>(cut.keys));
  return cut;
}
inline simt::Dims dims(const Context& ctx, Matrix<const float> q, const Cut& cut, int matrices) {
  return {.grid = static_cast<unsigned>(q.rows / cut.steps * cut.heads * cut.blocks),
          .block = kThreads,
          .smem = memory_bytes(cut, matrices),
          .stream = &ctx.stream()};
}

template <int n>
struct Columns {
  static constexpr int lane = n;
};
/// Calls f with the columns that a lane holds.
template <class F>
void with_columns(int keys, F&& f) {
  if (keys <= kWarp) return f(Columns<1>());
  if (keys <= 2 * kWarp) return f(Columns<2>());
  return f(Columns<4>());
}

}  // namespace attention_kernels

namespace k = attention_kernels;

void attention(const Context& ctx, const AttentionCall& c) {
  if (c.q.empty()) return;
  const k::Cut cut = k::cut_of(c.q, c.options);
  k::with_columns(cut.keys, [&](auto columns) {
    simt::launch(k::dims(ctx, c.q, cut, 1), k::forward<columns.lane>, c, cut);
  });
}

void attention_grad(const Context& ctx, const AttentionGradCall& c) {
  if (c.q.empty()) return;
  const k::Cut cut = k::cut_of(c.q, c.options);
  ArenaScope scope(ctx);
  const std::int64_t rows = c.q.rows, heads = c.options.heads;
  const Matrix<float> along(ctx.arena().take<float>(rows * heads), rows, heads);
  k::with_columns(cut.keys, [&](auto columns) {
    simt::launch(k::dims(ctx, c.q, cut, 2), k::query_gradient<columns.lane>, c, along, cut);
    simt::launch(k::dims(ctx, c.q, cut, 2), k::key_gradient<columns.lane>, c, along, cut);
  });
}

}  // namespace belfry::cuda
