// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/parallel.hpp"
#include "kernels/list_loss/list_loss.hpp"

namespace belfry::cpu {
namespace {

/// The items of one list, padding left out.
struct Items {
  std::int64_t n = 0, padded = 0;
  std::int64_t* slot;  // ascending
  double* t;           // score / temperature
  double* d;           // gradient by t
  double* more;        // what the loss wants to keep of an item
  const float* labels;
  const float* weights;  // or nullptr

  double y(std::int64_t i) const { return static_cast<double>(labels[slot[i]]); }
  double v(std::int64_t i) const {
    return weights == nullptr ? 1.0 : static_cast<double>(weights[slot[i]]);
  }
};

struct Term {
  double value, slope;
};

/// f(d) of a pair whose better item leads by d, and its derivative.
template <ListLoss kLoss>
Term pair_term(double d) {
  if constexpr (kLoss == ListLoss::pairwise_hinge) {
    return d < 1 ? Term{1 - d, -1} : Term{0, 0};
  } else {
    const double tail = std::exp(-std::abs(d)), far = tail / (1 + tail);  // sigmoid(-|d|)
    const double below = d > 0 ? far : 1 - far;                           // sigmoid(-d)
    if constexpr (kLoss == ListLoss::pairwise_logistic) {
      return {std::max(-d, 0.0) + std::log1p(tail), -below};
    }
    return {below, -far / (1 + tail)};
  }
}

template <ListLoss kLoss>
double pairwise(Items& list) {
  double loss = 0;
  for (std::int64_t i = 0; i < list.n; ++i) {
    for (std::int64_t j = i + 1; j < list.n; ++j) {
      if (list.y(i) == list.y(j)) continue;
      const std::int64_t better = list.y(i) > list.y(j) ? i : j, worse = i + j - better;
      const Term f = pair_term<kLoss>(list.t[better] - list.t[worse]);
      const double weight = list.v(better);
      loss += weight * f.value;
      list.d[better] += weight * f.slope;
      list.d[worse] -= weight * f.slope;
    }
  }
  return loss;
}

double softmax(Items& list) {
  if (list.n == 0) return 0;
  const double most = *std::max_element(list.t, list.t + list.n);
  double total = 0, labels = 0, loss = 0;
  for (std::int64_t i = 0; i < list.n; ++i) {
    total += list.d[i] = std::exp(list.t[i] - most);
    labels += list.v(i) * list.y(i);
  }
  for (std::int64_t i = 0; i < list.n; ++i) {
    const double label = list.v(i) * list.y(i);
    loss += label * (most - list.t[i]);
    list.d[i] = labels * (list.d[i] / total) - label;
  }
  return loss + labels * std::log(total);
}

double log_add(double a, double b) {
  return std::max(a, b) + std::log1p(std::exp(-std::abs(a - b)));
}

double list_mle(Items& list, bool padding_adds) {
  // The slots in order of labels; the items are then taken in this order everywhere.
  std::sort(list.slot, list.slot + list.n, [&](std::int64_t a, std::int64_t b) {
    return list.labels[a] != list.labels[b] ? list.labels[a] > list.labels[b] : a < b;
  });
  double loss = 0;
  for (std::int64_t i = list.n - 1; i >= 0; --i) {
    const double t = list.more[list.slot[i]];
    list.t[i] = i + 1 < list.n ? log_add(list.t[i + 1], t) : t;  // log-sum of what is not before i
    loss += list.t[i] - t;
  }
  double before = 0;  // log sum_{k <= i} exp(-log-sum_k)
  for (std::int64_t i = 0; i < list.n; ++i) {
    before = i == 0 ? -list.t[0] : log_add(before, -list.t[i]);
    list.d[i] = std::exp(list.more[list.slot[i]] + before) - 1;
  }
  for (std::int64_t p = 2; padding_adds && p <= list.padded; ++p) {
    loss += std::log(static_cast<double>(p));
  }
  return loss;
}

double approx_ndcg(Items& list) {
  double gained = 0, ideal = 0;
  for (std::int64_t i = 0; i < list.n; ++i) {
    double rank = 1;
    std::int64_t better = 0;
    for (std::int64_t j = 0; j < list.n; ++j) {
      if (j == i) continue;
      rank += 1 / (1 + std::exp(list.t[i] - list.t[j]));
      better += list.y(j) > list.y(i) || (list.y(j) == list.y(i) && j < i);
    }
    const double gain = std::expm1(list.y(i) * std::log(2.0)), size = std::log1p(rank);
    gained += gain * std::log(2.0) / size;
    ideal += gain / std::log2(2.0 + static_cast<double>(better));
    list.more[i] = gain * std::log(2.0) / (size * size * (1 + rank));  // of the loss by the rank
  }
  if (ideal == 0) return 0;  // d holds zeros
  for (std::int64_t i = 0; i < list.n; ++i) {
    for (std::int64_t j = i + 1; j < list.n; ++j) {
      const double tail = std::exp(-std::abs(list.t[i] - list.t[j]));
      const double pull = (list.more[j] - list.more[i]) * tail / ((1 + tail) * (1 + tail)) / ideal;
      list.d[i] += pull;
      list.d[j] -= pull;
    }
  }
  return -gained / ideal;
}

/// How much item weights weigh the losses that have no place for them.
double weight_of_list(const Items& list) {
  if (list.weights == nullptr) return 1;
  double weighted = 0, labels = 0;
  for (std::int64_t i = 0; i < list.n; ++i) {
    weighted += list.v(i) * list.y(i);
    labels += list.y(i);
  }
  return labels > 0 ? weighted / labels : 0;
}

/// The list's loss; list.d gets its gradient by t.
double loss_of(Items& list, const ListLossOptions& options, double* factor) {
  switch (options.loss) {
    case ListLoss::pairwise_hinge:
      return pairwise<ListLoss::pairwise_hinge>(list);
    case ListLoss::pairwise_logistic:
      return pairwise<ListLoss::pairwise_logistic>(list);
    case ListLoss::pairwise_soft_zero_one:
      return pairwise<ListLoss::pairwise_soft_zero_one>(list);
    case ListLoss::softmax:
      return softmax(list);
    case ListLoss::list_mle:
      *factor = weight_of_list(list);
      return *factor * list_mle(list, options.padding_adds_to_list_mle);
    case ListLoss::approx_ndcg:
      *factor = weight_of_list(list);
      return *factor * approx_ndcg(list);
  }
  throw ContractError("list_loss: unknown loss");
}

/// Gathers a list's items; false where one is not finite.
bool gather(const float* scores, std::int64_t n, const ListLossOptions& options, Items& list) {
  bool finite = true;
  list.n = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    if (list.labels[j] < 0) continue;  // a NaN is no padding
    const float t = scores[j] / options.temperature;
    list.slot[list.n] = j;
    finite = finite && std::isfinite(t) && std::isfinite(list.y(list.n)) &&
             std::isfinite(list.v(list.n));
    // list_mle reads scores by slot, since it changes the order of items.
    if (options.loss == ListLoss::list_mle) list.more[j] = static_cast<double>(t);
    list.t[list.n] = static_cast<double>(t);
    list.d[list.n] = 0;
    ++list.n;
  }
  list.padded = n - list.n;
  return finite;
}

}  // namespace

void list_loss(const Context& ctx, Matrix<const float> scores, Matrix<const float> labels,
               const ListLossOptions& options, double* loss, Vector<float> row_loss,
               Matrix<float> d_scores) {
  const std::int64_t lists = scores.rows, slots = scores.cols;
  const double of_mean =
      options.mean ? static_cast<double>(lists * (is_pairwise(options.loss) ? slots : 1)) : 1.0;
  const double scale = static_cast<double>(options.scale) / std::max(1.0, of_mean);
  ArenaScope scope(ctx);
  double* partial = ctx.arena().take<double>(lists);
  double* numbers = ctx.arena().take<double>(3 * slots * ctx.threads());
  std::int64_t* places = ctx.arena().take<std::int64_t>(slots * ctx.threads());
  parallel_for(ctx, lists, [&](std::int64_t l, int worker) {
    double* mine = numbers + 3 * slots * worker;
    Items list;
    list.slot = places + slots * worker;
    list.t = mine, list.d = mine + slots, list.more = mine + 2 * slots;
    list.labels = labels.row(l);
    list.weights = options.item_weight.data == nullptr ? nullptr : options.item_weight.row(l);
    const double weight =
        options.list_weight.empty() ? 1.0 : static_cast<double>(options.list_weight[l]);
    double factor = 1.0;
    double value = std::numeric_limits<double>::quiet_NaN();
    if (gather(scores.row(l), slots, options, list)) {
      value = loss_of(list, options, &factor);
    } else {
      factor = value;
    }
    partial[l] = weight * value;
    if (!row_loss.empty()) row_loss[l] = static_cast<float>(value);
    if (d_scores.data == nullptr) return;
    std::fill_n(d_scores.row(l), slots, 0.0f);
    factor *= weight * scale / static_cast<double>(options.temperature);
    for (std::int64_t i = 0; i < list.n; ++i) {
      d_scores(l, list.slot[i]) = static_cast<float>(factor * list.d[i]);
    }
  });
  double sum = 0;
  for (std::int64_t l = 0; l < lists; ++l) sum += partial[l];
  sum *= scale;
  *loss = options.add_to_loss ? *loss + sum : sum;
  if (!std::isfinite(sum)) ctx.raise(kStatusNonFinite);
}

}  // namespace belfry::cpu
