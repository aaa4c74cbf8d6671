// SPDX-License-Identifier: Apache-2.0
// Gradients of whole DAGs against central differences of the same DAG in float64.
#include "engine/network.hpp"

#include <gtest/gtest.h>

#include "tests/support/compare.hpp"
#include "tests/support/generate.hpp"
#include "tests/support/network_oracle.hpp"

namespace belfry::test {
namespace {

constexpr std::int64_t kMaxQueries = 6, kMaxCandidates = 9, kTableRows = 5;

LayerConfig mlp(std::vector<std::int64_t> units, Activation inner = Activation::tanh,
                Activation last = Activation::linear, bool bias = true) {
  LayerConfig layer;
  layer.units = std::move(units);
  layer.activation = inner;
  layer.final_activation = last;
  layer.use_bias = bias;
  return layer;
}
LayerConfig unit_length() {
  LayerConfig layer;
  layer.kind = LayerKind::l2_normalize;
  return layer;
}
NetworkConfig network(std::string name, std::vector<std::string> inputs,
                      std::vector<LayerConfig> layers = {}) {
  NetworkConfig n;
  n.name = std::move(name);
  n.inputs = std::move(inputs);
  n.layers = std::move(layers);
  return n;
}

/// A feature over a table; features that name the same table share it.
struct FeatureSpec {
  std::string name;
  Side side;
  std::string table;
  std::int64_t dim;
};

struct Model {
  Model(std::vector<NetworkConfig> networks, const std::vector<FeatureSpec>& specs,
        bool training = true)
      : registry(Backend::cpu) {
    for (const FeatureSpec& s : specs) {
      const std::string name = s.table + ".embedding";
      int table = registry.find(name);
      if (table < 0) table = registry.add(name, kTableRows, s.dim, true, {});
      oracle.features.push_back({s.name, s.side, table, Pooling::sum});
      oracle.table_of.push_back(name);
    }
    graph = std::make_unique<NetworkGraph>(networks, oracle.features, registry, plan, kMaxQueries,
                                           kMaxCandidates, training);
    oracle.networks = std::move(networks);
    plan.commit(Backend::cpu);
    registry.prepare_training({});
    Random random(3);
    for (int p = 0; p < registry.size(); ++p) {
      Buffer<float>& value = registry.at(p).value;
      for (std::int64_t i = 0; i < value.size(); ++i) {
        value.data()[i] = static_cast<float>(random.normal() * 0.7);
      }
    }
  }

  /// Ids of a batch; drawn with repeats, so that rows of a table are used several times.
  void draw_ids(std::int64_t queries, std::int64_t candidates, std::uint64_t seed) {
    Random random(seed);
    oracle.ids.clear();
    ids.clear();
    oracle.queries = queries;
    n_candidates = candidates;
    for (const FeatureInput& f : oracle.features) {
      oracle.ids.push_back(random.ids(f.side == Side::query ? queries : candidates, kTableRows));
    }
    for (const auto& v : oracle.ids) {
      const auto n = static_cast<std::int64_t>(v.size());
      ids.push_back({{v.data(), nullptr, nullptr, n, n}, {}});
    }
  }

  Parameters64 parameters() const {
    Parameters64 out;
    for (int p = 0; p < registry.size(); ++p) {
      const Parameter& x = registry.at(p);
      out[x.name] = {x.rows, x.cols, {x.value.data(), x.value.data() + x.value.size()}};
    }
    return out;
  }

  /// Rows of a network's output: a joint network has one a query.
  std::int64_t rows_of(const std::string& name) { return graph->output(graph->find(name)).rows; }

  ParameterRegistry registry;
  WorkspacePlan plan;
  std::unique_ptr<NetworkGraph> graph;
  NetworkOracle oracle;
  std::vector<FeatureBatch> ids;
  std::int64_t n_candidates = 0;
};

/// The table's gradient of the last backward, with all its uses, dense.
std::vector<float> table_gradient(const Context& ctx, const Model& m, int p) {
  const Parameter& table = m.registry.at(p);
  std::vector<std::int32_t> rows(static_cast<std::size_t>(table.rows));
  std::vector<float> values(static_cast<std::size_t>(table.rows * table.cols)),
      dense(values.size());
  std::int64_t n = 0;
  const auto uses = m.graph->uses_of(p);
  embedding_bag_grad(ctx, uses, table.rows,
                     {rows.data(), {values.data(), table.rows, table.cols}, &n, table.rows});
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t c = 0; c < table.cols; ++c) {
      dense[static_cast<std::size_t>(rows[static_cast<std::size_t>(i)] * table.cols + c)] =
          values[static_cast<std::size_t>(i * table.cols + c)];
    }
  }
  return dense;
}

/// Loss: a fixed random linear function of the outputs of `ends`. Checks outputs and all gradients.
void check_gradients(const Context& ctx, Model& m, const std::vector<std::string>& ends,
                     std::int64_t queries, std::int64_t candidates, std::uint64_t seed = 11) {
  m.draw_ids(queries, candidates, seed);
  m.graph->forward(ctx, m.ids, queries, candidates, nullptr, true);
  m.graph->clear_gradients(ctx);
  std::map<std::string, HostMatrix> slope;
  Random random(seed + 1);
  const Parameters64 start = m.parameters();
  for (const std::string& end : ends) {
    const Matrix<float> y = m.graph->output(m.graph->find(end));
    const Rows64 expected = m.oracle.output(start, end, kMaxCandidates);
    ASSERT_EQ(static_cast<std::int64_t>(expected.size()), y.rows) << end;
    slope[end] = HostMatrix::normal(random, y.rows, y.cols);
    const Matrix<float> d = m.graph->d_output(m.graph->find(end));
    for (std::int64_t i = 0; i < y.rows; ++i) {
      for (std::int64_t j = 0; j < y.cols; ++j) {
        ASSERT_NEAR(y(i, j), expected[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)],
                    2e-5)
            << end << ' ' << i << ' ' << j;
        d(i, j) += slope[end](i, j);
      }
    }
  }
  m.graph->backward(ctx, m.ids);
  const auto loss = [&](const Parameters64& p) {
    double sum = 0;
    for (const std::string& end : ends) {
      const HostMatrix& s = slope[end];
      const Rows64 y = m.oracle.output(p, end, s.rows());
      for (std::int64_t i = 0; i < s.rows(); ++i) {
        for (std::int64_t j = 0; j < s.cols(); ++j) {
          sum += static_cast<double>(s(i, j)) *
                 y[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
        }
      }
    }
    return sum;
  };
  for (int p = 0; p < m.registry.size(); ++p) {
    const Parameter& parameter = m.registry.at(p);
    Parameters64 moved = start;
    const auto expected = finite_differences(
        [&](const std::vector<double>& x) {
          moved[parameter.name].value = x;
          return loss(moved);
        },
        start.at(parameter.name).value);
    const std::vector<float> actual =
        parameter.table ? table_gradient(ctx, m, p)
                        : std::vector<float>(parameter.gradient.data(),
                                             parameter.gradient.data() + parameter.gradient.size());
    expect_near(actual, expected, 2e-4, 2e-4, parameter.name);
  }
}

const std::vector<FeatureSpec> kIds = {{"user", Side::query, "user", 4},
                                       {"item", Side::candidate, "item", 4}};

TEST(Network, IdTowersAreTheirTables) {
  const Context ctx(Backend::cpu, 2);
  Model m({network("query", {"user"}), network("candidate", {"item"})}, kIds);
  EXPECT_EQ(m.registry.size(), 2);
  check_gradients(ctx, m, {"query", "candidate"}, 6, 9);
}

TEST(Network, TowersThatAreNotGivenAreTheirSidesFeatures) {
  Model m({},
          {{"a", Side::query, "a", 2}, {"b", Side::candidate, "b", 5}, {"c", Side::query, "c", 3}});
  EXPECT_EQ(m.graph->width(m.graph->find("query")), 5);
  EXPECT_EQ(m.graph->width(m.graph->find("candidate")), 5);
  m.oracle.networks = {network("query", {"a", "c"}), network("candidate", {"b"})};
  const Context ctx(Backend::cpu, 1);
  check_gradients(ctx, m, {"query", "candidate"}, 6, 9);
}

TEST(Network, EveryActivation) {
  const Context ctx(Backend::cpu, 2);
  for (const Activation a : {Activation::linear, Activation::relu, Activation::gelu,
                             Activation::tanh, Activation::sigmoid, Activation::elu,
                             Activation::selu, Activation::softplus, Activation::swish}) {
    SCOPED_TRACE(static_cast<int>(a));
    for (const bool bias : {true, false}) {
      Model m({network("query", {"user"}, {mlp({7, 5, 3}, a, a, bias)}),
               network("candidate", {"item"}, {mlp({3}, a, Activation::linear, bias)})},
              kIds);
      EXPECT_EQ(m.registry.find("query.0.bias") >= 0, bias);
      check_gradients(ctx, m, {"query", "candidate"}, 6, 9);
    }
  }
}

TEST(Network, NormalisationInsideATower) {
  const Context ctx(Backend::cpu, 2);
  Model m({network("query", {"user"}, {mlp({5}), unit_length(), mlp({3})}),
           network("candidate", {"item"}, {unit_length()})},
          kIds);
  EXPECT_GE(m.registry.find("query.2.kernel"), 0);
  check_gradients(ctx, m, {"query", "candidate"}, 6, 9);
}

TEST(Network, NetworksFeedNetworks) {
  const Context ctx(Backend::cpu, 2);
  // Declared in any order; `deep` goes into two networks, the feature both directly and through it.
  Model m({network("query", {"deep", "user", "wide"}, {mlp({4})}), network("wide", {"deep"}),
           network("deep", {"user", "age"}, {mlp({6, 3}, Activation::swish)}),
           network("candidate", {"text"}, {mlp({4})}), network("text", {"item"}, {mlp({2})})},
          {{"user", Side::query, "user", 4},
           {"age", Side::query, "age", 2},
           {"item", Side::candidate, "item", 4}});
  check_gradients(ctx, m, {"query", "candidate"}, 6, 9);
}

TEST(Network, AJointNetworkPairsEachRowWithItsPositive) {
  const Context ctx(Backend::cpu, 2);
  const std::vector<NetworkConfig> networks = {
      network("rating", {"query", "candidate", "item"}, {mlp({6, 1}, Activation::elu)}),
      network("query", {"user"}, {mlp({4})}), network("candidate", {"item"}, {mlp({4})})};
  Model m(networks, kIds);
  // More candidates than rows: the extra negatives have no rating. Both towers have losses of their own.
  check_gradients(ctx, m, {"rating", "query", "candidate"}, 6, 9);
  EXPECT_EQ(m.rows_of("rating"), 6);
  check_gradients(ctx, m, {"rating"}, 4, 4, 21);
}

TEST(Network, OneTableOfBothTowers) {
  const Context ctx(Backend::cpu, 2);
  Model m({network("query", {"user", "liked"}, {mlp({4})}),
           network("candidate", {"item", "lang"}, {mlp({4})})},
          {{"user", Side::query, "user", 4},
           {"liked", Side::query, "shared", 3},
           {"item", Side::candidate, "item", 4},
           {"lang", Side::candidate, "shared", 3}});
  ASSERT_EQ(m.registry.find("shared.embedding"), 1);
  check_gradients(ctx, m, {"query", "candidate"}, 6, 9);
  EXPECT_EQ(m.graph->uses_of(1).size(), 2u);
  EXPECT_EQ(m.graph->gradient_rows_of(1).size(), 2u);
  // The one list is the sum of both uses.
  const auto both = table_gradient(ctx, m, 1);
  m.graph->forward(ctx, m.ids, 6, 9, nullptr, true);
  std::vector<float> sum(both.size());
  for (const char* tower : {"query", "candidate"}) {
    m.graph->clear_gradients(ctx);
    const Matrix<float> d = m.graph->d_output(m.graph->find(tower));
    for (std::int64_t i = 0; i < d.rows; ++i) std::fill(d.row(i), d.row(i) + d.cols, 1.0f);
    m.graph->backward(ctx, m.ids);
    const auto part = table_gradient(ctx, m, 1);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  m.graph->clear_gradients(ctx);
  for (const char* tower : {"query", "candidate"}) {
    const Matrix<float> d = m.graph->d_output(m.graph->find(tower));
    for (std::int64_t i = 0; i < d.rows; ++i) std::fill(d.row(i), d.row(i) + d.cols, 1.0f);
  }
  m.graph->backward(ctx, m.ids);
  expect_near(table_gradient(ctx, m, 1), sum, 1e-5, 1e-6, "sum of both uses");
}

TEST(Network, PartialBatchesAndBatchesOfOne) {
  const Context ctx(Backend::cpu, 2);
  Model m({network("query", {"user"}, {mlp({5, 3}), unit_length()}),
           network("candidate", {"item"}, {mlp({3}, Activation::relu, Activation::sigmoid)})},
          kIds);
  check_gradients(ctx, m, {"query", "candidate"}, 6, 9, 5);
  check_gradients(ctx, m, {"query", "candidate"}, 2, 5, 6);  // nothing of the full batch is left
  check_gradients(ctx, m, {"query", "candidate"}, 1, 1, 7);
}

TEST(Network, BitsDoNotDependOnThreads) {
  std::vector<std::vector<float>> outputs, gradients;
  for (const int threads : {1, 2, 4}) {
    const Context ctx(Backend::cpu, threads);
    Model m({network("query", {"user"}, {mlp({33, 7}, Activation::gelu)}),
             network("candidate", {"item"}, {mlp({7})})},
            kIds);
    check_gradients(ctx, m, {"query", "candidate"}, 6, 9);
    const Matrix<float> y = m.graph->output(m.graph->find("query"));
    outputs.emplace_back();
    for (std::int64_t i = 0; i < y.rows; ++i) {
      outputs.back().insert(outputs.back().end(), y.row(i), y.row(i) + y.cols);
    }
    const Buffer<float>& g = m.registry.at(m.registry.find("query.0.kernel")).gradient;
    gradients.emplace_back(g.data(), g.data() + g.size());
  }
  for (int i : {1, 2}) {
    expect_equal_bits(outputs[static_cast<std::size_t>(i)], outputs[0], "outputs");
    expect_equal_bits(gradients[static_cast<std::size_t>(i)], gradients[0], "gradients");
  }
}

TEST(Network, OneSideAlone) {
  const Context ctx(Backend::cpu, 1);
  Model m({network("query", {"user"}, {mlp({3})}), network("candidate", {"item"}, {mlp({3})}),
           network("rating", {"query", "candidate"}, {mlp({1})})},
          kIds, false);
  m.draw_ids(5, 0, 1);
  const Side side = Side::query;
  m.graph->forward(ctx, m.ids, 5, 0, &side);
  const Matrix<float> y = m.graph->output(m.graph->find("query"));
  const Rows64 expected = m.oracle.output(m.parameters(), "query", 5);
  for (std::int64_t i = 0; i < 5; ++i) {
    for (std::int64_t j = 0; j < 3; ++j) {
      EXPECT_NEAR(y(i, j), expected[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)],
                  1e-5);
    }
  }
}

TEST(Network, RefusesWhatItCannotBuild) {
  EXPECT_THROW(Model({network("query", {"usr"})}, kIds), ContractError);
  EXPECT_THROW(Model({network("query", {"x"}), network("x", {"query"})}, kIds), ContractError);
  Model m({}, kIds);
  EXPECT_THROW(m.graph->find("rating"), ContractError);
  const Context ctx(Backend::cpu, 1);
  m.draw_ids(kMaxQueries + 1, 1, 1);
  EXPECT_THROW(m.graph->forward(ctx, m.ids, kMaxQueries + 1, 1), ContractError);
  EXPECT_THROW(m.graph->forward(ctx, {}, 1, 1), ContractError);
}

}  // namespace
}  // namespace belfry::test
