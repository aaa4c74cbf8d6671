// SPDX-License-Identifier: Apache-2.0
// list_loss on the device: one block a list, whose scores and labels lie in shared memory; one warp an item, whose
// lanes go over the other items. An item's warp computes its whole gradient, so nothing is added from outside.
#include <cmath>

#include "kernels/core/block.cuh"
#include "kernels/core/loss_sum.cuh"
#include "kernels/list_loss/list_loss.hpp"

namespace belfry::cuda {
namespace list_loss_kernels {

constexpr float kLog2 = 0.693147181f;

/// What the kernel works on. Pointers may be null where the option is not given.
struct Lists {
  Matrix<const float> scores, labels, item_weight;
  const float* list_weight;
  Matrix<float> d_scores;
  float* row_loss;
  double* partial;  // one a list
  float temperature;
  double factor;  // of the gradient by t
  bool padding_adds;
};

/// A list in shared memory; a slot with a label below 0 is padding.
struct Shared {
  float *t, *y;
  float* more;  // pairwise: weights; list_mle: log-sums; approx_ndcg: slopes
  int n;
  __device__ __forceinline__ bool valid(int i) const { return y[i] >= 0.0f; }
};

struct Term {
  float value, slope;
};

/// sigmoid(-|x|) of e^-|x|, without overflow or cancellation.
__device__ __forceinline__ float far_side(float tail) {
  return tail / (1.0f + tail);
}

/// f(d) of a pair whose better item leads by d, and its derivative.
template <ListLoss kLoss>
__device__ __forceinline__ Term pair_term(float d) {
  if constexpr (kLoss == ListLoss::pairwise_hinge) {
    return d < 1.0f ? Term{1.0f - d, -1.0f} : Term{0.0f, 0.0f};
  } else {
    const float tail = expf(-fabsf(d)), far = far_side(tail);
    const float below = d > 0.0f ? far : 1.0f - far;
    if constexpr (kLoss == ListLoss::pairwise_logistic) {
      return {fmaxf(-d, 0.0f) + log1pf(tail), -below};
    } else {
      return {below, -far / (1.0f + tail)};
    }
  }
}

/// The threads of a block, as the losses see them.
template <int kThreads>
struct Block {
  static constexpr int kWarps = kThreads / kWarp;
  double* scratch;  // kWarps
  __device__ __forceinline__ int lane() const { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ __forceinline__ int warp() const { return static_cast<int>(threadIdx.x) / kWarp; }
  __device__ __forceinline__ double sum(double v) const {
    return block_reduce<kThreads>(v, Sum{}, scratch);
  }
  __device__ __forceinline__ float most(float v) const {
    return block_reduce<kThreads>(v, Max{}, reinterpret_cast<float*>(scratch));
  }
  /// Calls f(i) for this warp's items; all lanes together.
  template <class F>
  __device__ __forceinline__ void each_item(const Shared& list, F&& f) const {
    for (int i = warp(); i < list.n; i += kWarps) {
      if (list.valid(i)) f(i);
    }
  }
  /// Calls f(j) for this lane's share of the items.
  template <class F>
  __device__ __forceinline__ void each_other(const Shared& list, F&& f) const {
    for (int j = lane(); j < list.n; j += kWarp) {
      if (list.valid(j)) f(j);
    }
  }
  /// Calls f(j) for this thread's share of the items.
  template <class F>
  __device__ __forceinline__ void each_mine(const Shared& list, F&& f) const {
    for (int j = static_cast<int>(threadIdx.x); j < list.n; j += kThreads) {
      if (list.valid(j)) f(j);
    }
  }
};

/// Where gradients by t go; a null row takes none.
struct Gradient {
  float* row;
  float factor;
  __device__ __forceinline__ void set(int i, float g) const {
    if (row != nullptr) row[i] = factor * g;
  }
};

template <ListLoss kLoss, class B>
__device__ double pairwise(const B& block, const Shared& list, const Gradient& gradient) {
  double loss = 0.0;
  block.each_item(list, [&](int i) {
    const float t = list.t[i], y = list.y[i], weight = list.more[i];
    float value = 0.0f, g = 0.0f;
    block.each_other(list, [&](int j) {
      const float other = list.y[j];
      if (other == y) return;
      const bool leads = y > other;
      const Term f = pair_term<kLoss>(leads ? t - list.t[j] : list.t[j] - t);
      if (leads) value = fmaf(weight, f.value, value);
      g = fmaf(leads ? weight : -list.more[j], f.slope, g);
    });
    value = warp_reduce(value, Sum{});
    g = warp_reduce(g, Sum{});
    if (block.lane() != 0) return;
    loss += static_cast<double>(value);
    gradient.set(i, g);
  });
  return block.sum(loss);
}

template <class B>
__device__ double softmax(const B& block, const Shared& list, const Gradient& gradient) {
  float most = -INFINITY;
  block.each_mine(list, [&](int j) { most = fmaxf(most, list.t[j]); });
  most = block.most(most);
  double total = 0.0, labels = 0.0, loss = 0.0;
  block.each_mine(list, [&](int j) {
    const float label = list.more[j] * list.y[j];
    total += static_cast<double>(expf(list.t[j] - most));
    labels += static_cast<double>(label);
    loss += static_cast<double>(label) * static_cast<double>(most - list.t[j]);
  });
  total = block.sum(total);
  labels = block.sum(labels);
  loss = block.sum(loss);
  if (total == 0.0) return 0.0;  // padding alone
  const float share = static_cast<float>(labels / total);
  block.each_mine(list, [&](int j) {
    gradient.set(j, share * expf(list.t[j] - most) - list.more[j] * list.y[j]);
  });
  return loss + labels * log(total);
}

/// log(p!) for p padded slots.
template <class B>
__device__ double log_factorial_of_padding(const B& block, const Shared& list) {
  double items = 0.0, sum = 0.0;
  block.each_mine(list, [&](int) { items += 1.0; });
  const int p = list.n - static_cast<int>(block.sum(items));
  for (int i = static_cast<int>(threadIdx.x); i < p; i += B::kWarps * kWarp) {
    sum += static_cast<double>(logf(static_cast<float>(i + 1)));
  }
  return block.sum(sum);
}

/// Whether item j comes after item i, or is it, in the order of labels.
__device__ __forceinline__ bool not_before(const Shared& list, int j, int i) {
  return list.y[j] < list.y[i] || (list.y[j] == list.y[i] && j >= i);
}

template <class B>
__device__ double list_mle(const B& block, const Shared& list, bool padding_adds,
                           const Gradient& gradient) {
  // Around the list's maximum, so that log-sums are small numbers.
  float most = -INFINITY;
  block.each_mine(list, [&](int j) { most = fmaxf(most, list.t[j]); });
  most = block.most(most);
  block.each_mine(list, [&](int j) { list.t[j] -= most; });
  __syncthreads();
  double loss = 0.0;
  block.each_item(list, [&](int i) {
    float top = list.t[i], sum = 0.0f;
    block.each_other(list, [&](int j) {
      if (not_before(list, j, i)) top = fmaxf(top, list.t[j]);
    });
    top = warp_reduce(top, Max{});
    block.each_other(list, [&](int j) {
      if (not_before(list, j, i)) sum += expf(list.t[j] - top);
    });
    sum = logf(warp_reduce(sum, Sum{}));
    if (block.lane() != 0) return;
    list.more[i] = top + sum;
    loss += static_cast<double>(top - list.t[i]) + static_cast<double>(sum);
  });
  loss = block.sum(loss);
  block.each_item(list, [&](int i) {
    float sum = 0.0f;
    block.each_other(list, [&](int j) {
      if (not_before(list, i, j)) sum += expf(list.t[i] - list.more[j]);
    });
    sum = warp_reduce(sum, Sum{});
    if (block.lane() == 0) gradient.set(i, sum - 1.0f);
  });
  return padding_adds ? loss + log_factorial_of_padding(block, list) : loss;
}

template <class B>
__device__ double approx_ndcg(const B& block, const Shared& list, const Gradient& gradient) {
  double gained = 0.0, ideal = 0.0;
  block.each_item(list, [&](int i) {
    float rank = 0.0f;
    int better = 0;
    block.each_other(list, [&](int j) {
      if (j == i) return;
      const float d = list.t[j] - list.t[i], far = far_side(expf(-fabsf(d)));
      rank += d > 0.0f ? 1.0f - far : far;
      better += list.y[j] > list.y[i] || (list.y[j] == list.y[i] && j < i);
    });
    rank = 1.0f + warp_reduce(rank, Sum{});
    better = warp_reduce(better, Sum{});
    if (block.lane() != 0) return;
    const float gain = expm1f(list.y[i] * kLog2), size = log1pf(rank);
    gained += static_cast<double>(gain * (kLog2 / size));
    ideal += static_cast<double>(gain / log2f(2.0f + static_cast<float>(better)));
    list.more[i] = gain * (kLog2 / (size * size * (1.0f + rank)));
  });
  gained = block.sum(gained);
  ideal = block.sum(ideal);
  const float share = ideal == 0.0 ? 0.0f : static_cast<float>(1.0 / ideal);
  block.each_item(list, [&](int i) {
    float g = 0.0f;
    block.each_other(list, [&](int j) {
      const float tail = expf(-fabsf(list.t[i] - list.t[j]));
      g += (list.more[j] - list.more[i]) * (far_side(tail) / (1.0f + tail));
    });
    g = warp_reduce(g, Sum{});
    if (block.lane() == 0) gradient.set(i, g * share);
  });
  return ideal == 0.0 ? 0.0 : -gained / ideal;
}

template <ListLoss kLoss, class B>
__device__ double loss_of(const B& block, const Shared& list, bool padding_adds,
                          const Gradient& gradient) {
  if constexpr (is_pairwise(kLoss)) {
    return pairwise<kLoss>(block, list, gradient);
  } else if constexpr (kLoss == ListLoss::softmax) {
    return softmax(block, list, gradient);
  } else if constexpr (kLoss == ListLoss::list_mle) {
    return list_mle(block, list, padding_adds, gradient);
  } else {
    return approx_ndcg(block, list, gradient);
  }
}

/// Brings list `l` into shared memory and zeros to the padding's gradient. Returns the factor of its loss: what item
/// weights say of the list where the loss has no place for them, NaN where an item is not finite.
template <ListLoss kLoss, class B>
__device__ double load(const B& block, const Lists& p, std::int64_t l, const Shared& list) {
  constexpr bool kByList = kLoss == ListLoss::list_mle || kLoss == ListLoss::approx_ndcg;
  const bool weighted = p.item_weight.data != nullptr;
  double bad = 0.0, sum = 0.0, labels = 0.0;
  for (int j = static_cast<int>(threadIdx.x); j < list.n; j += B::kWarps * kWarp) {
    const float y = p.labels(l, j);
    list.y[j] = y < 0.0f ? -1.0f : y;
    if (y < 0.0f) {
      if (p.d_scores.data != nullptr) p.d_scores(l, j) = 0.0f;
      continue;
    }
    const float t = p.scores(l, j) / p.temperature;
    const float weight = weighted ? p.item_weight(l, j) : 1.0f;
    if (!std::isfinite(t) || !std::isfinite(y) || !std::isfinite(weight)) bad = 1.0;
    list.t[j] = t;
    list.more[j] = weight;
    sum += static_cast<double>(weight) * static_cast<double>(y);
    labels += static_cast<double>(y);
  }
  if (block.sum(bad) > 0.0) return NAN;
  if (!kByList || !weighted) return 1.0;
  sum = block.sum(sum);
  labels = block.sum(labels);
  return labels > 0.0 ? sum / labels : 0.0;
}

template <int kThreads, ListLoss kLoss>
__global__ void __launch_bounds__(kThreads) lists(Lists p) {
  SIMT_SHARED_ARRAY(double, scratch, [kThreads / kWarp]);
  SIMT_DYN_SHARED(float, memory);
  const std::int64_t l = blockIdx.x;
  const int n = static_cast<int>(p.scores.cols);
  const Block<kThreads> block = {scratch};
  const Shared list = {memory, memory + n, memory + 2 * n, n};
  const double factor = load<kLoss>(block, p, l, list);
  const double weight = p.list_weight == nullptr ? 1.0 : static_cast<double>(p.list_weight[l]);
  const Gradient gradient = {p.d_scores.data == nullptr ? nullptr : p.d_scores.row(l),
                             static_cast<float>(p.factor * weight * factor)};
  double loss = factor;
  if (std::isnan(factor)) {
    for (int j = static_cast<int>(threadIdx.x); j < n; j += kThreads) {
      if (!(list.y[j] < 0.0f)) gradient.set(j, 1.0f);
    }
  } else {
    loss *= loss_of<kLoss>(block, list, p.padding_adds, gradient);
  }
  if (threadIdx.x != 0) return;
  p.partial[l] = loss * weight;
  if (p.row_loss != nullptr) p.row_loss[l] = static_cast<float>(loss);
}

using Kernel = void (*)(Lists);
template <int kThreads>
Kernel kernel_of(ListLoss loss) {
  switch (loss) {
    case ListLoss::pairwise_hinge:
      return lists<kThreads, ListLoss::pairwise_hinge>;
    case ListLoss::pairwise_logistic:
      return lists<kThreads, ListLoss::pairwise_logistic>;
    case ListLoss::pairwise_soft_zero_one:
      return lists<kThreads, ListLoss::pairwise_soft_zero_one>;
    case ListLoss::softmax:
      return lists<kThreads, ListLoss::softmax>;
    case ListLoss::list_mle:
      return lists<kThreads, ListLoss::list_mle>;
    case ListLoss::approx_ndcg:
      return lists<kThreads, ListLoss::approx_ndcg>;
  }
  throw ContractError("list_loss: unknown loss");
}

}  // namespace list_loss_kernels

namespace k = list_loss_kernels;

void list_loss(const Context& ctx, Matrix<const float> scores, Matrix<const float> labels,
               const ListLossOptions& options, double* loss, Vector<float> row_loss,
               Matrix<float> d_scores) {
  constexpr int kFew = 64, kMany = 256;  // threads of short and long lists
  const std::int64_t lists = scores.rows, slots = scores.cols;
  require(slots <= kMaxListSlots, "list_loss: at most 2048 slots a list on a GPU");
  const double of_mean =
      options.mean ? static_cast<double>(lists * (is_pairwise(options.loss) ? slots : 1)) : 1.0;
  const double scale = static_cast<double>(options.scale) / (of_mean > 1.0 ? of_mean : 1.0);
  const bool few = slots <= kFew;
  const k::Kernel kernel =
      few ? k::kernel_of<kFew>(options.loss) : k::kernel_of<kMany>(options.loss);
  ArenaScope scope(ctx);
  double* partial = ctx.arena().take<double>(lists);
  if (lists > 0) {
    const k::Lists p = {scores,
                        labels,
                        options.item_weight,
                        options.list_weight.data,
                        d_scores,
                        row_loss.data,
                        partial,
                        options.temperature,
                        scale / static_cast<double>(options.temperature),
                        options.padding_adds_to_list_mle};
    simt::launch({.grid = static_cast<unsigned>(lists),
                  .block = static_cast<unsigned>(few ? kFew : kMany),
                  .smem = 3 * slots * std::int64_t{sizeof(float)},
                  .stream = &ctx.stream()},
                 kernel, p);
  }
  loss_sum_kernels::sum_to_loss(ctx, partial, lists, scale, options.add_to_loss, loss);
}

}  // namespace belfry::cuda
