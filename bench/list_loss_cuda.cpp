// SPDX-License-Identifier: Apache-2.0
// Losses of whole lists with their gradient. softmax reads scores and labels once and writes the gradient; the
// others compare every slot of a list with every other, so their rate in bytes only says how far from memory they are.
#include <utility>

#include "bench/cuda_support.hpp"
#include "kernels/list_loss/list_loss.hpp"

namespace belfry::bench {
namespace {

constexpr std::pair<ListLoss, const char*> kLosses[] = {
    {ListLoss::pairwise_hinge, "pairwise_hinge"},
    {ListLoss::pairwise_logistic, "pairwise_logistic"},
    {ListLoss::pairwise_soft_zero_one, "pairwise_soft_zero_one"},
    {ListLoss::softmax, "softmax"},
    {ListLoss::list_mle, "list_mle"},
    {ListLoss::approx_ndcg, "approx_ndcg"}};

struct Lists {
  std::int64_t lists, slots;
  Buffer<float> scores, labels, d_scores;
  Buffer<double> loss;

  Lists(const Context& ctx, std::int64_t l, std::int64_t n)
      : lists(l),
        slots(n),
        scores(normal_floats(ctx, l * n, 1)),
        labels(copy_of(ctx, some_labels(l * n))),
        d_scores(ctx.backend(), l * n),
        loss(ctx.backend(), 1) {}
  /// Grades 0 to 4, one slot of six is padding.
  static std::vector<float> some_labels(std::int64_t n) {
    const std::vector<std::int32_t> ids = uniform_ids(n, 6, 2);
    std::vector<float> out;
    for (const std::int32_t id : ids) out.push_back(static_cast<float>(id - 1));
    return out;
  }
  void run(const Context& ctx, ListLoss which) {
    ListLossOptions o;
    o.loss = which;
    o.mean = true;
    list_loss(ctx, scores.matrix(lists, slots), labels.matrix(lists, slots), o, loss.data(), {},
              d_scores.matrix(lists, slots));
  }
};

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const auto& [loss, name] : kLosses) {
    for (const std::int64_t slots : {5, 70}) {
      Lists a(ctx, 60, slots), b(bench.cpu(), 60, slots);
      a.run(ctx, loss);
      b.run(bench.cpu(), loss);
      const std::string of = std::string(" of ") + name + ", " + text(slots) + " slots";
      bench.verify("loss" + of,
                   near(host_of(ctx, a.loss), host_of(bench.cpu(), b.loss), 1e-5, 1e-6));
      bench.verify("d_scores" + of,
                   near(host_of(ctx, a.d_scores), host_of(bench.cpu(), b.d_scores), 1e-4, 1e-5));
    }
  }
  for (const auto& [lists, slots] :
       {std::pair<std::int64_t, std::int64_t>{bench.size(8192, 256), 5},
        {bench.size(8192, 64), 50},
        {bench.size(1024, 4), bench.size(1000, 100)}}) {
    Lists l(ctx, lists, slots);
    const double bytes = 12.0 * static_cast<double>(lists * slots);
    for (const auto& [loss, name] : kLosses) {
      bench.run(std::string(name) + ", " + text(lists, slots), {.bytes = bytes},
                [&, which = loss](int) { l.run(ctx, which); });
    }
  }
}

const CudaBenchmark kBenchmark("list_loss", run);

}  // namespace
}  // namespace belfry::bench
