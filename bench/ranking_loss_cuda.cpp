// SPDX-License-Identifier: Apache-2.0
// Losses of single predictions with their gradient: predictions and labels read, the gradient written.
#include <utility>

#include "bench/cuda_support.hpp"
#include "kernels/ranking_loss/ranking_loss.hpp"

namespace belfry::bench {
namespace {

constexpr std::pair<RankingLoss, const char*> kLosses[] = {{RankingLoss::mse, "mse"},
                                                           {RankingLoss::mae, "mae"},
                                                           {RankingLoss::huber, "huber"},
                                                           {RankingLoss::bce, "bce"},
                                                           {RankingLoss::bce_logits, "bce_logits"}};

struct Rows {
  Buffer<float> predictions, labels, d;
  Buffer<double> loss;

  Rows(const Context& ctx, std::int64_t n)
      : predictions(copy_of(ctx, shares(n, 1))),
        labels(copy_of(ctx, shares(n, 2))),
        d(ctx.backend(), n),
        loss(ctx.backend(), 1) {}
  /// Numbers in (0, 1): probabilities where a loss wants them.
  static std::vector<float> shares(std::int64_t n, std::uint64_t seed) {
    constexpr std::int32_t kRange = 1 << 20;
    std::vector<float> out;
    for (const std::int32_t id : uniform_ids(n, kRange, seed)) {
      out.push_back((static_cast<float>(id) + 0.5f) / static_cast<float>(kRange));
    }
    return out;
  }
  void run(const Context& ctx, RankingLoss which) {
    RankingLossOptions o;
    o.loss = which;
    o.huber_delta = 0.3f;
    o.mean = true;
    ranking_loss(ctx, predictions.view(), labels.view(), o, loss.data(), {}, d.view());
  }
};

void run(CudaBench& bench) {
  const Context& ctx = bench.device();
  for (const auto& [loss, name] : kLosses) {
    Rows a(ctx, 5000), b(bench.cpu(), 5000);
    a.run(ctx, loss);
    b.run(bench.cpu(), loss);
    bench.verify(std::string("loss of ") + name,
                 near(host_of(ctx, a.loss), host_of(bench.cpu(), b.loss), 1e-6, 0));
    bench.verify(std::string("gradient of ") + name,
                 near(host_of(ctx, a.d), host_of(bench.cpu(), b.d), 1e-5, 1e-9));
  }
  for (const std::int64_t n : {std::int64_t{8192}, bench.size(1 << 26, 1 << 16)}) {
    Rows r(ctx, n);
    for (const auto& [loss, name] : kLosses) {
      bench.run(std::string(name) + ", " + text(n), {.bytes = 12.0 * static_cast<double>(n)},
                [&, which = loss](int) { r.run(ctx, which); });
    }
  }
}

const CudaBenchmark kBenchmark("ranking_loss", run);

}  // namespace
}  // namespace belfry::bench
