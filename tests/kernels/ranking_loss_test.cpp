// SPDX-License-Identifier: Apache-2.0
#include "kernels/ranking_loss/ranking_loss.hpp"

#include <gtest/gtest.h>

#include <utility>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_ranking_loss.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

constexpr std::array<RankingLoss, 5> kLosses = {RankingLoss::mse, RankingLoss::mae,
                                                RankingLoss::huber, RankingLoss::bce,
                                                RankingLoss::bce_logits};
const char* name_of(RankingLoss loss) {
  constexpr std::array<const char*, 5> names = {"mse", "mae", "huber", "bce", "bce_logits"};
  return names[static_cast<std::size_t>(loss)];
}

/// The formulas in float64. Inside of the clip; what lies outside is tested by hand.
double oracle(double y, double p, const RankingLossOptions& o) {
  const double s = static_cast<double>(o.label_smoothing), smooth = y * (1 - s) + s / 2;
  const double e = std::abs(p - y), delta = static_cast<double>(o.huber_delta), eps = 1e-7;
  switch (o.loss) {
    case RankingLoss::mse:
      return e * e;
    case RankingLoss::mae:
      return e;
    case RankingLoss::huber:
      return e <= delta ? e * e / 2 : delta * e - delta * delta / 2;
    case RankingLoss::bce:
      return -(smooth * std::log(p + eps) + (1 - smooth) * std::log(1 - p + eps));
    case RankingLoss::bce_logits:
      return std::max(p, 0.0) - p * smooth + std::log1p(std::exp(-std::abs(p)));
  }
  return 0;
}

struct Batch {
  std::vector<float> predictions, labels, weight;
};
Batch make_batch(Random& random, RankingLoss loss, std::int64_t rows) {
  Batch b;
  b.weight = random.uniforms(rows, 0, 2);
  const bool clicks = loss == RankingLoss::bce || loss == RankingLoss::bce_logits;
  for (std::int64_t i = 0; i < rows; ++i) {
    b.labels.push_back(static_cast<float>(clicks ? random.below(2) : 1 + random.below(5)));
    b.predictions.push_back(static_cast<float>(loss == RankingLoss::bce
                                                   ? random.uniform(0.01, 0.99)
                                                   : (clicks ? 0 : 3) + 2 * random.normal()));
  }
  return b;
}

struct Result {
  double loss = -7;
  std::vector<float> rows, d;
};
Result run(const Context& ctx, const Batch& b, const RankingLossOptions& options) {
  Result r;
  r.rows.resize(b.labels.size());
  r.d.resize(b.labels.size());
  tested::ranking_loss(ctx, view(b.predictions), view(b.labels), options, &r.loss, view(r.rows),
                       view(r.d));
  return r;
}

/// Every option in turn.
std::vector<RankingLossOptions> options_of(RankingLoss loss, const Batch& b) {
  RankingLossOptions plain;
  plain.loss = loss;
  RankingLossOptions all = plain;
  all.huber_delta = 0.5f;
  all.label_smoothing = 0.1f;
  all.weight = view(b.weight);
  all.scale = 0.25f;
  all.mean = true;
  return {plain, all};
}

TEST(RankingLoss, ByHand) {
  const Context ctx = make_context(1);
  Batch b{{1, 4, 3.5f}, {3, 3, 3.5f}, {1, 2, 5}};
  RankingLossOptions o;
  o.weight = view(b.weight);
  Result r = run(ctx, b, o);  // (1 - 3)^2 + 2 (4 - 3)^2
  EXPECT_EQ(r.loss, 6);
  EXPECT_EQ(r.rows, (std::vector<float>{4, 1, 0}));
  EXPECT_EQ(r.d, (std::vector<float>{-4, 4, 0}));
  o.loss = RankingLoss::mae;
  o.mean = true;
  o.scale = 3;
  r = run(ctx, b, o);  // 2 + 2 x 1, the factor 3 / 3; no slope at 0
  EXPECT_EQ(r.loss, 4);
  EXPECT_EQ(r.d, (std::vector<float>{-1, 2, 0}));
  o.loss = RankingLoss::huber;
  r = run(ctx, b, o);
  EXPECT_EQ(r.rows, (std::vector<float>{1.5f, 0.5f, 0}));
  EXPECT_EQ(r.d, (std::vector<float>{-1, 2, 0}));
}

TEST(RankingLoss, MatchesFloat64) {
  const Context ctx = make_context(2);
  Random random(31);
  for (const RankingLoss loss : kLosses) {
    for (const std::int64_t rows : {0, 1, 2, 31, 32, 33, 129, 255, 257, 1023, 1024, 1025, 2049}) {
      const Batch b = make_batch(random, loss, rows);
      for (const RankingLossOptions& o : options_of(loss, b)) {
        const std::string what = std::string(name_of(loss)) + ", rows " + std::to_string(rows);
        const Result r = run(ctx, b, o);
        std::vector<double> expected;
        double sum = 0;
        for (std::size_t i = 0; i < b.labels.size(); ++i) {
          expected.push_back(
              oracle(static_cast<double>(b.labels[i]), static_cast<double>(b.predictions[i]), o));
          sum += expected[i] * (o.weight.empty() ? 1.0 : static_cast<double>(b.weight[i]));
        }
        sum *= static_cast<double>(o.scale) / (o.mean ? std::max<double>(1, rows) : 1);
        expect_near(r.rows, expected, 1e-6, 4e-7, what);
        EXPECT_NEAR(r.loss, sum, 1e-6 * std::abs(sum)) << what;
      }
    }
  }
}

TEST(RankingLoss, GradientMatchesFiniteDifferences) {
  const Context ctx = make_context(1);
  Random random(32);
  for (const RankingLoss loss : kLosses) {
    const Batch b = make_batch(random, loss, 65);
    for (const RankingLossOptions& o : options_of(loss, b)) {
      const Result r = run(ctx, b, o);
      std::vector<double> expected;
      for (std::size_t i = 0; i < b.labels.size(); ++i) {
        const auto f = [&](const std::vector<double>& p) {
          return oracle(static_cast<double>(b.labels[i]), p[0], o);
        };
        const double slope =
            finite_differences(f, {static_cast<double>(b.predictions[i])}, 1e-6)[0];
        expected.push_back(slope * static_cast<double>(o.scale) / (o.mean ? 65 : 1) *
                           (o.weight.empty() ? 1.0 : static_cast<double>(b.weight[i])));
      }
      expect_near(r.d, expected, 1e-5, 1e-6, name_of(loss));
    }
  }
}

TEST(RankingLoss, CertainPredictions) {
  const Context ctx = make_context(1);
  const float below_one = std::nextafter(1.0f, 0.0f), clip = 1.0f - kBceEpsilon;
  Batch b{{0, 1, 0, 1, below_one, clip, 1.5f, -2}, {1, 0, 0, 1, 0, 0, 1, 1}, {}};
  RankingLossOptions o;
  o.loss = RankingLoss::bce;
  Result r = run(ctx, b, o);
  const double wrong_high = -std::log(1.1920929e-7 + 1e-7);  // 1 - clip, in f32
  const std::vector<double> losses = {-std::log(2e-7), wrong_high, 0, 0,
                                      wrong_high,      wrong_high, 0, -std::log(2e-7)};
  expect_near(r.rows, losses, 1e-6, 2e-7, "losses");
  // The clip passes a gradient at its edge, and none beyond it.
  const std::vector<double> slopes = {0, 0, 0, 0, 0, 1 / (1.1920929e-7 + 1e-7), 0, 0};
  expect_near(r.d, slopes, 1e-5, 0, "slopes");

  o.loss = RankingLoss::bce_logits;
  b = {{60, -60, 60, -60, 1e4f, -1e4f, 0}, {1, 1, 0, 0, 0, 0, 1}, {}};
  r = run(ctx, b, o);
  const double tail = std::exp(-60.0);
  expect_near(r.rows, std::vector<double>{tail, 60, 60, tail, 1e4, 0, std::log(2.0)}, 1e-6, 0,
              "losses of logits");
  expect_near(r.d, std::vector<double>{-tail, -1, 1, tail, 1, 0, -0.5}, 1e-6, 0,
              "slopes of logits");
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(RankingLoss, AddsToALossOrReplacesIt) {
  const Context ctx = make_context(1);
  Random random(33);
  const Batch b = make_batch(random, RankingLoss::mse, 40);
  RankingLossOptions o;
  const Result once = run(ctx, b, o);
  o.add_to_loss = true;
  Result twice = once;
  tested::ranking_loss(ctx, view(b.predictions), view(b.labels), o, &twice.loss, {}, view(twice.d));
  EXPECT_EQ(twice.loss, once.loss + once.loss);
  expect_equal_bits(twice.d, once.d, "the gradient is overwritten");
  tested::ranking_loss(ctx, {}, {}, o, &twice.loss, {}, {});
  EXPECT_EQ(twice.loss, once.loss + once.loss);
  o.add_to_loss = false;
  tested::ranking_loss(ctx, {}, {}, o, &twice.loss, {}, {});
  EXPECT_EQ(twice.loss, 0);
}

TEST(RankingLoss, OutputsMayBeLeftOutAndInPlace) {
  const Context ctx = make_context(1);
  Random random(34);
  Batch b = make_batch(random, RankingLoss::bce_logits, 77);
  RankingLossOptions o;
  o.loss = RankingLoss::bce_logits;
  const Result r = run(ctx, b, o);
  double loss = 0;
  tested::ranking_loss(ctx, view(b.predictions), view(b.labels), o, &loss, {}, {});
  EXPECT_EQ(loss, r.loss);
  tested::ranking_loss(ctx, view(std::as_const(b.predictions)), view(std::as_const(b.labels)), o,
                       &loss, {}, view(b.predictions));
  expect_equal_bits(b.predictions, r.d, "in place");
}

TEST(RankingLoss, NonFiniteRaises) {
  Random random(35);
  for (const RankingLoss loss : kLosses) {
    for (const float bad : {std::nanf(""), INFINITY}) {
      if (loss == RankingLoss::bce && std::isinf(bad)) continue;  // clipped
      const Context ctx = make_context(1);
      Batch b = make_batch(random, loss, 50);
      b.predictions[37] = bad;
      b.labels[37] = 0;
      RankingLossOptions o;
      o.loss = loss;
      const Result r = run(ctx, b, o);
      EXPECT_FALSE(std::isfinite(r.loss)) << name_of(loss);
      EXPECT_EQ(ctx.read_state().status, kStatusNonFinite) << name_of(loss);
      EXPECT_TRUE(std::isfinite(r.d[36]));
      EXPECT_EQ(std::isnan(r.d[37]), std::isnan(bad)) << name_of(loss);
    }
  }
}

TEST(RankingLoss, SameBitsWhateverTheSchedule) {
  Random random(36);
  for (const RankingLoss loss : kLosses) {
    const Batch b = make_batch(random, loss, by_backend(50000, 2500));
    const RankingLossOptions o = options_of(loss, b)[1];
    Result first;
    for_each_variant([&](const Context& ctx) {
      const Result r = run(ctx, b, o);
      if (first.d.empty()) first = r;
      EXPECT_EQ(bits_of(r.loss), bits_of(first.loss)) << name_of(loss);
      expect_equal_bits(r.rows, first.rows, "rows");
      expect_equal_bits(r.d, first.d, "d");
    });
  }
}

TEST(RankingLoss, BothBackendsAgree) {
  Random random(37);
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (const RankingLoss loss : kLosses) {
    const Batch b = make_batch(random, loss, 1500);
    for (const RankingLossOptions& o : options_of(loss, b)) {
      const Result r = run(ctx, b, o), c = run(cpu, b, o);
      const bool logs = loss == RankingLoss::bce || loss == RankingLoss::bce_logits;
      if (!logs) expect_equal_bits(r.rows, c.rows, name_of(loss));
      if (loss != RankingLoss::bce_logits) expect_equal_bits(r.d, c.d, name_of(loss));
      expect_near(r.rows, c.rows, 1e-6, 5e-7, name_of(loss));
      expect_near(r.d, c.d, 1e-6, 5e-7, name_of(loss));
      EXPECT_NEAR(r.loss, c.loss, 1e-6 * std::abs(c.loss)) << name_of(loss);
    }
  }
}

TEST(RankingLoss, CanBeReplayed) {
  Random random(38);
  const Context ctx = make_context(1);
  const std::int64_t rows = 1100;
  const Batch start = make_batch(random, RankingLoss::bce_logits, rows);
  Held<float> p(ctx, start.predictions), y(ctx, start.labels), w(ctx, start.weight);
  Held<float> row(ctx, start.labels), d(ctx, start.labels);
  Held<double> loss(ctx, {0});
  RankingLossOptions o;
  o.loss = RankingLoss::bce_logits;
  o.mean = true;
  RankingLossOptions on_host = o;
  o.weight = w.vector();
  Replay replay(ctx, [&] {
    belfry::ranking_loss(ctx, p.vector(), y.vector(), o, loss.data(), row.vector(), d.vector());
  });
  for (int round = 0; round < 2; ++round) {
    const Batch b = make_batch(random, RankingLoss::bce_logits, rows);
    p.set(b.predictions), y.set(b.labels), w.set(b.weight);
    replay.run();
    on_host.weight = view(b.weight);
    const Result r = run(ctx, b, on_host);
    EXPECT_EQ(bits_of(loss.get()[0]), bits_of(r.loss));
    expect_equal_bits(row.get(), r.rows, "rows");
    expect_equal_bits(d.get(), r.d, "d");
  }
}

TEST(RankingLoss, RefusesWrongArguments) {
  const Context ctx = make_context(1);
  std::vector<float> three(3, 0.5f), two(2, 0.5f), d(3), rows(3);
  double loss = 0;
  const auto call = [&](const RankingLossOptions& o, std::vector<float>& p, std::vector<float>& r,
                        std::vector<float>& g, double* l) {
    tested::ranking_loss(ctx, view(std::as_const(p)), view(std::as_const(three)), o, l, view(r),
                         view(g));
  };
  RankingLossOptions o;
  EXPECT_NO_THROW(call(o, three, rows, d, &loss));
  EXPECT_THROW(call(o, two, rows, d, &loss), ContractError);
  EXPECT_THROW(call(o, three, two, d, &loss), ContractError);
  EXPECT_THROW(call(o, three, rows, two, &loss), ContractError);
  EXPECT_THROW(call(o, three, rows, d, nullptr), ContractError);
  o.weight = view(std::as_const(two));
  EXPECT_THROW(call(o, three, rows, d, &loss), ContractError);
  for (const float delta : {0.0f, -1.0f, INFINITY, std::nanf("")}) {
    RankingLossOptions bad;
    bad.huber_delta = delta;
    EXPECT_THROW(call(bad, three, rows, d, &loss), ContractError);
  }
  for (const float smoothing : {-0.1f, 1.1f, std::nanf("")}) {
    RankingLossOptions bad;
    bad.label_smoothing = smoothing;
    EXPECT_THROW(call(bad, three, rows, d, &loss), ContractError);
  }
  RankingLossOptions unknown;
  unknown.loss = static_cast<RankingLoss>(9);
  EXPECT_THROW(call(unknown, three, rows, d, &loss), ContractError);
}

}  // namespace
}  // namespace belfry::test
