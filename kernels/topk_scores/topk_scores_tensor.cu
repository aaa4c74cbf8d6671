// SPDX-License-Identifier: Apache-2.0
// top-K by tensor cores: bf16 copies, the scan, and the bit-defined scores of what it leaves.
#include "kernels/topk_scores/topk_scores_call.cuh"
#include "kernels/topk_scores/topk_tensor_scan.cuh"

namespace belfry::cuda::topk_scores_kernels {

inline constexpr int kPrepareThreads = 256;

/// Sums of squares of one vector: of itself, and of what its bf16 copy lacks.
struct Squares {
  double norm = 0, residual = 0;
};

/// Bf16 copies of 8 dimensions; `has_copy` false: zeros.
__device__ inline uint4 copy_of(const float (&x)[8], bool has_copy, double* residual) {
  std::uint16_t copies[8];
  for (int i = 0; i < 8; ++i) {
    copies[i] = has_copy ? to_bf16(x[i]) : std::uint16_t{0};
    const double rest = static_cast<double>(x[i]) - static_cast<double>(from_bf16(copies[i]));
    *residual += rest * rest;
  }
  const auto word = [&](int i) { return copies[i] | static_cast<unsigned>(copies[i + 1]) << 16; };
  return make_uint4(word(0), word(2), word(4), word(6));
}

/// What zeros stand for has an error of its whole length; four times that overflows before a score can.
__device__ inline float residual_above(double squares, float norm, bool has_copy) {
  return has_copy ? norm_above(squares) : 4.0f * norm;
}

/// One block a tile of items.
template <class Shape>
__global__ void __launch_bounds__(kPrepareThreads)
    prepare_items(PackedItems items, Vector<const std::uint64_t> allowed_bits, uint4* tiles,
                  TileHead* heads, unsigned* candidates, float* rows, int row_pitch) {
  constexpr int kParts = kPrepareThreads / Shape::kItems, kChunks = Shape::kDepth / 8;
  SIMT_SHARED_ARRAY(double, squares, [kParts][Shape::kItems]);
  SIMT_SHARED_ARRAY(double, residuals, [kParts][Shape::kItems]);
  SIMT_SHARED_ARRAY(unsigned, largest, [2]);
  SIMT_SHARED(int, missing);
  const int slot = static_cast<int>(threadIdx.x) % Shape::kItems;
  const int part = static_cast<int>(threadIdx.x) / Shape::kItems;
  const std::int64_t item = std::int64_t{blockIdx.x} * Shape::kItems + slot;
  const bool live = item < items.n;
  const float* values =
      items.data + (live ? item / kPanelItems * kPanelItems * items.dim + item % kPanelItems : 0);
  const auto load = [&](int chunk, float(&x)[8]) {
    for (int i = 0; i < 8; ++i) {
      const int k = 8 * chunk + i;
      x[i] = live && k < items.dim ? values[k * kPanelItems] : 0.0f;
    }
  };
  if (threadIdx.x < 2) largest[threadIdx.x] = 0;
  if (threadIdx.x == 0) missing = 0;
  double sum = 0;
  float x[8];
  for (int chunk = part; chunk < kChunks; chunk += kParts) {
    load(chunk, x);
    for (int i = 0; i < 8; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  squares[part][slot] = sum;
  __syncthreads();
  double all = 0;
  for (int p = 0; p < kParts; ++p) all += squares[p][slot];
  const float norm = norm_above(all);
  const bool has_copy = norm < kLargestNorm;
  double residual = 0;
  for (int chunk = part; chunk < kChunks; chunk += kParts) {
    load(chunk, x);
    const std::int64_t group = item / 8;
    tiles[(group * kChunks + chunk) * 8 + item % 8] = copy_of(x, has_copy, &residual);
    if (!live || 8 * chunk >= row_pitch) continue;
    auto* row = reinterpret_cast<float4*>(rows + item * row_pitch + 8 * chunk);
    row[0] = make_float4(x[0], x[1], x[2], x[3]);
    if (8 * chunk + 4 < row_pitch) row[1] = make_float4(x[4], x[5], x[6], x[7]);
  }
  residuals[part][slot] = residual;
  __syncthreads();
  if (part == 0) {
    double rest = 0;
    for (int p = 0; p < kParts; ++p) rest += residuals[p][slot];
    atomicMax(&largest[0],
              __float_as_uint(norm));  // floats without sign keep their order as integers
    atomicMax(&largest[1], __float_as_uint(residual_above(rest, norm, has_copy)));
    const bool candidate = live && (allowed_bits.data == nullptr ||
                                    (allowed_bits.data[item / 64] >> (item % 64) & 1) != 0);
    const unsigned word = __ballot_sync(kAllLanes, candidate);
    if (slot % kWarp == 0) candidates[item / kWarp] = word;
    if (!candidate) atomicOr(&missing, 1);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    heads[blockIdx.x] = {{__uint_as_float(largest[0]), __uint_as_float(largest[1])},
                         missing == 0 ? 1 : 0};
  }
}

/// One warp a position: bf16 copies of its heads, and one bound for all of them: the largest.
template <class Shape>
__global__ void __launch_bounds__(kPrepareThreads)
    prepare_rows(Matrix<const float> queries, int heads, Work work, std::int64_t padded_rows,
                 std::uint16_t* values, RowBound* bounds) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t position = grid_thread() / kWarp;
  const std::int64_t size = work.size(), first = position * heads;
  const bool live = position < size;
  float norm = kSmallestNorm, residual = kSmallestNorm;
  for (int h = 0; h < heads && first + h < padded_rows; ++h) {
    const float* q = live ? queries.row(work.query(position) * heads + h) : nullptr;
    double squares = 0, rest = 0;
    for (int k = lane; live && k < queries.cols; k += kWarp) {
      squares += static_cast<double>(q[k]) * static_cast<double>(q[k]);
    }
    const float head_norm = norm_above(warp_reduce(squares, Sum{}));
    const bool has_copy = head_norm < kLargestNorm;
    for (int k = lane; k < Shape::kDepth; k += kWarp) {
      const float x = live && k < queries.cols ? q[k] : 0.0f;
      const std::uint16_t copy = has_copy ? to_bf16(x) : std::uint16_t{0};
      values[(first + h) * Shape::kDepth + k] = copy;
      const double lost = static_cast<double>(x) - static_cast<double>(from_bf16(copy));
      rest += lost * lost;
    }
    norm = max(norm, head_norm);
    residual = max(residual, residual_above(warp_reduce(rest, Sum{}), head_norm, has_copy));
  }
  constexpr float kUp = 1.002f;  // for the bound's share in the accumulators, see README.md
  constexpr float kArithmetic = Shape::kSteps * 0x1p-15f;
  const RowBound bound =
      live ? RowBound{kUp * (residual + kArithmetic * norm), kUp * (norm + residual), 1.01f * norm,
                      __uint_as_float(0xff800000u)}
           : RowBound{0.0f, 0.0f, 0.0f, kNever};
  for (int h = lane; h < heads && first + h < padded_rows; h += kWarp) bounds[first + h] = bound;
}

/// Bit-defined scores of this thread's item with the heads in `queries`; the first head that has the maximum.
struct Scored {
  float score;
  int head;
};
__device__ inline Scored rescore(const float* queries, int heads, const float* item, int pitch) {
  Scored best{0.0f, 0};
  for (int h = 0; h < heads; ++h) {
    const float* q = queries + h * pitch;
    float s = 0.0f;
#pragma unroll 4
    for (int k = 0; k < pitch; k += 4) {
      const float4 x = *reinterpret_cast<const float4*>(item + k);
      const float4 v = *reinterpret_cast<const float4*>(q + k);
      s = fmaf(v.x, x.x, s);
      s = fmaf(v.y, x.y, s);
      s = fmaf(v.z, x.z, s);
      s = fmaf(v.w, x.w, s);
    }
    if (h == 0 || s > best.score || s != s) best = {s, h};
  }
  return best;
}

/// One block a position: the bit-defined scores of all that its rows' lists hold. An item that several heads
/// have listed counts for the head that gives its score.
__global__ void __launch_bounds__(kFinishThreads, 8)
    merge_tensor(Matrix<const float> queries, int heads, TensorItems items, Lists lists, Work work,
                 int tile_rows, Appended failed, TopK out) {
  SIMT_DYN_SHARED(Key, keys);
  SIMT_SHARED(BlockState, state);
  SIMT_SHARED(Key, edge_cell);
  const std::int64_t position = blockIdx.x;
  if (position >= work.size()) return;
  auto* vectors = reinterpret_cast<float*>(keys + block_capacity(lists.k));
  const std::int64_t query = work.query(position);
  for (int i = static_cast<int>(threadIdx.x); i < heads * items.row_pitch; i += kFinishThreads) {
    const int k = i % items.row_pitch;
    vectors[i] = k < queries.cols ? queries(query * heads + i / items.row_pitch, k) : 0.0f;
  }
  BlockTopK best(keys, &state, lists.k);
  Key edge = kNoKey;
  for (int h = 0; h < heads; ++h) {
    const ListsOfQuery mine(lists, position * heads + h, work.size() * heads, tile_rows);
    const Key of_row = edge_of_lists(mine, &edge_cell);
    edge = edge > of_row ? edge : of_row;
    for (int range = 0; range < mine.ranges; ++range) {
      const std::int64_t list = mine.list(range);
      const int count = lists.counts[list];
      for (int base = 0; base < count; base += kFinishThreads) {
        const int i = base + static_cast<int>(threadIdx.x);
        std::int32_t row = 0;
        Scored scored{__uint_as_float(0x7fc00000u), 0};
        if (i < count) {
          row = row_of(lists.keys[list * lists.capacity + i]);
          scored = rescore(vectors, heads, items.rows + std::int64_t{row} * items.row_pitch,
                           items.row_pitch);
        }
        const bool offered = scored.score == scored.score && scored.head == h;
        best.offer(offered ? 1u : 0u, [&](int) { return make_key(scored.score, row); });
      }
    }
    __syncthreads();  // edge_cell
  }
  finish_query(best, best.finish(), lists.k, edge, work, position, failed, out);
}

namespace {

template <class Shape>
class TensorScan {
 public:
  TensorScan(const Call& call, std::int64_t chunk, ChunkScratch& scratch)
      : call_(call),
        scratch_(scratch),
        order_(tile_order(call.items.n, Shape::kItems)),
        lists_(plan_lists(chunk * call.heads, Shape::kRows, Shape::kItems, call.items.n, call.k,
                          call.limits)),
        padded_rows_(rounded_up(chunk * call.heads, Shape::kRows)) {
    scratch.reserve(lists_, Shape::kRows);
  }

  void take_and_prepare() {
    Arena& arena = call_.ctx.arena();
    const std::int64_t tiles = order_.tiles;
    items_.n = call_.items.n;
    items_.tile_count = tiles;
    items_.row_pitch = static_cast<int>(rounded_up(call_.items.dim, 4));
    auto* copies = arena.take<uint4>(tiles * Shape::kItems * Shape::kDepth / 8);
    auto* heads = arena.take<TileHead>(tiles);
    auto* candidates = arena.take<unsigned>(tiles * (Shape::kItems / 32));
    auto* rows = arena.take<float>(items_.n * items_.row_pitch);
    values_ = arena.take<std::uint16_t>(padded_rows_ * Shape::kDepth);
    bounds_ = arena.take<RowBound>(padded_rows_);
    proven_ = arena.take<Key>(padded_rows_);
    items_.tiles = reinterpret_cast<const std::uint16_t*>(copies);
    items_.heads = heads;
    items_.candidates = candidates;
    items_.rows = rows;
    simt::launch(call_.dims(tiles, kPrepareThreads), prepare_items<Shape>, call_.items,
                 call_.mask.allowed_bits, copies, heads, candidates, rows, items_.row_pitch);
  }

  void run(const Work& work) {
    scratch_.place(lists_);
    const std::int64_t rows = rounded_up(work.most * call_.heads, Shape::kRows);
    constexpr std::int64_t kPerBlock = kPrepareThreads / kWarp;
    simt::launch(call_.dims(ceil_div(ceil_div(rows, call_.heads), kPerBlock), kPrepareThreads),
                 prepare_rows<Shape>, call_.queries, call_.heads, work, rows, values_, bounds_);
    simt::device_memset(proven_, 0, rows * std::int64_t{sizeof(Key)}, call_.ctx.stream());
    const TensorRows tensor_rows{values_, bounds_, call_.heads};
    simt::launch(call_.dims(lists_.list_tiles, Shape::kThreads, Shape::kSharedBytes),
                 scan_tensor<Shape>, tensor_rows, items_, order_, call_.mask, work, lists_,
                 plan_sample(call_.k, order_, Shape::kItems, lists_.capacity), proven_);
    const std::int64_t shared = block_capacity(call_.k) * std::int64_t{sizeof(Key)} +
                                call_.heads * items_.row_pitch * std::int64_t{sizeof(float)};
    simt::launch(call_.dims(work.most, kFinishThreads, shared), merge_tensor, call_.queries,
                 call_.heads, items_, lists_, work, Shape::kRows, scratch_.failed, call_.out);
  }

 private:
  const Call& call_;
  ChunkScratch& scratch_;
  TileOrder order_;
  Lists lists_;
  std::int64_t padded_rows_;
  TensorItems items_;
  std::uint16_t* values_ = nullptr;
  RowBound* bounds_ = nullptr;
  Key* proven_ = nullptr;
};

template <class Shape>
void run(const Call& call) {
  const std::int64_t chunk = std::max<std::int64_t>(
      1, chunk_rows(call.count() * call.heads, Shape::kRows, Shape::kItems, call.k, call.limits) /
             call.heads);
  ChunkScratch scratch(call, chunk);
  TensorScan<Shape> scan(call, chunk, scratch);
  ListScan<ManyQueries> again(call, chunk, scratch);
  scratch.take();
  scan.take_and_prepare();
  for_each_chunk(call.count(), chunk, [&](std::int64_t first, std::int64_t m) {
    scan.run(route(call, scratch, first, m));
    again.run(left_over(call, scratch, first, m), {});
    answer_listed(call, scratch, first, m);
  });
}

}  // namespace

void topk_by_tensor(const Call& call) {
  ArenaScope scope(call.ctx);
  const std::int64_t dim = call.items.dim;
  if (dim <= Tensor32::kDepth) return run<Tensor32>(call);
  if (dim <= Tensor64::kDepth) return run<Tensor64>(call);
  if (dim <= Tensor128::kDepth) return run<Tensor128>(call);
  run<Tensor256>(call);
}

}  // namespace belfry::cuda::topk_scores_kernels
