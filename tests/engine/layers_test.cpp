// SPDX-License-Identifier: Apache-2.0
// Layers of rankers, lists and numbers inside a graph: outputs and gradients against a float64 oracle and its
// central differences, on either backend. Dropout against what it promises.
#include <gtest/gtest.h>

#include "engine/network.hpp"
#include "kernels/core/transfer.hpp"
#include "kernels/dropout/dropout.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/device_twin.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/network_oracle.hpp"

namespace belfry::test {
namespace {

constexpr std::int64_t kTableRows = 5;

LayerConfig layer(LayerKind kind) {
  LayerConfig out;
  out.kind = kind;
  return out;
}
LayerConfig mlp(std::vector<std::int64_t> units) {
  LayerConfig out = layer(LayerKind::mlp);
  out.units = std::move(units);
  out.activation = out.final_activation = Activation::tanh;
  return out;
}
LayerConfig cross(std::int64_t num_layers, std::int64_t rank = 0, double diag_scale = 0,
                  Activation preactivation = Activation::linear, bool bias = true) {
  LayerConfig out = layer(LayerKind::cross);
  out.num_layers = num_layers;
  out.projection_dim = rank;
  out.diag_scale = diag_scale;
  out.preactivation = preactivation;
  out.use_bias = bias;
  return out;
}
LayerConfig dot(bool self_interaction, bool skip_gather) {
  LayerConfig out = layer(LayerKind::dot_interaction);
  out.self_interaction = self_interaction;
  out.skip_gather = skip_gather;
  return out;
}
NetworkConfig network(std::string name, std::vector<std::string> inputs,
                      std::vector<LayerConfig> layers = {}) {
  NetworkConfig n;
  n.name = std::move(name);
  n.inputs = std::move(inputs);
  n.layers = std::move(layers);
  return n;
}

enum class Form { row, list, numbers };
struct FeatureSpec {
  std::string name;
  Side side;
  Form form;
  std::int64_t width;
};

std::vector<float> read(const Context& ctx, Matrix<float> m) {
  std::vector<float> out(static_cast<std::size_t>(m.rows * m.cols));
  for (std::int64_t i = 0; i < m.rows; ++i) {
    download(ctx, m.row(i), out.data() + i * m.cols, m.cols);
  }
  return out;
}
void write(const Context& ctx, const std::vector<float>& values, Matrix<float> m) {
  for (std::int64_t i = 0; i < m.rows; ++i) {
    upload(ctx, values.data() + i * m.cols, m.row(i), m.cols);
  }
}
std::vector<float> flat(const Rows64& rows) {
  std::vector<float> out;
  for (const auto& row : rows) out.insert(out.end(), row.begin(), row.end());
  return out;
}

/// A graph over tables of its features, and a batch for it in the backend's memory.
struct Model {
  Model(std::vector<NetworkConfig> networks, const std::vector<FeatureSpec>& features,
        std::int64_t max_queries = 6, std::int64_t max_candidates = 9)
      : specs(features), registry(backend_under_test()) {
    for (const FeatureSpec& s : specs) {
      const bool numbers = s.form == Form::numbers;
      const int table =
          numbers ? -1 : registry.add(s.name + ".embedding", kTableRows, s.width, true, {});
      oracle.features.push_back({s.name, s.side, table, Pooling::mean, s.width});
      oracle.table_of.push_back(numbers ? "" : s.name + ".embedding");
    }
    graph = std::make_unique<NetworkGraph>(networks, oracle.features, registry, plan, max_queries,
                                           max_candidates, true, false);
    oracle.networks = std::move(networks);
    plan.commit(backend_under_test());
    registry.prepare_training({});
    Random random(3);
    for (int p = 0; p < registry.size(); ++p) {
      Buffer<float>& value = registry.at(p).value;
      set_values(value, random.normals(value.size(), 0.5));
    }
  }

  void draw(const Context& ctx, std::int64_t queries, std::int64_t candidates, std::uint64_t seed) {
    Random random(seed);
    batch.clear();
    oracle.ids.assign(specs.size(), {});
    ids.clear();
    values.clear();
    for (std::size_t f = 0; f < specs.size(); ++f) {
      const FeatureSpec& s = specs[f];
      const std::int64_t n = s.side == Side::query ? queries : candidates;
      if (s.form == Form::numbers) {
        Rows64& rows = oracle.numbers[s.name];
        rows.clear();
        for (std::int64_t i = 0; i < n; ++i) {
          rows.emplace_back();
          for (const float x : random.normals(s.width)) rows.back().push_back(x);
        }
        const std::vector<float> host = flat(rows);
        values.push_back(
            std::make_unique<Twin<const float>>(ctx, Matrix<const float>{host.data(), n, s.width}));
        batch.push_back({{}, values.back()->matrix()});
        continue;
      }
      std::vector<std::int32_t>& rows = oracle.ids[f];
      std::vector<std::int64_t> offsets{0};
      if (s.form == Form::row) {
        rows = random.ids(n, kTableRows);
      } else {
        auto& lists = oracle.lists[s.name];
        lists.clear();
        for (std::int64_t i = 0; i < n; ++i) {  // the first is empty, ids come twice
          lists.push_back(random.ids(i == 0 ? 0 : 1 + random.below(4), kTableRows));
          rows.insert(rows.end(), lists.back().begin(), lists.back().end());
          offsets.push_back(static_cast<std::int64_t>(rows.size()));
        }
      }
      const Ragged host{rows.data(), s.form == Form::list ? offsets.data() : nullptr, nullptr, n,
                        static_cast<std::int64_t>(rows.size())};
      ids.push_back(std::make_unique<RaggedTwin>(ctx, host));
      batch.push_back({ids.back()->view(), {}});
    }
  }

  Matrix<float> output(const std::string& name) { return graph->output(graph->find(name)); }
  Matrix<float> d_output(const std::string& name) { return graph->d_output(graph->find(name)); }

  Parameters64 parameters() const {
    Parameters64 out;
    for (int p = 0; p < registry.size(); ++p) {
      const Parameter& x = registry.at(p);
      const std::vector<float> host = host_values(x.value);
      out[x.name] = {x.rows, x.cols, {host.begin(), host.end()}};
    }
    return out;
  }

  /// Of the last backward: a table's with all its uses, dense.
  std::vector<float> gradient(const Context& ctx, int p) const {
    const Parameter& x = registry.at(p);
    if (!x.table) return host_values(x.gradient);
    Results<std::int32_t> rows(ctx, x.rows);
    Results<float> sums(ctx, x.rows * x.cols);
    Results<std::int64_t> count(ctx, 1);
    embedding_bag_grad(ctx, graph->uses_of(p), x.rows,
                       {rows.data(), {sums.data(), x.rows, x.cols}, count.data(), x.rows});
    const std::int64_t n = *count.fetch(ctx, 1);
    const std::int32_t* row = rows.fetch(ctx, n);
    const float* sum = sums.fetch(ctx, n * x.cols);
    std::vector<float> dense(static_cast<std::size_t>(x.rows * x.cols));
    for (std::int64_t i = 0; i < n; ++i) {
      std::copy_n(sum + i * x.cols, x.cols, dense.begin() + row[i] * x.cols);
    }
    return dense;
  }

  std::vector<FeatureSpec> specs;
  ParameterRegistry registry;
  WorkspacePlan plan;
  std::unique_ptr<NetworkGraph> graph;
  NetworkOracle oracle;
  std::vector<std::unique_ptr<RaggedTwin>> ids;
  std::vector<std::unique_ptr<Twin<const float>>> values;
  std::vector<FeatureBatch> batch;
};

/// Outputs of `ends`, and the gradients of a random linear function of them.
void check(const Context& ctx, Model& m, const std::vector<std::string>& ends,
           std::int64_t queries = 6, std::int64_t candidates = 9, std::uint64_t seed = 11) {
  m.draw(ctx, queries, candidates, seed);
  [[maybe_unused]] std::int64_t launches = 0;
  if constexpr (on_device()) launches = simt::counters().launches;
  m.graph->forward(ctx, m.batch, queries, candidates, nullptr, true);
  if constexpr (on_device()) {
    EXPECT_GT(simt::counters().launches, launches);
  }
  m.graph->clear_gradients(ctx);
  const Parameters64 start = m.parameters();
  Random random(seed + 1);
  std::map<std::string, std::vector<float>> slope;
  std::map<std::string, std::int64_t> rows;
  for (const std::string& end : ends) {
    const Matrix<float> y = m.output(end);
    rows[end] = y.rows;
    expect_near(read(ctx, y), flat(m.oracle.output(start, end, y.rows)), 1e-5, 1e-5, end);
    slope[end] = random.normals(y.rows * y.cols);
    write(ctx, slope[end], m.d_output(end));
  }
  m.graph->backward(ctx, m.batch);
  const auto loss = [&](const Parameters64& p) {
    double sum = 0;
    for (const std::string& end : ends) {
      std::size_t at = 0;
      for (const auto& row : m.oracle.output(p, end, rows[end])) {
        for (const double y : row) sum += static_cast<double>(slope[end][at++]) * y;
      }
    }
    return sum;
  };
  for (int p = 0; p < m.registry.size(); ++p) {
    const std::string& name = m.registry.at(p).name;
    Parameters64 moved = start;
    const auto expected = finite_differences(
        [&](const std::vector<double>& x) {
          moved[name].value = x;
          return loss(moved);
        },
        start.at(name).value);
    EXPECT_TRUE(std::any_of(expected.begin(), expected.end(), [](double g) { return g != 0; }))
        << name;
    expect_near(m.gradient(ctx, p), expected, 2e-4, 2e-4, name);
  }
  EXPECT_EQ(ctx.read_state().status, 0u);
}

const std::vector<FeatureSpec> kIds = {{"user", Side::query, Form::row, 4},
                                       {"item", Side::candidate, Form::row, 4}};

TEST(Layers, Cross) {
  const Context ctx = make_context(2);
  for (const LayerConfig& c :
       {cross(1), cross(1, 2), cross(2), cross(3), cross(3, 2), cross(1, 0, 0.7), cross(3, 3, 0.7),
        cross(1, 0, 0, Activation::tanh), cross(3, 2, 0.3, Activation::tanh),
        cross(3, 0, 0.3, Activation::tanh, false)}) {
    SCOPED_TRACE("layers " + std::to_string(c.num_layers) + " rank " +
                 std::to_string(c.projection_dim) + " diag " + std::to_string(c.diag_scale));
    Model m({network("score", {"user", "item"}, {c, mlp({3})})}, kIds);
    EXPECT_EQ(m.registry.find("score.0.0.projection") >= 0, c.projection_dim > 0);
    EXPECT_EQ(m.registry.find("score.0.0.bias") >= 0, c.use_bias);
    EXPECT_EQ(m.registry.find("score.0." + std::to_string(c.num_layers) + ".kernel"), -1);
    check(ctx, m, {"score"});
  }
}

TEST(Layers, CrossAsTheOutputAndBehindLayers) {
  const Context ctx = make_context(2);
  Model m({network("query", {"user"}, {mlp({5}), cross(2, 0, 0.5), cross(1, 2)}),
           network("candidate", {"item"}, {cross(2)}),
           network("score", {"query", "candidate"}, {cross(1)})},
          kIds);
  check(ctx, m, {"query", "candidate", "score"});
  check(ctx, m, {"query", "candidate", "score"}, 2, 3, 21);  // a partial batch
}

TEST(Layers, LayerNorm) {
  const Context ctx = make_context(2);
  for (const double epsilon : {1e-3, 0.5}) {
    LayerConfig norm = layer(LayerKind::layer_norm);
    norm.epsilon = epsilon;
    Model m({network("query", {"user"}, {mlp({7}), norm, mlp({3})}),
             network("candidate", {"item"}, {norm}),
             network("score", {"query", "candidate"}, {norm, mlp({1})})},
            kIds);
    EXPECT_GE(m.registry.find("query.1.gamma"), 0);
    check(ctx, m, {"candidate", "score"});
  }
}

TEST(Layers, DotInteraction) {
  const Context ctx = make_context(2);
  for (const bool self : {false, true}) {
    for (const bool skip : {false, true}) {
      SCOPED_TRACE(std::to_string(self) + std::to_string(skip));
      Model m({network("deep", {"age"}, {mlp({4})}),
               network("products", {"user", "item", "deep"}, {dot(self, skip)}),
               network("score", {"products", "deep"}, {mlp({5, 1})})},
              {kIds[0], kIds[1], {"age", Side::query, Form::numbers, 2}});
      EXPECT_EQ(m.graph->width(m.graph->find("products")), skip ? 9 : self ? 6 : 3);
      check(ctx, m, {"products", "score"});
    }
  }
}

TEST(Layers, NumbersBesideLookups) {
  const Context ctx = make_context(2);
  Model m({network("query", {"age", "user"}, {mlp({4})}),
           network("candidate", {"item", "price"}, {mlp({4})}),
           network("score", {"query", "price", "candidate", "age"}, {mlp({3})})},
          {kIds[0],
           {"age", Side::query, Form::numbers, 1},
           {"price", Side::candidate, Form::numbers, 3},
           kIds[1]});
  check(ctx, m, {"query", "candidate", "score"});
  check(ctx, m, {"query", "candidate", "score"}, 1, 1, 5);
}

TEST(Layers, ListsArePooledByTheirMean) {
  const Context ctx = make_context(2);
  // More candidates than queries: the joint network reads the first lists alone.
  Model m({network("query", {"history", "user"}, {mlp({4})}),
           network("candidate", {"item", "genres"}, {mlp({4})}),
           network("score", {"query", "genres"}, {mlp({3})})},
          {kIds[0],
           {"history", Side::query, Form::list, 3},
           {"genres", Side::candidate, Form::list, 2},
           kIds[1]});
  check(ctx, m, {"query", "candidate", "score"});
  check(ctx, m, {"score", "candidate"}, 4, 9, 31);
}

// ---- dropout --------------------------------------------------------------------------------------------

constexpr std::int64_t kRows = 40, kWidth = 50;
constexpr double kRate = 0.3;

Model dropping() {
  LayerConfig drop = layer(LayerKind::dropout);
  drop.rate = kRate;
  return Model({network("a", {"user"}, {drop}), network("b", {"user"}, {drop})},
               {{"user", Side::query, Form::row, kWidth}}, kRows, kRows);
}

/// Which elements `name` kept in the step of ctx; kept ones are scaled.
std::vector<bool> kept(const Context& ctx, Model& m, const std::string& name) {
  m.graph->forward(ctx, m.batch, kRows, 0, nullptr, true);
  const std::vector<float> x = flat(m.oracle.output(m.parameters(), "user", kRows)),
                           y = read(ctx, m.output(name));
  const float scale = Dropout{static_cast<float>(kRate)}.scale();
  std::vector<bool> out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    out.push_back(y[i] != 0);
    EXPECT_EQ(bits_of(y[i]), bits_of(out.back() ? x[i] * scale : 0.0f)) << i;
  }
  return out;
}

TEST(Layers, DropoutIsNothingOutsideTraining) {
  const Context ctx = make_context(2, 7);
  Model m = dropping();
  m.draw(ctx, kRows, 0, 1);
  m.graph->forward(ctx, m.batch, kRows, 0);
  expect_equal_bits(read(ctx, m.output("a")), flat(m.oracle.output(m.parameters(), "user", kRows)),
                    "identity");
}

TEST(Layers, DropoutKeepsTheMeanAndItsMask) {
  const Context ctx = make_context(2, 7);
  Model m = dropping();
  m.draw(ctx, kRows, 0, 1);
  edit_state(ctx, [](StepState& s) { s.step = 4; });
  const std::vector<bool> a = kept(ctx, m, "a"), b = kept(ctx, m, "b");
  const double n = kRows * kWidth, sd = std::sqrt(n * kRate * (1 - kRate));
  for (const auto* mask : {&a, &b}) {
    EXPECT_NEAR(static_cast<double>(std::count(mask->begin(), mask->end(), true)), n * (1 - kRate),
                5 * sd);
  }
  EXPECT_NE(a, b);                  // layers draw apart
  EXPECT_EQ(kept(ctx, m, "a"), a);  // a step draws once
  // Backward drops the same elements.
  m.graph->clear_gradients(ctx);
  const std::vector<float> d_y = Random(5).normals(kRows * kWidth);
  write(ctx, d_y, m.d_output("a"));
  m.graph->backward(ctx, m.batch);
  const float scale = Dropout{static_cast<float>(kRate)}.scale();
  int found = 0;  // the use whose gradient is not all zero is that of "a"
  for (const Matrix<float>& rows : m.graph->gradient_rows_of(0)) {
    const std::vector<float> d_x = read(ctx, rows);
    if (std::all_of(d_x.begin(), d_x.end(), [](float v) { return v == 0; })) continue;
    ++found;
    for (std::size_t i = 0; i < d_x.size(); ++i) {
      EXPECT_EQ(d_x[i], a[i] ? d_y[i] * scale : 0.0f) << i;
    }
  }
  EXPECT_EQ(found, 1);
  edit_state(ctx, [](StepState& s) { s.step = 5; });
  EXPECT_NE(kept(ctx, m, "a"), a);
  edit_state(ctx, [](StepState& s) {
    s.step = 4;
    s.seed = 8;
  });
  EXPECT_NE(kept(ctx, m, "a"), a);
}

}  // namespace
}  // namespace belfry::test
