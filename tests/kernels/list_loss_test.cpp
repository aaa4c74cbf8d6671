// SPDX-License-Identifier: Apache-2.0
#include "kernels/list_loss/list_loss.hpp"

#include <gtest/gtest.h>

#include <utility>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/tested_list_loss.hpp"
#include "tests/support/variants.hpp"

namespace belfry::test {
namespace {

constexpr std::array<ListLoss, 6> kLosses = {
    ListLoss::pairwise_hinge, ListLoss::pairwise_logistic, ListLoss::pairwise_soft_zero_one,
    ListLoss::softmax,        ListLoss::list_mle,          ListLoss::approx_ndcg};
const char* name_of(ListLoss loss) {
  constexpr std::array<const char*, 6> names = {
      "pairwise_hinge", "pairwise_logistic", "pairwise_soft_zero_one",
      "softmax",        "list_mle",          "approx_ndcg"};
  return names[static_cast<std::size_t>(loss)];
}

using Row = std::vector<double>;

/// Slots of a list in order: by descending label, the lower slot first; padding left out.
std::vector<std::size_t> order_of(const Row& y) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (y[i] >= 0) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return y[a] > y[b]; });
  return order;
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

double pair_oracle(ListLoss loss, double d) {
  if (loss == ListLoss::pairwise_hinge) return std::max(0.0, 1 - d);
  if (loss == ListLoss::pairwise_logistic) return std::log1p(std::exp(-d));
  return sigmoid(-d);
}

double list_mle_oracle(const std::vector<std::size_t>& order, const Row& t, std::size_t padded) {
  double loss = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    double sum = 0;
    for (std::size_t j = i; j < order.size(); ++j) sum += std::exp(t[order[j]] - t[order[i]]);
    loss += std::log(sum);
  }
  return loss + std::lgamma(static_cast<double>(padded) + 1);
}

double approx_ndcg_oracle(const std::vector<std::size_t>& order, const Row& y, const Row& t) {
  double gained = 0, ideal = 0;
  for (std::size_t place = 0; place < order.size(); ++place) {
    const std::size_t i = order[place];
    double rank = 0.5;
    for (const std::size_t j : order) rank += sigmoid(t[j] - t[i]);
    gained += (std::exp2(y[i]) - 1) / std::log2(1 + rank);
    ideal += (std::exp2(y[i]) - 1) / std::log2(2.0 + static_cast<double>(place));
  }
  return ideal > 0 ? -gained / ideal : 0;
}

/// The loss of one list, in float64 by the definitions.
double oracle(const ListLossOptions& o, const Row& y, Row t, const Row& v) {
  for (double& x : t) x /= static_cast<double>(o.temperature);
  const std::vector<std::size_t> order = order_of(y);
  double loss = 0, weighted = 0, labels = 0, total = 0;
  for (const std::size_t i : order) weighted += v[i] * y[i], labels += y[i];
  const double by_list = o.item_weight.data == nullptr ? 1 : labels > 0 ? weighted / labels : 0;
  switch (o.loss) {
    case ListLoss::softmax:
      for (const std::size_t i : order) total += std::exp(t[i]);
      for (const std::size_t i : order) loss -= v[i] * y[i] * (t[i] - std::log(total));
      return loss;
    case ListLoss::list_mle:
      return by_list *
             list_mle_oracle(order, t, o.padding_adds_to_list_mle ? y.size() - order.size() : 0);
    case ListLoss::approx_ndcg:
      return by_list * approx_ndcg_oracle(order, y, t);
    default:
      for (const std::size_t i : order) {
        for (const std::size_t j : order) {
          if (y[i] > y[j]) loss += v[i] * pair_oracle(o.loss, t[i] - t[j]);
        }
      }
      return loss;
  }
}

struct Batch {
  HostMatrix scores, labels, item_weight;
  std::vector<float> list_weight;
};
Row row_of(const HostMatrix& m, std::int64_t l) {
  Row row;
  for (std::int64_t j = 0; j < m.cols(); ++j) row.push_back(static_cast<double>(m(l, j)));
  return row;
}

/// Lists with ties and scattered padding, whose scores and weights are NaN: nobody may look. Of every seven lists
/// one is all padding, one has no label above 0.
Batch make_batch(Random& random, std::int64_t lists, std::int64_t slots) {
  Batch b{HostMatrix::normal(random, lists, slots, 1.5, 3), HostMatrix(lists, slots, 1),
          HostMatrix(lists, slots, random.uniforms(lists * slots, 0.2, 2), 2),
          random.uniforms(lists, 0.2, 2)};
  for (std::int64_t l = 0; l < lists; ++l) {
    for (std::int64_t j = 0; j < slots; ++j) {
      b.labels(l, j) = l % 7 == 6 ? 0 : static_cast<float>(random.below(5));
      if (l % 7 != 5 && random.uniform() > 0.2) continue;
      b.labels(l, j) = l % 2 == 0 ? -1 : -INFINITY;
      b.scores(l, j) = b.item_weight(l, j) = std::nanf("");
    }
  }
  return b;
}

struct Result {
  double loss = -7;
  std::vector<float> rows, d;
};
Result run(const Context& ctx, const Batch& b, const ListLossOptions& options) {
  Result r;
  r.rows.resize(static_cast<std::size_t>(b.scores.rows()));
  HostMatrix d(b.scores.rows(), b.scores.cols(), 2);
  tested::list_loss(ctx, b.scores.view(), b.labels.view(), options, &r.loss, view(r.rows),
                    d.view());
  EXPECT_TRUE(d.padding_intact());
  r.d = d.values();
  return r;
}

/// No option, and every option.
std::vector<ListLossOptions> options_of(ListLoss loss, const Batch& b) {
  ListLossOptions plain;
  plain.loss = loss;
  ListLossOptions all = plain;
  all.temperature = 0.5f;
  all.list_weight = view(b.list_weight);
  all.item_weight = b.item_weight.view();
  all.padding_adds_to_list_mle = true;
  all.scale = 3;
  all.mean = true;
  return {plain, all};
}

struct Expected {
  double loss = 0;
  std::vector<double> rows, d;
};
/// `gradient`: by finite differences.
Expected expected_of(const Batch& b, const ListLossOptions& o, bool gradient) {
  const std::int64_t lists = b.scores.rows(), slots = b.scores.cols();
  double factor = static_cast<double>(o.scale);
  if (o.mean) factor /= static_cast<double>(is_pairwise(o.loss) ? lists * slots : lists);
  Expected e;
  for (std::int64_t l = 0; l < lists; ++l) {
    const Row y = row_of(b.labels, l);
    const Row v = o.item_weight.data == nullptr ? Row(y.size(), 1) : row_of(b.item_weight, l);
    const auto f = [&](const Row& t) { return oracle(o, y, t, v); };
    const double weight = o.list_weight.empty() ? 1 : static_cast<double>(b.list_weight[l]);
    e.rows.push_back(f(row_of(b.scores, l)));
    e.loss += factor * weight * e.rows.back();
    if (!gradient) continue;
    for (const double g : finite_differences(f, row_of(b.scores, l), 1e-6)) {
      e.d.push_back(std::isnan(g) ? 0 : g * factor * weight);
    }
  }
  if (lists == 0 || slots == 0) e.loss = 0;
  return e;
}

TEST(ListLoss, ByHand) {
  const Context ctx = make_context(1);
  Batch b{HostMatrix(2, 3, {1, 0.5f, 7, 0, 0, 0}), HostMatrix(2, 3, {0, 1, -1, 1, 0, 0}), {}, {}};
  ListLossOptions o;
  o.loss = ListLoss::pairwise_hinge;
  Result r = run(ctx, b, o);
  EXPECT_EQ(r.rows, (std::vector<float>{1.5f, 2}));
  EXPECT_EQ(r.loss, 3.5);
  EXPECT_EQ(r.d, (std::vector<float>{1, -1, 0, -2, 1, 1}));
  o.mean = true;  // over all slots
  EXPECT_DOUBLE_EQ(run(ctx, b, o).loss, 3.5 / 6);
  o.loss = ListLoss::softmax;
  r = run(ctx, b, o);
  expect_near(r.rows, std::vector<double>{std::log(1 + std::exp(0.5)), std::log(3.0)}, 1e-6, 0,
              "softmax");
  const double p = 1 / (1 + std::exp(0.5));
  expect_near(r.d, std::vector<double>{(1 - p) / 2, (p - 1) / 2, 0, -1.0 / 3, 1.0 / 6, 1.0 / 6},
              1e-6, 1e-7, "softmax");
  // Equal labels go by slot: log 3 + log 2 + log 1, and the same for three padded slots.
  o = {};
  o.loss = ListLoss::list_mle;
  EXPECT_NEAR(run(ctx, b, o).rows[1], std::log(6.0), 1e-6);
  const Batch padded{HostMatrix(1, 4, {5, 1, 1, 1}), HostMatrix(1, 4, {2, -1, -1, -1}), {}, {}};
  EXPECT_EQ(run(ctx, padded, o).loss, 0);
  o.padding_adds_to_list_mle = true;
  r = run(ctx, padded, o);
  EXPECT_NEAR(r.loss, std::log(6.0), 1e-6);
  EXPECT_EQ(r.d, std::vector<float>(4, 0));
}

TEST(ListLoss, MatchesFloat64AndFiniteDifferences) {
  const Context ctx = make_context(2);
  Random random(41);
  const std::vector<Shape> shapes = {{0, 0}, {0, 5},  {5, 0},  {1, 1},  {7, 2},  {8, 3},
                                     {3, 7}, {7, 31}, {2, 32}, {9, 33}, {1, 64}, {7, 65}};
  for (const ListLoss loss : kLosses) {
    for (const Shape& s : shapes) {
      const Batch b = make_batch(random, s.rows, s.cols);
      for (const ListLossOptions& o : options_of(loss, b)) {
        const std::string what = std::string(name_of(loss)) + " " + std::to_string(s.rows) + "x" +
                                 std::to_string(s.cols) + (o.mean ? ", all options" : "");
        const Result r = run(ctx, b, o);
        const Expected e = expected_of(b, o, true);
        expect_near(r.rows, e.rows, 1e-5, 1e-6, what + ", rows");
        EXPECT_NEAR(r.loss, e.loss, 1e-5 * std::abs(e.loss) + 1e-6) << what;
        expect_near(r.d, e.d, 2e-5, loss == ListLoss::softmax ? 2e-5 : 5e-6, what + ", gradient");
      }
    }
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

TEST(ListLoss, LongLists) {
  const Context ctx = make_context(2);
  Random random(42);
  const std::int64_t slots = by_backend(1500, 257);
  for (const ListLoss loss : kLosses) {
    const Batch b = make_batch(random, 1, slots);
    const ListLossOptions o = options_of(loss, b)[1];
    const Result r = run(ctx, b, o);
    const Expected e = expected_of(b, o, false);
    expect_near(r.rows, e.rows, 1e-5, 0, name_of(loss));
    double sum = 0, size = 0;  // these losses do not change when all scores grow alike
    for (const float g : r.d) sum += static_cast<double>(g), size += std::abs(g);
    EXPECT_NEAR(sum, 0, 1e-5 * size) << name_of(loss);
    EXPECT_GT(size, 0);
  }
}

TEST(ListLoss, HugeScores) {
  const Context ctx = make_context(1);
  for (const ListLoss loss : kLosses) {
    Batch b{HostMatrix(2, 4, {1e4f, -1e4f, 0, 9e3f, 1e6f, 1e6f, 1e6f, 1e6f}),
            HostMatrix(2, 4, {0, 3, 1, 2, 0, 3, 1, 2}),
            {},
            {}};
    ListLossOptions o;
    o.loss = loss;
    const Result r = run(ctx, b, o);
    for (const float d : r.d) EXPECT_TRUE(std::isfinite(d)) << name_of(loss);
    EXPECT_TRUE(std::isfinite(r.loss)) << name_of(loss);
    // Equal scores: as if all were 0.
    for (std::int64_t j = 0; j < 4; ++j) b.scores(0, j) = 0;
    const Result equal = run(ctx, b, o);
    EXPECT_EQ(bits_of(equal.rows[0]), bits_of(equal.rows[1])) << name_of(loss);
  }
  ListLossOptions o;
  o.loss = ListLoss::list_mle;
  const Batch far{HostMatrix(1, 3, {-200, 0, 200}), HostMatrix(1, 3, {2, 1, 0}), {}, {}};
  EXPECT_NEAR(run(ctx, far, o).loss, 600, 1e-3);  // a sum of plain exponentials would overflow
  EXPECT_EQ(run(ctx, far, o).d, (std::vector<float>{-1, -1, 2}));
}

TEST(ListLoss, AddsToALossOrReplacesIt) {
  const Context ctx = make_context(1);
  Random random(43);
  const Batch b = make_batch(random, 5, 9);
  ListLossOptions o;
  o.loss = ListLoss::pairwise_logistic;
  const Result once = run(ctx, b, o);
  double loss = once.loss;
  o.add_to_loss = true;
  tested::list_loss(ctx, b.scores.view(), b.labels.view(), o, &loss, {}, {});
  EXPECT_EQ(loss, once.loss + once.loss);
  tested::list_loss(ctx, {}, {}, o, &loss, {}, {});
  EXPECT_EQ(loss, once.loss + once.loss);
  o.add_to_loss = false;
  tested::list_loss(ctx, {}, {}, o, &loss, {}, {});
  EXPECT_EQ(loss, 0);
}

TEST(ListLoss, NonFiniteStaysInItsListAndRaises) {
  Random random(44);
  for (const ListLoss loss : kLosses) {
    for (const int where : {0, 1, 2}) {
      for (const float bad : {std::nanf(""), INFINITY}) {
        const Context ctx = make_context(1);
        Batch b = make_batch(random, 2, 6);
        b.labels = HostMatrix(2, 6, {0, 1, 2, 3, -1, 1, 0, 1, 2, 3, -1, 1});
        b.scores = HostMatrix(2, 6, 0, 0.5f);
        b.item_weight = HostMatrix(2, 6, 0, 0.5f);
        (where == 0 ? b.scores : where == 1 ? b.labels : b.item_weight)(1, 2) = bad;
        const Result r = run(ctx, b, options_of(loss, b)[1]);
        EXPECT_TRUE(std::isnan(r.loss)) << name_of(loss) << where;
        EXPECT_TRUE(std::isfinite(r.rows[0])) << name_of(loss) << where;
        EXPECT_TRUE(std::isnan(r.rows[1])) << name_of(loss) << where;
        EXPECT_TRUE(std::isfinite(r.d[2])) << name_of(loss) << where;
        EXPECT_TRUE(std::isnan(r.d[8])) << name_of(loss) << where;
        EXPECT_EQ(r.d[10], 0);
        EXPECT_EQ(ctx.read_state().status, kStatusNonFinite) << name_of(loss) << where;
      }
    }
  }
}

TEST(ListLoss, SameBitsWhateverTheSchedule) {
  Random random(45);
  for (const ListLoss loss : kLosses) {
    for (const std::int64_t slots : {33, 70}) {
      const Batch b = make_batch(random, by_backend(200, 5), slots);
      const ListLossOptions o = options_of(loss, b)[1];
      Result first;
      for_each_variant([&](const Context& ctx) {
        const Result r = run(ctx, b, o);
        if (first.d.empty()) first = r;
        EXPECT_EQ(bits_of(r.loss), bits_of(first.loss)) << name_of(loss);
        expect_equal_bits(r.rows, first.rows, name_of(loss));
        expect_equal_bits(r.d, first.d, name_of(loss));
      });
    }
  }
}

TEST(ListLoss, BothBackendsAgree) {
  Random random(46);
  const Context ctx = make_context(1), cpu(Backend::cpu, 1);
  for (const ListLoss loss : kLosses) {
    for (const std::int64_t slots : {1, 10, 64, 65, 130}) {
      const Batch b = make_batch(random, 7, slots);
      for (const ListLossOptions& o : options_of(loss, b)) {
        const Result r = run(ctx, b, o), c = run(cpu, b, o);
        EXPECT_NEAR(r.loss, c.loss, 1e-5 * std::abs(c.loss) + 1e-6) << name_of(loss);
        expect_near(r.rows, c.rows, 1e-5, 1e-6, name_of(loss));
        // Terms of size 1 and weight 2 at most, but softmax's, which are as large as the sum of labels.
        const double terms = 2.0 * static_cast<double>(slots) * (o.mean ? 3 * 2 * 2 : 1);
        expect_near(r.d, c.d, 1e-5, 1e-7 * terms, name_of(loss));
      }
    }
  }
}

TEST(ListLoss, CanBeReplayed) {
  Random random(47);
  const Context ctx = make_context(1);
  const std::int64_t lists = 4, slots = 12;
  for (const ListLoss loss : kLosses) {
    const std::vector<float> zeros(static_cast<std::size_t>(lists * slots));
    Held<float> scores(ctx, zeros), labels(ctx, zeros), items(ctx, zeros), d(ctx, zeros);
    Held<float> weight(ctx, std::vector<float>(lists)), rows(ctx, std::vector<float>(lists));
    Held<double> total(ctx, {0});
    ListLossOptions o;
    o.loss = loss;
    o.mean = true;
    ListLossOptions on_host = o;
    o.list_weight = weight.vector();
    o.item_weight = items.matrix(lists, slots);
    Replay replay(ctx, [&] {
      belfry::list_loss(ctx, scores.matrix(lists, slots), labels.matrix(lists, slots), o,
                        total.data(), rows.vector(), d.matrix(lists, slots));
    });
    for (int round = 0; round < 2; ++round) {
      const Batch b = make_batch(random, lists, slots);
      scores.set(b.scores.values()), labels.set(b.labels.values());
      items.set(b.item_weight.values()), weight.set(b.list_weight);
      replay.run();
      on_host.list_weight = view(b.list_weight);
      on_host.item_weight = b.item_weight.view();
      const Result r = run(ctx, b, on_host);
      EXPECT_EQ(bits_of(total.get()[0]), bits_of(r.loss)) << name_of(loss);
      expect_equal_bits(rows.get(), r.rows, name_of(loss));
      expect_equal_bits(d.get(), r.d, name_of(loss));
    }
  }
}

TEST(ListLoss, RefusesWrongArguments) {
  const Context ctx = make_context(1);
  HostMatrix s(2, 3), y(2, 3), d(2, 3), other_rows(3, 3), other_cols(2, 4);
  std::vector<float> rows(2), three(3);
  double loss = 0;
  const auto call = [&](const ListLossOptions& o, const HostMatrix& labels, HostMatrix& gradient,
                        std::vector<float>& r, double* l) {
    tested::list_loss(ctx, std::as_const(s).view(), labels.view(), o, l, view(r), gradient.view());
  };
  const ListLossOptions plain;
  EXPECT_NO_THROW(call(plain, y, d, rows, &loss));
  for (HostMatrix* wrong : {&other_rows, &other_cols}) {
    EXPECT_THROW(call(plain, *wrong, d, rows, &loss), ContractError);
    EXPECT_THROW(call(plain, y, *wrong, rows, &loss), ContractError);
    ListLossOptions o;
    o.item_weight = wrong->view();
    EXPECT_THROW(call(o, y, d, rows, &loss), ContractError);
  }
  EXPECT_THROW(call(plain, y, d, three, &loss), ContractError);
  EXPECT_THROW(call(plain, y, d, rows, nullptr), ContractError);
  for (const float temperature : {0.0f, -1.0f, std::nanf("")}) {
    ListLossOptions o;
    o.temperature = temperature;
    EXPECT_THROW(call(o, y, d, rows, &loss), ContractError);
  }
  ListLossOptions o;
  o.list_weight = view(std::as_const(three));
  EXPECT_THROW(call(o, y, d, rows, &loss), ContractError);
  o = {};
  o.loss = static_cast<ListLoss>(9);
  EXPECT_THROW(call(o, y, d, rows, &loss), ContractError);
  if (!on_device()) return;
  const HostMatrix wide(1, kMaxListSlots + 1);
  EXPECT_THROW(tested::list_loss(ctx, wide.view(), wide.view(), plain, &loss, {}, {}),
               ContractError);
}

TEST(ListLoss, TheLongestListOfAGpu) {
  const Context ctx = make_context(1);
  Random random(48);
  Batch b = make_batch(random, 1, kMaxListSlots);
  ListLossOptions o;  // linear in the slots, so that the executor can
  const Result r = run(ctx, b, o);
  expect_near(r.rows, expected_of(b, o, false).rows, 1e-5, 0, "softmax");
}

}  // namespace
}  // namespace belfry::test
