// SPDX-License-Identifier: Apache-2.0
// Several vectors of a query: loss and gradients against float64 and its differences, answers against plain
// loops where almost all scores tie, training on either backend, and the model file.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/recommender.hpp"
#include "engine/task.hpp"
#include "engine/trainer.hpp"
#include "kernels/core/transfer.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/trained_model.hpp"

namespace belfry::test {
namespace {

constexpr std::int64_t kHeads = 3, kWidth = 5;  // no multiple of the rows' padding

/// A query tower of three heads on top of one dense layer.
Config with_heads(const SmallRatings& ratings, std::vector<std::string> overrides) {
  Config config = ratings.config(std::move(overrides));
  config.features = {SmallRatings::id_feature("user", Side::query, 4),
                     SmallRatings::id_feature("item", Side::candidate, kWidth)};
  LayerConfig dense, heads;
  dense.units = {kHeads * kWidth};
  heads.kind = LayerKind::heads;
  heads.count = kHeads;
  NetworkConfig query;
  query.name = "query";
  query.inputs = {"user"};
  query.layers = {dense, heads};
  config.networks = {query};
  return config;
}

const SmallRatings& ratings() {
  static const SmallRatings r(30, 25, 300);
  return r;
}

/// The loss of the first batch in float64, as a function of the dense layer.
struct Oracle {
  std::vector<double> x, c;  // [B, 4], [C, width]
  std::int64_t b = 0, columns = 0;
  std::vector<double> log_q;
  std::vector<std::int64_t> ids;
  double temperature = 1;
  bool cosine = false;

  static void normalise(double* v, std::int64_t d) {
    double square = 0;
    for (std::int64_t k = 0; k < d; ++k) square += v[k] * v[k];
    for (std::int64_t k = 0; k < d; ++k) v[k] /= std::sqrt(square);
  }
  double loss(const std::vector<double>& kernel, const std::vector<double>& bias) const {
    std::vector<double> items = c;
    for (std::int64_t j = 0; cosine && j < columns; ++j) normalise(&items[j * kWidth], kWidth);
    double sum = 0;
    std::vector<double> q(kHeads * kWidth), s(columns);
    for (std::int64_t i = 0; i < b; ++i) {
      for (std::int64_t k = 0; k < kHeads * kWidth; ++k) {
        q[k] = bias[k];
        for (std::int64_t f = 0; f < 4; ++f) q[k] += x[i * 4 + f] * kernel[f * kHeads * kWidth + k];
      }
      for (std::int64_t h = 0; cosine && h < kHeads; ++h) normalise(&q[h * kWidth], kWidth);
      double total = 0;
      for (std::int64_t j = 0; j < columns; ++j) {
        if (j != i && ids[j] == ids[i]) continue;  // an accidental hit
        s[j] = -1e300;
        for (std::int64_t h = 0; h < kHeads; ++h) {
          double score = 0;
          for (std::int64_t k = 0; k < kWidth; ++k)
            score += q[h * kWidth + k] * items[j * kWidth + k];
          s[j] = std::max(s[j], score);
        }
        s[j] = s[j] / temperature - log_q[j];
        total += std::exp(s[j]);
      }
      sum += std::log(total) - s[i];
    }
    return sum / static_cast<double>(b);
  }
};

std::vector<double> wide(const std::vector<float>& v) {
  return {v.begin(), v.end()};
}

TEST(Heads, LossAndGradientsAgainstDifferences) {
  for (const char* similarity : {"task.similarity=dot", "task.similarity=cosine"}) {
    SCOPED_TRACE(similarity);
    const Context ctx = make_context(2);
    const Loaded l = load(with_heads(ratings(), {"train.batch_size=24", similarity}));
    BatchStream stream(l.data, l.config.train, l.config.tasks);
    TowerNetworks model(ctx, l.config, l.data, stream.batch_size(), stream.max_candidates(), true);
    EXPECT_EQ(model.width(), kWidth);
    EXPECT_EQ(model.heads(), kHeads);
    RetrievalTask task(l.config.tasks.front(), model.graph(), model.plan(), stream.batch_size(),
                       stream.max_candidates(), Precision::fp32, model.heads());
    model.commit(ctx);
    model.registry().initialise(ctx, 2);
    model.registry().prepare_training({});
    const Context host(Backend::cpu, 1);
    const Batch& batch = stream.make(host, 0, 0);
    Oracle o;
    o.b = batch.queries;
    o.columns = batch.candidates;
    o.temperature = l.config.tasks.front().temperature;
    o.cosine = l.config.tasks.front().similarity == Similarity::cosine;
    o.ids.assign(batch.candidate_ids.begin(), batch.candidate_ids.end());
    for (const float p : batch.log_probability) o.log_q.push_back(p);
    const std::vector<float> users = host_values(model.registry().at(0).value),
                             items = host_values(model.registry().at(1).value);
    for (std::int64_t i = 0; i < o.b; ++i) {
      const float* row = users.data() + batch.features[0].ids.ids[i] * 4;
      o.x.insert(o.x.end(), row, row + 4);
    }
    for (std::int64_t j = 0; j < o.columns; ++j) {
      const float* row = items.data() + batch.features[1].ids.ids[j] * kWidth;
      o.c.insert(o.c.end(), row, row + kWidth);
    }
    // The batch where the backend can read it.
    std::vector<std::unique_ptr<Twin<const std::int32_t>>> ids;
    std::vector<FeatureBatch> features(batch.features.begin(), batch.features.end());
    for (FeatureBatch& f : features) {
      ids.push_back(std::make_unique<Twin<const std::int32_t>>(
          ctx, Vector<const std::int32_t>{f.ids.ids, f.ids.nnz}));
      f.ids.ids = ids.back()->data();
    }
    Twin<const float> log_q(ctx, batch.log_probability);
    Twin<const std::int64_t> candidate_ids(ctx, batch.candidate_ids);
    Batch there = batch;
    there.log_probability = log_q.vector();
    there.candidate_ids = candidate_ids.vector();
    Buffer<double> loss(ctx.backend(), 1);
    model.graph().forward(ctx, features, o.b, o.columns, nullptr, true);
    task.run(ctx, model.graph(), there, loss.data(), false);
    model.graph().backward(ctx, features);
    std::vector<double> kernel, bias;
    std::vector<float> d_kernel, d_bias;
    for (int p = 0; p < model.registry().size(); ++p) {
      Parameter& parameter = model.registry().at(p);
      if (parameter.name == "query.0.kernel") {
        kernel = wide(host_values(parameter.value));
        d_kernel = host_values(parameter.gradient);
      } else if (parameter.name == "query.0.bias") {
        bias = wide(host_values(parameter.value));
        d_bias = host_values(parameter.gradient);
      }
    }
    ASSERT_EQ(kernel.size(), 4u * kHeads * kWidth);
    EXPECT_NEAR(host_values(loss).front(), o.loss(kernel, bias), 1e-5);
    constexpr double kStep = 1e-6;
    const auto expect_gradient = [&](std::vector<double>& values, const std::vector<float>& d) {
      ASSERT_EQ(values.size(), d.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double value = values[i];
        values[i] = value + kStep;
        const double above = o.loss(kernel, bias);
        values[i] = value - kStep;
        const double below = o.loss(kernel, bias);
        values[i] = value;
        EXPECT_NEAR(d[i], (above - below) / (2 * kStep), 2e-5) << i;
      }
    };
    expect_gradient(kernel, d_kernel);
    expect_gradient(bias, d_bias);
  }
}

/// Items two by two the same: half of all scores tie, and whole numbers tie by different heads too.
TEST(Heads, AnswersWhereScoresTie) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx, "dot", "", 1, 3);
  Random random(5);
  ParameterRegistry& registry = m.model->model->registry();
  for (int p = 0; p < registry.size(); ++p) {
    Parameter& parameter = registry.at(p);
    std::vector<float> v(static_cast<std::size_t>(parameter.value.size()));
    for (float& x : v) x = static_cast<float>(random.below(3)) - 1;
    const auto cols = static_cast<std::size_t>(parameter.cols);
    for (std::size_t i = 2 * cols; parameter.name == "item.embedding" && i < v.size(); ++i) {
      if (i / cols % 2 == 0) v[i] = v[i - cols];
    }
    set_values(parameter.value, v);
  }
  m.model->index = build_index(ctx, *m.model->model, m.model->data);
  const std::int64_t n = m.model->data.item_count(), d = m.model->index->dim();
  std::vector<float> items(static_cast<std::size_t>(n * d));
  m.model->index->read_rows(ctx, 0, {items.data(), n, d});
  std::vector<std::int32_t> users(static_cast<std::size_t>(m.model->data.user_count()));
  std::iota(users.begin(), users.end(), 0);
  const std::vector<float> q = m.encode(ctx, queries_of_users(m.model->data, users));
  /// The bit-defined score, which float64 agrees with.
  const auto score = [&](std::int64_t user, std::int64_t item) {
    float best = 0;
    double exact = 0;
    for (std::int64_t h = 0; h < 3; ++h) {
      float s = 0;
      double s64 = 0;
      for (std::int64_t c = 0; c < d; ++c) {
        const float a = q[static_cast<std::size_t>((user * 3 + h) * d + c)],
                    b = items[static_cast<std::size_t>(item * d + c)];
        s = std::fma(a, b, s);
        s64 += double{a} * b;
      }
      best = h == 0 ? s : std::max(best, s);
      exact = h == 0 ? s64 : std::max(exact, s64);
    }
    EXPECT_NEAR(best, exact, 1e-4);
    return best + 0.0f;
  };
  std::int64_t ties = 0;
  for (const std::int64_t k : {std::int64_t{1}, std::int64_t{6}, n, 10 * n}) {
    RecommendFilter filter;
    filter.exclude = {1};
    filter.only_pairs = {{2, 4}, {2, 9}, {2, 1}};
    Recommender recommender(ctx, *m.model, filter);
    recommender.recommend(
        users, k, {},
        [&](std::int64_t u, std::span<const std::int32_t> rows, std::span<const float> scores) {
          std::vector<std::pair<float, std::int32_t>> expected;
          for (std::int32_t i = 0; i < n; ++i) {
            if (i == 1 || m.seen_by(u).contains(i) || (u == 2 && i != 4 && i != 9)) continue;
            expected.emplace_back(-score(u, i), i);
          }
          std::sort(expected.begin(), expected.end());
          ASSERT_EQ(rows.size(), std::min(expected.size(), static_cast<std::size_t>(k)));
          for (std::size_t r = 0; r < rows.size(); ++r) {
            EXPECT_EQ(rows[r], expected[r].second) << u << " " << r;
            EXPECT_EQ(scores[r], -expected[r].first) << u << " " << r;
            ties += r > 0 && scores[r] == scores[r - 1] ? 1 : 0;
          }
        });
  }
  EXPECT_GT(ties, 100);
}

std::vector<double> losses_of(const Loaded& l, Backend backend, std::vector<float>* values) {
  const TempFolder folder;
  const Context ctx(backend, 1);
  Recorder recorder;
  Trainer trainer(ctx, l.config, l.data, folder.path());
  EXPECT_EQ(trainer.run(recorder, {}), TrainOutcome::finished);
  if (values != nullptr) *values = all_values(trainer.model().registry());
  std::vector<double> out;
  for (const EpochReport& e : recorder.epochs) out.push_back(e.loss_mean);
  return out;
}

TEST(Heads, TrainingFollowsTheCpus) {
  for (
      const std::vector<std::string>& options :
      {std::vector<std::string>{"optimizer.kind=adagrad"},
       {"task.similarity=dot", "task.negatives.uniform=6", "task.temperature=0.7"},
       {"optimizer.kind=sgd"},
       // Which of several small heads is the best turns on rounding, so that bf16 trainings part ways: least
       // with Adagrad (within 1.3e-3 here; SGD 1.4e-2).
       {"optimizer.kind=adagrad", "train.precision=bf16"}}) {
    SCOPED_TRACE(options.front());
    std::vector<std::string> all{"train.batch_size=32", "train.epochs=3"};
    all.insert(all.end(), options.begin(), options.end());
    const Loaded l = load(with_heads(ratings(), all));
    std::vector<float> cpu, here;
    const auto expected = losses_of(l, Backend::cpu, &cpu),
               actual = losses_of(l, backend_under_test(), &here);
    EXPECT_LT(expected.back(), expected.front());
    const bool half = options.back() == "train.precision=bf16";
    for (std::size_t e = 0; e < expected.size(); ++e) {
      EXPECT_NEAR(actual[e], expected[e], (half ? 5e-3 : 1e-5) * std::abs(expected[e])) << e;
    }
    ASSERT_EQ(cpu.size(), here.size());
    for (std::size_t i = 0; !half && i < cpu.size(); ++i) ASSERT_NEAR(cpu[i], here[i], 2e-4) << i;
  }
}

TEST(Heads, AModelFileKeepsThem) {
  const Context ctx = make_context(1);
  const TrainedModel m(ctx, "cosine", "", 1, 4);
  EXPECT_EQ(m.model->model->heads(), 4);
  EXPECT_EQ(m.model->model->width(), 7);
  EXPECT_EQ(m.model->index->dim(), 7);
  const std::vector<float> q = m.encode(ctx, queries_of_users(m.model->data, {0, 3}));
  ASSERT_EQ(q.size(), 2u * 4 * 7);
  for (std::size_t row = 0; row < 8; ++row) {  // each head by itself
    double square = 0;
    for (std::size_t k = 0; k < 7; ++k) square += double{q[row * 7 + k]} * q[row * 7 + k];
    EXPECT_NEAR(square, 1, 1e-5) << row;
  }
  TowerNetworks again(ctx, m.loaded.config, m.loaded.data, 16, 16, false);
  again.commit(ctx);
  again.registry().initialise(ctx, 3);
  Results<float> out(ctx, 2 * 4 * 7);
  again.encode_queries(ctx, queries_of_users(m.loaded.data, {0, 3}), 0, {out.data(), 8, 7});
  const float* values = out.fetch(ctx, 2 * 4 * 7);
  expect_equal_bits(std::vector<float>(values, values + 56), q, "vectors of the model before");
}

}  // namespace
}  // namespace belfry::test
